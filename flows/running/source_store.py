"""Opening a source: a folder of this machine, or what lies in a bucket, read through a store's own connection.

A store, and no library for file systems in clouds, because it has the credentials, endpoints, certificates, retries and
errors that the run's other reads and writes have, and because every registered store becomes a source.
"""

import io
from functools import cached_property
from pathlib import Path
from typing import Any

from clinops_prefect import LocalPipelineStore, PipelineStore, locations
from clinops_prefect.storage.backend import Backend, ObjectChangedError
from clinops_prefect.storage.ranges import span
from clinops_prefect.tasks import open_store
from flows.sources.files import TableError
from flows.sources.objects import ObjectPath, SourcePath


def open_source(source: str | Path) -> SourcePath:
    """Find out where a source is; nothing is read yet.

    Args:
        source: A folder, `file:///…`, `s3://…`, `gs://…` or the URI of another registered store, or a saved block such
            as `s3-pipeline-store/prod`. What is there as a folder is that folder.

    Raises:
        InvalidStoreError: It means nothing for certain; the message says what was perhaps meant.
    """
    if isinstance(source, Path) or Path(source).is_dir():
        return Path(source)
    place = locations.parse(source)
    if isinstance(place, locations.Location) and place.kind.scheme == "file" and not place.is_uri:
        return Path(source).expanduser()
    store = open_store(source)
    if isinstance(store, LocalPipelineStore):
        return Path(store.directory).expanduser() / store.prefix
    return ObjectPath(StoreObjects(store, source))


def reference_of(root: SourcePath) -> str:
    """What a task in another process opens the source by."""
    return root.objects.reference if isinstance(root, ObjectPath) else str(root)


class StoreObjects:
    """The objects below a store's prefix, whatever wrote them (`flows.sources.objects.Objects`)."""

    def __init__(self, store: PipelineStore, reference: str) -> None:
        self.reference = reference
        # Other programs' objects have no artifact's name, so they are reached below the store's public methods.
        self._backend = store._backend()
        self._begin = f"{store.prefix}/" if store.prefix else ""

    @cached_property
    def _keys(self) -> list[str]:
        found = (key.removeprefix(self._begin) for key in self._backend.list(self._begin))
        # Consoles make empty objects whose keys end in a slash, to show a folder.
        return sorted(key for key in found if key and not key.endswith("/"))

    def keys(self) -> list[str]:
        """As listed once: a run reads the files that it found."""
        return self._keys

    def uri(self, key: str) -> str:
        """The object's URI; of the root, that of the prefix."""
        return self._backend.uri(f"{self._begin}{key}".rstrip("/"))

    def open(self, key: str) -> io.RawIOBase:
        """The object's bytes, in ranges, all of the version that is there now."""
        return _ObjectFile(self._backend, f"{self._begin}{key}", self.uri(key))

    def identity(self, key: str) -> dict[str, Any]:
        """Size, and ETag or generation."""
        info = self._backend.head(f"{self._begin}{key}")
        return {"bytes": info.size, "version": info.pin}


class _ObjectFile(io.RawIOBase):
    """An object as a file: each read is a request for that range of the version that was opened."""

    def __init__(self, backend: Backend, key: str, uri: str) -> None:
        self._backend, self._key, self._uri, self._at = backend, key, uri, 0
        self._info = backend.head(key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._info.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._info.size)
        if end <= self._at:
            return 0
        try:
            data = self._backend.read(self._key, span(self._at, end - self._at), version="", pin=self._info.pin)
        except ObjectChangedError:
            raise TableError(f"{self._uri}: replaced while it was read; run again") from None
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
