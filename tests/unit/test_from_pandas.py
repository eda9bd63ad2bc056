"""NumPy converts floats and pyarrow the rest: the table equals the one that pyarrow alone makes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from clinops_prefect import LocalPipelineStore, UnsupportedFrameError
from clinops_prefect.frames.conversion import from_pandas

ROWS = 50
_RANDOM = np.random.default_rng(0)
_BASE = pd.DataFrame({
    "hr": _RANDOM.normal(size=ROWS),
    "itemid": range(ROWS),
    "f4": _RANDOM.normal(size=ROWS).astype("float32"),
    "unit": ["bpm"] * ROWS,
    "nothing": [None] * ROWS,
    "kind": pd.Categorical(["a"] * ROWS),
    "f2": _RANDOM.normal(size=ROWS).astype("float16"),
    "Float64": pd.array([1.5, None] * (ROWS // 2), dtype="Float64"),
})  # fmt: skip
_BASE.loc[3, "hr"] = np.nan
_BASE.loc[::2, "f4"] = np.nan
_BASE.attrs = {"unit": "mmHg"}
_FLOATS = _BASE[["hr", "f4"]]
FRAMES = {
    "mixed": _BASE,
    "index": _BASE.set_index("unit"),
    "levels": _BASE.set_index(["unit", "itemid"]),
    "range": _BASE.set_index(pd.RangeIndex(5, 5 + ROWS)),
    "floats": _FLOATS,
    "float index": _FLOATS.set_index(pd.Index(_RANDOM.normal(size=ROWS), name="x")),
    "index named as a float": _FLOATS.set_index(pd.Index(_RANDOM.normal(size=ROWS), name="hr")),
    "no floats": _BASE[["unit", "itemid"]],
    "no rows": _BASE.iloc[:0],
    "by rows": pd.DataFrame(np.ascontiguousarray(_RANDOM.normal(size=(ROWS, 4))), columns=list("abcd")),
    "by columns": pd.DataFrame(np.asfortranarray(_RANDOM.normal(size=(ROWS, 4))), columns=list("abcd")),
    "every other row": _BASE.iloc[::2],
    "labels of two levels": pd.DataFrame(
        _RANDOM.normal(size=(ROWS, 2)), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])
    ),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("preserve_index", [None, True])
def test_the_table_equals_the_one_that_pyarrow_makes(
    name: str, preserve_index: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(from_pandas, "_MANY_FLOATS", 0)
    monkeypatch.setattr(from_pandas, "_MANY_ROWS", 0)
    expected = pa.Table.from_pandas(FRAMES[name], preserve_index=preserve_index)
    found = from_pandas.table_of(FRAMES[name], preserve_index)
    found.validate(full=True)
    assert found.equals(expected)
    assert found.schema.equals(expected.schema)
    assert _metadata(found) == _metadata(expected)


def test_the_values_of_a_contiguous_column_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_pandas, "_MANY_FLOATS", 0)
    monkeypatch.setattr(from_pandas, "_MANY_ROWS", 0)
    values = _RANDOM.normal(size=(3, ROWS))
    table = from_pandas.table_of(pd.DataFrame(values.T, columns=list("abc"), copy=False), None)
    assert table.column("b").chunk(0).buffers()[1].address == values[1].ctypes.data


def _metadata(table: pa.Table) -> tuple[set[bytes], Any]:
    return set(table.schema.metadata), table.schema.pandas_metadata


def test_the_advice_for_numbers_of_more_than_64_bits_helps(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": pd.Series([2**70, 1], dtype=object)})
    with pytest.raises(UnsupportedFrameError, match=r"column 'id'.*\.map\(str, na_action='ignore'\)"):
        LocalPipelineStore(tmp_path).upload(frame, "x")
    LocalPipelineStore(tmp_path).upload(frame.map(str), "x")
