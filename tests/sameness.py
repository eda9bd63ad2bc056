"""Compares two values in everything that Python, NumPy and pandas can distinguish.

`==` and pandas' own comparisons do not distinguish 08:00-04:00 from 07:00-05:00, 1 from True and np.int64(1), None from
nan, and a member of an enumeration from its value. This comparison shares no code with them or with the package.
"""

import datetime as dt
import decimal
import enum
import pathlib
import uuid
from typing import Any

import numpy as np
import pandas as pd


def assert_identical(left: Any, right: Any) -> None:
    """Assert that types, values, dtypes, indexes, labels, zones and offsets are equal, at any depth."""
    one, other = portrait(left), portrait(right)
    if one != other:
        raise AssertionError(_first_difference(one, other, "it"))


def identical(left: Any, right: Any) -> bool:
    """Whether `assert_identical` would pass."""
    return portrait(left) == portrait(right)


def portrait(value: Any) -> Any:
    """The value as tuples of types and texts, which are equal only if the values are the same."""
    kind = type(value)
    if kind in (str, int, bool):
        return (kind, value)
    if value is None or value is pd.NA or value is pd.NaT:
        return ("missing", repr(value))
    if isinstance(value, enum.Enum):
        return (kind, value.name)
    if isinstance(value, np.generic):
        return (kind, value.dtype.str, _numbers(np.asarray(value)))
    if isinstance(value, float):
        return (kind, "nan" if value != value else float.hex(value))
    if isinstance(value, str | bytes | int):  # a bool is an int
        plain = next(of for of in (str, bytes, int) if isinstance(value, of))
        return (kind, plain.__repr__(value))
    if isinstance(value, dt.datetime):
        clock = value.replace(tzinfo=None)
        return (kind, clock.isoformat(), value.fold, _zone(value.tzinfo), value.utcoffset(), _unit(value))
    if isinstance(value, dt.time):
        return (kind, value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo))
    if isinstance(value, dt.timedelta):
        return (kind, value.days, value.seconds, value.microseconds, getattr(value, "nanoseconds", 0), _unit(value))
    if isinstance(value, dt.date):
        return (kind, value.isoformat())
    if isinstance(value, dt.tzinfo):
        return _zone(value)
    if isinstance(value, decimal.Decimal):
        return (kind, value.as_tuple())
    if isinstance(value, uuid.UUID | pathlib.PurePath):
        return (kind, str(value))
    if isinstance(value, pd.Period):
        return (kind, value.ordinal, value.freqstr)
    if isinstance(value, pd.Interval):
        return (kind, portrait(value.left), portrait(value.right), value.closed)
    if isinstance(value, list | tuple):
        return (kind, tuple(map(portrait, value)))
    if isinstance(value, set | frozenset):
        return (kind, frozenset(map(portrait, value)))
    if isinstance(value, dict):
        return (kind, tuple((portrait(key), portrait(item)) for key, item in value.items()))
    if isinstance(value, np.ndarray):
        return (kind, value.dtype.str, value.shape, _numbers(value))
    if isinstance(value, pd.DataFrame):
        columns = tuple(_column(value.iloc[:, position]) for position in range(value.shape[1]))
        return (kind, _index(value.index), _index(value.columns), columns, portrait(value.attrs), str(value.flags))
    if isinstance(value, pd.Series):
        return (kind, portrait(value.name), _index(value.index), _column(value), portrait(value.attrs))
    if isinstance(value, pd.Index):
        return _index(value)
    return (kind, repr(value))


def _column(values: Any) -> Any:
    # Compare dtype and numbers as bytes: value by value, a large column takes minutes on a busy machine.
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return (_dtype(values.dtype), values.array.asi8.tobytes())
    if isinstance(values.dtype, pd.CategoricalDtype):
        return (_dtype(values.dtype), np.asarray(values.array.codes).tobytes())
    if isinstance(values.dtype, pd.PeriodDtype):
        return (_dtype(values.dtype), values.array.asi8.tobytes())
    if isinstance(values.dtype, pd.StringDtype):
        return (_dtype(values.dtype), tuple(values.array.to_numpy(dtype=object, na_value=None)))
    numbers = getattr(values.dtype, "numpy_dtype", None)
    if isinstance(numbers, np.dtype) and not isinstance(values.dtype, pd.ArrowDtype):  # with a mask
        filled = values.array.to_numpy(dtype=numbers, na_value=numbers.type(0))
        return (_dtype(values.dtype), values.array.isna().tobytes(), _numbers(filled))
    return (_dtype(values.dtype), _numbers(values.to_numpy()) if _is_numpy(values.dtype) else _each(values.array))


def _index(index: pd.Index) -> Any:
    names = tuple(map(portrait, index.names))
    if isinstance(index, pd.MultiIndex):
        # `get_level_values(0)` would return a level with the name 0.
        nameless = index.set_names([None] * index.nlevels)
        return (type(index), names, tuple(_column(nameless.get_level_values(at)) for at in range(index.nlevels)))
    return (type(index), names, getattr(index, "freqstr", None), _column(index))


def _is_numpy(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype)


def _each(values: Any) -> Any:
    return tuple(map(portrait, values))


def _numbers(values: np.ndarray) -> Any:
    """The elements. Floats are compared by their bits, except for the payload of NaN."""
    if values.dtype == object:
        return _each(values.ravel())
    if values.dtype.kind in "fc":
        values = np.where(np.isnan(values), np.asarray(np.nan, dtype=values.dtype), values)
    return np.ascontiguousarray(values).tobytes()


def _dtype(dtype: Any) -> Any:
    if isinstance(dtype, pd.StringDtype):
        return (type(dtype), dtype.storage, repr(dtype.na_value))
    if isinstance(dtype, pd.DatetimeTZDtype):
        return (type(dtype), dtype.unit, _zone(dtype.tz))
    if isinstance(dtype, pd.CategoricalDtype):
        return (type(dtype), _index(dtype.categories), dtype.ordered)
    if isinstance(dtype, pd.ArrowDtype):
        # Parquet has another name for the items of a list. Arrow finds the types equal.
        return (type(dtype), str(dtype.pyarrow_dtype).replace("list<item:", "list<element:"))
    if isinstance(dtype, pd.IntervalDtype):
        return (type(dtype), _dtype(dtype.subtype), dtype.closed)
    return (type(dtype), dtype.str if _is_numpy(dtype) else str(dtype))


def _zone(zone: dt.tzinfo | None) -> Any:
    # `==` is not enough: it may find zones of two classes equal, and ignores the name of a dt.timezone.
    return None if zone is None else (type(zone), repr(zone))


def _unit(value: Any) -> str | None:
    return value.unit if isinstance(value, pd.Timestamp | pd.Timedelta) else None


def _first_difference(one: Any, other: Any, path: str) -> str:
    if isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        for position, (x, y) in enumerate(zip(one, other, strict=True)):
            if x != y:
                return _first_difference(x, y, f"{path}.{position}")
    return f"at {path}: {one!r:.200} is not {other!r:.200}"
