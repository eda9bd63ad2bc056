"""Columns of Python objects: what they hold, and how to get the same objects back from Arrow."""

from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError

_MISSING: dict[str, Any] = {"None": None, "nan": np.nan, "NA": pd.NA, "NaT": pd.NaT}


def kind_of(values: "pd.Series[Any]", column: pa.ChunkedArray, where: str) -> dict[str, str]:
    """How `restore` gets the objects back from the column that Arrow made of them.

    Raises:
        UnsupportedFrameError: It cannot: types or missing markers are mixed, or Arrow changes the values.
    """
    missing = _missing_kind(values, where)
    if pd.api.types.infer_dtype(values, skipna=True) == "string":
        return {"as": "text", "missing": missing}
    objects = values.to_numpy()
    for way in ("python", "pandas"):
        kind = {"as": way, "missing": missing}
        if same(objects, restore(column, kind)):
            return kind
    raise UnsupportedFrameError(f"{where} {complaint(values)}")


def restore(column: pa.ChunkedArray, kind: dict[str, str]) -> np.ndarray[Any, Any]:
    """The column as an object array, shape (rows,), with the missing marker that it had."""
    if kind["as"] == "text":
        objects = column.to_numpy(zero_copy_only=False).astype(object)
    elif kind["as"] == "python":
        objects = np.empty(len(column), dtype=object)
        # Not `np.array(list)`: nested lists would become a second dimension.
        for position, value in enumerate(column.to_pylist()):
            objects[position] = value
    elif kind["as"] == "pandas":
        objects = column.to_pandas().astype(object).to_numpy()
    else:
        raise ValueError("no way that a note has")
    marker = _MISSING[kind["missing"]]
    if marker is not None or kind["as"] == "pandas":
        nulls = column.is_null().to_numpy(zero_copy_only=False)
        if nulls.any():
            objects = objects.copy()
            objects[nulls] = marker
    return cast(np.ndarray[Any, Any], objects)


def complaint(values: "pd.Series[Any]") -> str:
    """What is wrong with a column that Arrow cannot hold, and what to do; no value is quoted."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if isinstance(values.dtype, pd.SparseDtype):
        return "is sparse; pass it dense, with .sparse.to_dense()"
    if isinstance(values.dtype, pd.CategoricalDtype):
        of = values.dtype.categories.dtype
        return f"is a category of {of}, which does not come back equal; convert it, with .astype(str) for instance"
    if values.dtype != object:
        return f"has the dtype {values.dtype}, which does not come back equal; convert it first, with .astype(…)"
    if unknown := sorted({_marker(value) for value in values[values.isna()]} - set(_MISSING)):
        # `Decimal("NaN")`, `np.datetime64("NaT")`: pandas takes them for missing, and Arrow has no place for them.
        return f"marks missing values with a {unknown[0]} (its NaN or NaT), which does not come back equal; use None"
    types = sorted({type(value).__name__ for value in values[values.notna()]})
    if len(types) > 1 and not kind.startswith(("string", "date", "bytes")):
        return f"mixes types ({', '.join(types)}); convert it to one type, with .astype(str) for instance"
    held = ", ".join(types) or "nothing"
    return f"holds {held} objects that do not come back equal; convert it, with .astype(str) for instance"


def _missing_kind(values: "pd.Series[Any]", where: str) -> str:
    markers = {_marker(value) for value in values[values.isna()]}
    if not markers <= set(_MISSING):
        raise UnsupportedFrameError(f"{where} {complaint(values)}")
    if len(markers) > 1:
        names = ", ".join(sorted(markers))
        raise UnsupportedFrameError(
            f"{where} marks missing values in more than one way ({names}); use one, as in "
            "df[c] = df[c].where(df[c].notna(), None)"
        )
    return markers.pop() if markers else "None"


def _marker(value: Any) -> str:
    for name, marker in _MISSING.items():
        if value is marker or (name == "nan" and isinstance(value, float)):
            return name
    return type(value).__name__


def same(before: Any, after: Any) -> bool:
    """Whether two values are equal in type and value, missing ones included, at any depth."""
    if isinstance(before, np.ndarray) and before.dtype == object:
        return (
            isinstance(after, np.ndarray)
            and before.shape == after.shape
            and all(same(x, y) for x, y in zip(before.ravel(), after.ravel(), strict=True))
        )
    if isinstance(before, np.ndarray):
        return (
            isinstance(after, np.ndarray)
            and before.dtype == after.dtype
            and np.array_equal(before, after, equal_nan=before.dtype.kind in "fmM")
        )
    # A NumPy scalar in an object column is what pandas itself makes of rows; its Python twin is equal to it.
    before = before.item() if isinstance(before, np.generic) else before
    if type(before) is not type(after):
        return False
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(same(x, y) for x, y in zip(before, after, strict=True))
    if isinstance(before, dict):
        return list(before) == list(after) and all(same(before[key], after[key]) for key in before)
    return (
        before is after or bool(before == after) or (isinstance(before, float) and before != before and after != after)
    )
