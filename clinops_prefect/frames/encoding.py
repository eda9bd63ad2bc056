"""What a store writes: one frame, or a stream of frames, encoded and known to come back equal."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames import arrow_encoding, streams
from clinops_prefect.frames.conversion.schemas import row_count
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.storage_format import StorageFormat

METADATA_KEY = b"clinops.metadata"
# A CSV must be complete before the first byte of it is stored, because its checksum names its sidecar.
_SPOOL_BYTES = 64 << 20
_PIECE_BYTES = 4 << 20


@dataclass
class Encoded:
    """An encoded artifact.

    Attributes:
        chunks: Its bytes, to be consumed once.
        sidecar: The Table Schema of a CSV; empty for Parquet.
        sha256: The checksum of a CSV; empty for Parquet, which carries its own.
    """

    chunks: Iterator[bytes]
    sidecar: bytes = b""
    sha256: str = ""


def encode_frame(frame: Any, format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    """Encode one frame.

    Args:
        frame: Any frame whose values, types, index and labels the format can carry: pandas', polars' (a lazy one is
            collected in batches), or one that exports Arrow's C stream.
        format: Parquet or CSV.
        metadata: Kept in the file (Parquet) or in its sidecar (CSV).

    Raises:
        UnsupportedFrameError: The frame would not come back equal. Of a stream, or of a nested column, it may be raised
            while the chunks are consumed.
    """
    is_csv = format is StorageFormat.CSV
    if not streams.is_pandas(frame):
        return _encoded_stream(streams.stream_of(frame), format, metadata)
    from clinops_prefect.frames import pandas_encoding

    table = pandas_encoding.stored_table(frame, as_text=is_csv)
    if is_csv:
        return _csv(table.schema, [table], metadata)
    return Encoded(parquet_writer.encode(table, _with_metadata(table.schema, metadata)))


def encode_batches(batches: Any, format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    """Encode frames that make one artifact together, holding about one row group of them in memory.

    Args:
        batches: Frames of one kind, with the same columns and types, in pandas also the same index levels. Default
            indexes are renumbered. Or one frame that comes in batches by itself: a lazy frame of polars, a reader.
        format: Parquet or CSV. A CSV passes through a temporary file.
        metadata: As in `encode_frame`.

    Raises:
        UnsupportedFrameError: There is no batch, or the first would not come back equal. A later batch that does not
            fit the first raises it while the chunks are consumed.
    """
    frames = iter([batches] if streams.is_frame(batches) else batches)
    try:
        first = next(frames)
    except StopIteration:
        raise UnsupportedFrameError(
            "there is no batch to upload; an empty artifact needs one empty frame, for its columns"
        ) from None
    is_pandas, is_csv = streams.is_pandas(first), format is StorageFormat.CSV
    held = [first]
    del first
    frames = _again(held, frames)
    if not is_pandas:
        return _encoded_stream(arrow_encoding.batched(frames), format, metadata)
    from clinops_prefect.frames import pandas_encoding

    schema, tables, sample = pandas_encoding.stored_batches(frames, as_text=is_csv)
    if is_csv:
        del sample
        return _csv(schema, tables, metadata)
    return Encoded(parquet_writer.encode_each(_row_groups(tables), _with_metadata(schema, metadata), sample))


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """The metadata that a Parquet artifact was uploaded with."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    with decoding("the metadata stored with the table cannot be read"):
        return {str(key): str(value) for key, value in json.loads(raw).items()} if raw else {}


def as_tables(frame: Any) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """Tables that say all about a frame that is in memory, for a hash of it."""
    if streams.is_pandas(frame):
        from clinops_prefect.frames.conversion.layout import to_arrow

        table = to_arrow(frame)
        return table.schema, iter([table])
    stream = streams.stream_of(frame)
    return arrow_encoding.described(stream), stream.tables


def _encoded_stream(stream: streams.TableStream, format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    is_csv = format is StorageFormat.CSV
    schema, tables = arrow_encoding.stored_tables(stream, as_text=is_csv)
    # The first one now: what cannot be stored is refused before anything is begun.
    sample = next(tables, None)
    if sample is None:
        sample = pa.Table.from_batches([], schema=schema)
    held = [sample]
    if is_csv:
        del sample
        return _csv(schema, _again(held, tables), metadata)
    return Encoded(
        parquet_writer.encode_each(_row_groups(_again(held, tables)), _with_metadata(schema, metadata), sample)
    )


def _again(held: list[Any], rest: Iterator[Any]) -> Iterator[Any]:
    """What was taken from an iterator, and the rest of it; not `chain`, which keeps the first one until it ends."""
    yield held.pop()
    yield from rest


def _csv(schema: pa.Schema, tables: Iterable[pa.Table], metadata: dict[str, str]) -> Encoded:
    spool = _CsvSpool()
    for table in tables:
        spool.add(table)
        del table
    return spool.encoded(schema, metadata)


class _CsvSpool:
    """A CSV in the making."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._sum = hashlib.sha256()
        self._rows = 0
        self._begun = False

    def add(self, table: pa.Table) -> None:
        data = csv_text.encode(table, header=not self._begun)
        self._begun = True
        self._sum.update(data)
        self._file.write(data)
        # A table without columns has lost count of its rows.
        self._rows += row_count(table.schema, table.num_rows)

    def encoded(self, schema: pa.Schema, metadata: dict[str, str]) -> Encoded:
        return Encoded(self._chunks(), csv_text.sidecar(schema, self._rows, metadata), self._sum.hexdigest())

    def _chunks(self) -> Iterator[bytes]:
        with self._file as file:
            file.seek(0)
            while piece := file.read(_PIECE_BYTES):
                yield piece


def _with_metadata(schema: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    kept = {METADATA_KEY: json.dumps(metadata).encode()} if metadata else {}
    return schema.with_metadata({**(schema.metadata or {}), **kept})


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Small batches together, so that ten thousand of one row do not become ten thousand row groups."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        del table
        if parquet_writer.is_a_group(held):
            whole = pa.concat_tables(held)
            held = []
            yield whole
            del whole
    if held:
        yield pa.concat_tables(held)
