"""Converts Arrow tables to CSV text and a sidecar that restores the types, and back.

The text is for tools that cannot read Parquet. Values are quoted only if necessary, a missing value is empty and
unquoted, and an empty text is `""`. The sidecar is a Frictionless Table Schema
(https://datapackage.org/standard/table-schema/) with the Arrow schema as a custom property, and with its own checksum.
"""

import base64
import json
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv

from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames import memory
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.hashing import arrow as arrow_hash
from clinops_prefect.frames.memory import arrow_owned

# The streaming reader holds about ten such blocks in memory. A row must fit into one block; the upload refuses others.
_BLOCK_BYTES = 4 << 20
_PARSE = csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
_FRICTIONLESS: list[tuple[Any, str]] = [
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "integer"),
    (pa.types.is_duration, "integer"),
    (pa.types.is_floating, "number"),
    (pa.types.is_decimal, "number"),
    (pa.types.is_timestamp, "datetime"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
]


def encode(table: pa.Table, *, header: bool = True) -> memoryview:
    """The table as CSV, read back and compared before it is returned.

    Raises:
        UnsupportedFrameError: A column would not come back equal from CSV.
    """
    try:
        text = _plain(table)
        data = _written(text) if text.num_columns else pa.py_buffer(b"")
        # Compare as text, because the dictionary may have another order. The layout restores the order of the
        # categories.
        again = _plain(decode(data, table.schema, ""))
    except (ArtifactDecodeError, pa.ArrowException):
        again = None  # Arrow cannot write every type as text
    if again is None or again.num_rows != table.num_rows:
        # The reader does not say which column failed, so try the columns one by one.
        for name in table.column_names if table.num_columns > 1 else ():
            encode(table.select([name]))
        which = f"column {table.column_names[0]!r}" if table.num_columns == 1 else "the frame"
        raise UnsupportedFrameError(f"{which} would not come back equal from CSV; use StorageFormat.PARQUET")
    for name in table.column_names:
        if not _same(text.column(name), again.column(name)):
            raise UnsupportedFrameError(
                f"column {name!r} would not come back equal from CSV; use StorageFormat.PARQUET"
            )
    return memoryview(data)[0 if header else len(_written(text.slice(0, 0))) :]


def decode(data: bytes | bytearray | memoryview | pa.Buffer, schema: pa.Schema, where: str) -> pa.Table:
    """The table that `encode` made the text from.

    Raises:
        ArtifactDecodeError: The text does not fit the schema.
    """
    if not schema.names:
        return schema.empty_table()
    with _decoding(where):
        options = _convert_options(schema)
        text = csv.read_csv(arrow_owned(data), csv.ReadOptions(block_size=_BLOCK_BYTES), _PARSE, options)
        memory.check(memory.least_bytes(schema, text.num_rows), where)
        return _typed(text, schema)


def decode_batches(file: pa.NativeFile, schema: pa.Schema, where: str) -> Iterator[pa.Table]:
    """Like `decode`, but yields bounded tables.

    Args:
        file: The text in a file that pyarrow owns, because pyarrow's threads read ahead even after the caller stops.
        schema: The table's schema.
        where: The URI, for errors.
    """
    if not schema.names:
        return
    with _decoding(where):
        options = _convert_options(schema)
        reader = csv.open_csv(file, csv.ReadOptions(block_size=_BLOCK_BYTES), _PARSE, options)
    while True:
        # The yield is outside of this context, because an error of the caller is not an error of the file.
        with _decoding(where):
            batch = next(reader, None)
            if batch is None:
                return
            memory.check(memory.least_bytes(schema, batch.num_rows), where)
            table = _typed(pa.Table.from_batches([batch]), schema)
        yield table


def sidecar(schema: pa.Schema, rows: int, metadata: dict[str, str]) -> bytes:
    """The Table Schema of a table, as JSON."""
    fields = []
    for field in schema:
        kind = next((name for test, name in _FRICTIONLESS if test(_plain_type(field.type))), "string")
        fields.append({"name": field.name, "type": kind})
    facts = {
        "rows": rows,
        "metadata": metadata,
        "arrowSchema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
    }
    document = {"fields": fields, "missingValues": [""], "clinops": facts}
    facts["crc32"] = _checksum(document)
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def read_sidecar(data: bytes, where: str) -> tuple[pa.Schema, int, dict[str, str]]:
    """The schema, number of rows and metadata in a sidecar.

    Raises:
        ArtifactDecodeError: The sidecar is damaged.
    """
    with decoding(f"{where} is damaged: upload the artifact again", where):
        document = json.loads(data)
        facts = document["clinops"]
        if facts.pop("crc32") != _checksum(document):
            raise ValueError
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(facts["arrowSchema"])))
        return schema, int(facts["rows"]), {str(key): str(value) for key, value in facts["metadata"].items()}


def _checksum(document: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(document, sort_keys=True).encode())


def _same(before: pa.ChunkedArray, after: pa.ChunkedArray) -> bool:
    # Arrow says that NaN differs from NaN. Our hash treats all NaN as equal.
    return before.equals(after) or (pa.types.is_floating(before.type) and _hash(before) == _hash(after))


def _hash(floats: pa.ChunkedArray) -> bytes:
    return b"".join(arrow_hash.column(floats, lambda _: b""))


def _written(text: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    csv.write_csv(text, sink, csv.WriteOptions(include_header=True, quoting_style="needed"))
    return sink.getvalue()


def _convert_options(schema: pa.Schema) -> csv.ConvertOptions:
    types = {field.name: _text_type(_plain_type(field.type)) for field in schema}
    return csv.ConvertOptions(
        column_types=types,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        include_columns=schema.names,
        check_utf8=True,
    )


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a column is written."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_duration(kind):
        return pa.int64()
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.timestamp(kind.unit, "UTC")
    return pa.float32() if pa.types.is_float16(kind) else kind


def _text_type(kind: pa.DataType) -> pa.DataType:
    """The type in which a column is read: text, if pyarrow's reader cannot parse the type."""
    return pa.string() if pa.types.is_null(kind) else kind


def _plain(table: pa.Table) -> pa.Table:
    columns = []
    for field in table.schema:
        plain = _plain_type(field.type)
        if pa.types.is_nested(plain) or any(is_bytes(plain) for is_bytes in _BYTES):
            raise UnsupportedFrameError(
                f"column {field.name!r} ({field.type}) has no form in CSV; use StorageFormat.PARQUET"
            )
        column = table.column(field.name)
        if isinstance(field.type, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], field.type.storage_type)
        columns.append(column.cast(plain))
    return pa.table(columns, schema=pa.schema([(f.name, c.type) for f, c in zip(table.schema, columns, strict=True)]))


def _typed(text: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        column = text.column(field.name)
        kind = field.type
        if pa.types.is_null(kind):
            column = pa.chunked_array([pa.nulls(len(column))])
        elif isinstance(kind, pa.BaseExtensionType):
            stored = column.cast(kind.storage_type)
            column = pa.chunked_array([kind.wrap_array(chunk) for chunk in stored.chunks], kind)
        elif pa.types.is_dictionary(kind) and pa.types.is_null(kind.value_type):
            column = pa.chunked_array([pa.nulls(len(column), kind)])
        elif pa.types.is_dictionary(kind):
            encoded = column.cast(kind.value_type).dictionary_encode()
            column = encoded.cast(kind) if encoded.type != kind else encoded
        else:
            column = column.cast(kind)
        columns.append(column)
    return pa.table(columns, schema=schema)


def _decoding(where: str) -> AbstractContextManager[None]:
    return decoding(f"{where} is not the CSV that its schema describes", where)
