"""Frames of polars and Arrow are stored exactly, or are refused with an error that names the column."""

import datetime as dt
import decimal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from polars.testing import assert_frame_equal

from clinops_prefect import LocalPipelineStore, StorageFormat, UnsupportedFrameError
from clinops_prefect.frames.streams import stream_of

D = decimal.Decimal
SECRET = "patient-4711"


@pytest.fixture
def store(tmp_path: Path) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path))


@pytest.fixture
def csv_store(tmp_path: Path) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV)


def flat() -> dict[str, pl.Series]:
    berlin = pl.Series([dt.datetime(2024, 1, 1), None, dt.datetime(2024, 6, 1)]).dt.replace_time_zone("Europe/Berlin")
    return {
        "integer": pl.Series([1, None, 3], dtype=pl.UInt16),
        "float": pl.Series([1.5, float("nan"), None]),
        "text": pl.Series(["a", "", None]),
        "category": pl.Series(["x", "y", None], dtype=pl.Categorical),
        "enum": pl.Series(["lo", "hi", None], dtype=pl.Enum(["lo", "unused", "hi"])),
        "decimal": pl.Series([D("1.50"), None, D(2)], dtype=pl.Decimal(10, 2)),
        "time": pl.Series([dt.time(1, 2, 3), None, dt.time(4)]),
        "duration": pl.Series([dt.timedelta(1), None, dt.timedelta(2)], dtype=pl.Duration("ms")),
        "zoned": berlin,
        "date": pl.Series([dt.date(2110, 1, 1), None, dt.date(1900, 1, 1)]),
        "flag": pl.Series([True, None, False]),
        "null": pl.Series([None] * 3, dtype=pl.Null),
    }


