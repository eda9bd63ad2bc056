"""Any Arrow table and polars frame comes back equal as its kind, or is refused before anything is written."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clinops_prefect import LocalPipelineStore, UnsupportedFrameError
from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.parquet import writer as parquet_writer
from tests.arrow_sameness import assert_same_frame, assert_same_table, values
from tests.property.arrow_strategies import LEAVES, Unknown, polars_frames, tables
from tests.unit.test_serializer import both_ways


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalPipelineStore:
    format, _, large = request.param.partition(" ")
    if large:
        monkeypatch.setattr(parquet_writer, "_POLARS_BYTES", 0)
        monkeypatch.setattr(parquet_writer, "_GROUPS_OF_POLARS_LEAST", 0)
    return LocalPipelineStore(str(tmp_path), format=format)


both = pytest.mark.parametrize("store", ["parquet", "csv"], indirect=True)
each = pytest.mark.parametrize("store", ["parquet", "parquet as large", "csv"], indirect=True)
parquet = pytest.mark.parametrize("store", ["parquet"], indirect=True)
pytestmark = pytest.mark.filterwarnings("ignore")

_NEGATIVE = pa.Table.from_arrays([pa.nulls(0, pa.decimal128(1, -1))], ["dose"])
_UNKNOWN = pa.Table.from_arrays([pa.ExtensionArray.from_storage(Unknown(), pa.array([1], pa.int16()))], ["place"])
_UUID = pa.Table.from_arrays(
    [pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\x80" * 16], pa.binary(16)))], ["a"]
)
_NESTED = pa.Table.from_arrays([pa.nulls(0, pa.list_(Unknown()))], ["places"])
_UUIDS = pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0]), _UUID["a"].chunk(0))})
_LONG = pa.table({"stay": pa.array([2**63 - 1], pa.duration("s"))})
_LONG_WITHIN = pa.table({"stay": pa.array([[2**63 - 1]], pa.list_(pa.duration("s")))})
_OFFSETS = pa.table({"at": pa.array([[1]], pa.list_(pa.timestamp("us", "+05:30")))})
_NARROW = pa.table({"dose": pa.chunked_array([], pa.dictionary(pa.int8(), pa.decimal32(1, 0)))})
_NOTED = pa.schema([], {b"study": b"7"}).empty_table()


def _upload(store: LocalPipelineStore, frame: object) -> bool:
    store.delete_artifact("x", missing_ok=True)
    try:
        store.upload(frame, "x")  # type: ignore[arg-type]
    except UnsupportedFrameError:
        assert not store.exists("x")
        return False
    return True


def _without_ours(table: pa.Table) -> pa.Table:
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if not key.startswith(b"clinops.")}
    return table.replace_schema_metadata(kept or None)


@both
@settings(max_examples=60, derandomize=True)
@given(table=tables())
@example(table=_NEGATIVE)
@example(table=_UNKNOWN)
@example(table=_NESTED)
@example(table=_NOTED)
@example(table=_NARROW)
@example(table=_UUID)
@example(table=_UUIDS)
def test_any_table_comes_back_equal_or_is_refused(store: LocalPipelineStore, table: pa.Table) -> None:
    if _upload(store, table):
        assert_same_table(store.download("x", as_="arrow"), _without_ours(table))


@each
@settings(max_examples=60, derandomize=True)
@given(frame=polars_frames())
@example(frame=pl.DataFrame({"a": [1]}, schema={"a": pl.Int128}))
@example(frame=pl.DataFrame({"": [1]}))
@example(frame=pl.DataFrame({"\x00": [1]}))
@example(frame=pl.DataFrame({"a": [{"\x00": 1}]}))
def test_any_polars_frame_comes_back_equal_or_is_refused(store: LocalPipelineStore, frame: pl.DataFrame) -> None:
    if _upload(store, frame):
        assert_same_frame(store.download("x", as_="polars"), frame)


@settings(max_examples=50, derandomize=True)
@given(frame=tables() | polars_frames())
@example(frame=_NEGATIVE)
@example(frame=_UNKNOWN)
@example(frame=_NOTED)
@example(frame=_UUIDS)
def test_a_result_of_any_kind_comes_back_as_that_kind(frame: pa.Table | pl.DataFrame) -> None:
    try:
        found = both_ways(frame)
    except UnsupportedFrameError:
        return
    for back in found:
        if isinstance(frame, pa.Table):
            assert_same_table(back, _without_ours(frame))
        else:
            assert_same_frame(back, frame)


# What docs/how-to/frames.md says of each type that Arrow has more narrowly than polars.
_TO_POLARS = {"halffloat": "Float16", "float": "Float32", "double": "Float64", "bool": "Boolean", "date32[day]": "Date"}
_TO_POLARS |= {
    f"{sign}int{bits}": f"{sign}Int{bits}".replace("u", "U") for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_TO_POLARS |= dict.fromkeys(("string", "large_string", "string_view"), "String")
_TO_POLARS |= dict.fromkeys(("binary", "large_binary", "binary_view"), "Binary")


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column of no more than one type, all times and days as nanoseconds."""
    kind = column.type
    while pa.types.is_nested(kind):
        kind = kind.value_type
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3}.get(getattr(kind, "unit", ""), 1)
    if pa.types.is_date(kind):
        factor = 86_400 * 10**9 if pa.types.is_date32(kind) else 10**6

    def scaled(value: Any) -> Any:
        if isinstance(value, list):
            return [scaled(each) for each in value]
        return value[1] * factor if pa.types.is_temporal(kind) and value is not None else value

    return [scaled(value) for value in values(column)]


@parquet
@settings(max_examples=60, derandomize=True)
@given(table=tables(LEAVES | st.builds(pa.list_, LEAVES)))
@example(table=_LONG)
@example(table=_LONG_WITHIN)
@example(table=_OFFSETS)
def test_polars_reads_of_a_table_what_is_in_it(store: LocalPipelineStore, table: pa.Table) -> None:
    if not _upload(store, table):
        return
    try:
        found = store.download("x", as_="polars")
    except ArtifactDecodeError:
        # Of 39 digits and more, of seconds that milliseconds cannot count, or of a name that polars would cut.
        assert any(what in str(table.schema) for what in ("decimal256", "duration[s]", "\x00"))
        return
    assert found.columns == table.column_names
    for name in table.column_names:
        kind = str(table.schema.field(name).type)
        assert str(found[name].dtype) == _TO_POLARS.get(kind, str(found[name].dtype))
        again = pa.chunked_array([found[name].rename("x").rechunk().to_arrow()])
        assert _plain(again) == _plain(table.column(name))
