"""A folder of objects in a bucket, with the methods of `pathlib.Path` that are needed to find and read its files.

The readers do not know the cloud of the objects: they get an `Objects`, which is made from a store.
"""

import bisect
import gzip
import io
import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa

try:
    from isal import igzip, isal_zlib
except ImportError:  # without isal, Arrow's zlib reads gzip
    igzip = None  # type: ignore[assignment, unused-ignore]

# Text files are read from start to end in requests of this size. For Parquet, only the needed ranges are requested.
_READ_BYTES = 8 << 20
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


class Objects(Protocol):
    """The objects of a source, by their key below its root. They are only read."""

    reference: str  # the text with which the source was opened: a URI, or a block's reference

    def keys(self) -> list[str]:
        """All keys, sorted."""

    def uri(self, key: str) -> str:
        """The object's name in messages and lineage."""

    def open(self, key: str) -> io.RawIOBase:
        """The object as a seekable file. All reads are of the same version."""

    def identity(self, key: str) -> dict[str, Any]:
        """The object's `bytes` and `version`. The version changes when the object is replaced."""


@dataclass(frozen=True)
class ObjectPath:
    """An object, or a folder in a bucket, which is a common beginning of keys."""

    objects: Objects
    key: str = ""

    def __str__(self) -> str:
        return self.as_uri()

    def __truediv__(self, below: str) -> "ObjectPath":
        return ObjectPath(self.objects, f"{self.key}/{below}" if self.key else below)

    @property
    def name(self) -> str:
        """The last segment of the key."""
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        """As `Path.suffix`."""
        return PurePosixPath(self.key).suffix

    def as_uri(self) -> str:
        """The URI of the object in its store."""
        return self.objects.uri(self.key)

    def is_file(self) -> bool:
        """Whether there is an object with this key."""
        keys = self.objects.keys()
        at = bisect.bisect_left(keys, self.key)
        return keys[at : at + 1] == [self.key]

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        return bool(self._below())

    def iterdir(self) -> Iterator["ObjectPath"]:
        """The objects and folders directly below this folder."""
        return iter([self / name for name in dict.fromkeys(rest.partition("/")[0] for rest in self._below())])

    def rglob(self, _pattern: str) -> Iterator["ObjectPath"]:
        """All objects below. The pattern is ignored: the readers match names themselves, without regard to case."""
        return iter([self / rest for rest in self._below()])

    def _below(self) -> list[str]:
        begin = f"{self.key}/" if self.key else ""
        keys = self.objects.keys()
        first = bisect.bisect_left(keys, begin)
        return [key[len(begin) :] for key in itertools.takewhile(lambda key: key.startswith(begin), keys[first:])]


SourcePath = Path | ObjectPath


def in_order(paths: Iterable[SourcePath]) -> list[SourcePath]:
    """Paths sorted by their segments, in the same order for a folder and a bucket."""
    return sorted(paths, key=lambda path: PurePosixPath(path.key) if isinstance(path, ObjectPath) else path)


def path_below(path: SourcePath, root: SourcePath) -> PurePath:
    """A path relative to a folder that it is in."""
    one, other = (PurePosixPath(each.key) if isinstance(each, ObjectPath) else each for each in (path, root))
    return one.relative_to(other)


def as_source_path(root: str | SourcePath) -> SourcePath:
    """The folder as a source path. Text is a path of this machine."""
    return Path(root) if isinstance(root, str) else root


@contextmanager
def open_stream(path: SourcePath) -> Iterator[pa.NativeFile]:
    """A file's bytes from start to end, decompressed as its name says."""
    packed = _COMPRESSIONS.get(path.suffix.casefold())
    if packed == "gzip" and igzip is not None:
        with _raw(path) as raw, pa.PythonFile(_Gzip(raw), "r") as stream:
            yield stream
        return
    if isinstance(path, Path):
        # Arrow would only know endings in lower case.
        with pa.input_stream(str(path), compression=packed) as stream:
            yield stream
        return
    with _raw(path) as raw, pa.PythonFile(raw, "r") as file:
        if packed is None:
            yield file
            return
        with pa.CompressedInputStream(file, packed) as stream:
            yield stream


def _raw(path: SourcePath) -> BinaryIO:
    if isinstance(path, Path):
        return path.open("rb")
    return cast(BinaryIO, io.BufferedReader(path.objects.open(path.key), _READ_BYTES))


class _Gzip(igzip.IGzipFile if igzip is not None else object):  # type: ignore[misc, unused-ignore]
    """A gzip file, decompressed in a third of zlib's time. Damage is an `OSError` itself, as Arrow raises it."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__(fileobj=raw, mode="rb")

    def read(self, size: int | None = -1) -> bytes:
        try:
            return bytes(super().read(size))
        except (EOFError, gzip.BadGzipFile, isal_zlib.error) as error:  # type: ignore[misc, unused-ignore]
            problem = f"{type(error).__name__}: {error}"
        raise OSError(problem)


@contextmanager
def open_parquet(path: SourcePath) -> Iterator[Any]:
    """A Parquet file, for `pyarrow.parquet`."""
    if isinstance(path, Path):
        yield path
        return
    with path.objects.open(path.key) as raw, pa.PythonFile(raw, "r") as file:
        yield file


def is_of_the_store(error: Exception, path: SourcePath) -> bool:
    """Whether an error while reading is about the bucket or the network, and not about the file's content.

    For damaged files, Arrow raises `OSError` itself. Stores raise their own errors, some of which are worth a retry.
    """
    return isinstance(path, ObjectPath) and isinstance(error, OSError) and type(error) is not OSError
