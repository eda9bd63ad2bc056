"""The interface of a backend: a few byte operations on keys, and a translation of the vendor's errors.

A backend implements the underscored methods and lets the vendor's exceptions propagate. Callers use the public methods,
which translate these exceptions. No vendor error crosses any other boundary.
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
    """The abilities that only some backends have. The contract suites test only those that a backend declares."""

    KEEP_VERSIONS = auto()  # if versioning is enabled on the bucket
    READ_SUFFIXES = auto()  # reads the last bytes in one request, without knowing the size
    UPLOAD_IN_PARTS = auto()
    COMPLETE_CONDITIONALLY = auto()  # when several uploads in parts complete at the same time, exactly one succeeds
    MAKE_BUCKETS = auto()  # the first write creates a missing bucket, so a missing bucket is an empty one


@dataclass(frozen=True)
class Writing:
    """How an object is written.

    Attributes:
        content_type: A media type.
        metadata: Short texts that are stored with the object.
        overwrite: Whether to replace an existing object of the same key.
    """

    content_type: str
    metadata: dict[str, str]
    overwrite: bool


@dataclass(frozen=True)
class ObjectInfo:
    """What a backend knows about a stored object without reading it.

    Attributes:
        size: Size in bytes.
        created: Time of the write, timezone-aware in UTC. None if the service does not report it.
        version: The value for `version=`; empty if the backend keeps no versions.
        pin: A token for later reads. They fail if the object has been overwritten since.
        metadata: The metadata that was given when the object was written.
        content_type: The media type that was given when the object was written, if the service reports it.
    """

    size: int
    created: datetime | None
    version: str
    pin: str
    metadata: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True)
class PinnedObject:
    """What one answer says about an object, if the rest of `ObjectInfo` would take another request.

    Attributes:
        size: Size in bytes.
        pin: The pin, as in `ObjectInfo`.
        version: The version, as in `ObjectInfo`.
    """

    size: int
    pin: str
    version: str


class ObjectChangedError(Exception):
    """The object has changed since it was pinned. This error never leaves the package: the read starts again."""


class ObjectExistsError(Exception):
    """The conditional write found an existing object. This error never leaves the package."""


class UploadDroppedError(ServiceUnavailableError):
    """The service has dropped an unfinished upload. Nothing was written, and writing the same bytes again may work.

    A store writes again, and at last raises a ServiceUnavailableError. This error never leaves the package.
    """


class _ChunksFailed(Exception):  # noqa: N818
    """Wraps an error of the chunk iterator, so that it is not translated as if it were a vendor error."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Backend(abc.ABC):
    """Byte operations on full keys, which include the store's prefix and the extension."""

    can: ClassVar[frozenset[Can]] = frozenset()
    # For messages: the service's name, how a user makes a certificate authority known to its client, and the fields of
    # the store that say where the service is.
    service = "storage"
    authority = ""
    address = "the address of the service"
    # The version id that the service gives to an object without a version.
    unversioned = ""
    # The maximum number of objects that one request can remove.
    removed_at_once = 1
    # The maximum length of a key, and of each of its segments, in bytes.
    key_bytes = 1024
    segment_bytes = 1024

    def write(
        self, key: str, chunks: Iterator[bytes], *, content_type: str, metadata: dict[str, str], overwrite: bool
    ) -> None:
        """Write an object completely or not at all, encrypted as configured.

        Raises:
            ObjectExistsError: `overwrite` is false and the object exists.
            OperationNotSupportedError: `overwrite` is false and the service has no conditional writes.
            UploadDroppedError: Another upload of the key ended first, and the service dropped this one.
        """
        failure = None
        try:
            with self._translated(key):
                if not overwrite:
                    # The write itself is conditional. This check avoids sending gigabytes only to have them refused.
                    self._refuse_existing(key)
                self._write(key, _shielded(chunks), Writing(content_type, metadata, overwrite))
        except _ChunksFailed as failed:
            failure = failed.error
        except OperationNotSupportedError as error:
            # An error without a cause is ours and already says what is missing.
            if overwrite or error.__cause__ is None:
                raise
            raise failures.unconditional(self.uri(key), self.service) from error.__cause__
        finally:
            # A retained traceback would keep the iterator alive, and its encoder thread blocked.
            if isinstance(chunks, Generator):
                chunks.close()
        try:
            if failure is not None:
                # Raised inside `except`, the error would be in its own context: a cycle that Dask cannot pickle.
                raise failure
        finally:
            del failure

    def open(self, key: str, wanted: ByteRange, *, version: str = "") -> tuple[bytes, ObjectInfo | PinnedObject]:
        """Return the wanted bytes, as far as the object has them, and what is known about the object."""
        with self._translated(key, version):
            data, opened = self._open(key, wanted, version)
            self._check_version_of(key, version, opened.version)
            return data, opened

    def read(self, key: str, wanted: ByteRange, *, version: str, pin: str) -> bytes:
        """Return more bytes of an object that was opened before.

        Raises:
            ObjectChangedError: The object has changed since it was pinned.
        """
        with self._translated(key, version):
            return self._read(key, wanted, version, pin)

    def head(self, key: str, *, version: str = "") -> ObjectInfo:
        """Return what is known about the object. A missing bucket and a missing object raise different errors."""
        with self._translated(key, version):
            found = self._head(key, version)
            self._check_version_of(key, version, found.version)
            return found

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the keys that begin with `prefix`, in any order."""
        with self._translated(prefix):
            yield from self._list(prefix)

    def list_pinned(self, prefix: str) -> Iterator[tuple[str, PinnedObject | None]]:
        """Yield the same keys as `list`, each with its pin; None if only `head` can tell the pin."""
        with self._translated(prefix):
            yield from self._list_pinned(prefix)

    def versions(self, key: str) -> Iterator[ObjectInfo]:
        """Yield the versions of the object that can still be read, newest first."""
        with self._translated(key):
            yield from self._versions(key)

    def keeps_metadata(self, key: str) -> bool:  # noqa: ARG002
        """Whether an existing object can have metadata where it is stored. Some file systems keep none."""
        return True

    def remove(self, key: str) -> None:
        """Remove the object. Removing a missing object is no error."""
        with self._translated(key):
            self._remove(key)

    def remove_many(self, keys: Sequence[str]) -> dict[str, ClinopsPrefectError]:
        """Remove objects, in one request if the service supports that.

        Args:
            keys: At most `removed_at_once` keys. Removing a missing object is no error.

        Returns:
            Key -> error, for each object that may still exist.
        """
        rest, failed = [*keys], dict[str, ClinopsPrefectError]()
        if len(keys) > 1:
            try:
                with self._translated(keys[0]):
                    rest = [*self._remove_together(keys)]
            except ServiceUnavailableError as error:
                return dict.fromkeys(keys, error)
            except ClinopsPrefectError:
                pass  # The service may lack this request. Any other problem shows again when one object is removed.
        for position, key in enumerate(rest):
            try:
                self.remove(key)
            except ServiceUnavailableError as error:
                # Each further request would spend the same time on retries.
                return failed | dict.fromkeys(rest[position:], error)
            except ClinopsPrefectError as error:
                failed[key] = error
        return failed

    def copy(self, source: str, target: str) -> None:
        """Copy an object and its metadata within the backend, completely or not at all, encrypted as configured."""
        with self._translated(source):
            self._copy(source, target)

    @abc.abstractmethod
    def uri(self, key: str) -> str:
        """The URI of a key."""

    def key_of(self, uri: str) -> str | None:
        """The key of this URI; None if the URI is outside this backend."""
        root = self.uri("")
        return uri[len(root) :] if uri.startswith(root) else None

    def browser_url(self, key: str) -> str:
        """The URL that shows the object in a browser. Sends no request."""
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
        """Our error for a vendor error; None for any other error, such as a `KeyError` while its answer is read."""

    def _said(self, value: T | None, what: str, key: str) -> T:
        """Return a value that the service must have answered with.

        Raises:
            OperationNotSupportedError: The value is missing or empty.
        """
        if value is None or value == "":
            raise failures.missing(self.uri(key), self.service, what, self.address)
        return value

    def _absent(self, key: str, version: str) -> ArtifactNotFoundError:
        uri = self.uri(key)
        if not version:
            return ArtifactNotFoundError(f"there is no {uri}", uri=uri)
        return ArtifactNotFoundError(
            f"{uri} has no version {version!r}; list_versions shows the versions it has", uri=uri
        )

    def _check_version_of(self, key: str, asked: str, answered: str) -> None:
        # A service that ignores the version would silently return the current one.
        if asked and asked != answered and (asked != self.unversioned or answered):
            raise failures.other_version(self.uri(key), self.service, asked, answered)

    def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
        """Remove objects in one request. Returns the keys of the objects that were not removed."""
        return keys

    def _refuse_existing(self, key: str) -> None:
        try:
            self.head(key)
        except ArtifactNotFoundError:
            return
        raise ObjectExistsError

    @contextmanager
    def _translated(self, key: str, version: str = "") -> Iterator[None]:
        try:
            yield
        except ClinopsPrefectError as error:
            # The code that makes the client does not know the URI, so it is added here.
            error.uri = error.uri or self.uri(key)
            raise
        except (ObjectChangedError, ObjectExistsError, _ChunksFailed):
            raise
        except Exception as error:
            # Errors of the chunk iterator are wrapped, so every other error comes from the service or from its client.
            uri = self.uri(key)
            ours = self._translate(error, uri) or failures.unexpected(
                uri, self.service, error, self.authority, self.address
            )
            if ours is None:
                raise
            # The vendor's error may be the same for both, and the object may be there.
            raise (
                self._absent(key, version) if version and isinstance(ours, ArtifactNotFoundError) else ours
            ) from error


def _shielded(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Exception as error:
        raise _ChunksFailed(error) from error
