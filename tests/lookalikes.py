"""Frames with different values that `==` finds equal. A store could return another value, so all are refused."""

import datetime as dt
import decimal
import enum
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from dateutil import tz

from tests.gallery import SECRET, _Arm, _each, _frame_with, _hours, _indexed, _labelled


class _Unit(enum.StrEnum):
    MMHG = "mmHg"
    BPM = "bpm"


class _Sex(str, enum.Enum):  # noqa: UP042
    F = "F"


class _Grade(enum.IntEnum):
    MILD = 1


class _Flags(enum.IntFlag):
    LATE = 1


class _Text(str):
    pass


class _Whole(int):
    pass


class _Real(float):
    pass


class _Raw(bytes):
    pass


class _Moment(dt.datetime):
    pass


def _moment(zone: dt.tzinfo | None) -> dt.datetime:
    return dt.datetime(2110, 6, 1, 8, tzinfo=zone)


def _stamp(unit: str, zone: object = None) -> pd.Timestamp:
    return pd.Timestamp("2110-06-01", tz=zone).as_unit(unit)  # type: ignore[arg-type]


_SUBCLASSES = [
    _Unit.BPM, _Sex.F, _Grade.MILD, _Flags.LATE, _Arm.A, _Text(SECRET), _Whole(4711), _Real(0.5), _Raw(b"x"),
    _Moment(2110, 1, 1),
]  # fmt: skip
# The first two times of each list are the same instant, or the same clock hour. Arrow uses the zone of the first.
_SEVERAL_ZONES: dict[str, list[object]] = {
    "offsets": [_moment(_hours(-4)), dt.datetime(2110, 6, 1, 7, tzinfo=_hours(-5))],
    "an offset and its name": [_moment(_hours(1)), _moment(_hours(1, "CET"))],
    "an offset and none": [_moment(dt.UTC), _moment(None)],
    "UTC by two names": [_moment(dt.UTC), _moment(ZoneInfo("UTC"))],
    "zones": [_moment(ZoneInfo("Europe/Berlin")), _moment(ZoneInfo("America/New_York"))],
    "zones of two libraries": [_moment(ZoneInfo("Europe/Berlin")), _moment(tz.gettz("Europe/Berlin"))],
    "dateutil's offsets": [_moment(tz.tzoffset(None, -14_400)), _moment(tz.tzoffset(None, -18_000))],
    "stamps": [_stamp("us", "Asia/Tokyo"), _stamp("us", "UTC")],
    "stamps and none": [_stamp("us", "Asia/Tokyo"), _stamp("us")],
}


