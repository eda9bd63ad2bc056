"""The bytes of a whole file, whose memory is given back while the file is decoded."""

import mmap
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from clinops_prefect.frames.parquet.column_chunks import ColumnChunk
from clinops_prefect.frames.parquet.parallel_decode import DecodeUnit


def allocated(size: int) -> "np.ndarray[Any, Any]":
    """Memory for a file of this size. Where the system allows it, `DecodedBytes` can give parts of it back."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return np.empty(size, dtype=np.uint8)
    # Private memory: of shared memory, the system would keep the pages.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)  # as NumPy asks for its own large arrays: far fewer page faults
    return np.frombuffer(memory, dtype=np.uint8)


class DecodedBytes:
    """Gives the bytes of row groups back to the system after they were decoded.

    Otherwise the whole file would be in memory beside the whole frame.

    Args:
        data: The bytes of the file. Only memory of `allocated` is given back.
        chunks: The column chunks that are decoded.
        units: The units in which they are decoded.
    """

    def __init__(self, data: Any, chunks: Sequence[ColumnChunk], units: Iterable[DecodeUnit]) -> None:
        base: Any = getattr(data, "base", None)
        memory = base.obj if isinstance(base, memoryview) else base
        self._memory = memory if isinstance(memory, mmap.mmap) else None
        self._left = Counter(group for unit in units for group in unit.groups)
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        self._lock = threading.Lock()
        ranges = sorted(chunk.range for chunk in chunks)
        # In a file whose chunks share bytes, another row group may still need those of a decoded one.
        if self._memory is not None and all(one[1] <= other[0] for one, other in pairwise(ranges)):
            for chunk in chunks:
                self._ranges.setdefault(chunk.group, []).append(chunk.range)

    def done(self, unit: DecodeUnit) -> None:
        """Take note that a unit was decoded."""
        with self._lock:
            self._left.subtract(unit.groups)
            decoded = [group for group in unit.groups if not self._left[group]]
            ranges = [span for group in decoded for span in self._ranges.pop(group, [])]
        for start, end in ranges:
            first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
            length = end // mmap.PAGESIZE * mmap.PAGESIZE - first
            if length > 0 and self._memory is not None:
                self._memory.madvise(mmap.MADV_DONTNEED, first, length)
