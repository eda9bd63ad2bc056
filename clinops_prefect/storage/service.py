"""The backend of a service on a network, as a template: what S3, Azure and their like repeat stands here, once.

A service gives the requests (`_put`, `_get`, `_stat`, …) and says which of its errors are which of ours (`_translate`).
The template makes of them writes that happen once though an answer was lost, uploads in parts, reads that notice
another object or a body cut short, and copies of one object that does not change meanwhile.
"""

import abc
import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Generic, TypeVar

from clinops_prefect.errors import ArtifactNotFoundError, ServiceUnavailableError
from clinops_prefect.names import RESERVED
from clinops_prefect.storage.backend import (
    Backend,
    Can,
    ObjectChangedError,
    ObjectExistsError,
    ObjectInfo,
    PinnedObject,
    Writing,
)
from clinops_prefect.storage.ranges import ByteRange, span
from clinops_prefect.storage.transfer import PART_BYTES, each_in_flight, together, whole_or_parts

# An upload in parts, as the service calls it.
U = TypeVar("U")

# Says whose an object is, for a write whose answer was lost and whose retry finds the object there.
_WRITE_ID = f"{RESERVED}write-id"
# Reading a body is not covered by the clients' own retries.
_BODY_TRIES = 3
# Where a read takes two requests, the object may be overwritten between them.
_OPEN_TRIES = 5
# Prefect's logger of that name, whose lines are on a run's page; Prefect is not imported for it.
_logger = logging.getLogger("prefect.clinops_prefect")


class ConditionFailedError(Exception):
    """The service refused a request for its condition, or no longer knows the upload. Never leaves the package."""


class NothingThereError(Exception):
    """The object ends before the bytes that are wanted; an empty one has no range at all. Never leaves the package."""


class ObjectCutError(Exception):
    """The answer's body broke off. Never leaves the package."""


@dataclass(frozen=True)
class Fetched:
    """The answer to a read.

    Attributes:
        data: The bytes.
        start: The position of the first of them in the object.
        info: Of the whole object.
    """

    data: bytes
    start: int
    info: ObjectInfo


class ServiceBackend(Backend, Generic[U]):
    """Objects of a service on a network."""

    # An upload in parts has parts of this size; every so many parts it doubles, where their number is limited.
    part_bytes = PART_BYTES
    double_every = 0
    # A larger object is copied in parts, of this size.
    copy_bytes = 5 << 30
    copy_part_bytes = 512 << 20
    # Codes of the service: a write was refused for its condition, or its upload is gone; what was pinned has changed;
    # the object ends before the wanted bytes.
    not_written: ClassVar[frozenset[str]] = frozenset()
    changed: ClassVar[frozenset[str]] = frozenset()
    beyond_end: ClassVar[frozenset[str]] = frozenset()

    # --- what a service gives ---

    def _code(self, error: Exception) -> str:  # noqa: ARG002 - for services whose errors have codes
        """What the service calls the error; empty for an error that is not the service's."""
        return ""

    @abc.abstractmethod
    def _put(self, key: str, data: bytes, writing: Writing) -> None:
        """Write an object in one request; conditionally, unless it may be overwritten."""

    @abc.abstractmethod
    def _get(self, key: str, wanted: ByteRange, version: str, pin: str) -> Fetched:
        """Read; with a pin, on the condition that it is this object.

        Raises:
            ConditionFailedError: It is another one.
            NothingThereError: It ends before the wanted bytes.
            ObjectCutError: The body broke off.
        """

    @abc.abstractmethod
    def _stat(self, key: str, version: str) -> ObjectInfo:
        """What is known about the object."""

    def _check_bucket(self) -> None:
        """Raise BucketNotFoundError where it is the bucket that is missing, and the answer to HEAD does not say it."""

    @abc.abstractmethod
    def _copy_whole(self, source: str, found: ObjectInfo, target: str) -> None:
        """Copy in one request, on the condition that the source is what was found.

        Raises:
            ConditionFailedError: It is another one.
        """

    # Of services that `Can.UPLOAD_IN_PARTS`.
    def _begin(self, key: str, writing: Writing) -> U:
        raise NotImplementedError

    def _put_part(self, upload: U, number: int, data: bytes) -> str:
        raise NotImplementedError

    def _copy_part(self, upload: U, number: int, source: str, found: ObjectInfo, wanted: ByteRange) -> str:
        raise NotImplementedError

    def _complete(self, upload: U, receipts: list[str], writing: Writing) -> None:
        raise NotImplementedError

    def _abort(self, upload: U) -> None:
        raise NotImplementedError

    # --- what the template makes of it ---

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        write_id = uuid.uuid4().hex
        writing = replace(writing, metadata={**writing.metadata, _WRITE_ID: write_id})
        body = whole_or_parts(chunks, self.part_bytes, double_every=self.double_every)
        try:
            with self._understood(self.not_written):
                if isinstance(body, bytes):
                    self._put(key, body, writing)
                else:
                    self._put_parts(key, body, writing)
        except ConditionFailedError as failed:
            # A retry may have found what the first try had written before its answer was lost.
            found = self._found(key)
            if found is not None and found.metadata.get(_WRITE_ID) == write_id:
                return
            if writing.overwrite or found is None:
                # It was no condition that failed: another write has ended this upload.
                code = f" ({failed})" if failed.args else ""
                raise ServiceUnavailableError(
                    f"{self.uri(key)}: {self.service} has dropped the upload{code}, which another one of this name may "
                    "have ended; try again",
                    uri=self.uri(key),
                ) from failed.__cause__
            raise ObjectExistsError from None

    @contextmanager
    def _understood(self, failed: frozenset[str], nothing: frozenset[str] = frozenset()) -> Iterator[None]:
        """Raise ConditionFailedError and NothingThereError for the service's errors with these codes."""
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
                if found.size <= self.copy_bytes:
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

    @contextmanager
    def _aborted_on_failure(self, key: str, upload: U) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # Parts of an upload that was not finished cost money and hold patient data until somebody removes them.
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
        """Read in two requests: the first says where the wanted bytes are, the second asks for that object alone."""
        for _ in range(_OPEN_TRIES):
            info = self._head(key, version)
            first, end = wanted.within(info.size)
            try:
                return self._read(key, span(first, end - first), version, info.pin) if end > first else b"", info
            except ObjectChangedError:
                # Between the two requests; nothing has been handed out yet that this would have to agree with.
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
                # A service that ignores the condition.
                raise ObjectChangedError
            first, end = wanted.within(got.info.size)
            if got.start == 0 and len(got.data) == got.info.size:
                # All of the object, though a part of it was asked for.
                return got.data[first:end], got.info
            # A proxy that passes on a part as if it were all, or another part, is not noticed by the client.
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
            # The answer to HEAD has no body, so it does not say what is missing.
            self._check_bucket()
            if ours is None:
                raise
            what = f"{self.uri(key)} has no version {version!r}" if version else f"there is no {self.uri(key)}"
            raise ArtifactNotFoundError(what, uri=self.uri(key)) from error
