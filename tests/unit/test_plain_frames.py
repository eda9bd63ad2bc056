"""The table of a frame that is like an earlier one is made from a remembered description, with the same result."""

import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings

from clinops_prefect import LocalPipelineStore, UnsupportedFrameError
from clinops_prefect.frames import pandas_encoding
from clinops_prefect.frames.conversion import plain_frames
from clinops_prefect.frames.conversion.layout import to_arrow
from tests.property.strategies import frames
from tests.sameness import assert_identical

_NUMBERS = ["float64", "float32", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]
_TIMES = [f"{kind}64[{unit}]" for kind in ("datetime", "timedelta") for unit in ("ms", "us", "ns")]
_NULLABLE = ["Int8", "Int64", "UInt32", "boolean"]
_TEXTS = [pd.StringDtype("pyarrow", na_value=missing) for missing in (np.nan, pd.NA)]


class _Unit(enum.StrEnum):
    HR = "a"


def _column(dtype: Any, rows: int, seed: int) -> "pd.Series[Any]":
    values = pd.Series(np.random.default_rng(seed).integers(0, 100, rows))
    if isinstance(dtype, pd.StringDtype):
        return values.astype(str).astype(dtype).where(values % 3 > 0)
    values = values % 2 if dtype == "boolean" else values
    found = values.astype("int64" if str(dtype).startswith(("datetime", "timedelta")) else "float64").astype(dtype)
    return found if str(dtype) in _NUMBERS[2:] else found.where(values % 3 > 0)


def _frame(dtypes: list[Any], rows: int = 20, seed: int = 0) -> pd.DataFrame:
    made = pd.DataFrame({f"c{number}": _column(dtype, rows, seed) for number, dtype in enumerate(dtypes)})
    if "float64" in dtypes:
        made["zero"] = -0.0
    return made


PLAIN: dict[str, list[Any]] = {
    "floats": ["float64"] * 5,
    "numbers": _NUMBERS,
    "times": _TIMES,
    "times and numbers": ["datetime64[us]", "float64", "int64"],
    "texts": _TEXTS,
    "nullable": _NULLABLE,
    "everything": [*_NUMBERS, *_TIMES, *_TEXTS, *_NULLABLE],
}


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_frames, "_remembered", {})


def _assert_same_table(found: pa.Table, expected: pa.Table) -> None:
    found.validate(full=True)
    assert found.equals(expected)
    assert found.schema.equals(expected.schema)
    assert found.schema.metadata == expected.schema.metadata
    for mine, theirs in zip(found.columns, expected.columns, strict=True):
        assert (
            mine.to_pylist().__repr__() == theirs.to_pylist().__repr__()
        )  # the texts differ for -0.0 and 0.0, which are equal


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("rows", [1, 7, 20])
def test_the_remembered_description_gives_the_same_table_as_the_exact_way(name: str, rows: int) -> None:
    pandas_encoding.stored_table(_frame(PLAIN[name]), as_text=False)
    later = _frame(PLAIN[name], rows, seed=1)
    known = plain_frames.table_of(later)
    assert known is not None
    _assert_same_table(known, to_arrow(later))


@pytest.mark.parametrize("labels", [["a", "b"], ["Ä", "\x00"], ["", "0"]])
@pytest.mark.parametrize("dtype", ["str", "object"])
def test_frames_with_labels_of_either_text_type_are_remembered(labels: list[str], dtype: str) -> None:
    for seed in range(2):
        df = pd.DataFrame(np.random.default_rng(seed).random((5, 2)), columns=pd.Index(labels, dtype=dtype))
        _assert_same_table(pandas_encoding.stored_table(df, as_text=False), to_arrow(df))
    assert plain_frames.table_of(df) is not None


def test_columns_with_only_missing_values_keep_their_types() -> None:
    dtypes = ["float64", "datetime64[us]", _TEXTS[0], "Int64"]
    pandas_encoding.stored_table(_frame(dtypes), as_text=False)
    later = _frame(dtypes).iloc[:1].reset_index(drop=True)
    for name in ("c0", "c1", "c2", "c3"):
        later[name] = later[name].where([False])
    known = plain_frames.table_of(later)
    assert known is not None
    _assert_same_table(known, to_arrow(later))


def _base() -> pd.DataFrame:
    return pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=["a", "b", "c"])


def _with(**changed: Any) -> Callable[[], pd.DataFrame]:
    def made() -> pd.DataFrame:
        df = _base()
        for name, value in changed.items():
            setattr(df, name, value)
        return df

    return made


def _split() -> pd.DataFrame:
    df = _base()[["a", "b"]].copy()
    df["c"] = [1.0, 2.0, 3.0, 4.0]
    return df


