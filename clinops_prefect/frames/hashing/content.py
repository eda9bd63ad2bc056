"""Hashes frames, and values that contain frames, by content: the same on every machine, in every process and layout.

BLAKE2b hashes a gigabyte in about a second, is part of Python, and is collision resistant. Differences that pandas does
not show (the bits of a NaN, blocks, chunks, bytes under a missing value) do not change the hash. All others do.
"""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import inspect
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pydantic

from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.hashing import arrow as arrow_hash
from clinops_prefect.frames.hashing.arrow import STEP, Hash, floats

_MARKERS = {type(None): b"\1", float: b"\2", type(pd.NA): b"\3", type(pd.NaT): b"\4"}
# The text of such a value contains all of it. A datetime is also a date, so `_scalar` handles datetimes before these.
_TEXTS = (dt.date, dt.timedelta, decimal.Decimal, uuid.UUID, PurePath, range, slice, complex)
# Arrow's text of a map whose values have another name than `value`: `map<string, int64 ('a')>`.
_NAME_IN_MAP = re.compile(r" \('[^']*'\)(?=[,>])")
_CONTAINERS = (list, tuple, dict, set, frozenset, pydantic.BaseModel)


class Digest:
    """Hashes values by content.

    Args:
        other: Hashes objects of types that are not known here.
    """

    def __init__(self, other: Callable[[Any], bytes]) -> None:
        self._other = other
        self._open: set[int] = set()

    def of(self, value: Any) -> bytes:
        """The hash of a value, 16 bytes.

        Raises:
            ValueError: The value contains itself.
        """
        if found := self._table(value):
            return found
        if not isinstance(value, _CONTAINERS) and not (dataclasses.is_dataclass(value) and not isinstance(value, type)):
            return self._scalar(value)
        if id(value) in self._open:
            raise ValueError("a value that contains itself")
        self._open.add(id(value))
        try:
            return _hash(_name(type(value)), *self._parts(value))
        finally:
            self._open.discard(id(value))

    def is_known(self, value: Any) -> bool:
        """Whether this is a frame, an array or a set. Their pickles depend on more than the content."""
        return isinstance(value, set | frozenset) or self._reader(value) is not None

    def _table(self, value: Any) -> bytes:
        reader = self._reader(value)
        return b"" if reader is None else _hash(_name(type(value)), *reader(value))

    def _reader(self, value: Any) -> Callable[[Any], Iterable[bytes]] | None:
        for kind, reader in (
            (pd.DataFrame, self._frame),
            (pd.Series, self._series),
            (pd.Index, self._index),
            (pd.api.extensions.ExtensionArray, self._extension),
            (np.ndarray, self._array),
            (pa.Table | pa.RecordBatch, self._arrow_table),
            (pa.ChunkedArray | pa.Array, self._arrow),
        ):
            if isinstance(value, kind):
                return reader
        # Only look whether polars is imported. Importing it would slow down users without polars.
        polars = sys.modules.get("polars")
        if polars is not None and isinstance(value, polars.DataFrame):
            return self._polars_frame
        if polars is not None and isinstance(value, polars.Series):
            return self._polars_series
        return None

    # --- values ---

    def _parts(self, value: Any) -> Iterable[bytes]:
        if isinstance(value, pydantic.BaseModel):
            return [self.of(_attributes(value)), self.of(value.__pydantic_extra__)]
        # The attributes of a subclass, as of a list with a name, or of a dataclass whose subclass is none.
        further, found = _attributes(value), []
        if isinstance(value, dict):
            # The order of the keys does not matter, as in Prefect's INPUTS.
            found = sorted(self.of(key) + self.of(item) for key, item in value.items())
        elif isinstance(value, set | frozenset):
            found = sorted(map(self.of, value))
        elif isinstance(value, list | tuple):
            found = [*map(self.of, value)]
        if dataclasses.is_dataclass(value):
            fields = [field.name for field in dataclasses.fields(value)]
            found += [self.of((name, getattr(value, name))) for name in fields]
            further = {name: item for name, item in further.items() if name not in fields}
        return [*found, self.of(further)] if further else found

    def _scalar(self, value: Any) -> bytes:
        kind = type(value)
        if value is None or value is pd.NA or value is pd.NaT:
            return _hash(b"missing", _MARKERS[kind])
        if kind is str:
            return _hash(b"str", value.encode("utf-8", "surrogatepass"))
        if kind is bool or kind is int:
            return _hash(kind.__name__.encode(), str(int(value)).encode())
        if kind is float:
            return _hash(b"float", floats(np.array([value])).tobytes())
        if kind is bytes or kind is bytearray:
            return _hash(kind.__name__.encode(), bytes(value))
        if isinstance(value, enum.Enum):
            # A flag without any bit has no name.
            return _hash(
                b"enum", _name(kind), (value.name or "").encode("utf-8", "surrogatepass"), self.of(value.value)
            )
        if isinstance(value, np.generic):
            return _hash(b"scalar", *self._array(np.asarray(value)))
        if isinstance(value, pd.Timestamp | pd.Timedelta):
            unit = f"{value.unit} {getattr(value, 'tz', None)} {getattr(value, 'fold', 0)}"
            return _hash(_name(kind), str(value.asm8.astype("int64")).encode(), unit.encode())
        if isinstance(value, pd.Interval):
            return _hash(b"interval", self.of(value.left), self.of(value.right), value.closed.encode())
        if isinstance(value, dt.datetime | dt.time):
            return _hash(_name(kind), value.isoformat().encode(), f"{value.tzinfo} {value.fold}".encode())
        if isinstance(value, pd.Period):
            return _hash(b"period", str(value.ordinal).encode(), value.freqstr.encode())
        if isinstance(value, _TEXTS):
            return _hash(_name(kind), str(value).encode("utf-8", "surrogatepass"))
        return _hash(b"other", self._other(value))

    # --- pandas ---

    def _frame(self, frame: pd.DataFrame) -> Iterator[bytes]:
        yield self.of(frame.columns)
        yield from self._about(frame)
        for position in range(frame.shape[1]):
            yield _hash(b"column", *self._values(frame.iloc[:, position]))

    def _series(self, series: "pd.Series[Any]") -> Iterator[bytes]:
        yield self.of(series.name)
        yield from self._about(series)
        yield from self._values(series)

    def _about(self, held: Any) -> Iterator[bytes]:
        yield self.of(held.index)
        yield self.of(held.attrs)
        yield self.of(held.flags.allows_duplicate_labels)
        # The further attributes of a subclass, such as a GeoDataFrame.
        yield self.of({name: getattr(held, name, None) for name in held._metadata if name not in ("_name", "name")})

    def _values(self, values: Any) -> Iterator[bytes]:
        is_numpy = isinstance(values.dtype, np.dtype)
        return self._array(values.to_numpy()) if is_numpy else self._extension(values.array)

    def _index(self, index: "pd.Index[Any]") -> Iterator[bytes]:
        yield self.of(list(index.names))
        if isinstance(index, pd.RangeIndex):
            # Equal ranges may have different stops, so the hash uses the length instead.
            of = range(index.start, index.stop, index.step)
            yield str([len(of), *of[:2]]).encode()
        elif isinstance(index, pd.MultiIndex):
            # Names are removed, because a name may be the number of another level.
            nameless = index.set_names([None] * index.nlevels)
            for number in range(index.nlevels):
                level = nameless.get_level_values(number)
                yield self.of(_as_stored(level))
        else:
            yield self.of(getattr(getattr(index, "freq", None), "freqstr", None))
            yield from self._values(index)

    def _extension(self, array: Any) -> Iterator[bytes]:
        dtype = array.dtype
        if isinstance(dtype, np.dtype):  # pandas' wrappers of NumPy's arrays
            yield from self._array(array.to_numpy())
        elif isinstance(dtype, pd.CategoricalDtype):
            yield from (b"category", str(dtype.ordered).encode(), self.of(_as_stored(dtype.categories)))
            yield from self._array(array.codes.astype("int32"))
        elif isinstance(dtype, pd.StringDtype):
            yield f"string {dtype.storage} {dtype.na_value}".encode()
            if dtype.storage == "python":
                yield self._objects(array.to_numpy(dtype=object, na_value=None))
            else:
                yield from arrow_hash.column(array.__arrow_array__(), self.of)
        elif isinstance(dtype, pd.ArrowDtype):
            yield from self._arrow(array.__arrow_array__())
        elif isinstance(dtype, pd.DatetimeTZDtype | pd.PeriodDtype):
            yield str(dtype).encode()
            yield from self._array(array.asi8)
        elif isinstance(dtype, pd.IntervalDtype):
            yield from (str(dtype).encode(), self.of(array.left), self.of(array.right))
        elif hasattr(dtype, "numpy_dtype"):
            yield str(dtype).encode()
            yield from self._array(array.isna())
            yield from self._array(array.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.numpy_dtype.type(0)))
        else:
            yield str(dtype).encode()
            yield from self._array(np.asarray(array, dtype=object))

    # --- NumPy, Arrow, polars ---

    def _array(self, array: Any) -> Iterator[bytes]:
        yield f"{array.dtype.str} {array.shape}".encode()
        # The attributes of another package's subclass, such as a unit. NumPy's own subclasses hold caches and files.
        if not _name(type(array)).startswith(b"numpy.") and (further := _attributes(array)):
            yield self.of(further)
        if isinstance(array, np.ma.MaskedArray):
            yield from self._array(np.ma.getmaskarray(array))
            array = array.filled(array.dtype.type(0))
        if array.dtype.names:
            for name in array.dtype.names:
                yield name.encode()
                yield from self._array(array[name])
            return
        flat = array.reshape(-1)
        if array.dtype.kind == "O":
            yield self._objects(flat)
            return
        total = Hash()
        for start in range(0, len(flat), STEP):
            part: Any = np.ascontiguousarray(flat[start : start + STEP])
            part = floats(part) if part.dtype.kind in "fc" else part.view(np.uint8)
            total.update(part)
        yield total.digest()

    def _objects(self, values: "np.ndarray[Any, Any]") -> bytes:
        kinds = set(map(type, values))
        if str in kinds and kinds <= {str, *_MARKERS}:
            missing = pd.isna(values)
            texts = values.copy()
            texts[missing] = None
            try:
                column = pa.chunked_array([pa.array(texts, pa.large_string())])
            except (pa.ArrowException, TypeError, UnicodeError):
                pass  # a text has lone surrogates, or a float is among the texts
            else:
                marks = b"".join(_MARKERS[type(value)] for value in values[missing])
                return _hash(b"texts", marks, *arrow_hash.column(column, self.of))
        total = Hash()
        for value in values:
            total.update(self.of(value))
        return total.digest()

    def _arrow(self, array: Any) -> Iterator[bytes]:
        # The names of a list's and of a map's values do not matter: Parquet calls a list's `element`, Arrow `item`.
        kind = str(array.type).replace("<item: ", "<element: ")
        yield (_NAME_IN_MAP.sub("", kind) if "map<" in kind else kind).encode()
        column = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
        if pa.types.is_dictionary(column.type) and column.type.ordered:
            # Only for ordered categories does the order belong to the content. It must not depend on the chunks.
            yield self.of(arrow_frames.categories_of([column], column.type.value_type).to_pylist())
        yield from arrow_hash.column(column, self.of)

    def _arrow_table(self, table: Any) -> Iterator[bytes]:
        yield self.of(dict(table.schema.metadata or {}))
        yield str(table.num_rows).encode()
        for field, column in zip(table.schema, table.columns, strict=True):
            yield self.of([field.name, field.nullable, dict(field.metadata or {})])
            yield from self._arrow(column)

    def _polars_frame(self, frame: Any) -> Iterator[bytes]:
        yield str(frame.height).encode()
        for column in frame.get_columns():
            yield from self._polars_series(column)

    def _polars_series(self, series: Any) -> Iterator[bytes]:
        # Add the categories, because the repr of a dtype with many categories leaves out some of them.
        yield self.of([series.name, repr(series.dtype), _categories(series.dtype)])
        if _is_of_python(series.dtype):
            # Arrow would get pointers for these types, or does not support them.
            yield self.of(series.to_list())
            return
        yield from arrow_hash.column(pa.chunked_array([series.to_arrow()]), self.of)


