"""Parquet files of other programs: each of Arrow's types is read correctly by every method, or refused by name."""

import datetime as dt
import decimal
import io
import uuid
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactDecodeError, PipelineStore
from tests.doors import Door
from tests.gallery import assert_same

D = decimal.Decimal
BIG = 2**62 + 1
UUIDS = [uuid.UUID(int=1), uuid.UUID(int=2)]
DAYS = [dt.date(1600, 1, 1), None, dt.date(9999, 1, 1)]
CLOCK = [dt.time(1, 2, 3), None, dt.time(0)]
SPANS = [dt.timedelta(hours=1), None, dt.timedelta(0)]
STAMPS = [dt.datetime(2000, 1, 1), None, dt.datetime(2110, 1, 1)]
OLD = [dt.datetime(1600, 1, 1), None, dt.datetime(9999, 12, 31)]
LISTS = [[BIG, None], None, []]


def _extension(kind: pa.DataType, values: list[Any], storage: pa.DataType) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(values, storage))


def stamps(values: list[Any], zone: str | None = None) -> list[Any]:
    return [pd.NaT if value is None else pd.Timestamp(value, tz=zone) for value in values]


# From a type to the column, the dtype after reading, and the values.
TYPES: dict[str, tuple[pa.Array, str, list[Any]]] = {
    **{
        kind: (pa.array([1, None, 3], kind), kind.replace("i", "I").replace("uI", "UI"), [1, pd.NA, 3])
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "identifiers": (pa.array([BIG, None, BIG + 1]), "Int64", [BIG, pd.NA, BIG + 1]),
    "largest": (pa.array([2**64 - 1, None, 0], pa.uint64()), "UInt64", [2**64 - 1, pd.NA, 0]),
    **{
        kind: (pa.array([1.5, None, 2.0], kind), kind, [1.5, np.nan, 2.0]) for kind in ("float16", "float32", "float64")
    },
    "bool": (pa.array([True, None, False]), "boolean", [True, pd.NA, False]),
    "bool8": (_extension(pa.bool8(), [1, None, 0], pa.int8()), "boolean", [True, pd.NA, False]),
    "null": (pa.nulls(3), "object", [None, None, None]),
    **{
        str(kind): (pa.array(["007", None, ""], kind), "str", ["007", np.nan, ""])
        for kind in (pa.string(), pa.large_string(), pa.string_view())
    },
    "json": (_extension(pa.json_(), ['{"a":1}', None, "[]"], pa.string()), "str", ['{"a":1}', np.nan, "[]"]),
    **{
        str(kind): (pa.array([b"a\x00", None, b"bc"], kind), "object", [b"a\x00", None, b"bc"])
        for kind in (pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(2))
    },
    "uuid": (
        _extension(pa.uuid(), [u and u.bytes for u in (UUIDS[0], None, UUIDS[1])], pa.binary(16)),
        "object",
        [UUIDS[0], None, UUIDS[1]],
    ),
    "opaque": (
        _extension(pa.opaque(pa.binary(), "geometry", "v"), [b"a", None, b"b"], pa.binary()),
        "object",
        [b"a", None, b"b"],
    ),
    **{str(kind): (pa.array(DAYS, kind), "object", DAYS) for kind in (pa.date32(), pa.date64())},
    **{
        str(kind): (pa.array(CLOCK, kind), "object", CLOCK)
        for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))
    },
    **{
        f"timestamp {unit}": (
            pa.array(STAMPS, pa.timestamp(unit)),
            f"datetime64[{'ms' if unit == 's' else unit}]",
            stamps(STAMPS),
        )
        for unit in ("s", "ms", "us", "ns")
    },
    "timestamp far": (pa.array(OLD, pa.timestamp("us")), "datetime64[us]", stamps(OLD)),
    "timestamp zoned": (
        pa.array(STAMPS, pa.timestamp("us", "Europe/Berlin")),
        "datetime64[us, Europe/Berlin]",
        stamps(STAMPS, "UTC"),
    ),
    "timestamp offset": (
        pa.array(STAMPS, pa.timestamp("ms", "+05:30")),
        "datetime64[ms, UTC+05:30]",
        stamps(STAMPS, "UTC"),
    ),
    **{
        f"duration {unit}": (pa.array(SPANS, pa.duration(unit)), f"timedelta64[{unit}]", [*pd.to_timedelta(SPANS)])
        for unit in ("s", "ms", "us", "ns")
    },
    **{
        str(kind): (pa.array([D("1.50"), None, D("-2.25")], kind), "object", [D("1.50"), None, D("-2.25")])
        for kind in (pa.decimal32(5, 2), pa.decimal64(15, 2), pa.decimal128(38, 2), pa.decimal256(60, 2))
    },
    "dictionary": (pa.array(["b", None, "a"]).dictionary_encode(), "category", ["b", np.nan, "a"]),
    "dictionary of ints": (pa.array([BIG, None, BIG + 1]).dictionary_encode(), "Int64", [BIG, pd.NA, BIG + 1]),
    "dictionary of times": (pa.array(OLD, pa.timestamp("us")).dictionary_encode(), "datetime64[us]", stamps(OLD)),
    **{
        str(kind): (pa.array(LISTS, kind), "object", LISTS)
        for kind in (
            pa.list_(pa.int64()),
            pa.large_list(pa.int64()),
            pa.list_view(pa.int64()),
            pa.large_list_view(pa.int64()),
        )
    },
    "fixed list": (
        pa.array([[BIG, 2], None, [3, None]], pa.list_(pa.int64(), 2)),
        "object",
        [[BIG, 2], None, [3, None]],
    ),
    "list of bools": (pa.array([[True, None], None, []]), "object", [[True, None], None, []]),
    "list of floats": (pa.array([[1.5, None], None, []]), "object", [[1.5, np.nan], None, []]),
    "list of texts": (pa.array([["007", None], None, []]), "object", [["007", None], None, []]),
    "list of times": (pa.array([OLD, None, []], pa.list_(pa.timestamp("us"))), "object", [OLD, None, []]),
    "list of uuids": (
        pa.ListArray.from_arrays([0, 1, 1, 2], _extension(pa.uuid(), [u.bytes for u in UUIDS], pa.binary(16))),
        "object",
        [UUIDS[:1], [], UUIDS[1:]],
    ),
    "list of categories": (
        pa.ListArray.from_arrays([0, 2, 2, 3], pa.array(["a", "b", "a"]).dictionary_encode()),
        "object",
        [["a", "b"], [], ["a"]],
    ),
    "list of lists": (pa.array([[[BIG], [None]], None, [[]]]), "object", [[[BIG], [None]], None, [[]]]),
    "struct": (
        pa.array([{"a": BIG, "b": "x"}, None, {"a": None, "b": None}]),
        "object",
        [{"a": BIG, "b": "x"}, None, {"a": None, "b": None}],
    ),
    "list of structs": (pa.array([[{"a": BIG}], None, [{"a": None}]]), "object", [[{"a": BIG}], None, [{"a": None}]]),
    "map": (
        pa.array([[("k", BIG)], None, [("l", None)]], pa.map_(pa.string(), pa.int64())),
        "object",
        [[("k", BIG)], None, [("l", None)]],
    ),
    "tensor": (
        _extension(
            pa.fixed_shape_tensor(pa.float64(), [2]), [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float64(), 2)
        ),
        "object",
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
    ),
}
# From a type to the column, and the words for the type in the message.
REFUSED: dict[str, tuple[pa.Array, str]] = {
    "zone that nobody knows": (pa.array(STAMPS, pa.timestamp("us", "Mars/Phobos")), "Mars/Phobos"),
    "nanoseconds of a day": (pa.array([1, None, 1001], pa.int64()).cast(pa.time64("ns")), "time64[ns]"),
    "day after the year 9999": (pa.array([3_000_000, None, 0], pa.int32()).cast(pa.date32()), "date32"),
    "list of nanoseconds of a day": (
        pa.ListArray.from_arrays([0, 1, 1, 2], pa.array([1, 2], pa.int64()).cast(pa.time64("ns"))),
        "time64[ns]",
    ),
}


