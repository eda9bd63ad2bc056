"""Encodes one frame, or a stream of frames, as an artifact, and checks that it comes back equal."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TypeVar

import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames import arrow_encoding, streams
from clinops_prefect.frames.conversion.schemas import row_count
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.kinds import Frame
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.frames.turns import SMALL_BYTES, turn
from clinops_prefect.storage_format import StorageFormat

T = TypeVar("T")

METADATA_KEY = b"clinops.metadata"
# A CSV text must be complete before it is stored, because the sidecar, which is stored first, is named by its checksum.
_SPOOL_BYTES = 64 << 20
_CHUNK_BYTES = 4 << 20


@dataclass
class Encoded:
    """An encoded artifact.

    Attributes:
        chunks: The bytes, which can be consumed once.
        sidecar: The Table Schema of a CSV text; empty for Parquet.
        sha256: The checksum of a CSV text; empty for Parquet, which contains block checksums.
    """

    chunks: Iterator[bytes]
    sidecar: bytes = b""
    sha256: str = ""


def encode_frame(frame: Frame, format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    """Encode one frame.

    Args:
        frame: A frame of pandas or polars (a lazy frame is collected in batches), or any object that exports Arrow's C
            stream. The format must be able to keep its values, types, index and labels.
        format: Parquet or CSV.
        metadata: Short texts to keep in the file (Parquet) or in its sidecar (CSV).

    Raises:
        UnsupportedFrameError: The frame would not come back equal. For a stream, or for a nested column, the error
            may be raised while the chunks are consumed.
    """
    is_csv = format is StorageFormat.CSV
    if not streams.is_pandas(frame):
        return _encoded_stream(streams.stream_of(frame), format, metadata)
    from clinops_prefect.frames import pandas_encoding

    values = getattr(frame, "size", 0)
    with turn(8 * values if isinstance(values, int) else 0):
        table = pandas_encoding.stored_table(frame, as_text=is_csv)
        if is_csv:
            return _csv(table.schema, [table], metadata)
        chunks = parquet_writer.encode(table, _with_metadata(table.schema, metadata))
        # Encode a small frame now, within the turn: the chunks are consumed while they are sent.
        return Encoded(iter([*chunks]) if table.nbytes <= SMALL_BYTES else chunks)


def encode_batches(batches: "Iterable[Frame] | Frame", format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    """Encode several frames as one artifact. Memory holds about one row group.

    Args:
        batches: Frames of one kind with the same columns and types, for pandas also the same index levels. Default
            indexes are renumbered. Or one frame that yields batches: a lazy frame of polars, or a reader.
        format: Parquet or CSV. A CSV is first written to a temporary file.
        metadata: As in `encode_frame`.

    Raises:
        UnsupportedFrameError: There is no batch, or the first batch would not come back equal. For a later batch that
            does not fit the first, the error is raised while the chunks are consumed.
    """
    frames: Iterator[Frame] = iter([batches] if streams.is_frame(batches) else batches)
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
    """The metadata that the user gave for a Parquet artifact."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    with decoding("the metadata stored with the table cannot be read"):
        return {str(key): str(value) for key, value in json.loads(raw).items()} if raw else {}


def as_tables(frame: Frame) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """A frame in memory as a schema and tables that contain all of it, to be hashed."""
    if streams.is_pandas(frame):
        from clinops_prefect.frames.conversion.layout import pandas_frame, to_arrow

        table = to_arrow(pandas_frame(frame))
        return table.schema, iter([table])
    stream = streams.stream_of(frame)
    return arrow_encoding.described(stream), stream.tables


def _encoded_stream(stream: streams.TableStream, format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    is_csv = format is StorageFormat.CSV
    schema, tables = arrow_encoding.stored_tables(stream, as_text=is_csv)
    if not is_csv and arrow_encoding.is_kept_by_polars(stream, schema):
        full = _with_metadata(schema, metadata)
        return Encoded(parquet_writer.encode_polars(stream.frame, full, lambda: _in_slices(tables, full)))
    # Convert the first table now, so that most frames that cannot be stored are refused before anything is written.
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


def _in_slices(tables: Iterator[pa.Table], schema: pa.Schema) -> Iterator[bytes]:
    held = [next(tables)]
    return parquet_writer.encode_each(_row_groups(_again(held, tables)), schema, held[0])


def _again(held: list[T], rest: Iterator[T]) -> Iterator[T]:
    """Yield the item that was taken from an iterator, then the rest. `chain` would keep the item until the end."""
    yield held.pop()
    yield from rest


def _csv(schema: pa.Schema, tables: Iterable[pa.Table], metadata: dict[str, str]) -> Encoded:
    spool = _CsvSpool()
    for table in tables:
        spool.add(table)
        del table
    return spool.encoded(schema, metadata)


class _CsvSpool:
    """Collects a CSV text in a temporary file."""

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
        # A table without columns does not know its number of rows, but the layout does.
        self._rows += row_count(table.schema, table.num_rows)

    def encoded(self, schema: pa.Schema, metadata: dict[str, str]) -> Encoded:
        return Encoded(self._chunks(), csv_text.sidecar(schema, self._rows, metadata), self._sum.hexdigest())

    def _chunks(self) -> Iterator[bytes]:
        with self._file as file:
            file.seek(0)
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def _with_metadata(schema: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    kept = {METADATA_KEY: json.dumps(metadata).encode()} if metadata else {}
    return schema.with_metadata({**(schema.metadata or {}), **kept})


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small batches, so that ten thousand batches of one row do not become ten thousand row groups."""
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
