"""Decides from the footer alone as which pandas frame a Parquet file of another program is read.

Such a file has no layout of ours, so this module makes one. Each column then has the same dtype, whatever part of the
file is read. The layout starts from pandas' own reading of the schema (with pandas' metadata, if any). It differs where
pandas would lose something, such as integers that become floats because a row group has a missing value.
"""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames.conversion.arrow_frames import dictionaries_of, packed
from clinops_prefect.frames.conversion.extension_types import storage_of
from clinops_prefect.frames.conversion.layout import index_note, labels_note
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY, bare_table, index_fields, layout_of
from clinops_prefect.frames.conversion.valid_texts import broken_text, holds_broken_text
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.text_types import is_text

# pandas reads lists of these types exactly. Other nested values are read as Python lists and dictionaries.
_EXACT_IN_LISTS = (pa.types.is_float32, pa.types.is_float64, pa.types.is_string, pa.types.is_large_string)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_TEMPLATE_ERRORS = (pa.ArrowException, LookupError, NotImplementedError, TypeError, ValueError)


def without_missing(metadata: pq.FileMetaData) -> set[str]:
    """The top-level fields without missing values at any depth, as far as the footer proves it."""
    doubtful, known = set(), set()
    for position in range(metadata.num_columns):
        column = metadata.schema.column(position)
        name = column.path.partition(".")[0] if column.max_repetition_level or "." in column.path else column.path
        known |= {name, column.path}
        if column.max_definition_level == 0:
            continue
        for group in range(metadata.num_row_groups):
            if not metadata.row_group(group).num_rows:
                continue
            statistics = metadata.row_group(group).column(position).statistics
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                doubtful |= {name, column.path}
                break
    return known - doubtful


def intervals(metadata: pq.FileMetaData) -> set[str]:
    """The fields of Parquet's type INTERVAL, which Arrow returns as twelve bytes: months, days and milliseconds."""
    found = [metadata.schema.column(position) for position in range(metadata.num_columns)]
    return {column.path for column in found if column.converted_type == "INTERVAL"}


def described(
    stored: pa.Schema, complete: Collection[str], unreadable: Collection[str], rows: int, where: str
) -> pa.Schema:
    """The schema for reading the file: unique names, types that pandas and filters can use, and a layout.

    Args:
        stored: The file's schema.
        complete: The fields without missing values.
        unreadable: The fields that cannot be read, although Arrow can.
        rows: Number of rows of the file.
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: pandas' metadata in the file cannot be read.
    """
    names = _unique(stored.names)
    fields = [pa.field(name, _readable(field.type), field.nullable) for name, field in zip(names, stored, strict=True)]
    schema = pa.schema(fields, stored.metadata)
    with decoding(f"{where}: pandas' metadata in it cannot be read", where):
        # Nested fields become objects in any case. They are left out here, because pandas may not know an inner type.
        flat = [pa.field(f.name, pa.null()) if pa.types.is_nested(f.type) else f for f in schema]
        refused = set() if _template(pa.schema(flat)) is not None else _refused(flat)
        refused |= {name for name, field in zip(names, stored, strict=True) if field.name in unreadable}
        flat = [pa.field(f.name, pa.null()) if f.name in refused else f for f in flat]
        plain = pa.schema(flat, stored.metadata)
        template = plain.empty_table().to_pandas()
        index = index_fields(plain)
        labels = template.columns if names == stored.names else pd.Index(_labels_of(stored, index))
        dtypes = dict(zip([name for name in names if name not in index], template.dtypes, strict=True))
        dtypes |= {name: template.index.get_level_values(level).dtype for level, name in enumerate(index)}
        notes = {}
        for field, original in zip(schema, stored, strict=True):
            kind = "INTERVAL" if original.name in unreadable else str(original.type)
            about = {"column": original.name, "type": kind, "uri": where}
            if field.name in refused:
                notes[field.name] = {"foreign": {"as": "refused", **about}}
            elif note := _note(field.type, dtypes[field.name], original.name in complete, about):
                notes[field.name] = note
        try:
            layout = {
                "columns": notes,
                "labels": labels_note(labels, [name for name in names if name not in index]),
                "index": _index(template.index, index, stored, rows),
                "rows": rows,
                "width": len(names) - len(index),
                "attrs": template.attrs,
                "duplicates": True,
                "foreign": True,
            }
        except UnsupportedFrameError as error:
            raise ArtifactDecodeError(f"{where}: {error.message}", uri=where) from None
        return schema.with_metadata({**(stored.metadata or {}), LAYOUT_KEY: json.dumps(layout).encode()})


