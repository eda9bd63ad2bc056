"""Reads of one stored object in several requests, all of the same version."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import datetime

from clinops_prefect.errors import ArtifactNotFoundError
from clinops_prefect.network import failures
from clinops_prefect.storage import ranges
from clinops_prefect.storage.backend import Backend, ObjectChangedError, ObjectInfo, PinnedObject
from clinops_prefect.storage.transfer import PART_BYTES, begin, in_order, together

# Below this size, latency dominates the transfer.
_SMALL_BYTES = 1 << 20
# Prefix of version names in a store that keeps no versions.
PIN = "pin:"


class ObjectReader:
    """Reads one object. The first read pins the version, and later reads fail if the object has changed.

    Args:
        backend: The backend that has the object.
        key: The object's key.
        version: A version of the object. If empty, the current one. `pin:…` means the current one if it has this pin.
        pinned: What a listing said about the object. Every read must then find the same object.
    """

    def __init__(
        self, backend: Backend, key: str, version: str = "", *, pinned: ObjectInfo | PinnedObject | None = None
    ) -> None:
        self.backend = backend
        self.key = key
        self._expected = version.removeprefix(PIN) if version.startswith(PIN) else ""
        self.version = "" if self._expected else version
        self._is_pinned = pinned is not None
        self._seen = pinned

    @property
    def uri(self) -> str:
        """The object's URI, for messages."""
        return self.backend.uri(self.key)

    @property
    def info(self) -> ObjectInfo:
        """What is known about the version that is read."""
        if isinstance(self._seen, ObjectInfo):
            return self._seen
        found = self.backend.head(self.key, version=self.version)
        if self._seen is not None and self._seen.pin != found.pin:
            raise ObjectChangedError
        self._saw(found)
        return found

    @property
    def created(self) -> datetime:
        """The time at which the version that is read was written.

        Raises:
            OperationNotSupportedError: The service does not report the time.
        """
        if (created := self.info.created) is None:
            what = "the time of the object (Last-Modified)"
            raise failures.missing(self.uri, self.backend.service, what, self.backend.address)
        return created

    @property
    def size(self) -> int:
        """Size in bytes of the version that is read. After the first read, this sends no request."""
        return self._pinned.size

    @property
    def _pinned(self) -> ObjectInfo | PinnedObject:
        return self._seen or self.info

    def tail(self, size: int) -> bytes:
        """The last `size` bytes, or all if the object has fewer."""
        if self._is_pinned:
            return self._range((max(0, self.size - size), self.size)) if self.size else b""
        return self._open(ranges.suffix(size))

    def whole(self) -> bytearray | bytes:
        """All bytes: a small object in one request, a large one in parallel ranges."""
        first = self._open(ranges.span(0, PART_BYTES))
        size = self.size
        if len(first) == size:
            return first
        data = bytearray(size)
        self._fill(memoryview(data), first)
        return data

    def whole_bytes(self) -> bytes:
        """All bytes, fetched like `whole`, but as immutable `bytes` without a second copy in memory."""
        first = self._open(ranges.span(0, PART_BYTES))
        if len(first) == self.size:
            return bytes(first)
        file = io.BytesIO()
        file.seek(self.size - 1)
        file.write(b"\0")
        with file.getbuffer() as data:
            self._fill(data, first)
        # CPython returns the buffer itself here, not a copy.
        return file.getvalue()

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes in bounded chunks, a few of them fetched ahead."""
        first = self._open(ranges.span(0, PART_BYTES))
        size = len(first)
        yield first
        del first
        yield from in_order(self._range, self._spans(size))

    def fetch(self, ranges: Sequence[tuple[int, int]], use: Callable[[int, bytes], None]) -> "list[Future[None]]":
        """Start to fetch these ranges in parallel. `use(start, data)` runs in the thread that fetched the range."""
        small = all(end - start < _SMALL_BYTES for start, end in ranges)
        return begin(lambda span: use(span[0], self._range(span)), ranges, small=small)

    def _open(self, wanted: ranges.ByteRange) -> bytes:
        data, found = self.backend.open(self.key, wanted, version=self.version)
        self._saw(found)
        return data

    def _saw(self, found: ObjectInfo | PinnedObject) -> None:
        if self._is_pinned and found.pin != self._pinned.pin:
            raise ObjectChangedError
        if self._expected and found.pin != self._expected:
            raise ArtifactNotFoundError(f"{self.uri} was overwritten: that version of it is gone", uri=self.uri)
        self._seen = found

    def _fill(self, data: memoryview, first: bytes) -> None:
        data[: len(first)] = first

        def fill(span: tuple[int, int]) -> None:
            data[span[0] : span[1]] = self._range(span)

        together(fill, self._spans(len(first)))

    def _spans(self, start: int) -> list[tuple[int, int]]:
        size = self.size
        return [(begin, min(begin + PART_BYTES, size)) for begin in range(start, size, PART_BYTES)]

    def _range(self, span: tuple[int, int]) -> bytes:
        wanted = ranges.span(span[0], span[1] - span[0])
        data = self.backend.read(self.key, wanted, version=self.version, pin=self._pinned.pin)
        if len(data) != wanted.length:
            raise ObjectChangedError  # a truncated answer or a changed object; in both cases the read starts again
        return data
