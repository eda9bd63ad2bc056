"""What a backend must do: a handful of byte operations on keys, and a map of its vendor's errors.

A backend implements the underscored operations and lets its vendor's exceptions out as they come. Everybody else calls
the plain ones, which translate: this is the one boundary that vendor errors cross.
"""

import abc
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import ClassVar, TypeVar

from clinops_prefect.errors import (
    ArtifactNotFoundError,
    ClinopsPrefectError,
    OperationNotSupportedError,
    ServiceUnavailableError,
)
from clinops_prefect.network import failures
from clinops_prefect.storage.ranges import ByteRange

T = TypeVar("T")


class Can(Enum):
    """What a backend can, and not every one. The contract suites ask for no more than a backend says it can."""

    KEEP_VERSIONS = auto()  # where the bucket is told to
    READ_SUFFIXES = auto()  # the last bytes, in one request, without knowing the size
    UPLOAD_IN_PARTS = auto()
    COMPLETE_CONDITIONALLY = auto()  # of uploads in parts that end at once, exactly one succeeds


@dataclass(frozen=True)
class Writing:
    """How an object is written.

    Attributes:
        content_type: A media type.
        metadata: Short texts to keep with the object.
        overwrite: Whether to replace an object of that key.
    """

    content_type: str
    metadata: dict[str, str]
    overwrite: bool


@dataclass(frozen=True)
class ObjectInfo:
    """What a backend knows about a stored object without reading it.

    Attributes:
        size: Bytes.
        created: When it was written; aware, UTC. None where the service does not say.
        version: What `version=` takes; empty where the backend has no versions.
        pin: What ties several reads to the same object, though it be overwritten in between.
        metadata: As given at the write.
        content_type: As given at the write, where the service says it.
    """

    size: int
    created: datetime | None
    version: str
    pin: str
    metadata: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class PinnedObject:
    """What an opened object's first bytes say about it, where the rest would take another request.

    Attributes:
        size: Bytes.
        pin: As in `ObjectInfo`.
        version: As in `ObjectInfo`.
    """

    size: int
    pin: str
    version: str


class ObjectChangedError(Exception):
    """The object is no longer the one that was pinned. Never leaves the package: the read begins again."""


class ObjectExistsError(Exception):
    """The conditional write found an object. Never leaves the package."""


