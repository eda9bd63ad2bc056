"""What a writer writes, as an iterator: the writer works in a thread, and waits when nobody takes its pieces.

Through a pipe of the operating system, because a writer in another language writes to one without Python's lock:
handing over each of its small pieces in Python made a narrow frame take a third longer.
"""

import os
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

_PIECE_BYTES = 1 << 20
# Seconds without a piece after which to see whether the writer is still there.
_LOOK_SECONDS = 1.0


def stream_of(write: Callable[[IO[bytes]], None]) -> Iterator[bytes]:
    """The bytes that `write` writes to the file it is given, in pieces of a megabyte; the last may be shorter.

    Raises:
        Exception: Whatever `write` raised.
    """
    source, target = os.pipe()
    _widen(target)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            with os.fdopen(target, "wb", buffering=0) as file:
                write(file)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="clinops-encode", daemon=True)
    thread.start()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            # Filled before it is handed on: a writer may write a few hundred bytes at a time.
            piece, filled = memoryview(bytearray(_PIECE_BYTES)), 0
            while True:
                # A child that another thread forked meanwhile holds the pipe open too, so its end alone says nothing.
                is_over = not thread.is_alive()
                if selector.select(0 if is_over else _LOOK_SECONDS):
                    if not (count := os.readv(source, [piece[filled:]])):
                        break
                    filled += count
                    if filled == len(piece):
                        yield bytes(piece)
                        filled = 0
                elif is_over:
                    break
            if filled:
                yield bytes(piece[:filled])
    finally:
        # Also when the upload failed: closing the pipe makes the writer stop with EPIPE.
        os.close(source)
        thread.join()
    if failed:
        raise failed[0]


def _widen(pipe: int) -> None:
    """As wide as Linux lets everybody have it; elsewhere it stays as it is."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIECE_BYTES)