def written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def every_way(store: PipelineStore) -> pd.DataFrame:
    """The whole frame. Every way to read a part must agree with it, including dtypes."""
    whole = store.download("x")
    assert list(store.stat("x").schema.items()) == [(str(c), str(t)) for c, t in whole.dtypes.items()]
    assert_same(store.download("x", columns=list(whole.columns)[::-1]), whole.iloc[:, ::-1])
    for column in whole.columns:
        assert_same(store.download("x", columns=[column]), whole[[column]])
        for condition, rows in (("is not null", whole[column].notna()), ("is null", whole[column].isna())):
            assert_same(store.download("x", filters=[(column, condition)]), whole[rows].reset_index(drop=True))
    batches = list(store.iter_batches("x", rows=1))
    assert [list(batch.dtypes) for batch in batches] == [list(whole.dtypes)] * len(batches)
    assert_same(pd.concat(batches), whole)
    return whole


def plain(value: Any) -> Any:
    return [plain(part) for part in value] if isinstance(value, np.ndarray | list) else value


def is_equal(found: Any, expected: Any) -> bool:
    found = plain(found)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(is_equal, found, expected))
    if expected is None or expected is pd.NA or expected is pd.NaT:
        return found is expected
    return (isinstance(expected, float) and expected != expected and found != found) or found == expected


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_each_type_is_read_the_same_and_right_in_each_way(door: Door) -> None:
    for name, (column, dtype, values) in TYPES.items():
        table = pa.table({"k": [1, 2, 3], name: column})
        for options in ({"row_group_size": 1}, {"row_group_size": 2}, {"row_group_size": 1, "write_statistics": False}):
            door.put("x.parquet", written(table, **options))
            frame = every_way(door.store())
            assert str(frame[name].dtype) == dtype, name
            assert is_equal(frame[name].tolist(), values), (name, frame[name].tolist())
            assert str(frame["k"].dtype) == ("Int64" if "write_statistics" in options else "int64")


