"""Converts streams of Arrow tables to stored tables, and checks for each table that it comes back equal."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, count
from typing import Any

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.conversion.valid_texts import holds_broken_text
from clinops_prefect.frames.hashing import arrow as arrow_hash
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.frames.parquet.reader import ParquetReader
from clinops_prefect.frames.streams import TableStream, is_pandas, slices, stream_of

# The types that Parquet and our reader keep exactly, so that no values must be read back to check.
_EXACT = {
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.float32(), pa.float64(), pa.bool_(), pa.date32(), pa.null()),
    *(pa.string(), pa.large_string(), pa.binary(), pa.large_binary()),
    *(kind(unit) for kind in (pa.timestamp, pa.duration) for unit in ("ms", "us", "ns")),
    *(pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
}
# OSError is included, because Parquet raises it to refuse a type, such as a decimal with a negative scale.
_ERRORS = (pa.ArrowException, ArtifactDecodeError, ValueError, TypeError, OverflowError, OSError)


def stored_tables(stream: TableStream, *, as_text: bool = False) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """The stored schema of a stream, and its tables with this schema. Each table is checked to come back equal.

    Args:
        stream: The stream.
        as_text: Whether the tables are written as CSV, which has its own check.

    Raises:
        UnsupportedFrameError: A column cannot be stored. For a column that would not come back equal, the error is
            raised while the tables are consumed.
    """
    dictionaries = stream.dictionaries
    try:
        schema = arrow_frames.stored_schema(
            stream.schema, kind=stream.kind, dtypes=stream.dtypes, dictionaries=dictionaries
        )
    except pa.ArrowException:
        raise _unreadable(stream.schema) from None
    if as_text:
        schema = _without_unknown_dictionaries(schema, dictionaries)
    _check_writable(schema)
    return schema, _converted(stream, schema, proven=not as_text)


def is_kept_by_polars(stream: TableStream, schema: pa.Schema) -> bool:
    """Whether Polars' writer keeps all values of the stream exactly, so that none must be read back to check."""
    if stream.frame is None or stream.dtypes or not schema.names:
        return False
    # A zone of polars is a name, which the schema keeps. The values are stored in UTC.
    is_kept = all(_is_exact(field.type) or pa.types.is_timestamp(field.type) for field in schema)
    return is_kept and parquet_writer.takes_polars(stream.frame, schema)


def described(stream: TableStream) -> pa.Schema:
    """The stream's schema, with a description of the polars dtypes that Arrow does not have."""
    given = arrow_frames.without_ours(stream.schema)
    return given.with_metadata({**(given.metadata or {}), b"dtypes": json.dumps(stream.dtypes).encode()})


def batched(frames: Iterable[Any]) -> TableStream:
    """Frames of one kind and schema as one stream.

    Raises:
        UnsupportedFrameError: A frame does not fit the first. For a later frame, the error is raised while the tables
            are consumed.
    """
    each = iter(frames)
    first = stream_of(next(each))
    # Only ordered dictionaries must be the same in all frames. Others may grow, since later frames are not known yet.
    ordered = [f.name for f in first.schema if pa.types.is_dictionary(f.type) and f.type.ordered]
    known = {name: values for name, values in first.dictionaries.items() if name in ordered}

    def tables() -> Iterator[pa.Table]:
        yield from first.tables
        numbers = count(2)
        for frame in each:
            stream, number = stream_of(frame), next(numbers)
            if stream.kind != first.kind:
                kind = "pandas" if is_pandas(frame) else stream.kind
                raise UnsupportedFrameError(
                    f"batch {number} is a frame of {kind}, and the first is one of {first.kind}"
                )
            _check_fits(stream, first, known, number)
            yield from stream.tables

    return TableStream(first.kind, first.schema, tables(), first.dtypes, known)


def _check_fits(stream: TableStream, first: TableStream, known: dict[str, pa.Array], number: int) -> None:
    if stream.schema.names != first.schema.names:
        raise UnsupportedFrameError(f"batch {number} has other columns, or another order of them, than the first")
    for name in first.schema.names:
        same = stream.schema.field(name).equals(first.schema.field(name)) and (
            stream.dtypes.get(name) == first.dtypes.get(name)
        )
        if not same or (name in known and not known[name].equals(stream.dictionaries.get(name))):
            raise UnsupportedFrameError(
                f"batch {number}: column {name!r} ({stream.schema.field(name).type}) has another type, or other "
                "categories, than in the first batch; give every batch the same, with .cast(…)"
            )
    if stream.schema.metadata != first.schema.metadata:
        raise UnsupportedFrameError(f"batch {number} has another schema metadata than the first")


def _converted(stream: TableStream, schema: pa.Schema, *, proven: bool) -> Iterator[pa.Table]:
    tables, sizes = stream.tables, _DictionarySizes(stream)
    # Convert slices, so that the converted copy is never as large as the frame.
    for part in chain.from_iterable(slices(table) for table in tables):
        if not schema.names and part.num_rows:
            raise UnsupportedFrameError("a frame of rows without columns cannot be kept; give it a column")
        columns = []
        for field, column in zip(schema, part.columns, strict=True):
            given = stream.schema.field(field.name)
            sizes.add(given, column)
            columns.append(_stored(column, field, given, stream, proven=proven))
        yield pa.Table.from_arrays(columns, schema=schema) if columns else schema.empty_table()
        del part, columns


