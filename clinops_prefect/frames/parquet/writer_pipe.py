"""The output of a writer as an iterator. The writer runs in a thread, and waits while nobody takes its bytes.

The bytes pass through a pipe of the operating system, because a writer in another language can write to a pipe without
the GIL. Handing over each of its small writes in Python made a narrow frame take a third longer.
"""

import os
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import IO

_CHUNK_BYTES = 1 << 20
# Seconds without bytes after which we check whether the writer is still running.
_LOOK_SECONDS = 1.0


def stream_of(write: Callable[[IO[bytes]], None]) -> Iterator[bytes]:
    """Yield the bytes that `write` writes to its file, one MiB at a time. The last chunk may be shorter.

    Raises:
        Exception: The error that `write` raised.
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
            # Fill a chunk before yielding it, because a writer may write only a few hundred bytes at a time.
            chunk, filled = memoryview(bytearray(_CHUNK_BYTES)), 0
            while True:
                # A child process that another thread has forked may keep the pipe open, so waiting for its end of file
                # is not enough.
                is_over = not thread.is_alive()
                if selector.select(0 if is_over else _LOOK_SECONDS):
                    if not (count := os.readv(source, [chunk[filled:]])):
                        break
                    filled += count
                    if filled == len(chunk):
                        yield bytes(chunk)
                        filled = 0
                elif is_over:
                    break
            if filled:
                yield bytes(chunk[:filled])
    finally:
        # If the upload failed, closing the pipe makes the writer stop with EPIPE.
        os.close(source)
        thread.join()
    if failed:
        raise failed[0]


def _widen(pipe: int) -> None:
    """Enlarge the pipe's buffer to the size that Linux allows every user. On other systems, do nothing."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
