"""Compares two values as their user would: types, zones, folds, names, attrs, order."""

import datetime as dt
import decimal
import math
from typing import Any

import numpy as np
import pandas as pd
from pandas.testing import assert_frame_equal, assert_series_equal


def same(left: Any, right: Any) -> bool:
    """Whether values and types are equal, at any depth."""
    if type(left) is not type(right):
        return False
    if isinstance(left, pd.DataFrame):
        assert_frame_equal(left, right)
        return left.attrs == right.attrs and left.flags == right.flags
    if isinstance(left, pd.Series):
        assert_series_equal(left, right)
        return same((left.name, left.attrs), (right.name, right.attrs)) and left.flags == right.flags
    if left is pd.NaT or left is pd.NA:
        return left is right
    if isinstance(left, dt.datetime | dt.time):
        return _clock(left) == _clock(right)
    if isinstance(left, np.ndarray | np.generic):
        return _array(left) == _array(right)
    if isinstance(left, decimal.Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, float):
        return math.copysign(1, left) == math.copysign(1, right) and (
            left == right or (left != left and right != right)
        )
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset):
        return left == right and sorted(map(_typed, left)) == sorted(map(_typed, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    if isinstance(left, BaseException):
        return same((left.args, str(left)), (right.args, str(right)))
    return bool(left == right)


def _clock(time: Any) -> tuple[Any, ...]:
    zone = time.tzinfo
    # `==` is not enough: it finds 08:00-04:00 and 07:00-05:00 equal.
    shown = (time.isoformat(), time.fold, time.utcoffset(), time.tzname(), getattr(time, "unit", None))
    return (*shown, type(zone), repr(zone))


def _array(array: Any) -> tuple[Any, ...]:
    whole = np.asarray(array)
    order = whole.flags.f_contiguous, whole.flags.c_contiguous
    return whole.dtype, whole.dtype.byteorder, whole.shape, order, whole.tobytes()


def _typed(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"