UNLIKE: dict[str, Callable[[], pd.DataFrame]] = {
    "another order": lambda: _base()[["b", "a", "c"]],
    "in rows": lambda: pd.DataFrame(np.asfortranarray(np.arange(12.0).reshape(4, 3)), columns=["a", "b", "c"]),
    "a block for each": _split,
    "attrs": _with(attrs={"unit": "mmHg"}),
    "a name of the labels": _with(columns=pd.Index(["a", "b", "c"], name="x")),
    "labels as objects": _with(columns=pd.Index(["a", "b", "c"], dtype="object")),
    "labels that are members": _with(columns=pd.Index([_Unit.HR, "b", "c"], dtype="object")),
    "labels that are numbers": _with(columns=[0, 1, 2]),
    "labels of two levels": _with(columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 1), ("c", 1)])),
    "a name of the index": _with(index=pd.RangeIndex(4, name="row")),
    "an index that begins later": _with(index=pd.RangeIndex(1, 5)),
    "an index of numbers": _with(index=pd.Index([0, 1, 2, 3])),
    "an index in steps": _with(index=pd.RangeIndex(0, 8, 2)),
    "no duplicate labels": lambda: _base().set_flags(allows_duplicate_labels=False),
    "another dtype": lambda: _base().astype({"b": "float32"}),
    "half floats": lambda: _base().astype({"b": "float16"}),
    "nullable floats": lambda: _base().astype({"b": "Float64"}),
    "times with a zone": lambda: _base().assign(b=pd.date_range("2024", periods=4, tz="Europe/Berlin")),
    "times in seconds": lambda: _base().assign(b=pd.date_range("2024", periods=4).as_unit("s")),
    "categories": lambda: _base().assign(b=pd.Categorical(list("xyxy"))),
    "objects": lambda: _base().assign(b=pd.Series(["x", 1, None, b""], dtype="object")),
    "texts as objects": lambda: _base().assign(b=pd.Series(list("xyxy"), dtype="object")),
    "texts by Python": lambda: _base().assign(b=pd.array(list("xyxy"), dtype="string[python]")),
    "Arrow's": lambda: _base().convert_dtypes(dtype_backend="pyarrow"),
    "sparse": lambda: _base().astype({"b": pd.SparseDtype("float64")}),
    "bytes in another order": lambda: _base().astype({"b": ">f8"}),
    "a subclass": lambda: type("Mine", (pd.DataFrame,), {})(_base()),
    "duplicate labels": _with(columns=["a", "a", "c"]),
    "no rows": lambda: _base().iloc[:0],
    "no columns": lambda: _base()[[]],
}


@pytest.mark.parametrize("name", UNLIKE)
def test_a_frame_that_differs_from_an_earlier_one_in_one_thing_is_not_taken_for_it(name: str, tmp_path: Path) -> None:
    store = LocalPipelineStore(tmp_path)
    store.upload(_base(), "base")
    assert plain_frames.table_of(_base()) is not None
    for _ in range(2):
        df = UNLIKE[name]()
        try:
            expected = to_arrow(df)
            store.upload(df, "other")
        except UnsupportedFrameError:
            with pytest.raises(UnsupportedFrameError):
                pandas_encoding.stored_table(df, as_text=False)
            continue
        _assert_same_table(pandas_encoding.stored_table(df, as_text=False), expected)
        assert_identical(store.download("other"), df)


@settings(max_examples=100, deadline=None)
@given(frame=frames())
@pytest.mark.filterwarnings("ignore")
def test_any_frame_has_the_same_table_the_second_time(frame: pd.DataFrame) -> None:
    try:
        pandas_encoding.stored_table(frame, as_text=False)
    except UnsupportedFrameError:
        return
    found = pandas_encoding.stored_table(frame, as_text=False)
    expected = to_arrow(frame)
    assert found.schema.equals(expected.schema)
    assert found.schema.metadata == expected.schema.metadata
    assert [column.to_pylist().__repr__() for column in found] == [c.to_pylist().__repr__() for c in expected]


def test_the_number_of_remembered_descriptions_is_bounded() -> None:
    for number in range(3 * plain_frames._MOST_DESCRIPTIONS):
        pandas_encoding.stored_table(pd.DataFrame({f"c{number}": [1.0]}), as_text=False)
    assert 0 < len(plain_frames._remembered) <= plain_frames._MOST_DESCRIPTIONS


def test_a_frame_with_the_reserved_label_is_not_remembered() -> None:
    df = pd.DataFrame({plain_frames._ROWS: [1.0]})
    for _ in range(2):
        _assert_same_table(pandas_encoding.stored_table(df, as_text=False), to_arrow(df))
    assert plain_frames.table_of(df) is None