def nested() -> dict[str, pl.Series]:
    return {
        "binary": pl.Series([b"x", None, b""]),
        "half": pl.Series([1.5, None, 2], dtype=pl.Float16),
        "list": pl.Series([[1, None], None, []], dtype=pl.List(pl.Int8)),
        "list of NaN": pl.Series([[float("nan")], None, [1.0]]),
        "struct": pl.Series([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
        "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
        "list of categories": pl.Series([["a"], None, ["b", "a"]], dtype=pl.List(pl.Categorical)),
        "struct of enums": pl.Series([{"e": "b"}, None, {"e": None}], dtype=pl.Struct({"e": pl.Enum(["b", "a"])})),
    }


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame(flat() | nested())


def same(found: pl.DataFrame, frame: pl.DataFrame) -> None:
    assert_frame_equal(found, frame)
    assert found.schema == frame.schema


@pytest.mark.parametrize("rows", [3, 0])
def test_a_polars_frame_comes_back_equal(store: LocalPipelineStore, rows: int) -> None:
    frame = polars_frame().head(rows)
    store.upload(frame, "x")
    same(store.download("x", as_="polars"), frame)
    columns = ["struct", "enum"]
    same(store.download("x", as_="polars", columns=columns), frame.select(columns))
    # The dictionary of an enumeration has all its categories, whichever rows there are.
    table, original = store.download("x", as_="arrow"), frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    assert table.schema.equals(original.schema, check_metadata=True)
    assert store.download("x").dtypes["enum"] == pd.CategoricalDtype(["lo", "unused", "hi"], ordered=True)
    assert store.stat("x").schema["enum"] == "category"


def test_a_polars_frame_in_csv_comes_back_equal_or_is_refused(csv_store: LocalPipelineStore) -> None:
    frame = pl.DataFrame(flat())
    csv_store.upload(frame, "x")
    same(csv_store.download("x", as_="polars"), frame)
    same(pl.concat(csv_store.iter_batches("x", as_="polars", rows=2)), frame)
    assert csv_store.download("x")["enum"].cat.categories.to_list() == ["lo", "unused", "hi"]
    with pytest.raises(UnsupportedFrameError, match="'binary'"):
        csv_store.upload(polars_frame(), "y")
    assert not csv_store.exists("y")


def test_a_lazy_frame_and_batches_are_stored_as_one_artifact(store: LocalPipelineStore) -> None:
    frame = polars_frame()
    store.upload(frame.lazy().filter(pl.col("integer") == 1), "lazy")
    same(store.download("lazy", as_="polars"), frame.head(1))
    store.upload_batches((frame.slice(start, 1) for start in range(3)), "batches")
    same(store.download("batches", as_="polars"), frame)
    store.upload_batches(frame.lazy(), "lazy")
    same(store.download("lazy", as_="polars"), frame)


def test_batches_of_arrays_with_missing_values_are_polars_frames(store: LocalPipelineStore) -> None:
    """Polars refuses Arrow's arrays of a fixed size that have a missing value and begin in the middle of a buffer."""
    values = [None if number % 3 == 0 else [number, None] for number in range(50)]
    frame = pl.DataFrame({"a": pl.Series(values, dtype=pl.Array(pl.Int32, 2)), "n": range(50)})
    store.upload(frame, "x")
    batches = list(store.iter_batches("x", rows=8, as_="polars"))
    assert len(batches) == 7
    same(pl.concat(batches), frame)
    same(store.download("x", as_="polars", filters=[("n", ">=", 10), ("n", "<", 31)]), frame[10:31])


@pytest.mark.parametrize("kind", ["polars", "arrow", "pandas"])
@pytest.mark.parametrize("view", [pa.string_view(), pa.binary_view()])
def test_columns_of_views_are_filtered(store: LocalPipelineStore, kind: Any, view: pa.DataType) -> None:
    """Arrow has no kernel that filters them."""
    table = pa.table({"t": pa.array([b"a", None, b"b", b"a"]).cast(view), "n": range(4)})
    store.upload(table, "x")
    value: Any = "a" if view == pa.string_view() else b"a"
    for filters, rows in (([("n", ">", 0)], [1, 2, 3]), ([("t", "==", value)], [0, 3]), ([("t", "is null")], [1])):
        found = store.download("x", filters=filters, as_=kind)
        assert list(map(int, found["n"].to_numpy())) == rows
        assert len(found.columns) == 2
    if kind == "arrow":
        assert store.download("x", filters=[("n", ">", 1)], as_=kind).equals(table.slice(2))


@pytest.mark.parametrize("dtype", [pl.Int128, pl.UInt128, pl.Object, pl.List(pl.Int128)])
def test_polars_frames_that_parquet_cannot_keep_are_refused(store: LocalPipelineStore, dtype: Any) -> None:
    values = [[1]] if isinstance(dtype, pl.List) else [1]
    with pytest.raises(UnsupportedFrameError, match=r"column 'bad' \(.*cast it to"):
        store.upload(pl.DataFrame({"fine": [1], "bad": pl.Series(values, dtype=dtype)}), "x")
    assert not store.exists("x")


TEXTS = pa.array(["a", None, "b"])
ARROW: dict[str, Callable[[], pa.Array]] = {
    "text view": lambda: TEXTS.cast(pa.string_view()),
    "binary view": lambda: pa.array([b"x", None, b""], pa.binary_view()),
    "large text": lambda: TEXTS.cast(pa.large_string()),
    "run-end encoded": lambda: pc.run_end_encode(pa.array([1, 1, None]), pa.int16()),
    "dictionary": lambda: pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), ["z", "a", "unused"]),
    "ordered dictionary": lambda: pa.DictionaryArray.from_arrays(pa.array([1, None, 0]), ["z", "a"], ordered=True),
    "dictionary of numbers": lambda: pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int16()), [5, 3]),
    "nested dictionary": lambda: pa.array([["a"], None, ["b"]]).cast(pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "seconds": lambda: pa.array([1, None, 2], pa.timestamp("s", "Europe/Berlin")),
    "an offset": lambda: pa.array([1, None, 2], pa.timestamp("us", "+05:30")),
    "times of seconds": lambda: pa.array([1, None, 2], pa.time32("s")),
    "durations of seconds": lambda: pa.array([1, None, 2], pa.duration("s")),
    "date64": lambda: pa.array([0, None, 86_400_000], pa.date64()),
    "float16": lambda: pa.array([1.5, None, 2], pa.float16()),
    "decimal32": lambda: pa.array([D("1.5"), None, D(2)], pa.decimal32(5, 2)),
    "decimal256": lambda: pa.array([D("1.5"), None, D(2)], pa.decimal256(60, 2)),
    "map": lambda: pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
    "list view": lambda: pa.array([[1], None, [2, 3]], pa.list_view(pa.int64())),
    "fixed list": lambda: pa.array([[1, None], None, [3, 4]], pa.list_(pa.int8(), 2)),
    "struct of views": lambda: pa.array([{"a": "x"}, None, {"a": None}]).cast(pa.struct([("a", pa.string_view())])),
    "uuid": lambda: pa.array([b"0" * 16, None, b"1" * 16], pa.uuid()),
    "bool8": lambda: pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, None, 0], pa.int8())),
    "json": lambda: pa.ExtensionArray.from_storage(pa.json_(), TEXTS),
    "NaN": lambda: pa.array([float("nan"), None, 1.0]),
    "list of NaN": lambda: pa.array([[float("nan")], None, [1.0]]),
    "null": lambda: pa.nulls(3),
}


