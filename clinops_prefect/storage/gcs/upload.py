"""A resumable upload to Cloud Storage that sends one part while the next one is made."""

import io
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from google.cloud import storage


def upload_parts(blob: storage.Blob, parts: Iterable[bytes], **options: Any) -> None:
    """Send parts as one object, which exists only when all of them have been sent.

    The parts are made in the caller's thread, because their source may need it (such as a cursor of SQLite). They are
    sent in another thread.

    Args:
        blob: The object. Its `chunk_size` is the size of the parts.
        parts: The parts. Only the last may be shorter than `chunk_size`.
        options: Options of `Blob.upload_from_file`.

    Raises:
        Exception: Any error of `parts` or of the SDK. Nothing was written.
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
    """Makes the SDK's read fail, so that the upload stops. At an end of file, the SDK would complete the object."""


class _Handed(io.RawIOBase):
    """A file that one thread reads while another thread hands over the parts, at most one part ahead."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next: bytes | _Unfinished | None = None
        self._is_refused = False
        self._position = 0

    def hand(self, part: "bytes | _Unfinished") -> bool:
        """Wait until the previous part has been read, then hand over this one. False if the reader has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._next is None or self._is_refused)
            self._next = part
            self._changed.notify_all()
            return not self._is_refused

    def refuse(self, _: "Future[None]") -> None:
        """Release the thread that waits in `hand`: the reader has stopped."""
        with self._changed:
            self._is_refused = True
            self._changed.notify_all()

    def readable(self) -> bool:
        return True

    def read(self, _: int = -1) -> bytes:
        """Return the next part, empty at the end. Only the last part is smaller than the SDK asks for."""
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
