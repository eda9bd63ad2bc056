"""Lets one thread at a time encode or decode a small frame, if many do so at once.

A frame of 20 kB takes dozens of short calls of PyArrow and NumPy, which release Python's lock. With 32 threads, each
call then waits for the other threads to give the lock back: a frame took 120 to 200 context switches, and up to twice
the CPU time that it takes in one thread.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from clinops_prefect.forks import in_child

# A larger frame spends its time in PyArrow without Python's lock, so threads gain by decoding at the same time.
SMALL_BYTES = 256 << 10
# A thread goes on without its turn after this time. So a turn within a turn, and a column of objects whose own code
# waits for another thread, cannot block for ever.
_PATIENCE_SECONDS = 1.0

_lock = threading.Lock()


@contextmanager
def turn(size: int) -> Iterator[None]:
    """A context for encoding or decoding a frame of `size` bytes. Do not wait for a network in it."""
    lock = _lock
    is_taken = size <= SMALL_BYTES and lock.acquire(timeout=_PATIENCE_SECONDS)
    try:
        yield
    finally:
        if is_taken:
            lock.release()


def _forget() -> None:
    # Another thread of the parent may have held the lock, and would never release it in the child.
    global _lock
    _lock = threading.Lock()


in_child(_forget)
