"""What a format must do to be stored, and what is the same for every format."""

import hashlib
import io
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa

from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.csv.options import CsvOptions, Options
from clinops_prefect.frames.encoding import Encoded, as_tables, encode_batches, encode_frame
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.names import check_metadata, without_reserved
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage.transfer import chained
from clinops_prefect.storage_format import StorageFormat

if TYPE_CHECKING:
    from hashlib import _Hash

    from clinops_prefect.frames.selection.filters import Filters


class Codec(Protocol):
    """One format: frames in and out of a backend. All that a store needs of pandas and PyArrow.

    `filters` and `csv_options` are as `asked` returns them.

    Attributes:
        format: The format.
    """

    format: ClassVar[StorageFormat]

    def encode_frame(self, df: Any, metadata: dict[str, str]) -> Encoded:
        """One frame, encoded; see `frames.encoding.encode_frame`."""
        return encode_frame(df, self.format, metadata)

    def encode_batches(self, batches: Any, metadata: dict[str, str]) -> Encoded:
        """Frames that make one artifact, encoded; see `frames.encoding.encode_batches`."""
        return encode_batches(batches, self.format, metadata)

    def write(self, backend: Backend, key: str, encoded: Encoded, metadata: dict[str, str], overwrite: bool) -> None:
        """Store an encoded artifact.

        Raises:
            ObjectExistsError: `overwrite` is false and there is one.
        """
        ...

    def asked(
        self, filters: "Filters | None", csv_options: CsvOptions | None
    ) -> "tuple[Filters | None, CsvOptions | None]":
        """Filters and options, checked before anything is fetched; None where they ask for nothing.

        Raises:
            TypeError: `csv_options` has a key that there is not, or is given for another format.
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
    ) -> Any:
        """The frame, or the part of it that is asked for, as pandas, polars or Arrow have it."""
        ...

    def iter_tables(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,
        kind: FrameKind = "pandas",
    ) -> Iterator[tuple[pa.Table, bool]]:
        """The same as tables of any number of rows, each with whether it has all the stored rows.

        For pandas they have the schema as which the artifact is read, for the other kinds the one that is stored.
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
    ) -> Iterator[Any]:
        """The same in frames of so many rows; one empty frame where there are none."""

        def frame(table: pa.Table, whole: bool, offset: int) -> Any:
            if kind == "pandas":
                from clinops_prefect.frames.conversion.frame_builder import to_frame

                return to_frame(table, whole=whole, offset=offset)
            return arrow_frames.made(table, kind, reader.uri)

        yield from in_batches(self.iter_tables(reader, columns, filters, csv_options, kind), rows, frame)

    def info(self, reader: ObjectReader) -> ArtifactInfo:
        """What is known about the artifact without its rows."""
        ...

    def copy(self, backend: Backend, source: str, target: str) -> None:
        """Copy the artifact within the backend."""
        backend.copy(source, target)

    def copy_to(self, reader: ObjectReader, backend: Backend, key: str) -> None:
        """Copy the artifact to another backend, in bounded memory.

        Raises:
            InvalidMetadataError: Another program gave it metadata that not every store can carry.
            ObjectChangedError: It was overwritten meanwhile; nothing was written.
        """
        text, metadata = opened(reader)
        backend.write(key, text, content_type=self.format.content_type, metadata=metadata, overwrite=True)

    def remove(self, backend: Backend, key: str) -> None:
        """Remove the artifact."""
        backend.remove(key)
        self.tidy(backend, key)

    def tidy(self, backend: Backend, key: str) -> None:  # noqa: ARG002
        """Remove what belongs to an artifact whose own object is gone."""
        return

    def leftovers(self, keys: Iterable[str]) -> set[str]:  # noqa: ARG002
        """The artifacts that objects with these keys belong to, beside the artifacts' own objects."""
        return set()


def opened(reader: ObjectReader) -> tuple[Iterator[bytes], dict[str, str]]:
    """The bytes of an artifact to copy, a bounded piece at a time, and the caller's metadata of the same version.

    Raises:
        InvalidMetadataError: Another program gave it metadata that not every store can carry.
    """
    pieces = reader.pieces()
    first = [next(pieces)]
    return chained(first, pieces), check_metadata(without_reserved(reader.info.metadata))


def in_batches(
    tables: Iterator[tuple[pa.Table, bool]], rows: int, frame: Callable[[pa.Table, bool, int], Any]
) -> Iterator[Any]:
    """Tables of any number of rows as frames of so many; one empty frame where there are no rows.

    Args:
        tables: At least one, all of one schema, each with whether it has all the stored rows.
        rows: Rows of a frame; the last may have fewer.
        frame: Makes a frame of a table, of whether it has all the stored rows, and of how many come before it.
    """
    held: pa.Table | None = None
    whole, offset, bare = True, 0, 0
    for table, whole in tables:
        if not table.num_columns:
            # Arrow loses count of the rows when it slices or joins tables without columns.
            held, bare = table, bare + table.num_rows
            continue
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows > rows:
            yield frame(held.slice(0, rows), whole, offset)
            held, offset = held.slice(rows), offset + rows
    while held is not None and bare > offset:
        counted = pa.table({"": pa.nulls(min(rows, bare - offset))}).replace_schema_metadata(held.schema.metadata)
        yield frame(counted.select([]), whole, offset)
        offset += counted.num_rows
    if held is not None and not bare and (held.num_rows or not offset):
        yield frame(held, whole, offset)


def content_hash(frame: Any) -> str:
    """A hash of the frame: values, types, index and labels.

    The same frame has the same hash. Equal frames may have two, for example where their missing values hide other bits.
    """
    schema, tables = as_tables(frame)
    total = hashlib.sha256()
    with pa.PythonFile(_Sink(total), mode="w") as file, pa.ipc.new_stream(file, schema) as stream:
        for table in tables:
            stream.write_table(table)
    return total.hexdigest()


class _Sink(io.RawIOBase):
    """A file for PyArrow to write to, which only hashes."""

    def __init__(self, total: "_Hash") -> None:
        self._total = total

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._total.update(data)
        return len(data)
