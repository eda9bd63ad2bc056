"""Converts a compared value exactly to the type of the column.

Arrow would cast the column to the type of the value instead: a date of the year 1600 to nanoseconds, which overflows,
or an identifier of 19 digits to a float, which would equal its neighbours.
"""

import datetime as dt
import decimal
import enum
import math
import uuid
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.frames.text_types import is_text

_NANOSECONDS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DAY = 24 * _NANOSECONDS["h"]
_NANOSECONDS |= {"D": _DAY, "W": 7 * _DAY}
_EPOCH = dt.date(1970, 1, 1).toordinal()
_FAR = Fraction(10) ** 400  # stands for infinity: more than any type holds


class ValueRefusedError(Exception):
    """The value cannot be compared with the column. The message says which values can, and never quotes the value."""


@dataclass(frozen=True)
class Exact:
    """A number, or a time, in units of the column.

    Attributes:
        floor: The largest value of the column's type that is not greater than the value.
        is_equal: Whether `floor` is the value itself.
        position: -1 if the value is below the range of the type, 1 if it is above, else 0.
    """

    floor: pa.Scalar
    is_equal: bool
    position: int


def is_exact(kind: pa.DataType) -> bool:
    """Whether values of the type are whole numbers of some unit, so that `exact` can be used."""
    tests = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_temporal)
    return any(test(kind) for test in tests) and not pa.types.is_interval(kind)