class _ChunksFailed(Exception):  # noqa: N818
    """Carries an error of whoever makes the chunks past the translation, which would take it for the vendor's."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Backend(abc.ABC):
    """Byte operations on full keys: the store's prefix and the extension included."""

    can: ClassVar[frozenset[Can]] = frozenset()
    # What messages call the service, and how its client is told of a certificate authority.
    service = "storage"
    authority = ""
    # The name of the version of an object that has none.
    unversioned = ""
    # How many objects one request can remove.
    removed_at_once = 1
    # How many bytes a key, and each of its segments, may have.
    key_bytes = 1024
    segment_bytes = 1024

    def write(
        self, key: str, chunks: Iterator[bytes], *, content_type: str, metadata: dict[str, str], overwrite: bool
    ) -> None:
        """Write an object whole or not at all, encrypted as configured.

        Raises:
            ObjectExistsError: `overwrite` is false and there is an object.
            OperationNotSupportedError: `overwrite` is false and the service has no conditional writes.
        """
        failure = None
        try:
            with self._translated(key):
                if not overwrite:
                    # The write itself is conditional; this spares sending gigabytes that would be refused at their end.
                    self._refuse_existing(key)
                self._write(key, _shielded(chunks), Writing(content_type, metadata, overwrite))
        except _ChunksFailed as failed:
            failure = failed.error
        except OperationNotSupportedError as error:
            # One without a cause says itself what is missing.
            if overwrite or error.__cause__ is None:
                raise
            raise failures.unconditional(self.uri(key), self.service) from error.__cause__
        finally:
            # Whoever keeps the error keeps the chunks, and with them an encoder that waits to be listened to.
            if isinstance(chunks, Generator):
                chunks.close()
        try:
            if failure is not None:
                # Not where it was caught: it would be in its own context, a ring that Dask cannot pickle.
                raise failure
        finally:
            del failure

    def open(self, key: str, wanted: ByteRange, *, version: str = "") -> tuple[bytes, ObjectInfo | PinnedObject]:
        """The bytes that are wanted, as far as there are any, and what they are part of."""
        with self._translated(key):
            data, opened = self._open(key, wanted, version)
            self._check_version_of(key, version, opened.version)
            return data, opened

    def read(self, key: str, wanted: ByteRange, *, version: str, pin: str) -> bytes:
        """More bytes of an opened object.

        Raises:
            ObjectChangedError: The object is not the pinned one any more.
        """
        with self._translated(key):
            return self._read(key, wanted, version, pin)

    def head(self, key: str, *, version: str = "") -> ObjectInfo:
        """What is known about the object; a missing bucket is told apart from a missing object."""
        with self._translated(key):
            found = self._head(key, version)
            self._check_version_of(key, version, found.version)
            return found

    def list(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in any order."""
        with self._translated(prefix):
            yield from self._list(prefix)

    def list_pinned(self, prefix: str) -> Iterator[tuple[str, PinnedObject | None]]:
        """The same keys, each with what ties later reads to the object that is listed; None where `head` must tell."""
        with self._translated(prefix):
            yield from self._list_pinned(prefix)

    def versions(self, key: str) -> Iterator[ObjectInfo]:
        """The versions of the object that can still be read, newest first."""
        with self._translated(key):
            yield from self._versions(key)

    def keeps_metadata(self, key: str) -> bool:  # noqa: ARG002
        """Whether the place of an object that is there can keep metadata with it; not every file system can."""
        return True

    def remove(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""
        with self._translated(key):
            self._remove(key)

    def remove_many(self, keys: Sequence[str]) -> dict[str, ClinopsPrefectError]:
        """Remove objects, in one request where the service has such a request.

        Args:
            keys: At most `removed_at_once`. Removing what is not there is no error.

        Returns:
            Key -> error, of each object that may still be there.
        """
        rest, failed = [*keys], dict[str, ClinopsPrefectError]()
        if len(keys) > 1:
            try:
                with self._translated(keys[0]):
                    rest = [*self._remove_together(keys)]
            except ServiceUnavailableError as error:
                return dict.fromkeys(keys, error)
            except ClinopsPrefectError:
                pass  # The service may lack the request. Whatever else is wrong, a request for one object says it too.
        for position, key in enumerate(rest):
            try:
                self.remove(key)
            except ServiceUnavailableError as error:
                # Each further request would be retried as long as this one.
                return failed | dict.fromkeys(rest[position:], error)
            except ClinopsPrefectError as error:
                failed[key] = error
        return failed

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the backend, metadata included, whole or not at all, encrypted as configured."""
        with self._translated(source):
            self._copy(source, target)

    @abc.abstractmethod
    def uri(self, key: str) -> str:
        """The URI of a key."""

    def key_of(self, uri: str) -> str | None:
        """The key whose URI this is; None for the URI of another place."""
        root = self.uri("")
        return uri[len(root) :] if uri.startswith(root) else None

    def browser_url(self, key: str) -> str:
        """Where a browser shows an object; asks the service nothing."""
        return self.uri(key)

    @abc.abstractmethod
    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None: ...

    @abc.abstractmethod
    def _open(self, key: str, wanted: ByteRange, version: str) -> tuple[bytes, ObjectInfo | PinnedObject]: ...

    @abc.abstractmethod
    def _read(self, key: str, wanted: ByteRange, version: str, pin: str) -> bytes: ...

    @abc.abstractmethod
    def _head(self, key: str, version: str) -> ObjectInfo: ...

    @abc.abstractmethod
    def _list(self, prefix: str) -> Iterator[str]: ...

    def _list_pinned(self, prefix: str) -> Iterator[tuple[str, PinnedObject | None]]:
        for key in self._list(prefix):
            yield key, None

    @abc.abstractmethod
    def _versions(self, key: str) -> Iterator[ObjectInfo]: ...

    @abc.abstractmethod
    def _remove(self, key: str) -> None: ...

    @abc.abstractmethod
    def _copy(self, source: str, target: str) -> None: ...

    @abc.abstractmethod
    def _translate(self, error: Exception, uri: str) -> Exception | None:
        """Our error for the vendor's; None for one that is not the vendor's, such as a `KeyError` in its answer."""

    def _said(self, value: T | None, what: str, key: str) -> T:
        """What the service must have answered.

        Raises:
            OperationNotSupportedError: It is missing, or empty.
        """
        if value is None or value == "":
            raise failures.missing(self.uri(key), self.service, what)
        return value

    def _check_version_of(self, key: str, asked: str, answered: str) -> None:
        # A service that ignores the version would give the current one, silently.
        if asked and asked != answered and (asked != self.unversioned or answered):
            raise failures.other_version(self.uri(key), self.service, asked, answered)

    def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
        """Remove objects in one request; returns the keys of those that it did not remove."""
        return keys

    def _refuse_existing(self, key: str) -> None:
        try:
            self.head(key)
        except ArtifactNotFoundError:
            return
        raise ObjectExistsError

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClinopsPrefectError as error:
            # Whoever makes a client does not know what it is for.
            error.uri = error.uri or self.uri(key)
            raise
        except (ObjectChangedError, ObjectExistsError, _ChunksFailed):
            raise
        except Exception as error:
            # The chunks' own errors are shielded, so all others come from the service or from its client.
            uri = self.uri(key)
            ours = self._translate(error, uri) or failures.unexpected(uri, self.service, error, self.authority)
            if ours is None:
                raise
            raise ours from error


def _shielded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Exception as error:
        raise _ChunksFailed(error) from error