def _as_stored(values: "pd.Index[Any]") -> "pd.Index[Any]":
    """A level or categories. A range becomes integers, as which it is stored and restored."""
    return pd.Index(values.to_numpy(), name=values.name) if isinstance(values, pd.RangeIndex) else values


def _categories(dtype: Any) -> list[Any]:
    """The categories of the enumerations in a polars dtype, at any depth."""
    if type(dtype).__name__ == "Enum":
        return [dtype.categories.to_list()]
    inner = [field.dtype for field in getattr(dtype, "fields", ())]
    inner += [dtype.inner] if type(dtype).__name__ in ("List", "Array") else []
    return [categories for of in inner for categories in _categories(of)]


def _is_of_python(dtype: Any) -> bool:
    """Whether Arrow cannot hold values of this dtype, so that they are hashed as Python values."""
    return any(name in repr(dtype) for name in ("Object", "Int128"))


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object, without the values that its cached properties have computed from them."""

    def is_cached(name: str) -> bool:
        return isinstance(inspect.getattr_static(type(value), name, None), functools.cached_property)

    return {name: item for name, item in getattr(value, "__dict__", {}).items() if not is_cached(name)}


def _hash(*parts: bytes) -> bytes:
    total = Hash()
    for part in parts:
        # Add the length. Otherwise (b'a', b'bc') and (b'ab', b'c') would have the same hash.
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.digest()


def _name(kind: type) -> bytes:
    root = kind.__module__.partition(".")[0]
    if root in ("numpy", "pandas", "polars", "pyarrow"):
        # These packages may move a class to another module in another version, so only the package is used.
        return f"{root}.{kind.__qualname__}".encode()
    return f"{kind.__module__}.{kind.__qualname__}".encode()
