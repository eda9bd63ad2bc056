"""Computes how much memory the texts of a Parquet file would take when decoded, before they are decoded.

The size of a dictionary is not enough: a long text that is stored once may be repeated a million times. The sizes in
the footer are not reliable, because the file's writer chose them. The sizes in the page headers are reliable, because a
page with a wrong header cannot be decompressed.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from clinops_prefect.frames import memory
from clinops_prefect.frames.parquet.column_chunks import ColumnChunk

# pyarrow does not expose page headers, so this module parses the part of Thrift's compact protocol that they use
# (https://github.com/apache/parquet-format, PageHeader in parquet.thrift).
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)
# The field numbers that we read, of PageHeader and of the structs in it.
_TYPE, _UNCOMPRESSED, _COMPRESSED = 1, 2, 3
_DETAILS = {_DATA: 5, _DATA_V2: 8}
_VALUES = 1
_DEEPEST = 8

_TEXTS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
)


class TooManyTextsError(Exception):
    """The decoded texts might not fit into memory."""


class TextBudget:
    """Counts the memory of the texts, unit by unit, before they are decoded.

    Args:
        schema: The file's schema.
        data: The bytes of the file.
    """

    def __init__(self, schema: pa.Schema, data: memoryview) -> None:
        self._schema = schema
        self._data = data
        self._needed = 0
        self._seen: set[ColumnChunk] = set()
        self._lock = threading.Lock()

    def add(self, chunks: Sequence[ColumnChunk]) -> None:
        """Count the texts of these column chunks. Each column chunk is counted once.

        Raises:
            TooManyTextsError: With these column chunks, the texts might not fit into memory.
        """
        found = _decoded(self._schema, chunks)
        with self._lock:
            for chunk in found:
                if chunk not in self._seen:
                    self._needed += _page_bytes(self._data[slice(*chunk.range)], chunk.values)[1]
                    self._seen.add(chunk)
            if not memory.fits(self._needed):
                raise TooManyTextsError


def doubtful_texts(
    schema: pa.Schema, chunks: Sequence[ColumnChunk], window: Callable[[int, int], memoryview], where: str
) -> list[str]:
    """The text columns that must first be read as dictionaries, because decoded they might not fit into memory.

    Reading them as dictionaries takes no longer, since the file stores them as dictionaries.

    Args:
        schema: The file's schema.
        chunks: The column chunks that are about to be read.
        window: Returns the bytes of a range.
        where: The URI, for errors.
    """
    least = most = 0
    found = _decoded(schema, chunks)
    for chunk in found:
        at_least, at_most = _page_bytes(window(*chunk.range), chunk.values)
        least, most = least + at_least, most + at_most
    memory.check(least, where)
    return sorted({chunk.path for chunk in found}) if not memory.fits(most) else []


def _decoded(schema: pa.Schema, chunks: Sequence[ColumnChunk]) -> list[ColumnChunk]:
    # Categories are left out, because they are read as dictionaries and stay dictionaries.
    return [chunk for chunk in chunks if chunk.is_text and _may_be_decoded(schema, chunk.path)]


def _may_be_decoded(schema: pa.Schema, path: str) -> bool:
    position = schema.get_field_index(path)
    return position < 0 or any(test(schema.field(position).type) for test in _TEXTS)


def _page_bytes(pages: memoryview, values: int) -> tuple[int, int]:
    """The minimum and maximum size in bytes of the decoded texts in these pages.

    Args:
        pages: The bytes of a column chunk.
        values: Number of values of the column chunk, as the footer says.

    Raises:
        LookupError, ValueError: The bytes are not valid pages.
    """
    position, seen, plain, dictionary = 0, 0, 0, 0
    while seen < values:
        header, position = struct_at(pages, position)
        kind, size = header[_TYPE], header[_UNCOMPRESSED]
        if kind in _DETAILS:
            seen += header[_DETAILS[kind]][_VALUES]
            plain += size
        elif kind == _DICTIONARY:
            dictionary += size
        if size < 0 or header[_COMPRESSED] < 0:
            raise ValueError("a page of negative size")
        position += header[_COMPRESSED]
    # The maximum assumes that every value is as long as the whole dictionary.
    return plain + dictionary, plain + max(values, seen) * dictionary


def struct_at(data: memoryview, position: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Parse a struct of Thrift's compact protocol. Returns field number -> value, and the position after the struct.

    Raises:
        LookupError, ValueError: The bytes are no such struct, or it has a field that a page header does not have.
    """
    if depth > _DEEPEST:
        raise ValueError("too deep for a page header")
    fields: dict[int, Any] = {}
    number = 0
    while head := data[position]:
        position += 1
        if delta := head >> 4:
            number += delta
        else:
            number, position = _integer(data, position)
        fields[number], position = _value(data, position, head & 15, depth)
    return fields, position + 1


def _value(data: memoryview, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, position
    if kind == 3:
        return data[position], position + 1
    if kind in (4, 5, 6):
        return _integer(data, position)
    if kind == 7:
        return None, position + 8
    if kind == 8:
        length, position = _unsigned(data, position)
        return None, position + length
    if kind == 12:
        return struct_at(data, position, depth + 1)
    raise ValueError("no kind of a page header's field")


def _integer(data: memoryview, position: int) -> tuple[int, int]:
    raw, position = _unsigned(data, position)
    return (raw >> 1) ^ -(raw & 1), position


def _unsigned(data: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result, position
        shift += 7
        if shift > 63:
            raise ValueError("an integer too long for a page header")
