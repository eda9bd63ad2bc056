"""Converts scalars, times and arrays in results to JSON and back. Each is restored exactly, or refused at the write."""

import base64
import datetime as dt
import decimal
import math
import re
import uuid
from collections.abc import Callable
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from clinops_prefect.frames.conversion import zones
from clinops_prefect.references import ArtifactRef
from clinops_prefect.results.refusals import Refused, name_of

Clock = TypeVar("Clock", dt.datetime, dt.time)

# Python may refuse to convert a longer integer to or from decimal digits (sys.set_int_max_str_digits).
_LONG_INTEGER_BITS = 2_000
_ARRAY_KINDS = "biufmM"
# A high surrogate followed by a low one: two characters of the text, which JSON would restore as one.
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def to_base64(blob: bytes) -> str:
    """The bytes as base64 text."""
    return base64.b64encode(blob).decode()


def surrogates_to(text: str) -> str:
    """A text with surrogates, as base64."""
    return to_base64(text.encode("utf-8", "surrogatepass"))


def surrogates_from(stored: str) -> str:
    """The text that `surrogates_to` encoded."""
    return base64.b64decode(stored).decode("utf-8", "surrogatepass")


def is_json(value: Any) -> bool:
    """Whether JSON restores the value exactly."""
    kind = type(value)
    if kind is str:
        return value.isascii() or not _SURROGATE_PAIR.search(value)
    if kind is int:
        return bool(value.bit_length() <= _LONG_INTEGER_BITS)
    if kind is float:
        return math.isfinite(value)
    return value is None or kind is bool


# --- time zones ---


def _zone_to(zone: dt.tzinfo | None) -> Any:
    if zone is None:
        return None
    description = zones.describe(zone)
    if description is None or not all(map(is_json, description)):
        raise Refused(f"its time zone is a {name_of(zone)}, which would not come back; use a zoneinfo.ZoneInfo")
    return list(description)


def _zone_from(stored: Any) -> dt.tzinfo | None:
    return None if stored is None else zones.restore(stored)


def _same_time(left: Any, right: Any) -> bool:
    """Whether two times have the same type, clock time, fold and time zone."""

    def shown(time: Any) -> tuple[Any, ...]:
        zone = (type(time.tzinfo), str(time.tzinfo), time.utcoffset(), time.tzname())
        return type(time), time.isoformat(), time.fold, zone, getattr(time, "unit", "")

    return shown(left) == shown(right)


def _proven(value: Any, stored: Any, again: Callable[[Any], Any]) -> Any:
    # Restore the value and compare: the zone may ignore the fold, or have other rules under the same name.
    try:
        is_same = _same_time(value, again(stored))
    except (ArithmeticError, NotImplementedError, ValueError):  # pandas cannot show years before 1 or after 9999
        is_same = False
    if not is_same:
        raise Refused(
            f"a {name_of(value)} whose year, fold or time zone would not come back; use a zoneinfo.ZoneInfo, or return "
            "its isoformat()"
        )
    return stored


def _datetime_to(value: dt.datetime) -> Any:
    return _clock_to(value, _datetime_from)


def _datetime_from(stored: Any) -> dt.datetime:
    return _clock_from(dt.datetime, stored)


def _time_to(value: dt.time) -> Any:
    return _clock_to(value, _time_from)


def _time_from(stored: Any) -> dt.time:
    return _clock_from(dt.time, stored)


def _clock_to(value: dt.datetime | dt.time, again: Callable[[Any], Any]) -> Any:
    return _proven(value, [value.replace(tzinfo=None).isoformat(), value.fold, _zone_to(value.tzinfo)], again)


def _clock_from(kind: type[Clock], stored: Any) -> Clock:
    if isinstance(stored, str):  # written by version 0.1
        return kind.fromisoformat(stored)
    text, fold, zone = stored
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=_zone_from(zone))


def _timestamp_to(value: pd.Timestamp) -> Any:
    # Stored as UTC time since the epoch, because a local time is ambiguous when clocks go back.
    stored = [int(value.asm8.astype("int64")), value.unit, value.fold, _zone_to(value.tz)]
    return _proven(value, stored, _timestamp_from)


def _timestamp_from(stored: Any) -> Any:
    if len(stored) == 3:  # written by version 0.1
        text, unit, zone = stored
        stamp = pd.Timestamp(text)
        return (stamp.tz_convert(zone) if zone else stamp).as_unit(unit)
    count, unit, fold, zone = stored
    stamp = pd.Timestamp(np.datetime64(count, unit))
    if zone is not None:
        stamp = stamp.tz_localize("UTC").tz_convert(_zone_from(zone))
    return stamp if stamp.fold == fold else stamp.replace(fold=fold)


