"""Parallel transfers: ranges and parts of an object, in threads that the whole process shares."""

import io
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from clinops_prefect.forks import in_child

T = TypeVar("T")
R = TypeVar("R")

# One connection is slow on a network with latency: one GET of a large object takes three times as long as ten ranges.
PART_BYTES = 8 << 20
_THREADS = 16
# Latency dominates small ranges. With 48 threads, ten columns of four row groups take one round trip.
_THREADS_OF_SMALL = 48
# The number of parts of an upload that are in memory at once, in addition to the part being filled. A part takes 130 ms
# if the network gives each connection 80 MB/s and answers after 25 ms, so four parts at once carry less than the
# encoder makes. With six, an upload of 336 MB took a sixth less time; with eight, as long as with six.
_IN_FLIGHT = 6
# The number of calls of `in_order` that run ahead of the one whose result is awaited.
_AHEAD = 4

# Up to this size, the chunks of a part are kept, so that a small object does not take the memory of a whole part.
_FEW_BYTES = 2 << 20

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def begin(work: Callable[[T], R], items: Sequence[T], *, small: bool = False) -> "list[Future[R]]":
    """Start `work(item)` for each item, in parallel. A single item runs at once in the caller's thread.

    Args:
        work: The function to call.
        items: The arguments, one for each call.
        small: Whether latency dominates the calls, so that more threads help.
    """
    if len(items) == 1:
        done: Future[R] = Future()
        done.set_result(work(items[0]))
        return [done]
    return [_executor(_THREADS_OF_SMALL if small else _THREADS).submit(work, item) for item in items]


def together(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]`, in parallel. The first error cancels the rest."""
    futures = begin(work, items)
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `work(item)` for each item, in order. A few calls run ahead of the one whose result is awaited."""
    futures: deque[Future[R]] = deque()
    try:
        for item in items:
            futures.append(_executor(_THREADS).submit(work, item))
            if len(futures) > _AHEAD:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()


def in_parts(chunks: Iterable[bytes], size: int, *, double_every: int = 0) -> Iterator[bytes]:
    """Yield the same bytes in parts of `size` bytes. The last part may be shorter, but is not empty.

    Args:
        chunks: The bytes.
        size: Size of a part in bytes.
        double_every: The size doubles after every `double_every` parts; with 0 it stays the same.
    """
    part, number = _Part(size), 0
    for chunk in chunks:
        rest = memoryview(chunk)
        # Not when the part is just full: the last part must not be empty.
        while len(rest) > part.room:
            room = part.room
            part.add(rest[:room])
            rest = rest[room:]
            number += 1
            if double_every and number % double_every == 0:
                size *= 2
            yield part.taken()
            part = _Part(size)
        part.add(rest)
        # Release the chunk before the next one is made.
        del chunk, rest
    if part.room < size:
        yield part.taken()


class _Part:
    """A part that is filled chunk by chunk, so that memory does not hold its chunks as well when it is full."""

    def __init__(self, size: int) -> None:
        self.room = size
        self._size = size
        self._few: list[bytes] = []
        self._filled = io.BytesIO()

    def add(self, some: memoryview) -> None:
        have = self._size - self.room
        if have + len(some) > _FEW_BYTES:
            if have <= _FEW_BYTES:
                self._begin()
            self._filled.write(some)
        else:
            self._few.append(bytes(some))
        self.room -= len(some)

    def taken(self) -> bytes:
        """The bytes. The part must not be used again, because it keeps no reference to them."""
        if self._few:
            return b"".join(self._few)
        filled, self._filled = self._filled, io.BytesIO()
        filled.truncate(self._size - self.room)
        # Not a copy, because nothing else refers to the file's memory.
        return filled.getvalue()

    def _begin(self) -> None:
        # Allocate the whole part at once. A file that grows is copied again and again.
        self._filled.seek(self._size - 1)
        self._filled.write(b"\0")
        self._filled.seek(0)
        self._filled.writelines(self._few)
        self._few = []


def whole_or_parts(chunks: Iterable[bytes], size: int, *, double_every: int = 0) -> bytes | Iterator[bytes]:
    """All bytes at once if they are fewer than `size`, else parts as `in_parts` makes them."""
    parts = in_parts(chunks, size, double_every=double_every)
    # A list lets us drop our reference, so that the first part is freed before the upload ends.
    first = [next(parts, b"")]
    return first.pop() if len(first[0]) < size else chained(first, parts)


def chained(first: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the only item of `first`, then the rest. The list is emptied, so that the bytes can be freed."""
    yield first.pop()
    yield from rest


def each_in_flight(work: Callable[[int, bytes], T], parts: Iterable[bytes]) -> list[T]:
    """`[work(1, first), work(2, second), …]`, a few at once. Only the parts of running calls are in memory."""
    futures: list[Future[T]] = []
    try:
        for number, part in enumerate(parts, start=1):
            if number > _IN_FLIGHT:
                futures[number - 1 - _IN_FLIGHT].result()
            futures.append(_executor(_THREADS).submit(work, number, part))
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
        # After a failure the caller aborts the upload, so no part may still be in transfer.
        for future in futures:
            if not future.cancelled():
                future.exception()


def _executor(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="clinops-transfer")
        return _pools[threads]


def _forget() -> None:
    # A forked child does not have its parent's threads.
    global _pools, _lock
    _pools, _lock = {}, threading.Lock()


in_child(_forget)
