"""Finds texts that are not UTF-8, such as Latin-1 that a program wrote as text. PyArrow does not look for them."""

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError


def holds_broken_text(column: pa.ChunkedArray) -> bool:
    """Whether a text in the column, at any depth, is not UTF-8. polars would end in a panic, and pandas at each use."""
    if not _may_hold_text(column.type):
        return False
    try:
        column.validate(full=True)
    except pa.ArrowException:  # its message may quote the text
        return True
    return False


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
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))
