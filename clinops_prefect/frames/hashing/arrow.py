"""Hashes Arrow columns by content. Chunks, offsets and the bytes under missing values do not change the hash."""

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.frames.text_types import is_text_or_bytes

Hash = partial(hashlib.blake2b, digest_size=16)
# The number of rows per step. Copies of so many rows stay in the processor's cache.
STEP = 1 << 16


def column(column: pa.ChunkedArray, other: Callable[[Any], bytes]) -> Iterator[bytes]:
    """Yield the hashes of the values.

    Args:
        column: The column.
        other: Hashes a list of Python values, for types whose values are not all in Arrow's memory.
    """
    total = Hash()
    for start in range(0, len(column), STEP):
        part = column.slice(start, STEP)
        # Join the chunks of a step, so that the steps do not depend on the column's chunks.
        array = part.chunk(0) if part.num_chunks == 1 else pa.concat_arrays(part.chunks)
        for data in _buffers(array, other):
            total.update(data)
    yield str(len(column)).encode() + total.digest()


def floats(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """The bytes of contiguous floats, with the same bits for every NaN."""
    if values.dtype.kind == "c":
        values = values.view(f"{values.dtype.byteorder}f{values.dtype.itemsize // 2}")
    if values.dtype.itemsize > 8:
        # The padding bytes of a long double are undefined, so it is hashed as two floats.
        high = values.astype(np.float64)
        with np.errstate(invalid="ignore"):
            values = np.concatenate([high, (values - high).astype(np.float64)])
    missing = np.isnan(values)
    if missing.any():
        values = values.copy()
        np.copyto(values, values.dtype.type(np.nan), where=missing)
    return values.view(np.uint8)


def _buffers(array: pa.Array, other: Callable[[Any], bytes]) -> Iterator[Any]:
    kind = array.type
    yield array.null_count.to_bytes(8, "little")
    valid = None
    if array.null_count and not pa.types.is_null(kind):
        valid = _numbers(array.is_valid().cast(pa.uint8())).astype(bool)
        yield np.packbits(valid)
    if isinstance(kind, pa.BaseExtensionType):
        yield from _buffers(array.storage, other)
    elif pa.types.is_dictionary(kind):
        yield from _buffers(array.dictionary_decode(), other)
    elif pa.types.is_run_end_encoded(kind):
        yield from _buffers(pc.run_end_decode(array), other)
    elif pa.types.is_null(kind):
        return
    elif pa.types.is_boolean(kind):
        yield np.packbits(_zeroed(array.cast(pa.uint8())).astype(bool))
    elif is_text_or_bytes(kind):
        yield from _texts(array)
    elif pa.types.is_map(kind):
        yield from _buffers(array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))), other)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield _zeroed(array.value_lengths().cast(pa.int64()))
        yield from _buffers(array.flatten(), other)
    elif pa.types.is_fixed_size_list(kind):
        # Leave out the values under missing lists, which are undefined.
        present = array.drop_null() if array.null_count else array
        yield from _buffers(present.flatten(), other)
    elif pa.types.is_struct(kind):
        for field in array.flatten():
            yield from _buffers(field, other)
    elif pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind):
        yield from _fixed(array, valid)
    else:
        yield other(array.to_pylist())


def _numbers(array: pa.Array) -> "np.ndarray[Any, Any]":
    """Numbers as a NumPy array, undefined where they are missing. `Array.to_numpy` would import pandas."""
    width = array.type.bit_width // 8
    kind = "u" if pa.types.is_unsigned_integer(array.type) else "i"
    if not len(array):
        return np.array([], dtype=f"{kind}{width}")
    return np.frombuffer(array.buffers()[1], dtype=f"{kind}{width}")[array.offset :][: len(array)]


def _zeroed(array: pa.Array) -> "np.ndarray[Any, Any]":
    """Numbers as a NumPy array, 0 where they are missing."""
    values = _numbers(array)
    if not array.null_count:
        return values
    return np.where(_numbers(array.is_valid().cast(pa.uint8())).astype(bool), values, values.dtype.type(0))


def _texts(array: pa.Array) -> Iterator[Any]:
    if "view" in str(array.type):
        array = array.cast(pa.large_string() if pa.types.is_string_view(array.type) else pa.large_binary())
    lengths = pc.binary_length(array)
    # Leave out the bytes under missing values, which are undefined.
    present = array.drop_null() if array.null_count else array
    yield _zeroed(lengths.cast(pa.int64()))
    _, offsets, data = present.buffers()
    if not len(present) or data is None:
        return
    is_large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    ends = np.frombuffer(offsets, dtype=np.int64 if is_large else np.int32)
    yield memoryview(data)[ends[present.offset] : ends[present.offset + len(present)]]


def _fixed(array: pa.Array, valid: "np.ndarray[Any, Any] | None") -> Iterator[Any]:
    width = array.type.bit_width // 8
    if not len(array):
        return
    data = np.frombuffer(array.buffers()[1], dtype=np.uint8)[array.offset * width :][: len(array) * width]
    if valid is not None:
        data = data.reshape(len(array), width).copy()
        data[~valid] = 0
        data = data.reshape(-1)
    if pa.types.is_floating(array.type):
        data = floats(data.view(f"f{width}"))
    yield data