def test_each_type_is_read_from_each_store(door: Door) -> None:
    columns = {name: column for name, (column, _, _) in TYPES.items()}
    door.put("x.parquet", written(pa.table(columns), row_group_size=2))
    store = door.store()
    frame = store.download("x")
    assert [str(dtype) for dtype in frame.dtypes] == list(store.stat("x").schema.values())
    some = ["uint64", "json", "list of structs", "dictionary", "timestamp zoned"]
    assert_same(store.download("x", columns=some), frame[some])
    kept = frame[frame["int32"].notna()].reset_index(drop=True)
    assert_same(store.download("x", filters=[("int32", "is not null")]), kept)
    assert_same(pd.concat(store.iter_batches("x", rows=1)), frame)
    for name, (_, dtype, values) in TYPES.items():
        assert str(frame[name].dtype) == dtype, name
        assert is_equal(frame[name].tolist(), values), name


def test_a_type_that_cannot_be_read_is_named_and_other_columns_are_read(door: Door) -> None:
    store = door.store()
    for name, (column, named) in REFUSED.items():
        door.put("x.parquet", written(pa.table({"k": [1, 2, 3], "lactate": column}), row_group_size=2))
        assert list(store.stat("x").schema) == ["k", "lactate"]
        for read in (
            store.download,
            lambda n: store.download(n, columns=["lactate"]),
            lambda n: store.download(n, filters=[("k", ">", 0)]),
            lambda n: list(store.iter_batches(n)),
        ):
            with pytest.raises(ArtifactDecodeError) as caught:
                read("x")
            assert all(word in str(caught.value) for word in ("'lactate'", named, "columns=")), (name, caught.value)
            assert caught.value.uri == store.uri("x"), name
        assert store.download("x", columns=["k"])["k"].tolist() == [1, 2, 3]


