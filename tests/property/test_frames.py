"""Any frame comes back equal, or is refused before anything is written."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from clinops_prefect import LocalPipelineStore, StorageFormat, UnsupportedFrameError
from clinops_prefect.frames.conversion import from_pandas
from clinops_prefect.frames.encoding import encode_frame
from clinops_prefect.frames.parquet import reader as parquet_reader
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.frames.parquet.reader import ParquetReader
from tests.gallery import assert_same
from tests.property.strategies import frames, plain_frames
from tests.sameness import assert_identical


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LocalPipelineStore:
    format, _, large = request.param.partition(" ")
    if large:
        # What large frames take: floats by NumPy, Polars' writer, and a frame that is filled part by part.
        monkeypatch.setattr(from_pandas, "_MANY_FLOATS", 0)
        monkeypatch.setattr(from_pandas, "_MANY_ROWS", 0)
        monkeypatch.setattr(parquet_writer, "_POLARS_BYTES", 0)
        monkeypatch.setattr(parquet_reader, "_LARGE_BYTES", 0)
    return LocalPipelineStore(str(tmp_path), format=format)


both = pytest.mark.parametrize("store", ["parquet", "parquet as large", "csv"], indirect=True)
pytestmark = [both, pytest.mark.filterwarnings("ignore")]


@settings(max_examples=150)
@given(frame=frames())
@example(frame=pd.DataFrame(index=range(3)))
@example(frame=pd.DataFrame())
def test_any_frame_comes_back_equal_or_is_refused(store: LocalPipelineStore, frame: pd.DataFrame) -> None:
    store.delete_artifact("x", missing_ok=True)
    try:
        store.upload(frame, "x")
    except UnsupportedFrameError:
        assert not store.exists("x")
        return
    assert_same(frame, store.download("x"))
    assert store.stat("x").schema == {
        str(label): str(dtype).replace("list<item:", "list<element:") for label, dtype in frame.dtypes.items()
    }


@settings(max_examples=60)
@given(frame=frames())
def test_what_comes_back_can_be_edited_as_the_original_can(store: LocalPipelineStore, frame: pd.DataFrame) -> None:
    assume(len(frame) > 0)
    try:
        store.upload(frame, "x")
    except UnsupportedFrameError:
        return
    mine, found = frame.copy(), store.download("x")
    for position in range(len(frame.columns)):
        assert _edited(mine, position) is _edited(found, position)
    assert_same(mine, found)


def _edited(frame: pd.DataFrame, position: int) -> type[Exception] | None:
    """Edit a column in place; the error that pandas raises for it, if any."""
    try:
        frame.iloc[0, position] = frame.iloc[-1, position]
        frame.iloc[np.arange(len(frame)) == 0, position] = frame.iloc[-1, position]
        frame.iloc[-1, position] = None
    except Exception as error:
        return type(error)
    return None


@given(frame=frames(max_rows=8), rows=st.integers(1, 9), cut=st.integers(1, 5))
def test_batches_of_any_frame_make_the_whole(
    store: LocalPipelineStore, frame: pd.DataFrame, rows: int, cut: int
) -> None:
    """Uploaded in batches and iterated in others; only a frequency and a range without a name may be lost."""
    assume(len(frame.columns) > 0)
    batches = [frame.iloc[start : start + cut] for start in range(0, max(1, len(frame)), cut)]
    try:
        store.upload_batches(batches, "x")
    except UnsupportedFrameError:
        return
    expected = frame.copy()
    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        expected.index = pd.RangeIndex(len(frame))
    elif isinstance(frame.index, pd.DatetimeIndex):
        expected.index.freq = None
    found = store.download("x")
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_freq=False)
    assert_identical(found.reset_index(drop=True), expected.reset_index(drop=True))
    again = list(store.iter_batches("x", rows=rows))
    assert sum(len(batch) for batch in again) == len(frame)
    for batch in again:
        assert batch.dtypes.equals(expected.dtypes)
        assert batch.columns.equals(expected.columns)
    for start, batch in zip(range(0, len(frame), rows), again, strict=False):
        part = expected.iloc[start : start + rows]
        if isinstance(part.index, pd.MultiIndex):
            # A slice of pandas' own keeps the labels of rows that are not in it.
            part, batch = (each.set_axis(each.index.remove_unused_levels()) for each in (part, batch))
        pd.testing.assert_frame_equal(batch, part, check_exact=True, check_freq=False)
        assert_identical(batch.reset_index(drop=True), part.reset_index(drop=True))


@given(frame=frames(), data=st.data())
def test_any_columns_are_those_of_the_whole(
    store: LocalPipelineStore, frame: pd.DataFrame, data: st.DataObject
) -> None:
    try:
        store.upload(frame, "x")
    except UnsupportedFrameError:
        return
    labels = data.draw(st.lists(st.sampled_from(list(frame.columns)), unique=True)) if frame.shape[1] else []
    try:
        expected = frame.loc[:, labels]
    except (KeyError, ValueError, TypeError):
        return  # a label that pandas itself does not find by value (NaN)
    found = store.download("x", columns=labels)
    assert list(found.columns) == labels
    expected.columns = found.columns
    assert_same(found, expected)


_COMPARE = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
_VALUES = {
    "stay_id": st.integers(-1, 5),
    "hr": st.sampled_from([60.0, 70.0, 80.5]),
    "code": st.sampled_from(["007", "a", "", "z"]),
    "n": st.integers(-1, 4),
}


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, str, object]:
    column = draw(st.sampled_from(sorted(_VALUES)))
    if draw(st.booleans()):
        return column, draw(st.sampled_from(sorted(_COMPARE))), draw(_VALUES[column])
    return column, draw(st.sampled_from(["in", "not in"])), draw(st.lists(_VALUES[column], min_size=1, max_size=3))


def _holds(frame: pd.DataFrame, condition: tuple[str, str, object]) -> np.ndarray:
    column, operator, value = condition
    known = frame[column].notna().to_numpy()
    if operator in ("in", "not in"):
        inside = frame[column].isin(value).fillna(False).to_numpy(dtype=bool)  # type: ignore[arg-type]
        # As in SQL a missing value is never equal, nor unequal.
        return (inside if operator == "in" else ~inside) & known
    return _COMPARE[operator](frame[column], value).fillna(False).to_numpy(dtype=bool) & known


@given(
    frame=st.integers(0, 12).flatmap(plain_frames),
    groups=st.lists(st.lists(conditions(), min_size=1, max_size=3), min_size=1, max_size=3),
    columns=st.none() | st.lists(st.sampled_from(["stay_id", "hr", "code", "n", "t"]), unique=True),
    rows=st.integers(1, 5),
)
def test_any_filters_keep_the_rows_that_pandas_keeps(
    store: LocalPipelineStore, frame: pd.DataFrame, groups: list, columns: list[str] | None, rows: int
) -> None:
    store.upload(frame, "x")
    kept = np.zeros(len(frame), dtype=bool)
    for group in groups:
        holds = np.ones(len(frame), dtype=bool)
        for condition in group:
            holds &= _holds(frame, condition)
        kept |= holds
    expected = frame[kept].reset_index(drop=True)
    expected = expected if columns is None else expected[columns]
    assert_same(store.download("x", columns=columns, filters=groups), expected)
    batches = list(store.iter_batches("x", columns=columns, filters=groups, rows=rows))
    assert sum(len(batch) for batch in batches) == len(expected)
    assert_same(pd.concat(batches), expected)


@given(frame=frames())
def test_the_same_frame_is_the_same_bytes(store: LocalPipelineStore, frame: pd.DataFrame) -> None:
    """So that a rerun can be compared with what it replaces."""
    try:
        first, second = (encode_frame(frame, store.format, {}) for _ in range(2))
    except UnsupportedFrameError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = b"".join(first.chunks)
        assert data == b"".join(second.chunks)
    assert first.sidecar == second.sidecar
    if store.format is StorageFormat.PARQUET:
        assert_same(ParquetReader.of(data, "memory").frame(), frame)


@given(
    start=st.integers(-5, 5),
    step=st.sampled_from([1, 2, -3]),
    name=st.sampled_from([None, "stay_id"]),
    least=st.integers(-1, 7),
)
def test_a_range_that_is_not_the_default_is_kept_with_the_rows(
    store: LocalPipelineStore, start: int, step: int, name: str | None, least: int
) -> None:
    frame = pd.DataFrame({"a": range(6)}, index=pd.RangeIndex(start, start + 6 * step, step, name=name))
    store.upload(frame, "x")
    assert_same(store.download("x"), frame)
    kept = frame[frame["a"] >= least]
    expected = kept.reset_index(drop=True) if (start, step, name) == (0, 1, None) else kept
    pd.testing.assert_frame_equal(store.download("x", filters=[("a", ">=", least)]), expected, check_index_type="equiv")
    pd.testing.assert_frame_equal(pd.concat(store.iter_batches("x", rows=4)), frame, check_index_type="equiv")
