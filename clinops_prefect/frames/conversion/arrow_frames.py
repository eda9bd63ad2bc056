"""Converts Arrow tables to the tables that Parquet and CSV store, and back, also to polars frames. Never uses pandas.

Parquet has fewer types than Arrow: no text views, no run-end encoding, no dictionary of numbers, no seconds. Such a
column is stored as the closest type of Parquet, and a note in the schema's metadata keeps the caller's schema. pandas
and other programs read the stored types.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames import memory
from clinops_prefect.frames.conversion.extension_types import storage_of
from clinops_prefect.frames.conversion.schemas import bare_table, note_under
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.frames.text_types import is_text

if TYPE_CHECKING:
    import polars as pl

NOTE_KEY = b"clinops.frame"
# Keys with this prefix describe the stored file. On the caller's table they would become wrong once the table changes.
_RESERVED = b"clinops."
# Prefix of the keys in which polars describes its own types. We keep these types in our note instead.
_OF_POLARS = b"_PL_"
_UNREADABLE = "the note stored with the table cannot be read"


def stored_schema(
    schema: pa.Schema, *, kind: str = "arrow", dtypes: Mapping[str, Any] | None = None, dictionaries: Any = None
) -> pa.Schema:
    """The stored schema for tables of a schema, with a note about the caller's schema.

    Args:
        schema: The caller's schema. Its metadata under `clinops.…` keys describe another file and are dropped.
        kind: "arrow" or "polars".
        dtypes: Column -> description of a polars dtype that Arrow does not have.
        dictionaries: Column -> whole dictionary, for columns that have one.

    Raises:
        UnsupportedFrameError: A column has an extension type that is not registered.
    """
    dictionaries = dictionaries or {}
    given = without_ours(schema)
    note = {
        "kind": kind,
        "schema": base64.b64encode(_serialized(given)).decode(),
        "dtypes": dict(dtypes or {}),
        "dictionaries": {name: packed(values) for name, values in dictionaries.items()},
    }
    fields = [
        pa.field(field.name, _storable(field.type, top=True), field.nullable, _without(field.metadata, _OF_POLARS))
        for field in given
    ]
    # pyarrow's writer adds this key, and its reader takes the first one. The note keeps the caller's.
    metadata = {key: value for key, value in (given.metadata or {}).items() if key != b"ARROW:schema"}
    return pa.schema(fields, {**metadata, NOTE_KEY: json.dumps(note).encode()})


def to_stored(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The column with the type in which it is stored.

    Raises:
        pa.ArrowException: The column cannot be converted without loss.
    """
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(column.type):
        column = pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], column.type.value_type)
    if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(kind):
        column = column.cast(column.type.value_type)
    return column if column.type == kind else column.cast(kind)


def note_of(schema: pa.Schema) -> dict[str, Any] | None:
    """The note that `stored_schema` wrote; None in the schema of a pandas frame, or of another program.

    Raises:
        ArtifactDecodeError: The note cannot be read.
    """
    return note_under(NOTE_KEY, schema, _UNREADABLE, _check_note)


def _check_note(note: dict[str, Any]) -> None:
    if not all(isinstance(note[part], dict) for part in ("dtypes", "dictionaries")):
        raise TypeError


def dictionaries_of(schema: pa.Schema) -> dict[str, pa.Array]:
    """Field -> whole dictionary, for the fields whose dictionary is in the note."""
    note = note_of(schema)
    with decoding(_UNREADABLE):
        return {name: unpacked(values) for name, values in note["dictionaries"].items()} if note else {}


def made(table: pa.Table, kind: FrameKind, where: str) -> "pl.DataFrame | pa.Table":
    """The frame of this kind that was stored as a table.

    Args:
        table: A stored table with the stored schema. It may have only some of the columns and rows.
        kind: "arrow" or "polars".
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: The kind cannot represent a column, or the note contradicts the table.
    """
    if kind == "polars":
        from clinops_prefect.frames.conversion import polars_frames

        return polars_frames.made(table, note_of(table.schema), where)
    note = note_of(table.schema)
    if note is None:
        kept = _without(table.schema.metadata, _RESERVED)
        return table.replace_schema_metadata(kept) if table.num_columns else bare_table(table.num_rows, kept)
    with decoding(f"{where}: the stored note does not fit the stored table", where):
        given = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(note["schema"])))
        fields = [given.field(name) for name in table.column_names]
        memory.check(memory.least_bytes(fields, table.num_rows), where)
        known = dictionaries_of(table.schema)
        columns = [from_stored(table.column(f.name), f.type, known.get(f.name)) for f in fields]
        if not fields:
            return bare_table(table.num_rows, given.metadata)
        return pa.Table.from_arrays(columns, schema=pa.schema(fields, given.metadata))


