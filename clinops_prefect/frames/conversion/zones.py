"""Time zones as JSON, since Arrow keeps the name or the offset of a zone, but not its `tzinfo` class."""

import datetime as dt
import importlib
from typing import Any
from zoneinfo import ZoneInfo

from dateutil import tz as dateutil

Zone = tuple[Any, ...]

_MICROSECOND = dt.timedelta(microseconds=1)


def describe(zone: dt.tzinfo) -> Zone | None:
    """A description from which `restore` makes the same zone; None for a zone that it cannot make."""
    kind = type(zone).__module__.partition(".")[0]
    found: Zone | None = None
    if type(zone) is dt.timezone:
        name, offset = zone.tzname(None), zone.utcoffset(None)
        return ("fixed", offset // _MICROSECOND, None if name == dt.timezone(offset).tzname(None) else name)
    if type(zone) is ZoneInfo:
        found = ("zoneinfo", zone.key) if zone.key else None
    elif kind == "pytz":
        # pytz has a separate object for each offset of a zone. All of them have the zone's name.
        if key := getattr(zone, "zone", None):
            return ("pytz", key)
        found = ("pytz", _offset(zone) // dt.timedelta(minutes=1))
    elif isinstance(zone, dateutil.tzutc):
        found = ("dateutil", None)
    elif isinstance(zone, dateutil.tzoffset):
        found = ("dateutil", _offset(zone) // _MICROSECOND, zone.tzname(None))
    elif isinstance(zone, dateutil.tzfile):
        # dateutil shows the name of the zone only in the repr: tzfile('/usr/share/zoneinfo/Europe/Berlin').
        path = repr(zone).split("'")[1:2]
        found = ("dateutil", path[0].rpartition("zoneinfo/")[2]) if path else None
    try:
        return found if found and same(restore(found), zone) else None
    except (ImportError, LookupError, TypeError, ValueError):
        return None


def restore(description: Any) -> dt.tzinfo:
    """The zone that `describe` described. If pytz is not installed, the standard library's zone of the same name.

    Raises:
        ValueError: `describe` did not write this description, or this machine does not know the zone.
    """
    kind, of, *rest = description
    if kind == "fixed":
        offset = dt.timedelta(microseconds=of)
        return dt.timezone(offset) if rest == [None] else dt.timezone(offset, *rest)
    if kind == "zoneinfo":
        return _named(of)
    if kind == "pytz":
        try:
            pytz: Any = importlib.import_module("pytz")  # not a requirement of pandas 3
        except ImportError:
            return _named(of) if isinstance(of, str) else dt.timezone(dt.timedelta(minutes=of))
        of_pytz: dt.tzinfo = pytz.timezone(of) if isinstance(of, str) else pytz.FixedOffset(of)
        return of_pytz
    if kind != "dateutil":
        raise ValueError("no kind of zone that a note has")
    if isinstance(of, str):
        _named(of)  # only zone names are accepted, since `gettz` would open any path
    made = _dateutil(of, *rest)
    if made is None:
        raise ValueError("a zone that this machine does not know")
    return made


def _dateutil(of: Any, name: str | None = None) -> dt.tzinfo | None:
    made: dt.tzinfo | None
    if of is None:
        made = dateutil.UTC
    elif isinstance(of, str):
        made = dateutil.gettz(of)
    else:
        made = dateutil.tzoffset(name, of / 1_000_000)
    return made


def _offset(zone: dt.tzinfo) -> dt.timedelta:
    offset = zone.utcoffset(None)
    if offset is None:
        raise ValueError("a zone without an offset of its own")
    return offset


def same(one: dt.tzinfo | None, other: dt.tzinfo | None) -> bool:
    """Whether two zones have the same class, and the same name or offset."""
    if one is other:
        return True
    # `==` is not enough: dt.timezone ignores the name, and two zones of dateutil may be equal although they differ.
    return type(one) is type(other) and repr(one) == repr(other)


def _named(key: Any) -> ZoneInfo:
    try:
        return ZoneInfo(key)
    except (LookupError, TypeError, OSError):  # a key that names a folder raises OSError
        raise ValueError("a zone that this machine does not know") from None
