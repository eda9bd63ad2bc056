"""What the pages of a column of texts say about themselves: how much they are when they are decoded.

The footer says so too, and who wrote the file could have it say anything; a page that lies about its size cannot be
decompressed. pyarrow shows no page headers, so this reads them: Thrift's compact protocol, of which a header uses
little (https://github.com/apache/parquet-format, PageHeader in parquet.thrift).
"""

from typing import Any

_DATA, _INDEX, _DICTIONARY, _DATA_V2 = range(4)
# The fields of PageHeader that are read, and of the structs in it.
_TYPE, _UNCOMPRESSED, _COMPRESSED = 1, 2, 3
_DETAILS = {_DATA: 5, _DATA_V2: 8}
_VALUES = 1
_DEEPEST = 8


def decoded_bytes(pages: memoryview, values: int) -> tuple[int, int]:
    """What the texts in these pages take when they are decoded: at least, and at most.

    Args:
        pages: The bytes of a column chunk.
        values: How many values the footer says that it has.

    Raises:
        LookupError, ValueError: These are no pages.
    """
    position, seen, plain, dictionary = 0, 0, 0, 0
    while seen < values:
        header, position = _struct(pages, position, 0)
        kind, size = header[_TYPE], header[_UNCOMPRESSED]
        if kind in _DETAILS:
            seen += header[_DETAILS[kind]][_VALUES]
            plain += size
        elif kind == _DICTIONARY:
            dictionary += size
        if size < 0 or header[_COMPRESSED] < 0:
            raise ValueError("a page of negative size")
        position += header[_COMPRESSED]
    # At most, because every value may be the whole of the dictionary.
    return plain + dictionary, plain + max(values, seen) * dictionary


def _struct(data: memoryview, position: int, depth: int) -> tuple[dict[int, Any], int]:
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
        return _struct(data, position, depth + 1)
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
