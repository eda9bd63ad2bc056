"""Ingest: raw rows to the rows that the catalogue names, with one schema whatever the source.

About six of seven chart rows are of no variable of the catalogue; dropping them here, before their other columns are
even converted, is what makes the rest cheap.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.catalogue import Catalogue
from flows.columns import ColumnError, Kind, convert
from flows.counts import Counts
from flows.hashing import shard_of
from flows.tables import TableError, convert_batch, find_table, read_batches, to_frame

# The event tables, by the name that the counts use.
EVENT_TABLES = {"chartevents": "icu/chartevents", "labevents": "hosp/labevents"}
# FHIR's, which are not a table of that layout but become the same rows.
OBSERVATIONS = "observations"
EVENT_SOURCES = [*EVENT_TABLES, OBSERVATIONS]

_TABLE_DTYPE = pd.CategoricalDtype(EVENT_SOURCES)
RAW_DTYPES: dict[str, object] = {
    "table": _TABLE_DTYPE,
    "subject_id": pd.Int64Dtype(),
    "stay_id": pd.Int64Dtype(),
    "itemid": pd.Int64Dtype(),
    "charttime": np.dtype("datetime64[us]"),
    "storetime": np.dtype("datetime64[us]"),
    "valuenum": np.dtype("float64"),
    "valueuom": pd.StringDtype(na_value=np.nan),
}


def ingest(source: str | Path, table: str, catalogue: Catalogue) -> Iterator[tuple[pd.DataFrame, Counts]]:
    """Read an event table and keep the rows of the catalogue's items.

    Args:
        source: The folder that holds `icu/` and `hosp/`.
        table: `chartevents` or `labevents`.
        catalogue: What to keep.

    Yields:
        For each batch read, its rows with the columns and dtypes of `RAW_DTYPES`, in the order of the file, and
        `{table: {"rows_in": …, "not_in_catalogue": …, "passed_on": …}}`. A null item is not in the catalogue.

    Raises:
        TableNotFoundError: There is no such table.
        TableError: It cannot be read, or a column holds what it should not.
    """
    name = EVENT_TABLES[table]
    path = find_table(source, name)
    wanted = pa.array(catalogue.item_ids, pa.int64())
    for batch in read_batches(source, name):
        yield ingest_batch(batch, table, wanted, path)


def ingest_batch(batch: pa.RecordBatch, table: str, wanted: pa.Array, where: str | Path) -> tuple[pd.DataFrame, Counts]:
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
    codes = np.full(len(frame), EVENT_SOURCES.index(table), dtype=np.int8)
    frame["table"] = pd.Categorical.from_codes(codes, dtype=_TABLE_DTYPE)
    counts = {"rows_in": batch.num_rows, "not_in_catalogue": batch.num_rows - len(frame), "passed_on": len(frame)}
    return frame[list(RAW_DTYPES)], {table: counts}


def empty_raw() -> pd.DataFrame:
    """A frame of raw rows without any: what a shard that no row fell into is made of."""
    return pd.DataFrame({column: pd.Series(dtype=dtype) for column, dtype in RAW_DTYPES.items()})  # type: ignore[call-overload]


def split_into_shards(rows: pd.DataFrame, shards: int) -> dict[int, pd.DataFrame]:
    """Part raw rows by the shard of their subject, keeping their order.

    Args:
        rows: Raw rows (`RAW_DTYPES`).
        shards: How many shards there are.

    Returns:
        The rows of each shard that has any. A row without a subject goes to shard 0, where it is counted as dropped:
        no stay is its own.
    """
    shard = shard_of(rows["subject_id"].to_numpy("int64", na_value=0), shards)
    shard[rows["subject_id"].isna().to_numpy()] = 0
    # Sorted once, then cut: rows taken for each shard by itself make the time grow with rows times shards.
    in_order = rows.iloc[np.argsort(shard, kind="stable")]
    ends = np.cumsum(np.bincount(shard, minlength=shards))
    return {
        number: in_order.iloc[begin:end]
        for number, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
        if begin < end
    }
