"""The bytes of a whole file, whose memory is given back while the file is decoded."""

import mmap
import sys
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from clinops_prefect.frames.parquet.column_chunks import ColumnChunk
from clinops_prefect.frames.parquet.parallel_decode import DecodeUnit
from clinops_prefect.frames.parquet.partial_file import Range, wait

# Of a smaller file, nothing is given back: memory that the process already has costs no page faults.
_LEAST_BYTES = 4 << 20
# PyArrow reads so many bytes past the end of a chunk of an old version of parquet-mr, whose sizes are too small.
_READ_PAST = 100
# The number of parts that are asked for ahead of those that are needed: enough for all connections, and a few more for
# the ones that are late. A network may be faster than decoding, and then the rest of the file would wait in memory.
_PARTS_AHEAD = 16
# The number of parts that are asked for at once, in addition to these.
_PARTS_AT_ONCE = 8


class FileBytes:
    """The bytes of a whole file. Where the system allows it, parts of a large file can be given back.

    Args:
        data: The bytes, or the size of a file whose bytes will be written to `array`.

    Attributes:
        array: The bytes.
        is_whole: False after bytes were given back. Those are zeros from then on.
    """

    def __init__(self, data: bytes | int) -> None:
        self.is_whole = True
        self._fetch: Callable[[Sequence[Range]], list[Future[None]]] | None = None
        self._spans: Sequence[Range] = ()
        self._arriving: list[Future[None]] = []
        self._lock = threading.Lock()
        self._memory = _private_memory(data) if isinstance(data, int) and data >= _LEAST_BYTES else None
        self.array: np.ndarray[Any, Any]
        if self._memory is not None:
            self.array = np.frombuffer(self._memory, dtype=np.uint8)
        elif isinstance(data, int):
            # `empty` leaves the memory unused until a part is written to it; nothing is set to zero first.
            self.array = np.empty(data, dtype=np.uint8)
        else:
            self.array = np.frombuffer(data, dtype=np.uint8)

    def arrive(self, fetch: Callable[[Sequence[Range]], "list[Future[None]]"], spans: Sequence[Range]) -> None:
        """Start to fetch the bytes.

        Args:
            fetch: Starts to fetch some of these ranges, and returns a future for each.
            spans: The ranges to fetch, in order.
        """
        self._fetch, self._spans = fetch, spans
        self._ask(0)

    def wait(self, start: int = 0, end: int = sys.maxsize) -> None:
        """Wait until these bytes have arrived. If some cannot be fetched, raise the error."""
        first = bisect_right(self._spans, start, key=lambda span: span[1])
        last = bisect_left(self._spans, end, key=lambda span: span[0])
        self._ask(last)
        wait(self._arriving[first:last])

    def cancel(self) -> None:
        """Fetch no further parts."""
        for future in self._arriving:
            future.cancel()

    def _ask(self, needed: int) -> None:
        """Start to fetch the first `needed` parts, and some more."""
        with self._lock:
            asked, parts = len(self._arriving), len(self._spans)
            if self._fetch is None or asked == parts or asked >= needed + _PARTS_AHEAD:
                return
            end = needed + _PARTS_AHEAD + _PARTS_AT_ONCE
            # A single part would be fetched in this thread, so leave none for the next time.
            self._arriving += self._fetch(self._spans[asked : parts if end >= parts - 1 else end])

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
        self._ranges: dict[int, list[Range]] = {}
        self._lock = threading.Lock()
        self._chunks: dict[int, list[ColumnChunk]] = {}
        for chunk in chunks:
            self._chunks.setdefault(chunk.group, []).append(chunk)
        self._by_path = {group: {chunk.path: chunk for chunk in each} for group, each in self._chunks.items()}
        ranges = sorted(chunk.range for chunk in chunks)
        # In a file whose chunks share bytes, another row group may still need those of a decoded one.
        if all(one[1] <= other[0] for one, other in pairwise(ranges)):
            for group, each in self._chunks.items():
                self._ranges[group] = _joined(sorted(chunk.range for chunk in each))

    def arrived(self, unit: DecodeUnit) -> list[ColumnChunk]:
        """Wait until the bytes of a unit have arrived. Returns its column chunks, or more of the same row groups."""
        chunks: list[ColumnChunk] = []
        for group in unit.groups:
            every, by_path = self._chunks.get(group, []), self._by_path.get(group, {})
            # Nested fields have other paths, and two of these may be equal.
            if unit.names is None or len(by_path) < len(every) or not all(name in by_path for name in unit.names):
                chunks += every
            else:
                chunks += [by_path[name] for name in unit.names]
        if chunks:
            self._data.wait(
                min(chunk.range[0] for chunk in chunks), max(chunk.range[1] for chunk in chunks) + _READ_PAST
            )
        return chunks

    def done(self, unit: DecodeUnit) -> None:
        """Take note that a unit was decoded."""
        with self._lock:
            self._left.subtract(unit.groups)
            decoded = [group for group in unit.groups if not self._left[group]]
            ranges = [span for group in decoded for span in self._ranges.pop(group, [])]
        for start, end in ranges:
            self._data.give_back(start + _READ_PAST, end)


def _joined(ranges: list[Range]) -> list[Range]:
    """The same bytes in fewer ranges: the system takes a large one back in less time."""
    joined: list[Range] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


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
