"""Brings the values of frames of all kinds into one form, to compare what one kind wrote with what another kind reads.

Times (in UTC) and durations are counts of nanoseconds, dates are counts of days, and nested values are lists. The
module shares no code with the package.
"""

import datetime as dt
import decimal
import enum
import uuid
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_LEAST = -(2**63)
_EPOCH = dt.datetime(1970, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)


def of_pandas(values: "pd.Series[Any] | pd.Index[Any]") -> list[Any]:
    """The values of a column or of a level of an index. Every missing value is None, and so is NaN."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        known = of_pandas(values.array.categories)
        return [known[code] if code >= 0 else None for code in values.array.codes]
    if isinstance(values.array, pd.arrays.DatetimeArray | pd.arrays.TimedeltaArray):
        factor = _NANOSECONDS[values.array.unit]
        return [None if count == _LEAST else int(count) * factor for count in values.array.asi8]
    return [_of_python(value) for value in values.array]


def of_polars(column: pl.Series) -> list[Any]:
    """The values of a column."""
    return of_arrow(pa.chunked_array([column.rename("x").rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())]))


def of_arrow(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column."""
    return [_of_scalar(scalar) for chunk in column.chunks for scalar in chunk]


def without_nan(value: Any) -> Any:
    """The value with None for NaN at any depth: NumPy's floats have no other missing value."""
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return None if isinstance(value, _Nan) else value


def as_numpy_has(value: Any) -> Any:
    """The value with None for NaN, and for the least count of a time, and with booleans for `bool8`, at any depth."""
    if isinstance(value, list):
        return [as_numpy_has(each) for each in value]
    if isinstance(value, _Flag):
        return value != 0
    return None if isinstance(value, _Nan | _NotATime) else value


class _Nan(str):
    """A text that stands for NaN."""


class _NotATime(int):
    """A count that NumPy has for NaT."""


class _Flag(int):
    """A boolean of eight bits."""


def _of_float(value: float) -> Any:
    return _Nan("nan") if value != value else float(value).hex()


def _of_scalar(scalar: pa.Scalar) -> Any:
    kind, types = scalar.type, pa.types
    if not scalar.is_valid:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        found = _of_scalar(scalar.value)
        return _Flag(found) if kind.extension_name == "arrow.bool8" else found
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _of_scalar(scalar.value)
    if types.is_struct(kind):
        return [_of_scalar(scalar[position]) for position in range(kind.num_fields)]
    if types.is_nested(kind):
        return [_of_scalar(each) for each in scalar.values]
    if types.is_date32(kind):
        return ("days", scalar.value)
    if types.is_date64(kind):
        return ("days", scalar.value // 86_400_000)
    if types.is_temporal(kind):
        count = scalar.value * _NANOSECONDS[kind.unit]
        return _NotATime(count) if scalar.value == _LEAST else count
    if types.is_floating(kind):
        return _of_float(scalar.as_py())
    if types.is_decimal(kind):
        return ("decimal", _shortest(scalar.as_py()))
    return scalar.as_py()


def _of_python(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_of_python(each) for each in value]
    if isinstance(value, dict):
        return [_of_python(each) for each in value.values()]
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float | np.floating):
        return None if value != value else _of_float(float(value))
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        return int(value.asm8.view("int64")) * _NANOSECONDS[value.unit]
    if isinstance(value, np.datetime64 | np.timedelta64):
        return int(value.view("int64")) * _NANOSECONDS[np.datetime_data(value.dtype)[0]]
    if isinstance(value, dt.datetime):
        offset = value.utcoffset() or dt.timedelta(0)
        return (value.replace(tzinfo=None) - offset - _EPOCH) // _MICROSECOND * 1000
    if isinstance(value, dt.date):
        return ("days", (value - _EPOCH.date()).days)
    if isinstance(value, dt.timedelta):
        return value // _MICROSECOND * 1000
    if isinstance(value, dt.time):
        return (((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond) * 1000
    if isinstance(value, decimal.Decimal):
        return ("decimal", _shortest(value))
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, pd.Interval):
        return [_of_python(value.left), _of_python(value.right)]
    if isinstance(value, pd.Period):
        return value.ordinal
    if isinstance(value, enum.Enum):
        return value.value
    return value.item() if isinstance(value, np.generic) else value


def _shortest(value: decimal.Decimal) -> Any:
    return value.normalize(decimal.Context(prec=80)).as_tuple() if value else 0
