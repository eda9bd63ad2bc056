"""Columns of Python objects: finds out how to restore the same objects from Arrow."""

import datetime as dt
import decimal
import enum
import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames.conversion import zones

_FLOATS = ("float16", "float32", "float64")
_MISSING: dict[str, Any] = {
    "None": None,
    "nan": np.nan,
    "NA": pd.NA,
    "NaT": pd.NaT,
    **{name: getattr(np, name)(np.nan) for name in _FLOATS},
}
_SIZES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
# NumPy scalar types that can be made from the Python value that Arrow returns.
_SCALARS = {name: getattr(np, name) for name in ("bool", "str_", "bytes_", *_FLOATS, *_SIZES)}
# The types of which `json.dumps` makes a text that can be read again.
_OF_JSON = {str, int, float, bool, type(None), list, tuple, dict}
# Decimals have at most 76 digits in Arrow.
_DECIMALS = decimal.Context(prec=80)
# Types that may contain times at any depth. Only these are searched, because the search is slow.
_MAY_HOLD_TIMES = (dt.datetime, list, tuple, set, frozenset, dict, np.ndarray)

Kind = dict[str, Any]


def kind_of(values: "pd.Series[Any]", column: pa.ChunkedArray, where: str) -> Kind:
    """How to `restore` the objects from the column that Arrow made of them.

    Raises:
        UnsupportedFrameError: Types or missing markers are mixed, or Arrow changes the values.
    """
    try:
        present = values.notna().to_numpy()
    except decimal.InvalidOperation:
        # pandas compares each value with itself, and a signalling NaN raises an error for that.
        raise UnsupportedFrameError(f"{where} holds a Decimal that is a signalling NaN; use None") from None
    missing = _missing_kind(values, where)
    objects = values.to_numpy()
    types = set(map(type, objects[present]))
    # Exactly str: subclasses, such as members of an enumeration, would be restored as plain text.
    if types == {str}:
        return {"as": "text", "missing": missing}
    zone = _zone(objects[present], where) if any(issubclass(of, _MAY_HOLD_TIMES) for of in types) else None
    for way in _ways(types, objects[present]):
        kind = {**way, "missing": missing, **({"zone": list(zone)} if zone else {})}
        if way["as"] == "pandas" and _holds_booleans(column.type):
            # Of all rows together, pandas makes arrays of objects if one of them has a missing boolean. Each row alone
            # is the same whichever rows are read with it.
            kind["each"] = True
        if same(objects, restore(column, kind)):
            return kind
    raise UnsupportedFrameError(f"{where} {complaint(values)}")


def _ways(types: set[type], present: Iterable[Any]) -> Iterable[Kind]:
    """The ways of restoring to try, the most likely first."""
    if len(types) == 1:
        only = next(iter(types))
        if only.__name__ in _SCALARS and only is _SCALARS[only.__name__]:
            return [{"as": "scalars", "type": only.__name__}]
        if only in (pd.Timestamp, pd.Timedelta):
            return [{"as": "pandas", "unit": next(iter(present)).unit}]
        if only is decimal.Decimal:
            return [{"as": "python"}, {"as": "shortest"}]
    return [{"as": "python"}, {"as": "pandas"}]


def restore(column: pa.ChunkedArray, kind: Kind) -> np.ndarray[Any, Any]:
    """Restore the column as an object array, shape (rows,), with its original missing marker.

    Raises:
        ValueError: `kind_of` did not return this kind.
    """
    way = kind["as"]
    if way == "text":
        objects = column.to_numpy(zero_copy_only=False).astype(object)
    elif way == "pandas" and "each" in kind:
        objects = np.empty(len(column), dtype=object)
        for position in range(len(column)):
            objects[position] = column.slice(position, 1).to_pandas().iloc[0]
    elif way == "pandas":
        read = column.to_pandas()
        read = read.dt.as_unit(kind["unit"]) if "unit" in kind else read
        objects = read.to_numpy(dtype=object, copy=True)
    elif way in ("python", "scalars", "shortest"):
        make: Callable[[Any], Any] | None = _SCALARS[kind["type"]] if way == "scalars" else None
        objects = np.empty(len(column), dtype=object)
        # `np.array(list)` is not used, because it would make a second dimension of nested lists.
        for position, value in enumerate(column.to_pylist()):
            if make is not None and value is not None:
                value = make(value)
            objects[position] = _shortest(value) if way == "shortest" else value
    else:
        raise ValueError("no way that a note has")
    if "zone" in kind:
        zone = zones.restore(kind["zone"])
        for position, value in enumerate(objects):
            objects[position] = _in_zone(value, zone)
    marker = _MISSING[kind["missing"]]
    if marker is not None or way == "pandas":
        nulls = column.is_null().to_numpy(zero_copy_only=False)
        if nulls.any():
            objects = objects.copy()
            objects[nulls] = marker
    return cast(np.ndarray[Any, Any], objects)