def test_int96_is_read_right_in_every_year(door: Door) -> None:
    stamps = np.array(["1600-01-01", "9999-12-31T23:59:59.999999", "0001-01-01", "NaT", "2110-01-01"], dtype="M8[us]")
    nested = [None if np.isnat(stamp) else [stamp.item()] for stamp in stamps]
    table = pa.table({"t": stamps, "k": range(5), "l": pa.array(nested, pa.list_(pa.timestamp("us")))})
    door.put("x.parquet", written(table, use_deprecated_int96_timestamps=True, row_group_size=2))
    store = door.store()
    frame = every_way(store)
    assert frame["t"].dtype == "datetime64[us]"
    assert np.array_equal(frame["t"].to_numpy(), stamps, equal_nan=True)
    assert frame["l"].tolist() == nested
    assert store.download("x", filters=[("t", "<", pd.Timestamp("1700-01-01"))])["k"].tolist() == [0, 2]
    assert store.download("x", filters=[("t", ">=", dt.datetime(9999, 1, 1))])["k"].tolist() == [1]
    store.upload(frame, "again")
    assert_same(store.download("again"), frame)


@pytest.mark.parametrize("door", ["local"], indirect=True)
@pytest.mark.parametrize("options", [{}, {"store_schema": False}], ids=["with Arrow's schema", "without"])
def test_int96_keeps_nanoseconds_where_it_has_them_beside_a_far_column(door: Door, options: dict) -> None:
    fine = np.array(["2000-01-01T00:00:00.123456789", "1960-01-01", "NaT"], dtype="M8[ns]")
    far = np.array(["9999-01-01", "2000-01-01", "NaT"], dtype="M8[us]")
    table = pa.table({"k": [1, 2, 3], "fine": fine, "far": far})
    door.put("x.parquet", written(table, use_deprecated_int96_timestamps=True, row_group_size=1, **options))
    frame = every_way(door.store())
    assert np.array_equal(frame["fine"].to_numpy(), fine, equal_nan=True)
    assert np.array_equal(frame["far"].to_numpy(), far, equal_nan=True)
    # If pandas wrote the file with nanoseconds, they are read as nanoseconds.
    theirs = pd.DataFrame({"t": pd.to_datetime(["2000-01-01", None]).as_unit("ns")})
    door.put("x.parquet", theirs.to_parquet(None, use_deprecated_int96_timestamps=True))
    assert_same(every_way(door.store()), theirs)


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_int96_that_pandas_cannot_hold_together_is_refused(door: Door) -> None:
    # A time in nanoseconds, and a day beyond nanoseconds' range. Arrow cannot write it, so the second is patched.
    stamps = np.array(["2000-01-01T00:00:00.000000001", "2000-01-01"], dtype="M8[ns]")
    options = {"use_deprecated_int96_timestamps": True, "use_dictionary": False, "compression": "none"}
    data = bytearray(written(pa.table({"t": stamps}), **options))
    day = (2_451_545).to_bytes(4, "little")
    at = data.rindex(day, 0, data.rindex(b"schema"))
    data[at : at + 4] = (5_373_484).to_bytes(4, "little")
    door.put("x.parquet", bytes(data))
    for read in (door.store().download, door.store().stat, lambda n: list(door.store().iter_batches(n))):
        with pytest.raises(ArtifactDecodeError, match=r"'t' has times .INT96. with nanoseconds beside"):
            read("x")


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_large_files_are_read_as_small_ones(door: Door) -> None:
    """Frames of many megabytes are filled while they arrive, by other code than small ones."""
    rows = 400_000
    ids = pa.array(np.arange(rows) + BIG, mask=np.arange(rows) == rows - 1)
    table = pa.table({
        "id": ids, "k": np.arange(rows), "v": np.arange(rows) / 3,
        "c": pa.array(["a", "b"] * 200_000).dictionary_encode(),
        "t": pa.array(np.arange(rows), pa.timestamp("us")),
    })  # fmt: skip
    door.put("x.parquet", written(table, row_group_size=100_000))
    whole = door.store().download("x")
    assert [str(dtype) for dtype in whole.dtypes] == ["Int64", "int64", "float64", "category", "datetime64[us]"]
    assert whole["id"].iloc[-2] == BIG + rows - 2
    assert whole["id"].iloc[-1] is pd.NA
    assert_same(door.store().download("x", filters=[("k", "<", 10)]), whole.iloc[:10])
    assert_same(door.store().download("x", columns=["c", "id"]), whole[["c", "id"]])


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_footer_that_is_wrong_about_missing_values_is_not_believed(door: Door) -> None:
    table = pa.table({"a": pa.array([1, None, 3]), "b": [1, 2, 3]})
    data = bytearray(written(table, store_schema=False, use_dictionary=False))
    statistics = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).statistics
    assert statistics.null_count == 1
    # null_count of the first column, in Thrift's compact protocol: field 3 of the statistics, an i64 of 1.
    at = data.index(b"\x16\x02", len(data) // 2)
    data[at + 1] = 0
    assert pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).statistics.null_count == 0
    door.put("x.parquet", bytes(data))
    for read in (door.store().download, lambda n: door.store().download(n, columns=["a"])):
        with pytest.raises(ArtifactDecodeError, match="footer says that column 'a' has no missing value"):
            read("x")


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_what_pandas_wrote_is_read_as_pandas_says(door: Door) -> None:
    index = pd.RangeIndex(5, 14, 3, name="r")
    frame = pd.DataFrame(
        {
            "i": [1, 2, 3], "b": [True, False, True], "f": [1.0, np.nan, 2.0], "m": range(3),
            "n": pd.array([1, None, 3], dtype="Int64"), "u": pd.array([1, None, 3], dtype="UInt8"),
            "c": pd.Categorical(["x", "y", "x"], categories=["y", "x"], ordered=True),
            "p": pd.period_range("2110", periods=3, freq="M"), "s": pd.array(["a", None, "b"], dtype="string"),
            "iv": pd.interval_range(0, 3), "d": pd.array([1, None, 3], dtype="int64[pyarrow]"),
            "t": pd.date_range("2110", periods=3, tz="Europe/Berlin"),
        },
        index=index,
    )  # fmt: skip
    for made in (frame, frame.set_index(["i", "f"]), frame.set_index("t"), frame.iloc[:0].drop(columns="c")):
        door.put("x.parquet", made.to_parquet(None, row_group_size=2))
        assert_same(door.store().download("x"), pd.read_parquet(io.BytesIO(door.get("x.parquet"))))
        assert_same(pd.concat(door.store().iter_batches("x", rows=2)), door.store().download("x"))
    wide = pd.DataFrame([[1, 2.0]], columns=pd.MultiIndex.from_tuples([("hr", "mean"), ("hr", "max")]))
    door.put("x.parquet", wide.to_parquet(None))
    assert_same(door.store().download("x"), wide)
    assert_same(door.store().download("x", columns=[("hr", "max")]), wide.iloc[:, 1:])
    # Another program has added rows, so the metadata are out of date.
    stale = pa.Table.from_pandas(pd.DataFrame({"i": [1, 2]})).schema.metadata
    door.put("x.parquet", written(pa.table({"i": [1, None, BIG]}).replace_schema_metadata(stale), row_group_size=1))
    assert every_way(door.store())["i"].tolist() == [1, pd.NA, BIG]


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_names_that_repeat_or_look_like_an_index_are_columns(door: Door) -> None:
    table = pa.table({
        "": [1, None], " ": [1, 2], "a.b": [None, 2], "l.x": [[1], [None]], "index": [1, 2],
        "__index_level_0__": [5, 6],
    })  # fmt: skip
    door.put("x.parquet", written(table, row_group_size=1))
    frame = every_way(door.store())
    assert list(frame.columns) == table.column_names
    assert [str(dtype) for dtype in frame.dtypes] == ["Int64", "int64", "Int64", "object", "int64", "int64"]
    twice = pa.Table.from_arrays([pa.array([1, None]), pa.array(["a", "b"]), pa.array([3, 4])], names=["a", "a", "b"])
    door.put("x.parquet", written(twice, row_group_size=1))
    expected = pd.concat([pd.Series([1, None], dtype="Int64"), pd.Series(["a", "b"]), pd.Series([3, 4])], axis=1)
    expected.columns = ["a", "a", "b"]
    store = door.store()
    assert_same(store.download("x"), expected)
    assert_same(pd.concat(store.iter_batches("x", rows=1)), expected)
    for ask in ({"columns": ["b"]}, {"filters": [("b", ">", 3)]}):
        with pytest.raises(ArtifactDecodeError, match="several columns of one name"):
            store.download("x", **ask)


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_duckdb_and_polars_files_are_read_right(door: Door) -> None:
    door.root.mkdir(parents=True)  # type: ignore[attr-defined]
    path = door.root / "x.parquet"  # type: ignore[attr-defined]
    duckdb.sql(
        f"""copy (select {BIG}::bigint id, '00000000-0000-0000-0000-000000000001'::uuid u, '{{"a":1}}'::json j, true b,
        [1, null] l, {{'a': 1, 'b': null}} st, map{{'k': 1}} m, '12:00'::time ti, timestamptz '2000-01-01' tz,
        timestamp_ns '2000-01-01 00:00:00.000000001' tn, 1.5::decimal(38, 2) d, 'a'::enum('a', 'b') e,
        date '1600-01-01' da
        union all select null, null, null, null, null, null, null, null, null, null, null, null, null)
        to '{path}'"""
    )
    frame = every_way(door.store())
    assert frame["id"].tolist() == [BIG, pd.NA]
    assert frame["u"].tolist() == [UUIDS[0], None]
    assert frame["j"].iloc[0] == '{"a":1}'
    assert frame["l"].tolist() == [[1, None], None]
    assert frame["tn"].iloc[0] == pd.Timestamp("2000-01-01 00:00:00.000000001")
    assert frame["da"].tolist() == [dt.date(1600, 1, 1), None]
    for value in (UUIDS[0], str(UUIDS[0])):
        assert len(door.store().download("x", filters=[("u", "==", value)])) == 1
    assert len(door.store().download("x", filters=[("j", "in", ['{"a":1}'])])) == 1
    assert len(door.store().download("x", filters=[("b", "!=", True)])) == 0
    duckdb.sql(f"copy (select 1 k, interval 3 day as stay) to '{path}'")
    with pytest.raises(ArtifactDecodeError, match="'stay' is of type INTERVAL"):
        door.store().download("x")
    assert door.store().download("x", columns=["k"])["k"].tolist() == [1]
    theirs = pl.DataFrame({
        "c": pl.Series(["a", "b", None, "c"], dtype=pl.Categorical), "i": [1, None, 3, BIG],
        "t": [dt.time(1), None, None, None],
        "d": [dt.timedelta(1), None, None, None], "n": [None] * 4, "s": [{"a": 1}, {"a": None}, None, {"a": BIG}],
    })  # fmt: skip
    theirs.write_parquet(path, row_group_size=2)
    frame = every_way(door.store())
    # The categories are the same for all rows, so that parts can be joined again.
    assert door.store().download("x", filters=[("i", "==", 1)])["c"].dtype == frame["c"].dtype
    assert frame["i"].tolist() == [1, pd.NA, 3, BIG]
    assert frame["s"].tolist() == [{"a": 1}, {"a": None}, None, {"a": BIG}]