def is_categorical(schema: pa.Schema, name: str) -> bool:
    """Whether a field of a schema from `described` is read as a category."""
    note = (layout_of(schema) or {"columns": {}})["columns"].get(name, {})
    return bool(note.get("foreign", {}).get("as") == "category")


def of_text(stored: pa.Schema, rows: int, where: str) -> pa.Schema:
    """The schema for reading a table that came from text, where no footer says which columns are complete."""
    schema = described(stored, (), (), rows, where)
    known = {name: values for name, values in dictionaries_of(stored).items() if is_categorical(schema, name)}
    return with_categories(schema, known)


def converted(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """A table of the file, with the types of the schema that `described` made.

    Args:
        table: Some rows of all fields, or of some fields in the order of `schema`.
        schema: The part of the described schema with these fields.
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: The footer is wrong about a column, or pandas cannot represent a value.
    """
    arrays = []
    notes = (layout_of(schema) or {"columns": {}})["columns"]
    for field, column in zip(schema, table.columns, strict=True):
        if column.null_count and field.name not in notes and _is_whole(field.type):
            raise ArtifactDecodeError(
                f"{where}: its footer says that column {field.name!r} has no missing value, but it has one: "
                "write the file again",
                uri=where,
            )
        if holds_broken_text(column):
            raise broken_text(where, field.name)
        if column.type != field.type:
            column = _cast(column, field, where)
        arrays.append(column)
    return pa.Table.from_arrays(arrays, schema=schema) if arrays else bare_table(table.num_rows, schema.metadata)


def refused_columns(schema: pa.Schema) -> dict[str, str]:
    """Field -> type, for the fields that cannot be read."""
    layout = layout_of(schema) or {"columns": {}}
    notes = {name: note.get("foreign", {}) for name, note in layout["columns"].items()}
    return {name: note["type"] for name, note in notes.items() if note.get("as") == "refused"}


def with_categories(schema: pa.Schema, categories: dict[str, pa.Array]) -> pa.Schema:
    """A described schema with the categories of these fields, so that they do not depend on the rows that are read."""
    layout = layout_of(schema)
    assert layout is not None  # `described` made the schema
    for name, values in categories.items():
        # A dictionary of Arrow may have a value twice, and categories of pandas may not.
        layout["columns"][name]["foreign"]["categories"] = packed(values.unique())
    return schema.with_metadata({**schema.metadata, LAYOUT_KEY: json.dumps(layout).encode()})


def _unique(names: list[str]) -> list[str]:
    """The names, or the positions as names if the file has several fields of the same name."""
    if len(set(names)) == len(names):
        return names
    return [f"{position}" for position in range(len(names))]


def _labels_of(stored: pa.Schema, index: list[str]) -> list[str]:
    return [field.name for position, field in enumerate(stored) if f"{position}" not in index]


def _template(schema: pa.Schema) -> pd.DataFrame | None:
    try:
        frame: pd.DataFrame = schema.empty_table().to_pandas()
        return frame
    except _TEMPLATE_ERRORS:
        return None


def _refused(schema: list[pa.Field]) -> set[str]:
    """The fields whose type pandas cannot represent: an unknown time zone, a type of a later Arrow."""
    return {field.name for field in schema if _template(pa.schema([field])) is None}


def _readable(kind: pa.DataType) -> pa.DataType:
    """The type in which a field is read."""
    if isinstance(kind, pa.BaseExtensionType):
        name = kind.extension_name
        if name == "arrow.bool8":
            return pa.bool_()
        # These extension types have their own dtypes in pandas, and Python has a class for a UUID.
        return kind if name == "arrow.uuid" or name.startswith("pandas.") else _readable(kind.storage_type)
    if pa.types.is_time64(kind):
        return pa.time64("us")  # Python's and pandas' times have no nanoseconds
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    return kind


def _cast(column: pa.ChunkedArray, field: pa.Field, where: str) -> pa.ChunkedArray:
    try:
        return (storage_of(column) if isinstance(column.type, pa.BaseExtensionType) else column).cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        why = "times finer than a microsecond" if pa.types.is_time(column.type) else f"({type(error).__name__})"
        raise ArtifactDecodeError(
            f"{where}: column {field.name!r} is of type {column.type} and cannot be read as {field.type}: {why}; leave "
            "it out with columns=",
            uri=where,
        ) from None


def _note(kind: pa.DataType, dtype: Any, is_complete: bool, about: dict[str, str]) -> dict[str, Any] | None:
    """The note for `columns.restore`; None for NumPy's numbers and times, which need no note."""
    if isinstance(dtype, pd.CategoricalDtype) and pa.types.is_dictionary(kind):
        return {"foreign": {"as": "category", "ordered": kind.ordered, **about}}
    if _is_whole(kind):
        if isinstance(dtype, pd.ArrowDtype):
            return {"arrow": True}
        if isinstance(dtype, np.dtype) and is_complete:
            return None
        nullable = "boolean" if pa.types.is_boolean(kind) else str(kind).replace("i", "I").replace("uI", "UI")
        return {"dtype": nullable}
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        if is_text(kind):
            return {"object": {"as": "text", "missing": "None"}}
        return {"foreign": {"as": _way(kind, is_complete), **about}}
    return _dtype_note(dtype)


def _is_whole(kind: pa.DataType) -> bool:
    """Whether NumPy can hold values of this type, but no missing value."""
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _dtype_note(dtype: Any) -> dict[str, Any] | None:
    if isinstance(dtype, pd.StringDtype):
        return {"string": [dtype.storage, "NA" if dtype.na_value is pd.NA else "nan"]}
    if isinstance(dtype, pd.ArrowDtype):
        return {"arrow": True}
    if not isinstance(dtype, np.dtype):
        return {"dtype": str(dtype)}
    # NumPy times need no note, not even those in seconds: the array that they are copied into has Arrow's unit.
    return None


def _way(kind: pa.DataType, is_complete: bool) -> str:
    if not pa.types.is_nested(kind):
        return "python" if isinstance(kind, pa.BaseExtensionType) else "pandas"
    if any(test(kind) for test in _LISTS):
        inner = kind.value_type
        return (
            "pandas" if (is_complete and _is_whole(inner)) or any(test(inner) for test in _EXACT_IN_LISTS) else "python"
        )
    return "python"


def _index(index: "pd.Index[Any]", fields: list[str], stored: pa.Schema, rows: int) -> dict[str, Any]:
    note = index_note(index, fields)
    note.pop("range", None)
    if fields:
        return note
    for descriptor in (stored.pandas_metadata or {}).get("index_columns") or []:
        if isinstance(descriptor, dict) and descriptor.get("kind") == "range":
            start, stop, step = (int(descriptor[part]) for part in ("start", "stop", "step"))
            # If the length differs, the file's rows were changed without pandas, so the range is outdated.
            if step and len(range(start, stop, step)) == rows:
                note |= {"range": [start, stop, step], "names": [descriptor.get("name")]}
    return note