@pytest.mark.parametrize("name", ARROW)
def test_an_arrow_table_comes_back_equal(store: LocalPipelineStore, name: str) -> None:
    field = pa.field(name, ARROW[name]().type, metadata={"unit": "mmol/l"})
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), field], metadata={"study": "icu", b"\xff": b"\xfe"})
    table = pa.Table.from_arrays([pa.array([1, 2, 3]), ARROW[name]()], schema=schema)
    store.upload(table, "x")
    found = store.download("x", as_="arrow")
    found.validate(full=True)
    assert found.schema.equals(table.schema, check_metadata=True)
    # `equals` says that NaN differs from NaN, and that dictionaries with the same values differ.
    assert repr(found.to_pylist()) == repr(table.to_pylist())
    if name.endswith("dictionary") and not name.startswith("nested"):
        assert found.column(name).combine_chunks().dictionary.equals(ARROW[name]().dictionary)
    # The artifact can be read as the other kinds, too.
    assert store.download("x", as_="polars").columns == ["id", name]
    assert list(store.download("x").columns) == ["id", name]
    assert set(store.stat("x").schema) == {"id", name}


NOT_ARROW: dict[str, Callable[[], pa.Array]] = {
    "months": lambda: pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    "union": lambda: pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([SECRET])]),
    "no fields": lambda: pa.array([{}], pa.struct([])),
    "times of date64": lambda: pa.array([1], pa.date64()),
    "far seconds": lambda: pa.array([2**62], pa.timestamp("s")),
}


@pytest.mark.parametrize("name", NOT_ARROW)
def test_arrow_tables_that_parquet_cannot_keep_are_refused(store: LocalPipelineStore, name: str) -> None:
    table = pa.table({"fine": [1], name: NOT_ARROW[name]()})
    with pytest.raises(UnsupportedFrameError, match=f"column '{name}'") as caught:
        store.upload(table, "x")
    assert SECRET not in str(caught.value)
    assert not store.exists("x")


def test_two_columns_with_the_same_name_are_refused(store: LocalPipelineStore) -> None:
    with pytest.raises(UnsupportedFrameError, match="'hr'; rename"):
        store.upload(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["hr", "hr"]), "x")
    with pytest.raises(UnsupportedFrameError, match="without columns"):
        store.upload(pa.table({"a": [1, 2]}).select([]), "x")
    assert not store.exists("x")


def batches(*values: list[int]) -> Iterator[pa.RecordBatch]:
    return (pa.record_batch({"id": pa.array(of, pa.int64())}) for of in values)


def test_a_reader_is_read_once_and_never_stored_as_empty(store: LocalPipelineStore) -> None:
    schema = pa.schema([("id", pa.int64())])
    reader = pa.RecordBatchReader.from_batches(schema, batches([1, 2], [3]))
    store.upload(reader, "x")
    with pytest.raises(UnsupportedFrameError, match=r"read already.*read_all"):
        store.upload(reader, "x")
    assert store.download("x", as_="arrow").column("id").to_pylist() == [1, 2, 3]
    store.upload_batches(pa.RecordBatchReader.from_batches(schema, batches([4])), "y")
    store.upload(pa.RecordBatchReader.from_batches(schema, batches()), "z")
    assert store.download("z", as_="arrow").schema.equals(schema)
    store.upload(next(batches([1])), "one")
    assert store.download("one", as_="polars").rows() == [(1,)]


