"""Opens a source: a folder of this machine, or objects in a bucket, read through a store.

We use a store and not a library for cloud file systems. The source then has the same credentials, endpoints,
certificates, retries and errors as the run's other requests, and every registered store can be a source.
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
    """The root of a source. Nothing is read yet.

    Args:
        source: A folder, `file:///…`, `s3://…`, `gs://…`, `az://…` or the URI of another registered store, or a saved
            block such as `s3-pipeline-store/prod`. If a folder of this name exists, it is the source.

    Raises:
        InvalidStoreError: The meaning of `source` is not clear. The message says what may be meant.
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
    """The text with which a task in another process opens the source."""
    return root.objects.reference if isinstance(root, ObjectPath) else str(root)


class StoreObjects:
    """All objects below a store's prefix, written by any program (see `flows.sources.objects.Objects`)."""

    def __init__(self, store: PipelineStore, reference: str) -> None:
        self.reference = reference
        # Objects of other programs do not have names of artifacts, so the store's public methods cannot read them.
        self._backend = store._backend()
        self._begin = f"{store.prefix}/" if store.prefix else ""

    @cached_property
    def _keys(self) -> list[str]:
        found = (key.removeprefix(self._begin) for key in self._backend.list(self._begin))
        # Web consoles make empty objects whose keys end in a slash, to show folders.
        return sorted(key for key in found if key and not key.endswith("/"))

    def keys(self) -> list[str]:
        """The keys, listed once: a run reads the files that it found at its start."""
        return self._keys

    def uri(self, key: str) -> str:
        """The object's URI. For the root, the URI of the prefix."""
        return self._backend.uri(f"{self._begin}{key}".rstrip("/"))

    def open(self, key: str) -> io.RawIOBase:
        """The object as a file, read in ranges, all of its present version."""
        return _ObjectFile(self._backend, f"{self._begin}{key}", self.uri(key))

    def identity(self, key: str) -> dict[str, Any]:
        """The object's size in bytes, and its ETag or generation."""
        info = self._backend.head(f"{self._begin}{key}")
        return {"bytes": info.size, "version": info.pin}


class _ObjectFile(io.RawIOBase):
    """An object as a file. Each read requests a range of the version that was opened."""

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