def _holds_booleans(kind: pa.DataType) -> bool:
    """Whether a nested type has booleans inside, at any depth."""
    inside = [kind.field(place).type for place in range(kind.num_fields)]
    return any(pa.types.is_boolean(of) or _holds_booleans(of) for of in inside)


def wide_decimal(*kinds: pa.DataType) -> pa.DataType | None:
    """The type of `Decimal` objects that Arrow gives these types; None if they differ in their decimal places.

    It has all the digits that there are. Arrow takes those of the largest value, so batches and parts would differ.
    """
    if not all(map(pa.types.is_decimal, kinds)) or len({kind.scale for kind in kinds}) > 1:
        return None
    is_long = any(map(pa.types.is_decimal256, kinds))
    return pa.decimal256(76, kinds[0].scale) if is_long else pa.decimal128(38, kinds[0].scale)


def complaint(values: "pd.Series[Any]") -> str:
    """What is wrong with a column that Arrow cannot hold, and what to do. No value is quoted."""
    if isinstance(values.dtype, pd.SparseDtype):
        return "is sparse; pass it dense, with .sparse.to_dense()"
    if isinstance(values.dtype, pd.CategoricalDtype):
        of = values.dtype.categories.dtype
        return (
            f"is a category of {of}, which does not come back equal; convert it, with "
            ".astype(object).map(str, na_action='ignore') for instance"
        )
    if values.dtype != object and not isinstance(values.dtype, pd.StringDtype):
        return f"has the dtype {values.dtype}, which does not come back equal; convert it first, with .astype(…)"
    if unknown := sorted({_marker(value) for value in values[values.isna()]} - set(_MISSING)):
        # pandas treats `Decimal("NaN")` and `np.datetime64("NaT")` as missing, but Arrow cannot hold them.
        return f"marks missing values with a {unknown[0]} (its NaN or NaT), which does not come back equal; use None"
    held = {type(value) for value in values[values.notna()]}
    types = sorted(of.__name__ for of in held)
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if len(types) > 1 and not kind.startswith(("string", "date", "bytes")):
        return (
            f"mixes types ({', '.join(types)}); convert it to one type, with .map(str, na_action='ignore') for instance"
        )
    inside = _types(values[values.notna()]) - held
    names = (", ".join(types) or "nothing") + (
        f" (of {', '.join(sorted(t.__name__ for t in inside))})" if inside else ""
    )
    if any(issubclass(of, enum.Enum) for of in held):
        return (
            f"holds members of an enumeration ({names}), which do not come back equal; store their values, with "
            ".map(lambda member: member.value, na_action='ignore')"
        )
    if held & {list, tuple, dict} and inside <= _OF_JSON:
        return (
            f"holds {names} objects that do not come back equal; store their text, with "
            ".map(json.dumps, na_action='ignore')"
        )
    # For plain ints, `.map(int)` is no remedy: those that cannot be kept have more than 64 bits.
    builtin: tuple[type, ...] = (int, float, bytes)
    plain = {of for of in builtin if len(held) == 1 and issubclass(next(iter(held)), of)} - held or {str}
    return (
        f"holds {names} objects that do not come back equal; convert it, with .map({plain.pop().__name__}, "
        "na_action='ignore') for instance"
    )


def _types(values: Iterable[Any]) -> set[type]:
    """The types of these values and of all values inside them, at any depth."""
    found = set()
    for value in values:
        found.add(type(value))
        if isinstance(value, list | tuple | set | frozenset):
            found |= _types(value)
        elif isinstance(value, dict):
            found |= _types(value.keys()) | _types(value.values())
        elif isinstance(value, np.ndarray) and value.dtype == object:
            found |= _types(value.ravel())
    return found


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
        if value is marker or (name == "nan" and type(value) is float):
            return name
    return type(value).__name__