def test_a_stream_that_can_be_read_once_is_not_stored_as_empty_the_second_time(store: LocalPipelineStore) -> None:
    class Once:
        def __init__(self, *values: list[int]) -> None:
            schema = pa.schema([("id", pa.int64())])
            self.reader = pa.RecordBatchReader.from_batches(schema, batches(*values))

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return self.reader.__arrow_c_stream__(requested_schema)

    class Unhashable(Once):
        __hash__ = None  # type: ignore[assignment]

    for kind in (Once, Unhashable):
        once = kind([1, 2], [3])
        store.upload(once, "x")
        for again in (partial(store.upload, once, "x"), partial(store.upload_batches, [once], "x")):
            with pytest.raises(UnsupportedFrameError, match=r"this \w+ had rows .*pyarrow.Table"):
                again()
            assert store.download("x", as_="arrow").column("id").to_pylist() == [1, 2, 3]
    begun = Once([1, 2])
    next(stream_of(begun).tables)  # as by an upload that failed after the first rows
    with pytest.raises(UnsupportedFrameError, match="had rows"):
        store.upload(begun, "x")
    for empty in (Once(), Unhashable()):
        for _ in range(2):
            store.upload(empty, "y")
            assert store.download("y", as_="arrow").num_rows == 0
    relation = duckdb.sql("select i as id from range(3) t(i)")
    for name in ("a", "b"):
        store.upload(relation, name)
        assert store.download(name, as_="arrow").num_rows == 3


def test_a_stream_without_rows_is_stored_although_an_equal_object_had_rows(store: LocalPipelineStore) -> None:
    rows = {"before": [1, 2], "now": []}

    @dataclass(frozen=True)
    class Query:
        text: str
        at: str = field(compare=False)

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return pa.table({"id": pa.array(rows[self.at], pa.int64())}).__arrow_c_stream__(requested_schema)

    class Expression(Query):
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an expression is ambiguous")

        __hash__ = Query.__hash__

    for kind in (Query, Expression):
        before = kind("select id from t", "before")
        store.upload(before, "x")
        store.upload(kind("select id from t", "now"), "x")
        assert store.download("x", as_="arrow").num_rows == 0


def test_a_nested_column_without_a_name_is_read_alone(store: LocalPipelineStore) -> None:
    numbers = np.random.default_rng(0).integers(0, 1 << 62, (80_000, 2))  # more than the first request fetches
    df = pl.DataFrame({"": pl.Series(numbers).arr.to_list(), "id": numbers[:, 0]})
    store.upload(df, "x")
    assert_frame_equal(store.download("x", columns=[""], as_="polars"), df.select(""))
    assert store.download("x", columns=[""])[""].iloc[-1].tolist() == numbers[-1].tolist()


def test_any_object_that_exports_an_arrow_stream_is_stored(store: LocalPipelineStore) -> None:
    class Exporter:
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return pa.table({"id": [1]}).__arrow_c_stream__(requested_schema)

    store.upload(Exporter(), "exporter")
    assert store.download("exporter", as_="arrow").to_pylist() == [{"id": 1}]
    relation = duckdb.sql(
        "select i as id, [i, null] as l, {'q': 'x'} as s, 'b'::enum('b', 'a') as e from range(3) t(i)"
    )
    store.upload(relation, "duckdb")
    expected = duckdb.sql("select * from relation").to_arrow_table()
    assert store.download("duckdb", as_="arrow").to_pylist() == expected.to_pylist()


