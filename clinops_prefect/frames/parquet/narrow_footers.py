"""Footers that describe only some columns of a file.

A parsed footer of a thousand columns takes 2 MB, so those of many parts do not fit into memory until the parts are
read. The footer made here has what a read of the asked columns needs, and no statistics. PyArrow has no way to drop
columns from a footer, so it is written anew: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import base64
import struct
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from clinops_prefect.storage_format import PARQUET_MAGIC

_TYPES = ("BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
_CODECS = {"UNCOMPRESSED": 0, "SNAPPY": 1, "GZIP": 2, "BROTLI": 4, "ZSTD": 6, "LZ4": 7}
_ENCODINGS = {
    "PLAIN": 0,
    "PLAIN_DICTIONARY": 2,
    "RLE": 3,
    "BIT_PACKED": 4,
    "DELTA_BINARY_PACKED": 5,
    "DELTA_LENGTH_BYTE_ARRAY": 6,
    "DELTA_BYTE_ARRAY": 7,
    "RLE_DICTIONARY": 8,
    "BYTE_STREAM_SPLIT": 9,
}
# How the smallest and the largest value of a row group are stored. Bytes are stored as they are.
_PLAIN = {
    "BOOLEAN": "<?",
    "INT32": "<i",
    "INT64": "<q",
    "FLOAT": "<f",
    "DOUBLE": "<d",
    "BYTE_ARRAY": "",
    "FIXED_LEN_BYTE_ARRAY": "",
}
# The kinds of values in Thrift's compact protocol.
_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


def narrowed(
    metadata: pq.FileMetaData, elements: Sequence[bytes], schema: pa.Schema, positions: Sequence[int]
) -> tuple[pq.FileMetaData, int] | None:
    """The metadata of a file without nested columns, for these columns alone, and the length of such a footer.

    Args:
        metadata: The metadata of the file.
        elements: The elements of its schema, as in its footer.
        schema: The Arrow schema of the wanted columns.
        positions: The positions of the wanted columns in the file, in the order of `schema`.

    Returns:
        None if the file uses something that is not known here. It must then be read by its own footer.
    """
    made = _made(metadata, elements, schema, positions, statistics=False)
    return None if made is None else (made[1].metadata, len(made[0]))


def with_statistics(
    metadata: pq.FileMetaData, elements: Sequence[bytes], schema: pa.Schema, positions: Sequence[int]
) -> bytes | None:
    """A Parquet file without data, whose footer has these columns and their statistics.

    The arguments are those of `narrowed`. None means that the file's own footer must be used.
    """
    made = _made(metadata, elements, schema, positions, statistics=True)
    return None if made is None else made[0]


def _made(
    metadata: pq.FileMetaData,
    elements: Sequence[bytes],
    schema: pa.Schema,
    positions: Sequence[int],
    *,
    statistics: bool,
) -> tuple[bytes, pq.ParquetFile] | None:
    try:
        footer = _footer(metadata, elements, schema, positions, statistics)
    except (KeyError, ValueError):
        return None
    file = b"".join((PARQUET_MAGIC, footer, len(footer).to_bytes(4, "little"), PARQUET_MAGIC))
    parsed = pq.ParquetFile(pa.BufferReader(file))
    return (file, parsed) if parsed.schema_arrow.equals(schema.remove_metadata()) else None


def _footer(
    metadata: pq.FileMetaData, elements: Sequence[bytes], schema: pa.Schema, positions: Sequence[int], statistics: bool
) -> bytes:
    if len(elements) != 1 + metadata.num_columns:
        raise ValueError("nested columns")
    root = _struct((4, _BINARY, _binary(b"root")), (5, _I32, _integer(len(positions))))
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    arrow = base64.b64encode(schema.remove_metadata().serialize().to_pybytes())
    note = _struct((1, _BINARY, _binary(b"ARROW:schema")), (2, _BINARY, _binary(arrow)))
    return _struct(
        (1, _I32, _integer(1 if metadata.format_version == "1.0" else 2)),
        (2, _LIST, _list(_STRUCT, [root, *(elements[1 + position] for position in positions)])),
        (3, _I64, _integer(metadata.num_rows)),
        (4, _LIST, _list(_STRUCT, [_group(group, positions, statistics) for group in groups])),
        (5, _LIST, _list(_STRUCT, [note])),
        # PyArrow works around faults of some writers, by their name.
        (6, _BINARY, _binary((metadata.created_by or "").encode())),
        # Without the order of each column, PyArrow ignores its smallest and largest value.
        (7, _LIST, _list(_STRUCT, [_struct((1, _STRUCT, _struct()))] * len(positions))),
    )


def _group(group: pq.RowGroupMetaData, positions: Sequence[int], statistics: bool) -> bytes:
    return _struct(
        (1, _LIST, _list(_STRUCT, [_column(group.column(position), statistics) for position in positions])),
        (2, _I64, _integer(group.total_byte_size)),
        (3, _I64, _integer(group.num_rows)),
    )


def _column(column: pq.ColumnChunkMetaData, statistics: bool) -> bytes:
    fields = [
        (1, _I32, _integer(_TYPES.index(column.physical_type))),
        (2, _LIST, _list(_I32, [_integer(_ENCODINGS[encoding]) for encoding in column.encodings])),
        (3, _LIST, _list(_BINARY, [_binary(column.path_in_schema.encode())])),
        (4, _I32, _integer(_CODECS[column.compression])),
        (5, _I64, _integer(column.num_values)),
        (6, _I64, _integer(column.total_uncompressed_size)),
        (7, _I64, _integer(column.total_compressed_size)),
        (9, _I64, _integer(column.data_page_offset)),
    ]
    if column.dictionary_page_offset is not None:
        fields.append((11, _I64, _integer(column.dictionary_page_offset)))
    # None if the file has no statistics, and also if PyArrow does not trust those of the writer.
    if statistics and column.statistics is not None:
        fields.append((12, _STRUCT, _statistics(column.statistics)))
    return _struct((2, _I64, _integer(column.file_offset)), (3, _STRUCT, _struct(*fields)))


def _statistics(found: pq.Statistics) -> bytes:
    fields = []
    if found.has_null_count:
        fields.append((3, _I64, _integer(found.null_count)))
    if found.has_min_max:
        plain = _PLAIN[found.physical_type]
        most, least = (struct.pack(plain, value) if plain else value for value in (found.max_raw, found.min_raw))
        fields += [(5, _BINARY, _binary(most)), (6, _BINARY, _binary(least))]
    return _struct(*fields)


def _struct(*fields: tuple[int, int, bytes]) -> bytes:
    """A struct of these fields, each with its number, its kind and its value."""
    last, found = 0, bytearray()
    for number, kind, value in fields:
        found.append((number - last) << 4 | kind)
        found += value
        last = number
    found.append(0)
    return bytes(found)


def _list(kind: int, values: Sequence[bytes]) -> bytes:
    head = bytes([len(values) << 4 | kind]) if len(values) < 15 else bytes([0xF0 | kind]) + _unsigned(len(values))
    return head + b"".join(values)


def _binary(value: bytes) -> bytes:
    return _unsigned(len(value)) + value


def _integer(value: int) -> bytes:
    return _unsigned(value << 1 if value >= 0 else (-value << 1) - 1)


def _unsigned(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
