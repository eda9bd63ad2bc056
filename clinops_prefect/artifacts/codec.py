"""The `Codec` protocol, which stores frames in one format, and what all formats share."""

import hashlib
import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

import pyarrow as pa

from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.frames import streams
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.conversion.schemas import bare_table
from clinops_prefect.frames.csv.options import CsvOptions, Options
from clinops_prefect.frames.encoding import Encoded, as_tables, encode_batches, encode_frame
from clinops_prefect.frames.kinds import Frame, FrameKind, ReadFrame
from clinops_prefect.names import check_metadata, without_reserved
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage.transfer import chained
from clinops_prefect.storage_format import StorageFormat

if TYPE_CHECKING:
    from hashlib import _Hash

    from typing_extensions import Buffer

    from clinops_prefect.frames.selection.filters import Filters

T = TypeVar("T")


class Codec(Protocol):
    """Stores and reads frames of one format. A store uses pandas and PyArrow only through its codec.

    The arguments `filters` and `csv_options` are what `asked` returns.

    Attributes:
        format: The format.
    """

    format: ClassVar[StorageFormat]

    def encode_frame(self, df: Frame, metadata: dict[str, str]) -> Encoded:
        """Encode one frame; see `frames.encoding.encode_frame`."""
        return encode_frame(df, self.format, metadata)

    def encode_batches(self, batches: "Iterable[Frame] | Frame", metadata: dict[str, str]) -> Encoded:
        """Encode the frames of one artifact; see `frames.encoding.encode_batches`."""
        return encode_batches(batches, self.format, metadata)

    def is_repeatable(self, frames: "Iterable[Frame] | Frame") -> bool:
        """Whether the same frames can be encoded again, with the same rows."""
        if isinstance(frames, list | tuple):
            return all(map(streams.is_repeatable, frames))
        return streams.is_frame(frames) and streams.is_repeatable(frames)

    def write(self, backend: Backend, key: str, encoded: Encoded, metadata: dict[str, str], overwrite: bool) -> None:
        """Store an encoded artifact.

        Raises:
            ObjectExistsError: `overwrite` is false and the artifact exists.
        """
        ...

    def asked(
        self, filters: "Filters | None", csv_options: CsvOptions | None
    ) -> "tuple[Filters | None, CsvOptions | None]":
        """Check filters and options before anything is fetched. Returns None for those that are empty.

        Raises:
            TypeError: `csv_options` has an unknown key, or the format is not CSV.
        """
        Options.of(csv_options)
        if csv_options and self.format is not StorageFormat.CSV:
            raise TypeError(f"csv_options is for stores of CSV, and this one is of {self.format.value}")
        is_none = filters is None or (isinstance(filters, list | tuple) and not filters)
        return None if is_none else filters, csv_options or None

    def download(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,
        kind: FrameKind = "pandas",
    ) -> ReadFrame:
        """Read the frame, or the selected part of it, as a frame of this kind."""
        ...

    def iter_tables(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,
        kind: FrameKind = "pandas",
    ) -> Iterator[tuple[pa.Table, bool]]:
        """Yield tables of any number of rows, each with a flag: whether the rows are unfiltered.

        For pandas, the tables have the schema that pandas frames are made from; for the other kinds, the stored schema.
        """
        ...

    def iter_frames(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,
        rows: int,
        kind: FrameKind = "pandas",
    ) -> Iterator[ReadFrame]:
        """Yield frames of `rows` rows each, the last may be shorter; one empty frame if there are no rows."""

        def frame(table: pa.Table, whole: bool, offset: int) -> ReadFrame:
            if kind == "pandas":
                from clinops_prefect.frames.conversion.frame_builder import to_frame

                return to_frame(table, whole=whole, offset=offset)
            return arrow_frames.made(table, kind, reader.uri)

        yield from in_batches(self.iter_tables(reader, columns, filters, csv_options, kind), rows, frame)

    def info(self, reader: ObjectReader) -> ArtifactInfo:
        """Describe the artifact without reading its rows."""
        ...

    def copy(self, backend: Backend, source: str, target: str) -> None:
        """Copy the artifact within the backend."""
        backend.copy(source, target)

    def copy_to(self, reader: ObjectReader, backend: Backend, key: str) -> None:
        """Copy the artifact to another backend, in bounded memory.

        Raises:
            InvalidMetadataError: Another program gave the artifact metadata that not every store can carry.
            ObjectChangedError: The artifact was overwritten meanwhile. Nothing was written.
        """
        text, metadata = opened(reader)
        backend.write(key, text, content_type=self.format.content_type, metadata=metadata, overwrite=True)

    def remove(self, backend: Backend, key: str) -> None:
        """Remove the artifact."""
        backend.remove(key)
        self.tidy(backend, key)

    def tidy(self, backend: Backend, key: str) -> None:  # noqa: ARG002
        """Remove the other objects of an artifact whose own object is gone."""
        return

    def leftovers(self, keys: Iterable[str]) -> set[str]:  # noqa: ARG002
        """The keys of artifacts that have other objects (such as sidecars) among these keys."""
        return set()


def opened(reader: ObjectReader) -> tuple[Iterator[bytes], dict[str, str]]:
    """The bytes of an artifact to copy, in bounded chunks, and the user's metadata of the same version.

    Raises:
        InvalidMetadataError: Another program gave the artifact metadata that not every store can carry.
    """
    chunks = reader.chunks()
    first = [next(chunks)]
    return chained(first, chunks), check_metadata(without_reserved(reader.info.metadata))


def in_batches(
    tables: Iterator[tuple[pa.Table, bool]], rows: int, frame: Callable[[pa.Table, bool, int], T]
) -> Iterator[T]:
    """Regroup tables of any number of rows into frames of `rows` rows; one empty frame if there are no rows.

    Args:
        tables: At least one table with its flag (whether the rows are unfiltered). All have the same schema.
        rows: Number of rows of a frame; the last frame may have fewer.
        frame: Makes a frame from a table, its flag, and the number of rows before it.
    """
    held: pa.Table | None = None
    whole, offset, bare = True, 0, 0
    for table, whole in tables:
        if not table.num_columns:
            # Arrow loses the number of rows when it slices or joins tables without columns, so we count them.
            held, bare = table, bare + table.num_rows
            continue
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows > rows:
            yield frame(held.slice(0, rows), whole, offset)
            held, offset = held.slice(rows), offset + rows
    while held is not None and bare > offset:
        counted = bare_table(min(rows, bare - offset), held.schema.metadata)
        yield frame(counted, whole, offset)
        offset += counted.num_rows
    if held is not None and not bare and (held.num_rows or not offset):
        yield frame(held, whole, offset)


def content_hash(frame: Frame) -> str:
    """A hash of the frame: values, types, index and labels.

    The same frame always has the same hash. Two equal frames may have different hashes, for example if the bits behind
    their missing values differ.
    """
    schema, tables = as_tables(frame)
    total = hashlib.sha256()
    with pa.PythonFile(_Sink(total), mode="w") as file, pa.ipc.new_stream(file, schema) as stream:
        for table in tables:
            stream.write_table(table)
    return total.hexdigest()


class _Sink(io.RawIOBase):
    """A file for PyArrow that hashes what is written and stores nothing."""

    def __init__(self, total: "_Hash") -> None:
        self._total = total

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer", /) -> int:
        self._total.update(data)
        return memoryview(data).nbytes
