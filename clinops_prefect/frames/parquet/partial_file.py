"""A file of which only some ranges are in memory, and the choice of the ranges to fetch."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import count

Range = tuple[int, int]
# A range that was added, with a number: two concurrent reads may have added the same range, because both are aligned to
# checksum blocks, and each forgets its own.
Added = tuple[int, int, int]
# Fetching a gap smaller than this costs less than a separate request.
_HOLE_BYTES = 32 << 10
_numbers = count()


class PartialFile(io.RawIOBase):
    """A file of which only some ranges are in memory. Reading outside of them is an error."""

    def __init__(self, size: int, parts: dict[Added, bytes] | None = None) -> None:
        self._size = size
        self._position = 0
        self._parts = {} if parts is None else parts

    def again(self) -> "PartialFile":
        """The same file with its own position, for another thread."""
        return PartialFile(self._size, self._parts)

    def add(self, start: int, data: bytes) -> Added:
        added = start, start + len(data), next(_numbers)
        self._parts[added] = data
        return added

    def window(self, start: int, end: int) -> memoryview:
        """The bytes of a range, for any thread: the position stays as it is."""
        # Copy the ranges, because other threads add and remove some meanwhile. A list of the items is no safe copy:
        # while Python makes it, a garbage collection can let another thread run.
        for (first, last, _), data in self._parts.copy().items():
            if first <= start and end <= last:
                return memoryview(data)[start - first : end - first]
        raise OSError("the footer points to where no column is")

    def forget(self, ranges: Sequence[Added]) -> None:
        for added in ranges:
            self._parts.pop(added, None)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._position + size)
        start, self._position = self._position, max(self._position, end)
        if start >= end:
            return b""
        return bytes(self.window(start, end))


def wait(futures: "Sequence[Future[None]]") -> None:
    """Wait for all futures in order, and raise the first error."""
    for future in futures:
        future.result()


class ArrivingRanges:
    """Ranges of a file that are being fetched.

    Args:
        spans: The ranges, in order, without overlaps.
        futures: A future for each range.
    """

    def __init__(self, spans: Sequence[Range], futures: "Sequence[Future[None]]") -> None:
        self._starts = [start for start, _ in spans]
        self._futures = futures

    def wait(self, start: int) -> None:
        """Wait for the range that this position lies in. The error that fetching it raised is raised here too."""
        if (place := bisect_right(self._starts, start)) > 0:
            self._futures[place - 1].result()

    def wait_for_all(self) -> None:
        """Wait for all ranges in order, and raise the first error."""
        wait(self._futures)

    def cancel(self) -> None:
        """Fetch no further ranges."""
        for future in self._futures:
            future.cancel()


def joined_ranges(spans: list[Range]) -> list[Range]:
    """The ranges in order, with ranges joined that are separated only by a small gap."""
    ranges: list[Range] = []
    for start, end in sorted(spans):
        if ranges and start - ranges[-1][1] <= _HOLE_BYTES:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges
