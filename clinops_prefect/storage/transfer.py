"""Moving bytes in parallel: ranges of one object, over threads that the process shares."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from clinops_prefect.forks import in_child

T = TypeVar("T")
R = TypeVar("R")

# One connection is slow on a network with latency (a single GET of a large object takes three times as long as ten).
PART_BYTES = 8 << 20
_THREADS = 16
# Small ranges only wait: with so many at once, ten columns of four row groups wait for one answer and no more.
_THREADS_OF_SMALL = 48
# Parts of an upload that are in memory at once, beside the one being filled.
_IN_FLIGHT = 4

_pools: dict[int, ThreadPoolExecutor] = {}
_lock = threading.Lock()


def begin(work: Callable[[T], R], items: Sequence[T], *, small: bool = False) -> "list[Future[R]]":
    """`work(item)` for each, in parallel; a single one at once, here.

    Args:
        work: What to do, with one item.
        items: What to do it with.
        small: Whether it waits much and moves little.
    """
    if len(items) == 1:
        done: Future[R] = Future()
        done.set_result(work(items[0]))
        return [done]
    return [_executor(_THREADS_OF_SMALL if small else _THREADS).submit(work, item) for item in items]


def together(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]`, in parallel; the first error ends it."""
    futures = begin(work, items)
    try:
        return [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work(item)` for each, in order, a few of them ahead of the one that is asked for."""
    futures: deque[Future[R]] = deque()
    try:
        for item in items:
            futures.append(_executor(_THREADS).submit(work, item))
            if len(futures) > _IN_FLIGHT:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()


def in_parts(chunks: Iterable[bytes], size: int, *, double_every: int = 0) -> Iterator[bytes]:
    """The same bytes in parts of `size` bytes; the last may be shorter, but is not empty.

    Args:
        chunks: The bytes.
        size: Bytes of a part.
        double_every: After so many parts, the next ones are twice as large; 0, never.
    """
    held: list[memoryview] = []
    have, number = 0, 0
    for chunk in chunks:
        held.append(memoryview(chunk))
        have += len(chunk)
        while have > size:
            have -= size
            *whole, cut = held
            yield b"".join([*whole, cut[: len(cut) - have]])
            held = [cut[len(cut) - have :]]
            number += 1
            if double_every and number % double_every == 0:
                size *= 2
    if have:
        yield b"".join(held)


def whole_or_parts(chunks: Iterable[bytes], size: int, *, double_every: int = 0) -> bytes | Iterator[bytes]:
    """All bytes at once where they are less than one part, else the parts, as `in_parts` makes them."""
    parts = in_parts(chunks, size, double_every=double_every)
    # A list, to be emptied: nobody may keep the first part for as long as the upload lasts.
    first = [next(parts, b"")]
    return first.pop() if len(first[0]) < size else chained(first, parts)


def chained(first: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """The only item of `first`, which is emptied so that nobody keeps the bytes, and then the rest."""
    yield first.pop()
    yield from rest


def each_in_flight(work: Callable[[int, bytes], T], parts: Iterable[bytes]) -> list[T]:
    """`[work(1, first), work(2, second), …]` with a few at once, and no more parts than those in memory."""
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
        # An upload is aborted next: no part may still be on its way.
        for future in futures:
            if not future.cancelled():
                future.exception()


def _executor(threads: int) -> ThreadPoolExecutor:
    with _lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="clinops-transfer")
        return _pools[threads]


def _forget() -> None:
    # The parent's threads do not exist in a forked child.
    global _pools, _lock
    _pools, _lock = {}, threading.Lock()


in_child(_forget)
