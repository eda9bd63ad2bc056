"""Floats out of Arrow's memory into NumPy's, NaN where they are missing.

pyarrow looks at each value and asks whether it is there, which takes the longer the less can be foretold: where six of
ten are missing, two and a half times as long as here, and an ICU's labs are like that. Here eight are done at once.
"""

import threading
from typing import Any, Final

import numpy as np
import pyarrow as pa

# For the eight values that share a byte of validity: all bits of those that are there, none of those that are not.
_THERE: Final = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
_MASKS: Final = {size: np.where(_THERE == 1, -1, 0).astype(f"i{size}") for size in (2, 4, 8)}
_NAN: Final = {size: np.array(np.nan, f"f{size}").view(f"i{size}")[()] for size in (2, 4, 8)}
# What fits into a core's cache, with its mask.
_VALUES_AT_ONCE: Final = 32_768
_scratch = threading.local()


def fill(place: "np.ndarray[Any, Any]", column: pa.ChunkedArray) -> None:
    """Write a column of floats, with missing ones among them, into memory of the same dtype and length.

    Each value keeps its bits, also those of a NaN that is another than NumPy's.

    Args:
        place: Of `float16`, `float32` or `float64`; of any stride.
        column: Of the same type.
    """
    at = 0
    for chunk in column.chunks:
        _fill(place[at : at + len(chunk)], chunk)
        at += len(chunk)


def _fill(place: "np.ndarray[Any, Any]", chunk: pa.Array) -> None:
    validity, values = chunk.buffers()
    size, count = place.dtype.itemsize, len(chunk)
    stored = np.frombuffer(values, f"i{size}", count, chunk.offset * size)
    if validity is None:
        place.view(f"i{size}")[:] = stored
        return
    ahead = chunk.offset % 8
    bits = np.frombuffer(validity, np.uint8, -(-(ahead + count) // 8), chunk.offset // 8)
    if ahead:
        bits = np.packbits(np.unpackbits(bits, bitorder="little")[ahead:], bitorder="little")
    target, masks, nan = place.view(f"i{size}"), _MASKS[size], _NAN[size]
    mask = _mask_of(size)
    for begin in range(0, count, _VALUES_AT_ONCE):
        end = min(begin + _VALUES_AT_ONCE, count)
        some = bits[begin // 8 : -(-end // 8)]
        there = np.take(masks, some, axis=0, out=mask[: len(some)], mode="clip").ravel()[: end - begin]
        # What NaN and the value differ in, or nothing of it where none is; so NaN and that again are the value, or NaN.
        part = np.bitwise_xor(stored[begin:end], nan, out=target[begin:end])
        np.bitwise_and(part, there, out=part)
        np.bitwise_xor(part, nan, out=part)


def _mask_of(size: int) -> "np.ndarray[Any, Any]":
    held: dict[int, np.ndarray[Any, Any]] | None = getattr(_scratch, "masks", None)
    if held is None:
        held = _scratch.masks = {}
    if size not in held:
        held[size] = np.empty((_VALUES_AT_ONCE // 8, 8), f"i{size}")
    return held[size]