def _timedelta_to(value: dt.timedelta) -> list[Any]:
    return [value.days, value.seconds, value.microseconds]


# --- arrays ---


def _array_to(array: np.ndarray[Any, Any]) -> list[Any]:
    if not _is_storable(array.dtype):
        raise Refused(f"a NumPy array of dtype {_shown(array.dtype)}; return a list, with array.tolist()")
    stored = [array.dtype.str, list(array.shape), to_base64(np.ascontiguousarray(array).tobytes())]
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return [*stored, "F"] if is_fortran else stored


def _is_storable(dtype: np.dtype[Any]) -> bool:
    # The size of a long double depends on the machine.
    return dtype.kind in _ARRAY_KINDS and not (dtype.kind == "f" and dtype.itemsize > 8)


def _shown(dtype: np.dtype[Any]) -> str:
    return "structure" if dtype.names else str(dtype)


def _array_from(stored: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, data, *order = stored
    if np.dtype(dtype).kind not in _ARRAY_KINDS:
        raise ValueError("the stored result has an array of another kind")
    array = np.frombuffer(base64.b64decode(data), dtype=dtype).reshape(shape)
    return array.copy(order="F" if order == ["F"] else "C")


def _scalar_to(value: Any) -> list[Any]:
    if not _is_storable(value.dtype):
        raise Refused(f"a NumPy scalar of dtype {_shown(value.dtype)}; return value.item()")
    return _array_to(np.asarray(value))


# --- paths ---

_PATHS: dict[str, type[PurePath]] = {
    kind.__name__: kind for kind in (PurePosixPath, PureWindowsPath, PosixPath, WindowsPath)
}


def _path_to(value: PurePath) -> list[str]:
    if not is_json(str(value)):
        raise Refused("a path whose text is no Unicode; return os.fsencode(value)")
    return [type(value).__name__, str(value)]


def _path_from(stored: Any) -> PurePath:
    if isinstance(stored, str):  # written by version 0.1
        return Path(stored)
    kind, text = stored
    if issubclass(_PATHS[kind], Path) and _PATHS[kind] is not type(Path()):
        # A path of another operating system can be shown here, but not opened.
        return (PureWindowsPath if kind == "WindowsPath" else PurePosixPath)(text)
    return _PATHS[kind](text)


# --- all of them ---


# Tag -> (types, to JSON, from JSON). A value's type must be exactly one of these: an instance of a subclass, such as an
# enumeration, would be restored as the base type. NumPy's scalars are handled apart, as each dtype has its own type.
def _ref_to(ref: ArtifactRef) -> Any:
    return [ref.uri, ref.name, ref.version, ref.store, dict(ref.settings)]


def _ref_from(stored: Any) -> ArtifactRef:
    uri, name, version, store, settings = stored
    return ArtifactRef(uri, name, version, store, tuple(settings.items()))


SCALARS: dict[str, tuple[tuple[type, ...], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "timestamp": ((pd.Timestamp,), _timestamp_to, _timestamp_from),
    "timedelta64": (
        (pd.Timedelta,),
        lambda v: [int(v.asm8.astype("int64")), v.unit],
        lambda v: pd.Timedelta(np.timedelta64(*v)),
    ),
    "datetime": ((dt.datetime,), _datetime_to, _datetime_from),
    "date": ((dt.date,), dt.date.isoformat, dt.date.fromisoformat),
    "time": ((dt.time,), _time_to, _time_from),
    "timedelta": ((dt.timedelta,), _timedelta_to, lambda v: dt.timedelta(*v)),
    "decimal": ((decimal.Decimal,), str, decimal.Decimal),
    "uuid": ((uuid.UUID,), str, uuid.UUID),
    "artifact": ((ArtifactRef,), _ref_to, _ref_from),
    "bytes": ((bytes,), to_base64, base64.b64decode),
    "path": (tuple(_PATHS.values()), _path_to, _path_from),
    "text": ((str,), surrogates_to, surrogates_from),
    "int": ((int,), hex, lambda v: int(v, 16)),
    "float": ((float,), repr, float),
    "missing": (
        (type(pd.NA), type(pd.NaT)),
        lambda v: "NA" if v is pd.NA else "NaT",
        lambda v: pd.NA if v == "NA" else pd.NaT,
    ),
    "array": ((np.ndarray,), _array_to, _array_from),
    "scalar": ((), _scalar_to, lambda v: _array_from(v)[()]),
}
_TAGS = {kind: tag for tag, (kinds, _, _) in SCALARS.items() for kind in kinds}


def tag_of(value: Any) -> str:
    """The tag of a scalar or array; empty for anything else."""
    if isinstance(value, np.generic):
        return "scalar" if type(value) is value.dtype.type else ""
    return _TAGS.get(type(value), "")
