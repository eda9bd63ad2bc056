"""MIMIC-IV: reads its stays, and the rows of its event tables whose items are in the catalogue.

About six of seven chart rows belong to no variable of the catalogue. Dropping them here, before their other columns are
converted, makes the rest cheap.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.icu.catalogue import Catalogue
from flows.icu.cohort import Cohort, build_cohort
from flows.icu.counts import Counts
from flows.icu.raw import EVENT_SOURCES, RAW_DTYPES, TABLE_DTYPE
from flows.sources.columns import ColumnError, Kind, convert
from flows.sources.files import TableError, TableNotFoundError, find_table
from flows.sources.objects import SourcePath
from flows.sources.tables import convert_batch, read_file, read_frame, to_frame

# The event tables by their names in the counts.
EVENT_TABLES = {"chartevents": "icu/chartevents", "labevents": "hosp/labevents"}
# A batch of 22,000 chart rows has about 3,000 of the catalogue. To make a frame of each would take twice as long.
BATCHES_TOGETHER = 16
# Of a file that has only rows of the catalogue, 16 batches could have a million rows, which would take their memory.
_ROWS_TOGETHER = 1 << 16


Times = Callable[["pd.Series[pd.Timestamp]"], "pd.Series[pd.Timestamp]"]


def read_cohort(source: str | SourcePath, *, times: Times | None = None) -> Cohort:
    """The stays of a source, joined with its patients and admissions if it has these tables.

    Args:
        source: The folder with `icu/` and `hosp/`.
        times: A function that converts the tables' times. If None, they do not change.

    Raises:
        TableNotFoundError: There is no `icu/icustays`.
        TableError: A table cannot be read.
    """
    stays, admissions = read_frame(source, "icu/icustays"), _optional(source, "hosp/admissions")
    if times is not None:
        stays = stays.assign(intime=times(stays["intime"]), outtime=times(stays["outtime"]))
        admissions = None if admissions is None else admissions.assign(deathtime=times(admissions["deathtime"]))
    return build_cohort(stays, _optional(source, "hosp/patients"), admissions)


def ingest(
    source: str | SourcePath,
    table: str,
    catalogue: Catalogue,
    *,
    file: SourcePath | None = None,
    together: int = BATCHES_TOGETHER,
) -> Iterator[tuple[pd.DataFrame, Counts]]:
    """The rows of the catalogue's items in an event table, and counts.

    Args:
        source: The folder with `icu/` and `hosp/`.
        table: `chartevents` or `labevents`.
        catalogue: The items to keep.
        file: One of the table's files. If None, all files.
        together: The maximum number of batches whose rows are in one frame.

    Yields:
        For each few batches read, their rows with the columns and dtypes of `RAW_DTYPES`, in the order of the file, and
        `{table: {"rows_in": …, "not_in_catalogue": …, "passed_on": …}}`. A null item is not in the catalogue.

    Raises:
        TableNotFoundError: There is no such table.
        TableError: The table cannot be read, or a column has invalid cells.
    """
    name = EVENT_TABLES[table]
    wanted = pa.array(catalogue.item_ids, pa.int64())
    for path in find_table(source, name) if file is None else [file]:
        held: list[pa.RecordBatch] = []
        read = 0
        for batch in read_file(path, name):
            held.append(_wanted_rows(batch, name, wanted, path))
            read += batch.num_rows
            if len(held) == together or sum(rows.num_rows for rows in held) >= _ROWS_TOGETHER:
                yield _ingested(held, read, table)
                held, read = [], 0
        if held:
            yield _ingested(held, read, table)


def _wanted_rows(batch: pa.RecordBatch, name: str, wanted: pa.Array, where: SourcePath) -> pa.RecordBatch:
    """The converted rows of a batch whose items are wanted."""
    try:
        items = convert(batch.column("itemid"), Kind.ID)
    except ColumnError as error:
        raise TableError(f"{where}: column itemid: {error}") from None
    return convert_batch(batch.filter(pc.is_in(items, value_set=wanted)), name, where)


def _ingested(batches: list[pa.RecordBatch], read: int, table: str) -> tuple[pd.DataFrame, Counts]:
    """One frame of the wanted rows of batches, and the counts of the rows that were read for them."""
    frame = to_frame(pa.Table.from_batches(batches))
    if "stay_id" not in frame:
        frame["stay_id"] = pd.array([pd.NA] * len(frame), "Int64")
    codes = np.full(len(frame), EVENT_SOURCES.index(table), dtype=np.int8)
    frame["table"] = pd.Categorical.from_codes(codes, dtype=TABLE_DTYPE)
    counts = {"rows_in": read, "not_in_catalogue": read - len(frame), "passed_on": len(frame)}
    return frame[list(RAW_DTYPES)], {table: counts}


def _optional(source: str | SourcePath, name: str) -> pd.DataFrame | None:
    try:
        return read_frame(source, name)
    except TableNotFoundError:
        return None
