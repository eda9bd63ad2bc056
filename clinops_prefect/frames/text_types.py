"""Which types of Arrow are texts."""

import pyarrow as pa

_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def is_text(kind: pa.DataType) -> bool:
    """Whether the type is one of the two texts that Parquet gives back, `string` or `large_string`."""
    return any(test(kind) for test in _TEXTS)


def is_text_or_view(kind: pa.DataType) -> bool:
    """Whether the type is any text, `string_view` included."""
    return is_text(kind) or bool(pa.types.is_string_view(kind))


def is_text_or_bytes(kind: pa.DataType) -> bool:
    """Whether the type is any text, or bytes of any length, views included."""
    return is_text_or_view(kind) or any(test(kind) for test in _BYTES)


def is_view(kind: pa.DataType) -> bool:
    """Whether the type is texts or bytes as Arrow's views."""
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def without_view(kind: pa.DataType) -> pa.DataType:
    """The type of the same texts or bytes without views; any other type unchanged."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind
