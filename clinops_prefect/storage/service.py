"""The template for backends of network services. It holds what S3, Azure and similar services have in common.

A subclass implements the requests (`_put`, `_get`, `_stat`, …) and the translation of errors (`_translate`). From these
the template builds writes that happen once even if an answer is lost, uploads in parts, reads that detect a changed
object or a truncated body, and copies that fail if the source changes meanwhile.
"""

import abc
import logging
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

from clinops_prefect.errors import ArtifactNotFoundError, ServiceUnavailableError
from clinops_prefect.names import RESERVED
from clinops_prefect.network import failures
from clinops_prefect.storage.backend import (
    Backend,
    Can,
    ObjectChangedError,
    ObjectExistsError,
    ObjectInfo,
    PinnedObject,
    UploadDroppedError,
    Writing,
)
from clinops_prefect.storage.ranges import ByteRange, span
from clinops_prefect.storage.transfer import PART_BYTES, each_in_flight, together, whole_or_parts

# What identifies an upload in parts for the service.
U = TypeVar("U")

# Identifies the write that made an object. If an answer is lost, the retry recognises the object as its own.
_WRITE_ID = f"{RESERVED}write-id"
# The clients' own retries do not cover reading a body.
_BODY_TRIES = 3
# If a read takes two requests, the object may be overwritten between them.
_OPEN_TRIES = 5
# Prefect shows this logger's lines on the page of a run. The name alone is enough, so Prefect is not imported.
_logger = logging.getLogger("prefect.clinops_prefect")


class ConditionFailedError(Exception):
    """A request's condition failed, or the service no longer knows the upload. This error never leaves the package."""


class NothingThereError(Exception):
    """The object ends before the wanted bytes, or is empty. This error never leaves the package."""


class ObjectCutError(Exception):
    """The body of the answer is incomplete. This error never leaves the package."""


@dataclass(frozen=True)
class Fetched:
    """The answer to a read.

    Attributes:
        data: The bytes.
        start: Position of the first byte in the object.
        info: Describes the whole object.
    """

    data: bytes
    start: int
    info: ObjectInfo


class ServiceBackend(Backend, Generic[U]):
    """Objects of a service on a network."""

    # With `Can.UPLOAD_IN_PARTS`, the size of a part in bytes; any other object is sent in one request, from memory. If
    # the service limits the number of parts, the size doubles after every `double_every` parts.
    part_bytes = PART_BYTES
    double_every = 0
    # With `Can.UPLOAD_IN_PARTS`, an object of more than `copy_bytes` bytes is copied in parts of `copy_part_bytes`
    # bytes. A service that copies an object of any size in one request has `sys.maxsize`.
    # S3 takes ten thousand parts, which hold 5 TiB.
    copy_bytes = 5 << 30
    copy_part_bytes = 640 << 20
    # Error codes of the service. `not_written`: the condition of a write failed, or its upload is gone. `changed`: the
    # pinned object has changed. `beyond_end`: the object ends before the wanted bytes.
    not_written: ClassVar[frozenset[str]] = frozenset()
    changed: ClassVar[frozenset[str]] = frozenset()
    beyond_end: ClassVar[frozenset[str]] = frozenset()

    # --- implemented by a service ---

    def _code(self, error: Exception) -> str:  # noqa: ARG002 - for services whose errors have codes
        """The service's error code; empty if the error is not from the service."""
        return ""

    @abc.abstractmethod
    def _put(self, key: str, data: bytes, writing: Writing) -> None:
        """Write an object in one request. Unless `writing.overwrite`, the request fails if the object exists."""

    @abc.abstractmethod
    def _get(self, key: str, wanted: ByteRange, version: str, pin: str) -> Fetched:
        """Read bytes of an object. With a pin, the request fails if the object has changed.

        Raises:
            ConditionFailedError: The object has changed since it was pinned.
            NothingThereError: The object ends before the wanted bytes.
            ObjectCutError: The body of the answer is incomplete.
        """

    @abc.abstractmethod
    def _stat(self, key: str, version: str) -> ObjectInfo:
        """Return what is known about the object."""

    def _check_bucket(self) -> None:
        """Raise BucketNotFoundError if the bucket is missing. For services whose answer to HEAD does not say so."""

    @abc.abstractmethod
    def _copy_whole(self, source: str, found: ObjectInfo, target: str) -> None:
        """Copy an object in one request, which fails if the source has changed since `found`.

        Raises:
            ConditionFailedError: The source has changed.
        """

    # --- implemented by a service with `Can.UPLOAD_IN_PARTS` ---

    def _begin(self, key: str, writing: Writing) -> U:
        """Begin an upload in parts. Returns what identifies it for the service."""
        raise NotImplementedError

    def _put_part(self, upload: U, number: int, data: bytes) -> str:
        """Send a part. Numbers begin at 1, and several parts are sent at once. Returns the receipt for `_complete`."""
        raise NotImplementedError

    def _copy_part(self, upload: U, number: int, source: str, found: ObjectInfo, wanted: ByteRange) -> str:
        """Make a part of a range of `source`, which fails if the source has changed since `found`."""
        raise NotImplementedError

    def _complete(self, upload: U, receipts: list[str], writing: Writing) -> None:
        """Make the object of its parts, in this order. Unless `writing.overwrite`, fail if the object exists."""
        raise NotImplementedError

    def _abort(self, upload: U) -> None:
        """Remove the parts of an upload that is not completed."""
        raise NotImplementedError

    # --- provided by the template ---

    def __init_subclass__(cls) -> None:
        # Checked when the class is defined, because only large objects need these methods.
        super().__init_subclass__()
        if Can.UPLOAD_IN_PARTS not in cls.can:
            return
        uses_parts = cls._put_parts is ServiceBackend._put_parts
        names = ["_begin", "_put_part", "_complete", "_abort"] if uses_parts else []
        if cls.copy_bytes < sys.maxsize:
            names.append("_copy_part")
        if missing := [name for name in names if getattr(cls, name) is getattr(ServiceBackend, name)]:
            raise TypeError(f"{cls.__name__} declares Can.UPLOAD_IN_PARTS and must implement {', '.join(missing)}")

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        write_id = uuid.uuid4().hex
        writing = replace(writing, metadata={**writing.metadata, _WRITE_ID: write_id})
        body = self._whole_or_parts(chunks)
        if not (isinstance(body, bytes) or writing.overwrite or Can.COMPLETE_CONDITIONALLY in self.can):
            raise failures.unconditional(self.uri(key), self.service, in_parts=True)
        try:
            with self._understood(self.not_written):
                if isinstance(body, bytes):
                    self._put(key, body, writing)
                else:
                    self._put_parts(key, body, writing)
        except ConditionFailedError as failed:
            # The first try may have written the object although its answer was lost; then the retry's condition fails.
            found = self._found(key)
            if found is not None and found.metadata.get(_WRITE_ID) == write_id:
                return
            if writing.overwrite or found is None:
                # No condition can have failed here: another upload of this key has removed this upload's parts.
                code = f" ({failed})" if failed.args else ""
                raise UploadDroppedError(
                    f"{self.uri(key)}: {self.service} has dropped the upload{code}, which another one of this name may "
                    "have ended; try again",
                    uri=self.uri(key),
                ) from failed.__cause__
            raise ObjectExistsError from None

    def _whole_or_parts(self, chunks: Iterator[bytes]) -> bytes | Iterator[bytes]:
        if Can.UPLOAD_IN_PARTS not in self.can:
            return b"".join(chunks)
        return whole_or_parts(chunks, self.part_bytes, double_every=self.double_every)

    @contextmanager
    def _understood(self, failed: frozenset[str], nothing: frozenset[str] = frozenset()) -> Iterator[None]:
        """Raise ConditionFailedError for errors with a code in `failed`, NothingThereError for a code in `nothing`."""
        try:
            yield
        except Exception as error:
            code = self._code(error)
            if code in failed:
                raise ConditionFailedError(code) from error
            if code in nothing:
                raise NothingThereError from error
            raise

    def _found(self, key: str) -> ObjectInfo | None:
        with suppress(ArtifactNotFoundError):
            return self._head(key, "")
        return None

    def _put_parts(self, key: str, parts: Iterator[bytes], writing: Writing) -> None:
        upload = self._begin(key, writing)
        with self._aborted_on_failure(key, upload):
            receipts = each_in_flight(lambda number, part: self._put_part(upload, number, part), parts)
            self._complete(upload, receipts, writing)

    def _copy(self, source: str, target: str) -> None:
        found = self._head(source, "")
        try:
            with self._understood(self.changed | self.not_written):
                if found.size <= self.copy_bytes or Can.UPLOAD_IN_PARTS not in self.can:
                    self._copy_whole(source, found, target)
                else:
                    self._copy_parts(source, found, target)
        except ConditionFailedError:
            raise ObjectChangedError from None

    def _copy_parts(self, source: str, found: ObjectInfo, target: str) -> None:
        writing = Writing(found.content_type, found.metadata, overwrite=True)
        upload = self._begin(target, writing)
        starts = range(0, found.size, self.copy_part_bytes)

        def copy(number: int) -> str:
            start = starts[number - 1]
            wanted = span(start, min(self.copy_part_bytes, found.size - start))
            return self._copy_part(upload, number, source, found, wanted)

        with self._aborted_on_failure(target, upload):
            self._complete(upload, together(copy, range(1, len(starts) + 1)), writing)

    def _copy_through_here(self, source: str, found: ObjectInfo, target: str) -> None:
        """Copy an object by reading and writing it, for a service that cannot copy it with all of our settings."""
        starts = range(0, found.size, self.part_bytes)
        chunks = (self._fetch(source, span(start, self.part_bytes), "", found.pin)[0] for start in starts)
        self._write(target, chunks, Writing(found.content_type, found.metadata, overwrite=True))

    @contextmanager
    def _aborted_on_failure(self, key: str, upload: U) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # The parts of an unfinished upload cost money and hold patient data until somebody removes them.
            try:
                self._abort(upload)
            except Exception as error:
                _logger.warning(
                    "%s: the upload %s failed and could not be aborted (%s); its parts stay until it is, or until a "
                    "lifecycle rule for unfinished uploads (AbortIncompleteMultipartUpload) removes them",
                    self.uri(key), upload, type(error).__name__,
                )  # fmt: skip
            raise

    def _open(self, key: str, wanted: ByteRange, version: str) -> tuple[bytes, ObjectInfo | PinnedObject]:
        if not wanted.is_suffix or Can.READ_SUFFIXES in self.can:
            return self._fetch(key, wanted, version, "")
        return self._open_by_head(key, wanted, version)

    def _open_by_head(self, key: str, wanted: ByteRange, version: str) -> tuple[bytes, ObjectInfo]:
        """Read in two requests: the first gets the size and the pin, the second the bytes of the pinned object."""
        for _ in range(_OPEN_TRIES):
            info = self._head(key, version)
            first, end = wanted.within(info.size)
            try:
                return self._read(key, span(first, end - first), version, info.pin) if end > first else b"", info
            except ObjectChangedError:
                # The object changed between the two requests. No bytes have been returned yet, so we start again.
                continue
        raise ObjectChangedError

    def _read(self, key: str, wanted: ByteRange, version: str, pin: str) -> bytes:
        return self._fetch(key, wanted, version, pin)[0]

    def _fetch(self, key: str, wanted: ByteRange, version: str, pin: str) -> tuple[bytes, ObjectInfo]:
        for is_last_try in (*[False] * (_BODY_TRIES - 1), True):
            try:
                with self._understood(self.changed if pin else frozenset(), self.beyond_end):
                    got = self._get(key, wanted, version, pin)
            except ObjectCutError as cut:
                if is_last_try:
                    raise (cut.__cause__ or cut) from None
                continue
            except NothingThereError:
                if not pin:
                    return b"", self._head(key, version)
                raise ObjectChangedError from None
            except ConditionFailedError:
                raise ObjectChangedError from None
            if pin and got.info.pin != pin:
                # The service ignored the condition.
                raise ObjectChangedError
            first, end = wanted.within(got.info.size)
            if got.start == 0 and len(got.data) == got.info.size:
                # The service sent the whole object although a range was asked for.
                return got.data[first:end], got.info
            # A proxy may answer with too few bytes or with another range. The client does not notice that.
            if got.start == first and len(got.data) == end - first:
                return got.data, got.info
        uri = self.uri(key)
        raise ServiceUnavailableError(f"{uri}: {self.service} answered with other bytes than it said", uri=uri)

    def _head(self, key: str, version: str) -> ObjectInfo:
        try:
            return self._stat(key, version)
        except Exception as error:
            ours = self._translate(error, self.uri(key))
            if not isinstance(error if ours is None else ours, ArtifactNotFoundError):
                raise
            # The answer to HEAD has no body, so it does not say whether the object or the bucket is missing.
            self._check_bucket()
            if ours is None:
                raise
            raise self._absent(key, version) from error
