"""MIMIC-IV: its stays, and the rows of its event tables that the catalogue names.

About six of seven chart rows are of no variable of the catalogue; dropping them here, before their other columns are
even converted, is what makes the rest cheap.
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

# The event tables, by the name that the counts use.
EVENT_TABLES = {"chartevents": "icu/chartevents", "labevents": "hosp/labevents"}


Times = Callable[["pd.Series[pd.Timestamp]"], "pd.Series[pd.Timestamp]"]


def read_cohort(source: str | SourcePath, *, times: Times | None = None) -> Cohort:
    """Read the stays of a source, joined with its patients and admissions where it has those tables.

    Args:
        source: The folder that holds `icu/` and `hosp/`.
        times: What to make of the tables' times.

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
    source: str | SourcePath, table: str, catalogue: Catalogue, *, file: SourcePath | None = None
) -> Iterator[tuple[pd.DataFrame, Counts]]:
    """Read an event table and keep the rows of the catalogue's items.

    Args:
        source: The folder that holds `icu/` and `hosp/`.
        table: `chartevents` or `labevents`.
        catalogue: What to keep.
        file: One of the table's files; without, all of them.

    Yields:
        For each batch read, its rows with the columns and dtypes of `RAW_DTYPES`, in the order of the file, and
        `{table: {"rows_in": …, "not_in_catalogue": …, "passed_on": …}}`. A null item is not in the catalogue.

    Raises:
        TableNotFoundError: There is no such table.
        TableError: It cannot be read, or a column holds what it should not.
    """
    name = EVENT_TABLES[table]
    wanted = pa.array(catalogue.item_ids, pa.int64())
    for path in find_table(source, name) if file is None else [file]:
        for batch in read_file(path, name):
            yield ingest_batch(batch, table, wanted, path)


def ingest_batch(
    batch: pa.RecordBatch, table: str, wanted: pa.Array, where: str | SourcePath
) -> tuple[pd.DataFrame, Counts]:
    """Keep the rows of a batch whose item is wanted, and convert them; see `ingest`.

    Args:
        batch: Rows as `tables.read_batches` yields them.
        table: `chartevents` or `labevents`.
        wanted: The item ids to keep, int64.
        where: What an error calls the table.
    """
    try:
        items = convert(batch.column("itemid"), Kind.ID)
    except ColumnError as error:
        raise TableError(f"{where}: column itemid: {error}") from None
    rows = batch.filter(pc.is_in(items, value_set=wanted))
    frame = to_frame(convert_batch(rows, EVENT_TABLES[table], where))
    if "stay_id" not in frame:
        frame["stay_id"] = pd.array([pd.NA] * len(frame), "Int64")
    codes = np.full(len(frame), EVENT_SOURCES.index(table), dtype=np.int8)
    frame["table"] = pd.Categorical.from_codes(codes, dtype=TABLE_DTYPE)
    counts = {"rows_in": batch.num_rows, "not_in_catalogue": batch.num_rows - len(frame), "passed_on": len(frame)}
    return frame[list(RAW_DTYPES)], {table: counts}


def _optional(source: str | SourcePath, name: str) -> pd.DataFrame | None:
    try:
        return read_frame(source, name)
    except TableNotFoundError:
        return None
