"""The table of docs/how-to/frames.md: which program reads what, and what other programs write and read."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clinops_prefect import LocalPipelineStore

IDS, VALUES, UNITS = [7, 8, 9], [1.5, None, 2.5], ["mmol/l", None, "mg/dl"]
TIMES = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None, dt.datetime(2024, 1, 3, tzinfo=dt.UTC)]
ROWS = list(zip(IDS, VALUES, UNITS, TIMES, strict=True))
NAMES = ["id", "value", "unit", "at"]


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame({"id": IDS, "value": VALUES, "unit": UNITS, "at": TIMES})


def pandas_frame() -> pd.DataFrame:
    return pd.DataFrame({"id": IDS, "value": VALUES, "unit": UNITS, "at": pd.to_datetime(TIMES, utc=True)})


def spark(path: Path) -> None:
    """Write as Spark does: INT96 for times, optional columns, Spark's metadata, and Snappy compression."""
    metadata = {"org.apache.spark.version": "3.5.0", "org.apache.spark.sql.parquet.row.metadata": "{}"}
    table = polars_frame().to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata(metadata)
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, compression="snappy", store_schema=False)


def with_duckdb(path: Path) -> None:
    frame = polars_frame()
    duckdb.sql(f"copy (select * from frame) to '{path}' (format parquet)")
    assert len(frame)


WRITERS: dict[str, Callable[[LocalPipelineStore, Path], Any]] = {
    "this package from pandas": lambda store, _: store.upload(pandas_frame(), "x"),
    "this package from polars": lambda store, _: store.upload(polars_frame(), "x"),
    "this package from a query": lambda store, _: store.upload(polars_frame().lazy(), "x"),
    "this package from Arrow": lambda store, _: store.upload(polars_frame().to_arrow(), "x"),
    "pandas": lambda _, path: pandas_frame().to_parquet(path),
    "polars": lambda _, path: polars_frame().write_parquet(path),
    "Arrow": lambda _, path: pq.write_table(polars_frame().to_arrow(), path),
    "DuckDB": lambda _, path: with_duckdb(path),
    "Spark's layout": lambda _, path: spark(path),
}
READERS: dict[str, Callable[[LocalPipelineStore, Path], list[tuple[Any, ...]]]] = {
    "this package as pandas": lambda store, _: of_pandas(store.download("x")),
    "this package as polars": lambda store, _: store.download("x", as_="polars").rows(),
    "this package as Arrow": lambda store, _: of_arrow(store.download("x", as_="arrow")),
    "pandas": lambda _, path: of_pandas(pd.read_parquet(path)),
    "polars": lambda _, path: pl.read_parquet(path).rows(),
    "Arrow": lambda _, path: of_arrow(pq.read_table(path)),
    "DuckDB": lambda _, path: duckdb.sql(f"from read_parquet('{path}')").fetchall(),
}


def of_pandas(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [tuple(None if pd.isna(value) else value for value in row) for row in frame.itertuples(index=False)]


def of_arrow(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_reader_reads_what_every_writer_wrote(writer: str, tmp_path: Path) -> None:
    store, path = LocalPipelineStore(str(tmp_path)), tmp_path / "x.parquet"
    WRITERS[writer](store, path)
    for reader, read in READERS.items():
        found = [
            tuple(v if v is None or not hasattr(v, "tzinfo") else v.replace(tzinfo=dt.UTC) for v in row)
            for row in read(store, path)
        ]
        assert found == ROWS, reader
    if writer.startswith("this package from"):
        assert store.download("x", as_="polars").columns == NAMES


@pytest.mark.parametrize(
    ("written", "as_pandas", "as_polars", "as_arrow"),
    [
        (pl.Series("x", [1, 2]), "int64", pl.Int64, pa.int64()),
        (pl.Series("x", [1, None]), "Int64", pl.Int64, pa.int64()),
        (pl.Series("x", [float("nan"), None]), "float64", pl.Float64, pa.float64()),
        (pl.Series("x", ["a"]), "str", pl.String, pa.large_string()),
        (pl.Series("x", ["a"], dtype=pl.Categorical), "category", pl.Categorical, None),
        (pl.Series("x", ["a"], dtype=pl.Enum(["a", "b"])), "category", pl.Enum(["a", "b"]), None),
        (pl.Series("x", [[1]]), "object", pl.List(pl.Int64), pa.large_list(pa.int64())),
        (pl.Series("x", [dt.time(1)]), "object", pl.Time, pa.time64("ns")),
        (pa.array([5]).dictionary_encode(), "int64", pl.Int64, pa.dictionary(pa.int32(), pa.int64())),
        (pc.run_end_encode(pa.array(["a"])), "str", pl.String, pa.run_end_encoded(pa.int32(), pa.string())),
        (pa.array([1], pa.timestamp("s")), "datetime64[ms]", pl.Datetime("ms"), pa.timestamp("s")),
        (pa.array([1], pa.timestamp("us", "+05:30")), "datetime64[us, UTC+05:30]", pl.Datetime("us", "UTC"), None),
        (pa.array([b"0" * 16], pa.uuid()), "object", pl.Binary, pa.uuid()),
    ],
)
def test_the_table_of_the_documentation_is_right(
    written: Any, as_pandas: str, as_polars: Any, as_arrow: pa.DataType | None, tmp_path: Path
) -> None:
    store = LocalPipelineStore(str(tmp_path))
    store.upload(written.to_frame() if isinstance(written, pl.Series) else pa.table({"x": written}), "x")
    found = str(store.download("x")["x"].dtype)
    assert found == as_pandas or (as_pandas == "str" and found == "string")
    assert store.download("x", as_="polars").schema["x"] == as_polars
    if as_arrow is not None:
        assert store.download("x", as_="arrow").schema.field("x").type == as_arrow


def test_other_programs_see_the_labels_and_index_of_pandas_as_fields(tmp_path: Path) -> None:
    store = LocalPipelineStore(str(tmp_path))
    frame = pd.DataFrame(np.eye(2), columns=[1, 2], index=pd.Index([7, 8]))
    store.upload(frame, "x")
    pd.testing.assert_frame_equal(store.download("x"), frame)
    for kind in ("polars", "arrow"):
        found = store.download("x", as_=kind, columns=["2", "__index_level_0__"])
        assert found.shape == (2, 2)
