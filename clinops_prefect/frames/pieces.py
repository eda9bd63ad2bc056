"""What a writer writes, as an iterator: the writer works in a thread, and waits when nobody takes its pieces."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Full, Queue

_PIECE_BYTES = 1 << 20
_HELD_PIECES = 8
# How long a writer that waits needs to see that nobody will come any more.
_LOOK_SECONDS = 0.1


def pieces_of(write: Callable[[io.RawIOBase], None]) -> Iterator[bytes]:
    """The bytes that `write` writes to the file it is given, in pieces of about a megabyte.

    Raises:
        Exception: Whatever `write` raised.
    """
    pieces: Queue[bytes | None] = Queue(_HELD_PIECES)
    stopped = threading.Event()
    failed: list[BaseException] = []

    def send(piece: bytes | None) -> None:
        while not stopped.is_set():
            with suppress(Full):
                return pieces.put(piece, timeout=_LOOK_SECONDS)
        raise _StoppedError

    def run() -> None:
        try:
            file = _File(send)
            write(file)
            file.flush()
        except BaseException as error:
            failed.append(error)
        finally:
            with suppress(_StoppedError):
                send(None)

    thread = threading.Thread(target=run, name="clinops-encode", daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not None:
            yield piece
    finally:
        # Also when the upload failed: the writer must not go on with what nobody wants.
        stopped.set()
        thread.join()
    if failed:
        raise failed[0]


class _StoppedError(Exception):
    """Nobody takes the pieces any more."""


class _File(io.RawIOBase):
    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._held += data
        if len(self._held) >= _PIECE_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._held:
            piece, self._held = bytes(self._held), bytearray()
            self._send(piece)
