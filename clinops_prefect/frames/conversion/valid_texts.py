"""Finds texts that are not UTF-8, such as Latin-1 that a program wrote as text. PyArrow does not look for them."""

from collections.abc import Iterator

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.text_types import is_text_or_view


def holds_broken_text(column: pa.ChunkedArray) -> bool:
    """Whether a text in the column, at any depth, is not UTF-8. polars would end in a panic, and pandas at each use."""
    if not _may_hold_text(column.type):
        return False
    try:
        column.validate(full=True)
    except pa.ArrowException:  # its message may quote the text
        # Other values of a nested column may be what is wrong, such as a time of day after midnight.
        return any(not _is_valid(text) for chunk in column.chunks for text in _texts(chunk))
    return False


def _texts(array: pa.Array) -> Iterator[pa.Array]:
    """The texts in an array, at any depth. Offsets are not followed, because they may be what is wrong."""
    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        yield from _texts(array.storage)
    elif types.is_dictionary(kind):
        yield from _texts(array.dictionary)
    elif types.is_struct(kind) or types.is_union(kind):
        for position in range(kind.num_fields):
            yield from _texts(array.field(position))
    elif types.is_map(kind):
        yield from _texts(array.keys)
        yield from _texts(array.items)
    elif types.is_nested(kind) or types.is_run_end_encoded(kind):
        yield from _texts(array.values)
    elif _may_hold_text(kind):
        yield array


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowException:
        return False
    return True


def broken_text(where: str, name: str) -> ArtifactDecodeError:
    """The error for a column of another program with such a text."""
    return ArtifactDecodeError(
        f"{where}: column {name!r} has texts that are not UTF-8; leave it out with columns=, or read it with "
        "as_='arrow', cast it to pa.binary() and decode the bytes with the encoding that they have",
        uri=where,
    )


def _may_hold_text(kind: pa.DataType) -> bool:
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _may_hold_text(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _may_hold_text(kind.value_type)
    if types.is_nested(kind):
        return any(_may_hold_text(kind.field(position).type) for position in range(kind.num_fields))
    return is_text_or_view(kind)