# From what is wrong to the frame, and the text that the message must contain.
LOOKALIKES: dict[str, tuple[Callable[[], object], str]] = {
    **{
        f"a subclass: {type(value).__name__}": (
            lambda value=value: _each(lactate=pd.Series([value], dtype=object)),
            "lactate",
        )
        for value in _SUBCLASSES
    },
    **{
        f"a subclass in a list: {type(value).__name__}": (
            lambda value=value: _each(lactate=pd.Series([[value], []], dtype=object)),
            "lactate",
        )
        for value in [*_SUBCLASSES, np.float64(0.5), np.str_("x")]
    },
    "text and a subclass": (lambda: _each(lactate=pd.Series(["bpm", _Unit.BPM], dtype=object)), "lactate"),
    "enumeration as keys": (lambda: _each(lactate=pd.Series([{_Unit.BPM: 1}], dtype=object)), "lactate"),
    "enumeration as strings": (
        lambda: _each(lactate=pd.Series(pd.arrays.StringArray(np.array([_Unit.BPM], dtype=object)))),
        "lactate",
    ),
    "enumeration as categories": (
        lambda: _each(lactate=pd.Categorical.from_codes([0], pd.Index([_Unit.BPM], dtype=object))),
        "lactate",
    ),
    "enumeration as index": (lambda: _indexed(pd.Index([_Unit.BPM], dtype=object)), "index"),
    "enumeration as labels": (lambda: _labelled(pd.Index([_Unit.BPM], dtype=object)), "df.columns"),
    "enumeration as level of labels": (
        lambda: _labelled(pd.MultiIndex.from_arrays([pd.Index([_Unit.BPM], dtype=object), ["a"]])),
        "df.columns",
    ),
    "integers and missing ones in a level": (
        lambda: _indexed(pd.MultiIndex(levels=[[2**62 + 1], ["a", "b"]], codes=[[0, -1], [0, 1]])),
        "index.*level 0.*Int64",
    ),
    "enumeration as name": (lambda: _indexed(pd.Index([1], name=_Unit.BPM)), "name"),
    "enumeration as name of labels": (lambda: _labelled(pd.Index(["a"], name=_Unit.BPM)), "name"),
    "enumeration in attrs": (lambda: _frame_with(attrs={"unit": _Unit.BPM}), "attrs"),
    "enumeration as key of attrs": (lambda: _frame_with(attrs={_Unit.BPM: 1}), "attrs"),
    "numpy in attrs": (lambda: _frame_with(attrs={"hours": np.float64(6)}), "attrs"),
    **{
        f"several zones: {name}": (
            lambda values=values: _each(lactate=pd.Series(values, dtype=object)),
            "lactate.*zones",
        )
        for name, values in _SEVERAL_ZONES.items()
    },
    **{
        f"several zones in lists: {name}": (
            lambda values=values: _each(lactate=pd.Series([[value] for value in values], dtype=object)),
            "lactate.*zones",
        )
        for name, values in _SEVERAL_ZONES.items()
    },
    "several zones deep": (
        lambda: _each(lactate=pd.Series([{"a": [{"b": value}]} for value in _SEVERAL_ZONES["offsets"]], dtype=object)),
        "lactate.*zones",
    ),
    "several zones as index": (lambda: _indexed(pd.Index(_SEVERAL_ZONES["offsets"], dtype=object)), "index.*zones"),
    "several zones as labels": (
        lambda: _labelled(pd.Index(_SEVERAL_ZONES["zones"], dtype=object)),
        "df.columns.*zones",
    ),
    "one instant in two zones as labels": (
        lambda: _labelled(pd.Index(_SEVERAL_ZONES["offsets"], dtype=object)),
        "equal",
    ),
    "several zones as categories": (
        lambda: _each(lactate=pd.Categorical.from_codes([0, 1], pd.Index(_SEVERAL_ZONES["zones"], dtype=object))),
        "lactate.*zones",
    ),
    "the zone of this machine": (
        lambda: _each(lactate=pd.Series([_moment(tz.tzlocal())], dtype=object)),
        "lactate.*zone",
    ),
    "the zone of this machine as dtype": (
        lambda: _each(lactate=pd.date_range("2110", periods=2, tz=tz.tzlocal())),
        "lactate.*zone",
    ),
    "a time of day with a zone": (
        lambda: _each(lactate=pd.Series([dt.time(8, tzinfo=dt.UTC)], dtype=object)),
        "lactate",
    ),
    "a fold that says nothing": (
        lambda: _each(lactate=pd.Series([dt.datetime(2110, 1, 1, fold=1)], dtype=object)),
        "lactate",
    ),
    "a fold of a time of day": (lambda: _each(lactate=pd.Series([dt.time(2, fold=1)], dtype=object)), "lactate"),
    "an hour that is left out": (
        lambda: _each(
            lactate=pd.Series([dt.datetime(2023, 3, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))], dtype=object)
        ),
        "lactate",
    ),
    "stamps of two units": (
        lambda: _each(lactate=pd.Series([_stamp("s"), _stamp("ms")], dtype=object)),
        "lactate",
    ),
    "decimals with a zero too many": (
        lambda: _each(lactate=pd.Series([decimal.Decimal("1.5"), decimal.Decimal("1.50")], dtype=object)),
        "lactate",
    ),
    "numpy ints of two sizes": (lambda: _each(lactate=pd.Series([np.int8(1), np.int64(2)], dtype=object)), "lactate"),
    "a numpy int and an int": (lambda: _each(lactate=pd.Series([np.int64(1), 2], dtype=object)), "lactate"),
}