def _zone(values: Iterable[Any], where: str) -> zones.Zone | None:
    """The time zone that all times in these values have; None if they have none.

    Raises:
        UnsupportedFrameError: The times have several zones, of which Arrow would keep the first, or an unknown zone.
    """
    found = _zones(values)
    if len(found) > 1:
        raise UnsupportedFrameError(
            f"{where} holds times of several zones or UTC offsets, and can keep one; convert it, with "
            "pd.to_datetime(df[c], utc=True)"
        )
    zone = next(iter(found.values()), None)
    if zone is None:
        return None
    description = zones.describe(zone)
    if description is None:
        raise UnsupportedFrameError(
            f"{where} holds times of a zone that has no name to keep it by ({type(zone).__name__}); convert it, with "
            "pd.to_datetime(df[c], utc=True)"
        )
    return description


def _zones(values: Iterable[Any]) -> dict[Any, dt.tzinfo | None]:
    """Description -> time zone, of all times in these values at any depth. None stands for times without a zone."""
    found: dict[Any, dt.tzinfo | None] = {}
    for value in values:
        if isinstance(value, dt.datetime):
            zone = value.tzinfo
            found.setdefault(zone and (zones.describe(zone) or id(zone)), zone)
        elif isinstance(value, list | tuple | set | frozenset):
            found |= _zones(value)
        elif isinstance(value, dict):
            found |= _zones(value.values())
        elif isinstance(value, np.ndarray) and value.dtype == object:
            found |= _zones(value.ravel())
    return found


def _in_zone(value: Any, zone: dt.tzinfo) -> Any:
    if isinstance(value, dt.datetime) and value is not pd.NaT:
        return value.astimezone(zone)
    if isinstance(value, list | tuple):
        return type(value)(_in_zone(item, zone) for item in value)
    if isinstance(value, dict):
        return {key: _in_zone(item, zone) for key, item in value.items()}
    return value


def _shortest(value: decimal.Decimal | None) -> decimal.Decimal | None:
    """The decimal without trailing zeros in its fraction, as decimals read from text often are."""
    if value is None:
        return None
    short = value.normalize(_DECIMALS)
    exponent = short.as_tuple().exponent
    return (
        short.quantize(decimal.Decimal(1), context=_DECIMALS) if isinstance(exponent, int) and exponent > 0 else short
    )


def same(before: Any, after: Any) -> bool:
    """Whether two values are equal in type and value, missing ones included, at any depth.

    Times must also have the same zone and, in an hour that clocks repeat, the same fold. Python's `==` is not enough:
    it says that 08:00-04:00 equals 07:00-05:00, and that a member of a text enumeration equals its text.
    """
    if before is after:
        return True
    kind = type(before)
    if kind is not type(after):
        return False
    if kind in _SIMPLE:
        return bool(before == after)
    if isinstance(before, float | np.floating):
        return bool(before == after and math.copysign(1, before) == math.copysign(1, after)) or bool(
            before != before and after != after
        )
    if kind in (list, tuple):
        return len(before) == len(after) and all(map(same, before, after))
    if kind is dict:
        return len(before) == len(after) and all(map(same, before.items(), after.items()))
    if kind is np.ndarray:
        return _same_arrays(before, after)
    if isinstance(before, dt.datetime | dt.time):
        plain = before.replace(tzinfo=None) == after.replace(tzinfo=None) and before.fold == after.fold
        return plain and zones.same(before.tzinfo, after.tzinfo) and _unit(before) == _unit(after)
    if kind is pd.Timedelta:
        return bool(before == after) and _unit(before) == _unit(after)
    if kind is decimal.Decimal:
        return bool(before.as_tuple() == after.as_tuple())
    if kind is pd.Interval:
        return before.closed == after.closed and same(before.left, after.left) and same(before.right, after.right)
    return bool(before == after)


_SIMPLE = {str, bytes, bool, int, dt.date, dt.timedelta}


def _same_arrays(before: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> bool:
    if before.dtype != after.dtype or before.shape != after.shape:
        return False
    if before.dtype == object:
        return all(map(same, before.ravel(), after.ravel()))
    return np.array_equal(before, after, equal_nan=before.dtype.kind in "fmM")


def _unit(value: Any) -> str | None:
    return getattr(value, "unit", None)