def from_stored(column: pa.ChunkedArray, kind: pa.DataType, dictionary: pa.Array | None = None) -> pa.ChunkedArray:
    """The column with the caller's type.

    Args:
        column: The stored column.
        kind: The caller's type.
        dictionary: The whole dictionary of the caller's column, if the note has it.

    Raises:
        pa.ArrowException: The column does not fit the type.
    """
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(kind):
        plain = from_stored(column, kind.value_type)
        # A chunk has at most as many rows as its run ends can count, and may have been joined from several.
        most = (1 << (kind.run_end_type.bit_width - 1)) - 1
        parts = (chunk.slice(at, most) for chunk in plain.chunks for at in range(0, max(1, len(chunk)), most))
        return pa.chunked_array([pc.run_end_encode(part, kind.run_end_type) for part in parts], kind)
    if not pa.types.is_dictionary(kind):
        return column if column.type == kind else column.cast(kind)
    known = categories_of([column], kind.value_type) if dictionary is None else dictionary.cast(kind.value_type)
    chunks = []
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            places = pc.index_in(chunk.dictionary.cast(kind.value_type), value_set=known).take(chunk.indices)
        else:
            places = pc.index_in(chunk.cast(kind.value_type), value_set=known)
        places = pc.if_else(chunk.is_valid(), places, pa.nulls(len(chunk), places.type))
        if places.null_count > chunk.null_count:
            raise pa.ArrowInvalid("a value that is not in the dictionary")
        chunks.append(pa.DictionaryArray.from_arrays(places.cast(kind.index_type), known, ordered=kind.ordered))
    return pa.chunked_array(chunks, kind)


def categories_of(columns: Iterable[pa.ChunkedArray], kind: pa.DataType) -> pa.Array:
    """The distinct values of dictionary columns, in order of first appearance.

    Args:
        columns: The column in several row groups. Each may have its own dictionaries, or none.
        kind: The type of the values.
    """
    # Keep the dictionaries without the rows, so that a column is freed before the next one is made.
    parts = []
    for column in columns:
        for chunk in column.chunks:
            encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            values = encoded.dictionary.cast(kind)
            parts.append(pa.DictionaryArray.from_arrays(pa.nulls(0, pa.int32()), values))
    if not parts:
        return pa.nulls(0, kind)
    return pa.chunked_array(parts).unify_dictionaries().chunk(0).dictionary


def leaves(array: pa.Array) -> list[pa.Array]:
    """The innermost arrays of a nested array, extension types as their storage. For a flat array, the array itself."""
    # Arrow has no kernels that flatten a list of extension types.
    array = storage_of(pa.chunked_array([array])).chunk(0)
    kind = array.type
    if pa.types.is_struct(kind):
        return [leaf for child in array.flatten() for leaf in leaves(child)]
    if pa.types.is_map(kind):
        return leaves(array.keys) + leaves(array.items)
    return leaves(array.flatten()) if pa.types.is_nested(kind) else [array]


def packed(values: pa.Array) -> str:
    """A few values as text: an Arrow stream in base64."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_arrays([values], ["categories"])
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue()).decode()


def unpacked(text: str) -> pa.Array:
    """The values that `packed` encoded."""
    return pa.ipc.open_stream(base64.b64decode(text)).read_all().column(0).combine_chunks()


def without_ours(schema: pa.Schema) -> pa.Schema:
    """The schema without the metadata that describe a stored file."""
    return schema.with_metadata(_without(schema.metadata, _RESERVED))


def _serialized(schema: pa.Schema) -> bytes:
    data = schema.serialize()
    for field, kept in zip(schema, pa.ipc.read_schema(data), strict=True):
        if kept.type != field.type:
            raise UnsupportedFrameError(
                f"column {field.name!r} ({field.type}) has an extension type that Arrow does not know here; call "
                "pyarrow.register_extension_type with it, here and where it is read, or pass the column's storage"
            )
    found: bytes = data.to_pybytes()
    return found


def _without(metadata: Mapping[bytes, bytes] | None, prefix: bytes) -> dict[bytes, bytes] | None:
    return {key: value for key, value in (metadata or {}).items() if not key.startswith(prefix)} or None


def _storable(kind: pa.DataType, *, top: bool = False) -> pa.DataType:
    """The type in which Parquet stores these values."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        found = kind  # first, because an extension type is often not hashable and so no key for `_PLAINER`
    elif types.is_run_end_encoded(kind):
        found = _storable(kind.value_type)
    elif types.is_dictionary(kind):
        value = _storable(kind.value_type)
        # pandas and polars read a dictionary as a category. Parquet has dictionaries only for texts at the top level.
        found = pa.dictionary(pa.int32(), value, kind.ordered) if top and is_text(value) else value
    elif types.is_list(kind):
        found = pa.list_(_of(kind.value_field))
    elif types.is_large_list(kind):
        found = pa.large_list(_of(kind.value_field))
    elif types.is_fixed_size_list(kind):
        found = pa.list_(_of(kind.value_field), kind.list_size)
    elif types.is_map(kind):
        found = pa.map_(_storable(kind.key_type), _of(kind.item_field), kind.keys_sorted)
    elif types.is_struct(kind):
        found = pa.struct([_of(kind.field(position)) for position in range(kind.num_fields)])
    elif types.is_decimal(kind) and kind.bit_width < 128:
        found = pa.decimal128(kind.precision, kind.scale)
    elif types.is_timestamp(kind) and kind.unit == "s":
        found = pa.timestamp("ms", kind.tz)
    else:
        found = _PLAINER.get(kind, kind)
    return found


def _of(field: pa.Field) -> pa.Field:
    return pa.field(field.name, _storable(field.type), field.nullable)


_PLAINER = {
    pa.string_view(): pa.large_string(),
    pa.binary_view(): pa.large_binary(),
    pa.time32("s"): pa.time32("ms"),
    pa.date64(): pa.date32(),
}
