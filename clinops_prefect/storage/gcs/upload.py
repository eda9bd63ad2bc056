"""A resumable upload to Cloud Storage that sends one part while the next one is made."""

import io
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from google.cloud import storage


def upload_parts(blob: storage.Blob, parts: Iterable[bytes], **options: Any) -> None:
    """Send parts as one object, which is there when all of them have been sent, or not at all.

    The parts are made in the caller's thread, which whoever makes them may depend on (a cursor of SQLite), and sent in
    another one.

    Args:
        blob: The object, whose `chunk_size` is that of the parts.
        parts: All of that size, but for the last, which may be shorter.
        options: As for `Blob.upload_from_file`.

    Raises:
        Exception: Whatever `parts` or the SDK raises; nothing was written.
    """
    file = _Handed()
    with ThreadPoolExecutor(1, thread_name_prefix="clinops-send") as sender:
        sent = sender.submit(blob.upload_from_file, file, **options)
        sent.add_done_callback(file.refuse)
        try:
            for part in parts:
                if not file.hand(part):
                    break
            file.hand(b"")
        except BaseException:
            file.hand(_Unfinished())
            raise
    sent.result()


class _Unfinished(Exception):  # noqa: N818
    """Ends an upload before its end: an end of the file would be the end of the object."""


class _Handed(io.RawIOBase):
    """A file that one thread reads while another one hands it the parts, no more than one ahead."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next: bytes | _Unfinished | None = None
        self._is_refused = False
        self._position = 0

    def hand(self, part: "bytes | _Unfinished") -> bool:
        """Wait until the last part was taken, and leave this one; false if nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: self._next is None or self._is_refused)
            self._next = part
            self._changed.notify_all()
            return not self._is_refused

    def refuse(self, _: "Future[None]") -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._is_refused = True
            self._changed.notify_all()

    def readable(self) -> bool:
        return True

    def read(self, _: int = -1) -> bytes:
        """The next part, as large as the SDK asks for unless it is the last; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None)
            part, self._next = self._next, None
            self._changed.notify_all()
        if isinstance(part, bytes):
            self._position += len(part)
            return part
        assert part is not None
        raise part

    def tell(self) -> int:
        return self._position