class _DictionarySizes:
    """Refuses a stream whose dictionaries together have more values than the index type can count."""

    def __init__(self, stream: TableStream) -> None:
        self._known = stream.dictionaries
        self._seen: dict[str, pa.ChunkedArray] = {}

    def add(self, field: pa.Field, column: pa.ChunkedArray) -> None:
        kind = field.type
        if not pa.types.is_dictionary(kind) or field.name in self._known or kind.index_type.bit_width > 16:
            return
        before = self._seen.get(field.name)
        parts = [column] if before is None else [before, column]
        values = arrow_frames.categories_of(parts, kind.value_type)
        if len(values) > 1 << (kind.index_type.bit_width - pa.types.is_signed_integer(kind.index_type)):
            raise UnsupportedFrameError(
                f"column {field.name!r} ({kind}) has more categories in all than its index type can count; cast "
                "it to a wider one"
            )
        self._seen[field.name] = pa.chunked_array([values])


def _stored(
    column: pa.ChunkedArray, field: pa.Field, given: pa.Field, stream: TableStream, *, proven: bool
) -> pa.ChunkedArray:
    dtype = stream.dtypes.get(field.name)
    if stream.kind == "arrow":
        _check_valid(column, given)
    try:
        stored = arrow_frames.to_stored(column, field.type)
        if dtype is None and field.type == given.type and _is_exact(field.type):
            return stored
        if proven or field.type != given.type:
            again = _through_parquet(stored, field) if proven else stored
            _prove(column, again, given, stream)
    except _ERRORS:
        raise _refused(field.name, given.type) from None
    return stored


def _check_valid(column: pa.ChunkedArray, field: pa.Field) -> None:
    if column.null_count and not field.nullable:
        raise UnsupportedFrameError(
            f"column {field.name!r} ({field.type}) is declared as never null, and has nulls; declare it nullable, with "
            ".cast(…)"
        )
    if holds_broken_text(column):
        raise UnsupportedFrameError(
            f"column {field.name!r} ({field.type}) has texts that are not UTF-8; cast it to pa.binary(), or decode the "
            "bytes with the encoding that they have"
        )


def _prove(column: pa.ChunkedArray, again: pa.ChunkedArray, given: pa.Field, stream: TableStream) -> None:
    """Raise an error if the column that was read back differs."""
    name = given.name
    if not again.num_chunks:  # a stored column that is read always has a chunk
        again = pa.chunked_array([pa.nulls(0, again.type)])
    back = arrow_frames.from_stored(again, given.type, stream.dictionaries.get(name))
    if back.type != column.type or _content(back) != _content(column):
        raise ValueError("another column")
    if description := stream.dtypes.get(name):
        from clinops_prefect.frames.conversion import polars_frames

        frame = polars_frames.made(pa.Table.from_arrays([again], [name]), {"dtypes": {name: description}}, "")
        if _content(polars_frames.to_arrow(frame).column(0)) != _content(column):
            raise ValueError("another column")


def _content(column: pa.ChunkedArray) -> bytes:
    return b"".join(arrow_hash.column(column, lambda values: repr(values).encode()))


def _through_parquet(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    table = pa.Table.from_arrays([column], schema=pa.schema([field]))
    data = b"".join(parquet_writer.encode_each([table], table.schema, table))
    return ParquetReader.of(data, "").stored_table().column(0)


def _is_exact(kind: pa.DataType) -> bool:
    # An extension type is often not hashable.
    return not isinstance(kind, pa.BaseExtensionType) and kind in _EXACT


def _check_writable(schema: pa.Schema) -> None:
    for field in schema:
        if _is_exact(field.type):
            continue
        try:
            table = pa.Table.from_arrays([pa.nulls(0, field.type)], schema=pa.schema([field]))
            for _ in parquet_writer.encode_each([table], table.schema, table):
                pass
        except _ERRORS:
            raise _refused(field.name, field.type) from None


def _without_unknown_dictionaries(schema: pa.Schema, known: dict[str, pa.Array]) -> pa.Schema:
    for position, field in enumerate(schema):
        if pa.types.is_dictionary(field.type) and field.name not in known:
            schema = schema.set(position, field.with_type(field.type.value_type))
    return schema


def _unreadable(schema: pa.Schema) -> UnsupportedFrameError:
    """The error for a schema that Arrow cannot read back, as with a dictionary of an extension type."""
    for field in schema:
        try:
            pa.ipc.read_schema(pa.schema([field]).serialize())
        except pa.ArrowException:
            break
    return _refused(field.name, field.type)


def _refused(name: str, kind: pa.DataType) -> UnsupportedFrameError:
    return UnsupportedFrameError(
        f"column {name!r} ({kind}) would not come back equal from Parquet, or cannot be written; cast it to a type "
        "that Parquet has, or leave it out"
    )