def exact(value: Any, kind: pa.DataType) -> Exact:
    """The value in units of the type.

    Raises:
        ValueRefusedError: The value is not of the type's kind, such as text for a number.
    """
    value = _plain(value)
    if pa.types.is_decimal(kind):
        number = _number(value)
        most, scale = 10**kind.precision - 1, Fraction(10) ** kind.scale
        whole, is_equal, position = _floored(number * scale, -most, most)
        with decimal.localcontext(prec=kind.precision + 1):
            return Exact(pa.scalar(decimal.Decimal(whole).scaleb(-kind.scale), kind), is_equal, position)
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        least, most = (
            (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if pa.types.is_signed_integer(kind) else (0, 2**bits - 1)
        )
        whole, is_equal, position = _floored(_number(value), least, most)
        return Exact(pa.scalar(whole, kind), is_equal, position)
    nanoseconds, unit = _nanoseconds(value, kind)
    width = 32 if pa.types.is_date32(kind) or pa.types.is_time32(kind) else 64
    # The smallest 64-bit integer is not a time, because pandas reads it as NaT.
    whole, is_equal, position = _floored(Fraction(nanoseconds, unit), 1 - 2 ** (width - 1), 2 ** (width - 1) - 1)
    return Exact(pa.scalar(whole, pa.int32() if width == 32 else pa.int64()).cast(kind), is_equal, position)


def plain(value: Any, kind: pa.DataType) -> pa.Scalar:
    """The value as a scalar of a type that Arrow compares correctly: text, bytes, floats, booleans.

    Raises:
        ValueRefusedError: The value is not of the type's kind, such as text for a number.
    """
    value = _plain(value)
    if pa.types.is_boolean(kind):
        return pa.scalar(_of(value, bool, "True or False"), kind)
    if pa.types.is_floating(kind):
        number = _number(value)
        # Use the column's precision, as pandas does: 0.1 becomes the nearest float32.
        return pa.scalar(_float(number), kind)
    if is_text(kind):
        return pa.scalar(_text(_of(value, str, "text")), kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.scalar(bytes(_of(value, (bytes, bytearray), "bytes")), pa.large_binary()).cast(pa.binary())
    raise ValueRefusedError("can only be 'is null' or 'is not null', or a pyarrow expression")


def uuid_bytes(value: Any) -> bytes:
    """A UUID, or its text, as the sixteen bytes that are stored.

    Raises:
        ValueRefusedError: The value is neither a UUID nor the text of one.
    """
    value = _plain(value)
    try:
        return (value if isinstance(value, uuid.UUID) else uuid.UUID(_of(value, str, "a UUID"))).bytes
    except ValueError:
        raise ValueRefusedError("takes a UUID, or the text of one") from None


def _plain(value: Any) -> Any:
    """The value, unwrapped if it is a NumPy scalar, a pyarrow scalar or a member of an enumeration."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64 | np.timedelta64):
        value = value.item()
    # A value of several parts, such as a list, is not checked, because no comparison accepts it anyway.
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        raise ValueRefusedError("compares with a missing value, which matches no row: ask 'is null' or 'is not null'")
    return value


def _of(value: Any, types: Any, takes: str) -> Any:
    if not isinstance(value, types):
        raise _refused(takes, value)
    return value


def _refused(takes: str, value: Any) -> ValueRefusedError:
    return ValueRefusedError(f"takes {takes}, not a {type(value).__name__}")


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueRefusedError("takes text that UTF-8 can hold") from None
    return str(value)


def _number(value: Any) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float | decimal.Decimal):
        raise _refused("a number", value)
    if isinstance(value, float | decimal.Decimal) and not math.isfinite(value):
        return _FAR if value > 0 else -_FAR
    # `0.1` in a program means the decimal 0.1, not the nearest binary fraction.
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _floored(number: Fraction, least: int, most: int) -> tuple[int, bool, int]:
    whole = number.numerator // number.denominator
    if whole < least:
        return least, False, -1
    if whole > most:
        return most, False, 1
    return whole, whole == number, 0


def _nanoseconds(value: Any, kind: pa.DataType) -> tuple[int, int]:
    """A time in nanoseconds, and the number of nanoseconds of the type's unit."""
    if pa.types.is_date(kind):
        return _of_day(value), _DAY if pa.types.is_date32(kind) else _NANOSECONDS["ms"]
    unit = _NANOSECONDS[kind.unit]
    if pa.types.is_duration(kind):
        return _of_duration(value), unit
    if pa.types.is_time(kind):
        return _of_clock(value), unit
    return _of_instant(value, kind.tz), unit


def _of_instant(value: Any, zone: str | None) -> int:
    if isinstance(value, np.datetime64):
        return _checked_zone(_of_numpy(value, "datetime"), False, zone)
    if isinstance(value, str):
        value = _parsed(dt.datetime.fromisoformat, value, "a time, or its text as ISO 8601 has it")
    if isinstance(value, pd.Timestamp):
        return _checked_zone(_of_numpy(value.asm8, "datetime"), value.tz is not None, zone)
    if isinstance(value, dt.datetime):
        offset = value.utcoffset()
        day = (value.toordinal() - _EPOCH) * _DAY
        time = _of_clock(value.time()) - (0 if offset is None else offset // dt.timedelta(microseconds=1) * 1000)
        return _checked_zone(day + time, offset is not None, zone)
    if isinstance(value, dt.date):
        return _checked_zone(_of_day(value), False, zone)
    raise _refused("a time", value)


def _checked_zone(nanoseconds: int, is_zoned: bool, zone: str | None) -> int:
    if is_zoned and zone is None:
        raise ValueRefusedError(
            "compares a time that has a zone with a column that has none: pass it without, as .tz_localize(None) gives"
        )
    if zone is not None and not is_zoned:
        raise ValueRefusedError(
            f"compares a time without a zone with a column in the zone {zone}: pass it with one, as in "
            f"pd.Timestamp(…, tz={zone!r})"
        )
    return nanoseconds


def _of_day(value: Any) -> int:
    if isinstance(value, str):
        value = _parsed(dt.datetime.fromisoformat, value, "a date, or its text as ISO 8601 has it")
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return (value.toordinal() - _EPOCH) * _DAY
    if isinstance(value, dt.datetime | np.datetime64):
        return _of_instant(value, None)
    raise _refused("a date", value)


def _of_clock(value: Any) -> int:
    if isinstance(value, str):
        value = _parsed(dt.time.fromisoformat, value, "a time of day, or its text as ISO 8601 has it")
    if not isinstance(value, dt.time) or value.tzinfo is not None:
        raise _refused("a time of day without a zone", value)
    seconds = (value.hour * 60 + value.minute) * 60 + value.second
    return (seconds * 10**6 + value.microsecond) * 1000


def _of_duration(value: Any) -> int:
    if isinstance(value, pd.Timedelta):
        value = value.asm8
    if isinstance(value, np.timedelta64):
        return _of_numpy(value, "timedelta")
    if isinstance(value, dt.timedelta):
        return value // dt.timedelta(microseconds=1) * 1000
    raise _refused("a duration, such as a timedelta", value)


def _of_numpy(value: Any, what: str) -> int:
    unit, count = np.datetime_data(value.dtype)
    if what == "datetime" and unit in ("Y", "M"):
        return int(value.astype("M8[D]").astype("int64")) * _DAY
    if unit not in _NANOSECONDS:
        raise ValueRefusedError(f"takes a {what}64 of a unit between W and ns, not of {unit!r}")
    return int(value.astype("int64")) * count * _NANOSECONDS[unit]


def _parsed(parse: Any, text: str, takes: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        raise _refused(takes, text) from None
