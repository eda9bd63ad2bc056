"""The bytes of a whole file, whose memory is given back while the file is decoded."""

import mmap
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from clinops_prefect.frames.parquet.column_chunks import ColumnChunk
from clinops_prefect.frames.parquet.parallel_decode import DecodeUnit

# Of a smaller file, nothing is given back: memory that the process already has costs no page faults.
_LEAST_BYTES = 4 << 20
# PyArrow reads so many bytes past the end of a chunk of an old version of parquet-mr, whose sizes are too small.
_READ_PAST = 100


class FileBytes:
    """The bytes of a whole file. Where the system allows it, parts of a large file can be given back.

    Args:
        data: The bytes, or the size of a file whose bytes will be written to `array`.

    Attributes:
        array: The bytes.
        is_whole: False after bytes were given back. Those are zeros from then on.
        arriving: A future for each part of the bytes that is still written to `array`, in order.
    """

    def __init__(self, data: bytes | int) -> None:
        self.is_whole = True
        self.arriving: list[Future[None]] = []
        self._memory = _private_memory(data) if isinstance(data, int) and data >= _LEAST_BYTES else None
        self.array: np.ndarray[Any, Any]
        if self._memory is not None:
            self.array = np.frombuffer(self._memory, dtype=np.uint8)
        elif isinstance(data, int):
            # `empty` leaves the memory unused until a part is written to it; nothing is set to zero first.
            self.array = np.empty(data, dtype=np.uint8)
        else:
            self.array = np.frombuffer(data, dtype=np.uint8)

    def cancel(self) -> None:
        """Fetch no further parts."""
        for future in self.arriving:
            future.cancel()

    def give_back(self, start: int, end: int) -> None:
        """Give these bytes back to the system, except for those that share a page of memory with others."""
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if self._memory is not None and length > 0:
            self.is_whole = False
            # The system refuses this for locked memory, which then stays until the file is decoded.
            with suppress(OSError):
                self._memory.madvise(mmap.MADV_DONTNEED, first, length)


class DecodedBytes:
    """Gives the bytes of row groups back after they were decoded: otherwise the file would stay beside its frame.

    Args:
        data: The bytes of the file.
        chunks: The column chunks that are decoded.
        units: The units in which they are decoded.
    """

    def __init__(self, data: FileBytes, chunks: Sequence[ColumnChunk], units: Iterable[DecodeUnit]) -> None:
        self._data = data
        self._left = Counter(group for unit in units for group in unit.groups)
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._lock = threading.Lock()
        ranges = sorted(chunk.range for chunk in chunks)
        # In a file whose chunks share bytes, another row group may still need those of a decoded one.
        if all(one[1] <= other[0] for one, other in pairwise(ranges)):
            for chunk in chunks:
                self._ranges.setdefault(chunk.group, []).append(chunk.range)

    def done(self, unit: DecodeUnit) -> None:
        """Take note that a unit was decoded."""
        with self._lock:
            self._left.subtract(unit.groups)
            decoded = [group for group in unit.groups if not self._left[group]]
            ranges = [span for group in decoded for span in self._ranges.pop(group, [])]
        for start, end in ranges:
            self._data.give_back(start + _READ_PAST, end)


def _private_memory(size: int) -> mmap.mmap | None:
    """Memory that can be given back; None if this system has none."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return None
    try:
        # Of shared memory, the system would keep the pages.
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None  # NumPy raises the MemoryError that callers expect
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)  # as NumPy does for its own large arrays: far fewer page faults
    return memory
