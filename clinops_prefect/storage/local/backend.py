"""The backend that stores objects as files below a directory."""

import errno
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from clinops_prefect.errors import (
    AccessDeniedError,
    ArtifactNotFoundError,
    InvalidArtifactNameError,
    OperationNotSupportedError,
    ServiceUnavailableError,
)
from clinops_prefect.storage.backend import Backend, Can, ObjectChangedError, ObjectExistsError, ObjectInfo, Writing
from clinops_prefect.storage.local.atomic_file import TEMPORARY, AtomicFile, remove_empty
from clinops_prefect.storage.ranges import ByteRange

# An object's metadata is in an extended attribute, so that one rename puts data and metadata in place together.
_ATTRIBUTE = "user.clinops"
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_ATTRIBUTES = (errno.ENOTSUP, errno.ENOSYS)
# Errors of FAT, and of some network file systems, for a hard link.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_CHUNK_BYTES = 8 << 20
# Prefect shows this logger's lines on the page of a run. The name alone is enough, so Prefect is not imported.
_logger = logging.getLogger("prefect.clinops_prefect")


class LocalBackend(Backend):
    """Files below a root directory, and behind symbolic links in it.

    Args:
        root: The directory.
        made: Called when a write has created the root directory.
    """

    service = "file system"
    address = "directory"
    # When two conditional writes race, exactly one succeeds, whatever their size.
    can = frozenset({Can.READ_SUFFIXES, Can.UPLOAD_IN_PARTS, Can.COMPLETE_CONDITIONALLY, Can.MAKE_BUCKETS})

    key_bytes = 3_500
    # The limit of a file name on the usual file systems.
    segment_bytes = 255

    def __init__(self, root: Path, made: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._made = made

    def uri(self, key: str) -> str:
        return (self.root / key).as_uri()

    def key_of(self, uri: str) -> str | None:
        path = Path(os.fsdecode(unquote_to_bytes(re.sub("^file://(localhost(?=/))?", "", uri))))
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else None

    def _write(self, key: str, chunks: Iterator[bytes], writing: Writing) -> None:
        path, is_new = self.root / key, not self.root.exists()
        try:
            with AtomicFile(path) as file:
                for chunk in chunks:
                    file.write(chunk)
                self._set_metadata(file.fileno(), writing.metadata)
                try:
                    file.place(writing.overwrite)
                except FileExistsError:
                    raise ObjectExistsError from None
                except OSError as error:
                    if writing.overwrite or error.errno not in _NO_LINKS:
                        raise
                    raise OperationNotSupportedError(
                        f"{self.uri(key)}: this file system has no hard links, which overwrite=False needs: nothing "
                        "was written. Use overwrite=True, or a folder on another file system",
                        uri=self.uri(key),
                    ) from None
        except NotADirectoryError:
            raise InvalidArtifactNameError(
                f"{self.uri(key)}: a part of the name is already the name of a file", uri=self.uri(key)
            ) from None
        except IsADirectoryError:
            raise InvalidArtifactNameError(f"{self.uri(key)} is a directory", uri=self.uri(key)) from None
        if is_new:
            self._made()

    def keeps_metadata(self, key: str) -> bool:
        try:
            os.getxattr(self.root / key, _ATTRIBUTE)
        except (OSError, AttributeError) as error:
            return isinstance(error, OSError) and error.errno not in _NO_ATTRIBUTES
        return True

    def _open(self, key: str, wanted: ByteRange, version: str) -> tuple[bytes, ObjectInfo]:
        self._check_version(key, version)
        with self._file(key) as file:
            info = self._info(file.fileno())
            first, end = wanted.within(info.size)
            return os.pread(file.fileno(), end - first, first), info

    def _read(self, key: str, wanted: ByteRange, _version: str, pin: str) -> bytes:
        with self._file(key) as file:
            status = os.fstat(file.fileno())
            if _pin(status) != pin:
                raise ObjectChangedError
            first, end = wanted.within(status.st_size)
            return os.pread(file.fileno(), end - first, first)

    def _head(self, key: str, version: str) -> ObjectInfo:
        self._check_version(key, version)
        with self._file(key) as file:
            return self._info(file.fileno())

    def _list(self, prefix: str) -> Iterator[str]:
        directory = prefix.rpartition("/")[0]
        # The parents of the first folder count too, so that listing a prefix agrees with listing the whole store.
        outside = frozenset(self._identity(str(path)) for path in Path(directory).parents) if directory else frozenset()
        todo = [(directory, outside)]
        while todo:
            folder, above = todo.pop()
            # A folder that somebody removes meanwhile counts as empty. A folder that cannot be read is an error.
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder) as entries:
                here = self._identity(folder)
                if here in above:
                    continue  # a link back to a parent folder, whose files are listed there
                for entry in entries:
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    # Links are followed, because reading a name follows them too.
                    if _is(entry.is_dir) and f"{key}/".startswith(prefix):
                        todo.append((key, above | {here}))
                    elif key.startswith(prefix) and not entry.name.startswith(TEMPORARY) and _is(entry.is_file):
                        yield key

    def _identity(self, folder: str) -> tuple[int, int] | None:
        try:
            status = (self.root / folder).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_dev, status.st_ino

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            yield self._head(key, "")

    def _remove(self, key: str) -> None:
        path = self.root / key
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        # As in a bucket, a folder disappears with the last object below it.
        for parent in path.relative_to(self.root).parents:
            if not parent.parts or not remove_empty(self.root / parent):
                break

    def _copy(self, source: str, target: str) -> None:
        with self._file(source) as file:
            metadata = self._info(file.fileno()).metadata
            self._write(target, iter(lambda: file.read(_CHUNK_BYTES), b""), Writing("", metadata, overwrite=True))

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        is_missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if is_missing or (isinstance(error, OSError) and error.errno == errno.ELOOP):
            return ArtifactNotFoundError(f"there is no {uri}", uri=uri)
        if not isinstance(error, OSError):
            return None
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if error.errno in _DENIED:
            return AccessDeniedError(f"{uri}: {reason}; check the owner and mode of the directory", uri=uri)
        if error.errno == errno.ENAMETOOLONG:
            return InvalidArtifactNameError(f"{uri}: {reason}", uri=uri)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return ServiceUnavailableError(
                f"{uri}: {reason}; nothing was written. Free some space and try again", uri=uri
            )
        return ServiceUnavailableError(f"{uri}: {reason}", uri=uri)

    @contextmanager
    def _file(self, key: str) -> Iterator[BinaryIO]:
        # Without non-blocking open and this check, a pipe or a device would block the read, or never end it.
        with open(self.root / key, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FileNotFoundError
            yield file

    def _check_version(self, key: str, version: str) -> None:
        if version:
            raise ArtifactNotFoundError(f"{self.uri(key)}: a directory keeps no versions", uri=self.uri(key))

    def _info(self, descriptor: int) -> ObjectInfo:
        status = os.fstat(descriptor)
        created = datetime.fromtimestamp(status.st_mtime, UTC)
        return ObjectInfo(status.st_size, created, "", _pin(status), _metadata(descriptor))

    def _set_metadata(self, descriptor: int, metadata: dict[str, str]) -> None:
        if not metadata:
            return
        try:
            os.setxattr(descriptor, _ATTRIBUTE, json.dumps(metadata).encode())
        except (OSError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_ATTRIBUTES:
                raise
            # macOS and a few file systems lack extended attributes. Only Parquet carries its own checksum and metadata.
            _logger.warning(
                "%s keeps no extended attributes: CSV and plain files are stored without a checksum, so nobody notices "
                "if they are damaged later. Use format='parquet', or a folder on another file system",
                self.root,
            )


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:
        return False  # a link that leads to itself


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _metadata(descriptor: int) -> dict[str, str]:
    try:
        return dict(json.loads(os.getxattr(descriptor, _ATTRIBUTE)))
    except (OSError, AttributeError, ValueError):
        return {}


def _pin(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
