"""Arrow tables <-> the tables that Parquet and CSV store, and stored tables -> polars frames; pandas has no part in it.

Parquet has fewer types than Arrow: no text views, no run-end encoding, no dictionary of numbers, no seconds. Such a
column is stored as the next type that Parquet has, and the schema that the caller had is kept beside it, as a note in
the schema's metadata. Another program, and pandas, reads the stored types.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames import memory
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.kinds import FrameKind

NOTE_KEY = b"clinops.frame"
# Our keys describe the stored file. On a table they would contradict what the caller makes of it.
_RESERVED = b"clinops."
# What polars writes into the fields of a table about its own types, of which ours are kept otherwise.
_OF_POLARS = b"_PL_"


def stored_schema(
    schema: pa.Schema, *, kind: str = "arrow", dtypes: Mapping[str, Any] | None = None, dictionaries: Any = None
) -> pa.Schema:
    """The schema as which tables of a schema are stored, with a note of what they were.

    Args:
        schema: The caller's; metadata whose keys begin with `clinops.` describe another file, and are dropped.
        kind: "arrow" or "polars".
        dtypes: Column -> description of a polars dtype that Arrow does not have.
        dictionaries: Column -> its whole dictionary, of columns that have one.

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
    return pa.schema(fields, {**(given.metadata or {}), NOTE_KEY: json.dumps(note).encode()})


def to_stored(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The column in the type in which it is stored.

    Raises:
        pa.ArrowException: It cannot be converted, or not without loss.
    """
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(column.type):
        column = pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], column.type.value_type)
    if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(kind):
        column = column.cast(column.type.value_type)
    return column if column.type == kind else column.cast(kind)


def note_of(schema: pa.Schema) -> dict[str, Any] | None:
    """The note that `stored_schema` left; None in a schema that is a pandas frame's, or another program's.

    Raises:
        ArtifactDecodeError: There is one, and it cannot be read.
    """
    raw = (schema.metadata or {}).get(NOTE_KEY)
    if raw is None:
        return None
    with decoding("the note stored with the table cannot be read"):
        note: dict[str, Any] = json.loads(raw)
        if not all(isinstance(note[part], dict) for part in ("dtypes", "dictionaries")):
            raise TypeError
        return note


def dictionaries_of(schema: pa.Schema) -> dict[str, pa.Array]:
    """Field -> its whole dictionary, as far as the note has them."""
    note = note_of(schema)
    with decoding("the note stored with the table cannot be read"):
        return {name: unpacked(values) for name, values in note["dictionaries"].items()} if note else {}


def made(table: pa.Table, kind: FrameKind, where: str) -> Any:
    """The frame of a kind.

    Args:
        table: A stored table, with the stored schema; columns and rows may have been left out.
        kind: "arrow" or "polars".
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: The kind has no such columns, or the note contradicts the table.
    """
    if kind == "polars":
        from clinops_prefect.frames.conversion import polars_frames

        return polars_frames.made(table, note_of(table.schema), where)
    note = note_of(table.schema)
    if note is None:
        return table.replace_schema_metadata(_without(table.schema.metadata, _RESERVED))
    with decoding(f"{where}: the stored note does not fit the stored table", where):
        given = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(note["schema"])))
        fields = [given.field(name) for name in table.column_names]
        memory.check(memory.least_bytes(fields, table.num_rows), where)
        known = dictionaries_of(table.schema)
        columns = [from_stored(table.column(f.name), f.type, known.get(f.name)) for f in fields]
        if not fields:
            return table.select([]).replace_schema_metadata(given.metadata)  # which has not lost count of its rows
        return pa.Table.from_arrays(columns, schema=pa.schema(fields, given.metadata))


def from_stored(column: pa.ChunkedArray, kind: pa.DataType, dictionary: pa.Array | None = None) -> pa.ChunkedArray:
    """The column in the caller's type.

    Args:
        column: The stored column.
        kind: The caller's type.
        dictionary: The whole dictionary of the caller's column, if it was noted.

    Raises:
        pa.ArrowException: The column does not fit the type.
    """
    import pyarrow.compute as pc

    if pa.types.is_run_end_encoded(kind):
        plain = from_stored(column, kind.value_type)
        return pa.chunked_array([pc.run_end_encode(chunk, kind.run_end_type) for chunk in plain.chunks], kind)
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
    """The values of dictionary columns, in the order in which they come up.

    Args:
        columns: Parts of a column, which may each have dictionaries of their own, or none.
        kind: The type of the values.
    """
    # Without their rows, so that no column is kept while the next one is made.
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
    """The arrays of what is inside, at any depth; of an array that is not nested, itself."""
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
    """The values that `packed` was given."""
    return pa.ipc.open_stream(base64.b64decode(text)).read_all().column(0).combine_chunks()


def without_ours(schema: pa.Schema) -> pa.Schema:
    """The schema without what describes a stored file."""
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
    """The type as which Parquet has these values."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        found = kind  # one that a program made has often no hash, and is no key
    elif types.is_run_end_encoded(kind):
        found = _storable(kind.value_type)
    elif types.is_dictionary(kind):
        value = _storable(kind.value_type)
        is_text = types.is_string(value) or types.is_large_string(value)
        # As a dictionary it is a category to pandas and polars; Parquet has none of other types, nor within others.
        found = pa.dictionary(pa.int32(), value, kind.ordered) if top and is_text else value
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
