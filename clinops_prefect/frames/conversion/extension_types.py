"""Replaces Arrow's extension types by their storage, at any depth."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa


def storage_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with the storage of its extension types, without a copy."""
    kind = storage_type(column.type)
    if kind.equals(column.type, check_metadata=True):
        return column
    return pa.chunked_array([_Relabelled(chunk, kind).array() for chunk in column.chunks], kind)


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type with the storage of its extension types, at any depth. Nested fields keep only polars' metadata."""
    types = pa.types
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, storage_type(kind.value_type), kind.ordered)
    if types.is_run_end_encoded(kind):
        return pa.run_end_encoded(kind.run_end_type, storage_type(kind.value_type))
    return of_children(kind, _storage_field)


def of_children(kind: pa.DataType, of: Callable[[pa.Field], pa.Field]) -> pa.DataType:
    """A nested type with `of(field)` for each of its fields. Any other type is returned as it is."""
    types = pa.types
    if types.is_list(kind):
        return pa.list_(of(kind.value_field))
    if types.is_large_list(kind):
        return pa.large_list(of(kind.value_field))
    if types.is_list_view(kind):
        return pa.list_view(of(kind.value_field))
    if types.is_large_list_view(kind):
        return pa.large_list_view(of(kind.value_field))
    if types.is_fixed_size_list(kind):
        return pa.list_(of(kind.value_field), kind.list_size)
    if types.is_map(kind):
        return pa.map_(of(kind.key_field), of(kind.item_field), kind.keys_sorted)
    return pa.struct([of(field) for field in kind]) if types.is_struct(kind) else kind


def _storage_field(field: pa.Field) -> pa.Field:
    # Metadata may name an extension type that is not registered here. Polars would make its own type of it, and panics
    # if metadata are not UTF-8. Polars describes its enumerations and categories in metadata too.
    kept = {
        key: text for key, text in (field.metadata or {}).items() if key.startswith(b"_PL_") and _is_utf8(key + text)
    }
    return pa.field(field.name, storage_type(field.type), field.nullable, kept or None)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Relabelled:
    """An array of another type with the same memory, by Arrow's C data interface.

    `cast` has no kernels for most nested extension types.
    """

    def __init__(self, array: pa.Array, kind: pa.DataType) -> None:
        self._array, self._kind = array, kind

    def array(self) -> pa.Array:
        return pa.array(self)

    def __arrow_c_array__(self, requested_schema: Any = None) -> tuple[Any, Any]:
        return self._kind.__arrow_c_schema__(), self._array.__arrow_c_array__(requested_schema)[1]