def test_batches_that_do_not_fit_are_refused_and_nothing_is_stored(store: LocalPipelineStore) -> None:
    first = pl.DataFrame({"id": [1], "unit": ["a"]})
    for other, why in (
        (first.select("unit", "id"), "batch 2 has other columns"),
        (first.with_columns(pl.col("id").cast(pl.Int32)), "batch 2: column 'id'"),
        (first.to_arrow(), "batch 2 is a frame of arrow"),
        (first.to_pandas(), "batch 2 is a frame of pandas"),
    ):
        with pytest.raises(UnsupportedFrameError, match=why):
            store.upload_batches(iter([first, other]), "x")
    grades = pa.DictionaryArray.from_arrays(pa.array([0]), ["mild"], ordered=True)
    others = pa.DictionaryArray.from_arrays(pa.array([0]), ["grave"], ordered=True)
    with pytest.raises(UnsupportedFrameError, match=r"'grade'.*categories"):
        store.upload_batches([pa.table({"grade": grades}), pa.table({"grade": others})], "x")
    small = pa.dictionary(pa.int8(), pa.string())
    words = [pa.table({"w": pa.array([f"w{i}" for i in range(at, at + 100)]).cast(small)}) for at in (0, 100)]
    with pytest.raises(UnsupportedFrameError, match=r"'w'.*more categories"):
        store.upload_batches(words, "x")
    assert not store.exists("x")


def test_our_keys_in_a_table_of_another_file_do_not_reach_the_new_one(store: LocalPipelineStore) -> None:
    import pyarrow.parquet as pq

    frame = pd.DataFrame({"a": ["x"]}, index=pd.Index([7], name="id"))
    path = Path(store.upload(frame, "x").removeprefix("file://"))
    read = pq.read_table(path)
    assert any(key.startswith(b"clinops.") for key in read.schema.metadata)
    store.upload(read.append_column("b", pa.array([1])), "y")
    pd.testing.assert_frame_equal(store.download("y"), frame.assign(b=[1]))


WITHOUT_PANDAS = """if True:
    import sys, tempfile
    import polars as pl, pyarrow as pa
    from clinops_prefect import LocalPipelineStore, StorageFormat
    import clinops_prefect.tasks
    frame = pl.DataFrame({"a": [1, None], "b": ["x", None], "e": pl.Series(["x", None], dtype=pl.Enum(["x", "y"]))})
    for format in StorageFormat:
        store = LocalPipelineStore(tempfile.mkdtemp(), format=format)
        store.upload(frame, "a")
        store.upload(frame.lazy(), "b")
        store.upload(frame.to_arrow(), "c")
        store.upload_batches([frame, frame], "d")
        assert store.download("a", as_="polars").equals(frame)
        assert store.download("d", as_="arrow", columns=["a"]).num_rows == 4
        assert sum(map(len, store.iter_batches("d", as_="polars", rows=3))) == 4
        assert store.list_artifacts() == list("abcd")
    print("pandas" in sys.modules)
"""


def test_pandas_is_not_imported_for_polars_and_arrow() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PANDAS], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr[-2000:]


MEASURE = """if True:
    import gc, sys
    import numpy as np, polars as pl, pyarrow as pa
    from clinops_prefect import LocalPipelineStore
    from tests.memory import forget_peak, peak, resident
    folder, kind, way = sys.argv[1:]
    store = LocalPipelineStore(folder)
    store.upload(pl.DataFrame({"a": [1.0]}), "small")
    store.download("small", as_=kind)
    size = 150 * 100_000 * 8
    if way == "upload":
        random = np.random.default_rng(1)
        frame = pl.DataFrame({f"c{i}": random.normal(80, 10, 100_000).round(1) for i in range(150)})
        frame = frame if kind == "polars" else frame.to_arrow()
        gc.collect()
    forget_peak()
    before = resident()
    kept = store.upload(frame, "x") if way == "upload" else store.download("x", as_=kind)
    print((peak() - before) / size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["polars", "arrow"])
def test_memory_is_bounded(kind: str, tmp_path: Path) -> None:
    def measured(way: str) -> float:
        command = [sys.executable, "-c", MEASURE, str(tmp_path), kind, way]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert measured("upload") < 0.5
    # 1.45 for a frame of twice the size. For this smaller frame, fixed costs weigh more. An earlier version took 2.0.
    # Again if it is more: on a busy machine, more parts arrive before they can be decoded.
    assert any(measured("download") < 1.8 for _ in range(3))
