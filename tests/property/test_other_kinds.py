"""What one kind of frame wrote, another kind reads: equal names and values, with the types of docs/how-to/frames.md.

`test_frame_kinds` has each kind to itself, and the dtypes that polars has for the types of Arrow.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given

from clinops_prefect import LocalPipelineStore, StorageFormat, UnsupportedFrameError
from clinops_prefect.errors import ArtifactDecodeError
from tests.property.arrow_strategies import polars_frames, tables
from tests.property.strategies import frames
from tests.same_meaning import as_numpy_has, of_arrow, of_pandas, of_polars, without_nan


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path), format=request.param)


pytestmark = [
    pytest.mark.parametrize("store", ["parquet", "csv"], indirect=True),
    pytest.mark.filterwarnings("ignore"),
]
_SIZES = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_NULLABLE = {size: size.replace("i", "I").replace("u", "U") for size in _SIZES} | {"bool": "boolean"}
# The types that need no more than a name, as pandas, polars and Arrow call them.
_NAMES = [(size, _NULLABLE[size], size) for size in _SIZES]
_NAMES += [("float16", "Float16", "halffloat"), ("float32", "Float32", "float"), ("float64", "Float64", "double")]
_NAMES += [("bool", "Boolean", "bool")]
_AS_POLARS = {pandas: polars for pandas, polars, _ in _NAMES} | {"boolean": "Boolean"}
_AS_ARROW = {pandas: arrow for pandas, _, arrow in _NAMES} | {"boolean": "bool"}
_AS_PANDAS = {arrow: pandas for pandas, _, arrow in _NAMES}

_LEAST = pa.table({"at": pa.array([-(2**63), 1], pa.timestamp("ms"))})
_DEEP = pa.table({"at": pa.array([[1, None]], pa.list_(pa.timestamp("ns", "+05:30")))})
_BOOLEANS = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
_FLAGS = pa.table({"a": pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), _BOOLEANS)})
_VIEW = pa.table(
    {"a": pa.ListViewArray.from_arrays(pa.array([0], pa.int32()), pa.array([1], pa.int32()), _FLAGS["a"].chunk(0))}
)
_BINS = pd.DataFrame({"age": pd.cut(pd.Series([1.0, None, 70.0]), [0, 18, 90])})


def _is_stored(store: LocalPipelineStore, frame: Any) -> bool:
    try:
        store.upload(frame, "x")
    except UnsupportedFrameError:
        return False
    return True


def _columns(frame: pd.DataFrame) -> list[Any]:
    """The columns of a frame, and the levels of its index after them."""
    nameless = frame.index.set_names([None] * frame.index.nlevels)
    columns: list[Any] = [frame.iloc[:, position] for position in range(frame.shape[1])]
    return columns + [nameless.get_level_values(level) for level in range(nameless.nlevels)]


def _written(values: Any) -> list[Any]:
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype) and isinstance(dtype.categories.dtype, pd.IntervalDtype | pd.PeriodDtype):
        return [str(dtype.categories[code]) if code >= 0 else None for code in values.array.codes]
    return of_pandas(values)


@given(frame=frames())
@example(frame=_BINS)
def test_polars_and_arrow_read_what_pandas_wrote(store: LocalPipelineStore, frame: pd.DataFrame) -> None:
    if not _is_stored(store, frame):
        return
    found, table = store.download("x", as_="polars"), store.download("x", as_="arrow")
    assert found.columns == table.column_names
    expected = _columns(frame)
    if table.num_columns < len(expected):
        assert isinstance(frame.index, pd.RangeIndex)
        expected = expected[: frame.shape[1]]
    assert table.num_columns == len(expected)
    if all(type(label) is str for label in frame.columns):
        assert found.columns[: frame.shape[1]] == list(frame.columns)
    for column, other, values in zip(found.get_columns(), table.columns, expected, strict=True):
        assert [without_nan(value) for value in of_polars(column)] == _written(values)
        assert [without_nan(value) for value in of_arrow(other)] == _written(values)
        dtype = str(values.dtype).replace("I", "i").replace("U", "u").replace("F", "f")
        assert str(column.dtype) == _AS_POLARS.get(dtype, str(column.dtype))
        assert str(other.type) == _AS_ARROW.get(dtype, str(other.type))
        if isinstance(values.dtype, pd.StringDtype):
            assert column.dtype == pl.String
            assert other.type in (pa.string(), pa.large_string())
        if isinstance(values.dtype, pd.CategoricalDtype) and isinstance(values.dtype.categories.dtype, pd.StringDtype):
            assert column.dtype == pl.Categorical
            assert pa.types.is_dictionary(other.type)
        if isinstance(values.dtype, pd.DatetimeTZDtype):
            zone = str(values.dtype.tz)
            assert column.dtype.time_zone == ("UTC" if zone.startswith(("UTC+", "UTC-")) else zone)  # type: ignore[attr-defined]
            assert other.type.tz == zone.removeprefix("UTC") or zone == other.type.tz


@given(frame=polars_frames())
def test_pandas_and_arrow_read_what_polars_wrote(store: LocalPipelineStore, frame: pl.DataFrame) -> None:
    if not _is_stored(store, frame):
        return
    table = store.download("x", as_="arrow")
    assert table.schema.equals(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    for column, other in zip(frame.get_columns(), table.columns, strict=True):
        assert of_arrow(other) == of_polars(column)
    _assert_read_by_pandas(store, table)
    for dtype, other in zip(frame.dtypes, store.download("x").dtypes if frame.width else [], strict=False):
        if isinstance(dtype, pl.Enum):
            assert (list(other.categories), other.ordered) == (dtype.categories.to_list(), True)


@given(table=tables())
@example(table=_LEAST)
@example(table=_DEEP)
@example(table=_FLAGS)
@example(table=_VIEW)
def test_pandas_reads_what_arrow_wrote(store: LocalPipelineStore, table: pa.Table) -> None:
    table = table.replace_schema_metadata()
    if _is_stored(store, table):
        _assert_read_by_pandas(store, table)


@given(table=tables())
@example(table=_FLAGS)
@example(table=_VIEW)
def test_polars_reads_what_arrow_wrote(store: LocalPipelineStore, table: pa.Table) -> None:
    if not _is_stored(store, table):
        return
    lazy = store.dataset().scan
    try:
        found = store.download("x", as_="polars")
    except ArtifactDecodeError:
        with pytest.raises(ArtifactDecodeError):
            lazy().collect()
        assert any(what in str(table.schema) for what in ("decimal256", "duration[s]", "\x00"))
        return
    assert found.columns == table.column_names
    assert "Extension" not in str(found.schema)
    scanned = lazy().collect() if found.width else found
    assert scanned.schema == found.schema
    for column, same, other in zip(found.get_columns(), scanned.get_columns(), table.columns, strict=True):
        assert of_polars(column) == of_polars(same) == of_arrow(other)


def _assert_read_by_pandas(store: LocalPipelineStore, table: pa.Table) -> None:
    try:
        found = store.download("x")
    except ArtifactDecodeError:
        # Days before the year 1 and after 9999, times within a microsecond, seconds beyond Python's.
        assert any(kind in str(table.schema) for kind in ("date", "time64[ns]", "timestamp", "duration"))
        return
    assert list(found.columns) == table.column_names
    for position, other in enumerate(table.columns):
        column, kind = found.iloc[:, position], str(other.type)
        values = [as_numpy_has(value) for value in of_arrow(other)]
        if pa.types.is_timestamp(other.type) or pa.types.is_duration(other.type):
            zone = f", {_zone(other.type.tz)}" if getattr(other.type, "tz", None) else ""
            # Parquet has no times in seconds, but durations in seconds.
            unit = "ms" if kind.startswith("timestamp[s") else other.type.unit
            what = "datetime64" if pa.types.is_timestamp(other.type) else "timedelta64"
            assert str(column.dtype) == f"{what}[{unit}{zone}]"
        assert of_pandas(column) == values
        wanted = _AS_PANDAS.get(kind)
        if wanted in _NULLABLE and store.format is StorageFormat.PARQUET and len(table):
            assert str(column.dtype) == (_NULLABLE[wanted] if other.null_count else wanted)
        elif wanted and wanted not in _NULLABLE:
            assert str(column.dtype) == wanted
        elif kind in ("string", "large_string", "string_view"):
            assert isinstance(column.dtype, pd.StringDtype) or column.dtype == object


def _zone(zone: str) -> str:
    return f"UTC{zone}" if zone[0] in "+-" else zone
