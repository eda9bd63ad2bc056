"""Parquet artifacts: one self-contained object each."""

import sys
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from clinops_prefect.artifacts.codec import Codec
from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.conversion.schemas import row_count
from clinops_prefect.frames.csv.options import CsvOptions
from clinops_prefect.frames.encoding import Encoded, metadata_of
from clinops_prefect.frames.kinds import FrameKind, ReadFrame
from clinops_prefect.frames.parquet import reader as parquet_reader
from clinops_prefect.frames.parquet.row_labels import LabelledReader, with_labels
from clinops_prefect.frames.selection.selection import Selection
from clinops_prefect.frames.turns import turn
from clinops_prefect.names import without_reserved
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage_format import StorageFormat

if TYPE_CHECKING:
    from clinops_prefect.frames.selection.filters import Filters

# The number of last bytes that the first request for chosen columns fetches. Wide frames have long footers: 700 kB for
# four row groups of 1,000 columns. On a network with latency, a second request for the rest would take longer.
_COLUMNS_BYTES = 880 << 10


class ParquetCodec(Codec):
    """Stores a frame as one self-contained Parquet object."""

    format = StorageFormat.PARQUET

    def write(self, backend: Backend, key: str, encoded: Encoded, metadata: dict[str, str], overwrite: bool) -> None:
        """Store an encoded artifact."""
        # The metadata is in the file already. As object metadata, the provider's own tools show it too.
        content_type = StorageFormat.PARQUET.content_type
        backend.write(key, encoded.chunks, content_type=content_type, metadata=metadata, overwrite=overwrite)

    def download(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,  # noqa: ARG002
        kind: FrameKind = "pandas",
    ) -> ReadFrame:
        """Read the frame, or the selected part of it. Only the bytes of that part are fetched."""
        if columns is None and filters is None:
            end = reader.tail(parquet_reader.WHOLE_BYTES)
            # Without the whole file, the reader would wait for the network within the turn.
            size = len(end) if len(end) == reader.size else sys.maxsize
            with turn(size):
                whole = _reader(reader, end)
            # A large frame of few distinct values has a small file.
            with turn(max(size, 8 * whole.rows * len(whole.stored_schema))):
                return whole.frame() if kind == "pandas" else arrow_frames.made(whole.stored_table(), kind, reader.uri)
        stored = _open(reader, parquet_reader.TAIL_BYTES if columns is None else _COLUMNS_BYTES)
        if kind != "pandas":
            chosen = Selection(stored.stored_schema, columns, filters, reader.uri, by_field=True)
            table = stored.read_stored(stored.groups(chosen.of_groups), chosen.read)
            return arrow_frames.made(chosen.apply(table), kind, reader.uri)
        chosen = Selection(stored.schema, columns, filters, reader.uri)
        if chosen.expression is None:
            return stored.some(chosen.read)
        from clinops_prefect.frames.conversion.frame_builder import to_frame

        # No variable references the table, so its columns are freed as the frame is filled.
        return to_frame(chosen.apply(stored.read(stored.groups(chosen.of_groups), chosen.read)), whole=chosen.whole)

    def iter_tables(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,  # noqa: ARG002
        kind: FrameKind = "pandas",
    ) -> Iterator[tuple[pa.Table, bool]]:
        """Yield each row group as soon as it has arrived, with a flag: whether its rows are unfiltered."""
        stored = _open(reader)
        is_pandas = kind == "pandas"
        schema, read = (stored.schema, stored.read) if is_pandas else (stored.stored_schema, stored.read_stored)
        chosen = Selection(schema, columns, filters, reader.uri, by_field=not is_pandas)
        groups = stored.groups(chosen.of_groups)
        # Without row groups we still yield an empty table, because the caller needs its columns.
        for wanted in [[group] for group in groups] or [[]]:
            yield chosen.apply(read(wanted, chosen.read)), chosen.whole

    def info(self, reader: ObjectReader) -> ArtifactInfo:
        """Describe the artifact from its footer and the answer to HEAD."""
        from clinops_prefect.frames.pandas_encoding import dtypes_of

        stored = _open(reader, parquet_reader.STAT_BYTES, footer_only=True)
        return ArtifactInfo(
            uri=reader.uri,
            bytes=reader.info.size,
            rows=row_count(stored.schema, stored.rows),
            schema=dtypes_of(stored.schema),
            created=reader.created,
            metadata=metadata_of(stored.schema) or without_reserved(reader.info.metadata),
            version=reader.info.version,
        )


def _open(
    reader: ObjectReader, tail: int = parquet_reader.TAIL_BYTES, *, footer_only: bool = False
) -> "parquet_reader.ParquetReader | LabelledReader":
    return _reader(reader, reader.tail(tail), footer_only=footer_only)


def _reader(
    reader: ObjectReader, end: bytes, *, footer_only: bool = False
) -> "parquet_reader.ParquetReader | LabelledReader":
    return with_labels(
        parquet_reader.ParquetReader(reader.fetch, end, reader.size, reader.uri, footer_only=footer_only)
    )
