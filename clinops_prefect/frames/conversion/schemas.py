"""Reads what a stored schema says about the frame, without importing pandas, for readers of polars or Arrow."""

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from clinops_prefect.frames.decoding import decoding

LAYOUT_KEY = b"clinops.layout"
UNREADABLE = "the layout stored with the table cannot be read"


def null_table(schema: pa.Schema, rows: int = 0) -> pa.Table:
    """A table of missing values. `Schema.empty_table` cannot make lists of an extension type."""
    return pa.Table.from_arrays([pa.nulls(rows, field.type) for field in schema], schema=schema)


def bare_table(rows: int, metadata: dict[bytes, bytes] | None) -> pa.Table:
    """A table of rows without columns. `replace_schema_metadata` would lose the number of rows."""
    return pa.table({"": pa.nulls(rows)}).replace_schema_metadata(metadata).select([])


def note_under(
    key: bytes, schema: pa.Schema, unreadable: str, check: Callable[[dict[str, Any]], None]
) -> dict[str, Any] | None:
    """The JSON object under a key of a schema's metadata; None in a schema without that key.

    Args:
        key: The key.
        schema: The schema.
        unreadable: The message of the error.
        check: Raises a `TypeError`, `ValueError` or `LookupError` for an object that is not such a note.

    Raises:
        ArtifactDecodeError: The object cannot be read, or `check` refuses it.
    """
    raw = (schema.metadata or {}).get(key)
    if raw is None:
        return None
    with decoding(unreadable):
        note: dict[str, Any] = json.loads(raw)
        check(note)
        return note


def layout_of(schema: pa.Schema) -> dict[str, Any] | None:
    """The layout that `to_arrow` wrote into a schema; None in a schema of another program.

    Raises:
        ArtifactDecodeError: The layout cannot be read.
    """
    return note_under(LAYOUT_KEY, schema, UNREADABLE, _check_layout)


def _check_layout(layout: dict[str, Any]) -> None:
    parts = [layout[part] for part in ("columns", "labels", "index", "attrs")]
    if not all(isinstance(part, dict) for part in parts) or not isinstance(layout["duplicates"], bool):
        raise TypeError
    # -1 stands for the unknown number of rows of a stream of batches.
    if int(layout["rows"]) < -1 or int(layout["width"]) < 0:
        raise ValueError


def index_fields(schema: pa.Schema) -> list[str]:
    """The fields that hold the index, in level order."""
    layout = layout_of(schema)
    with decoding(UNREADABLE):
        if layout is not None:
            fields = list(layout["index"]["fields"])
            if len(set(fields)) < len(fields) or not set(fields) <= set(schema.names):
                raise ValueError
            return fields
        stored = schema.pandas_metadata or {}
        names = set(schema.names)
        return [field for field in stored.get("index_columns") or [] if isinstance(field, str) and field in names]


def may_hold_nan(schema: pa.Schema, field: str) -> bool:
    """Whether the stored values may include NaN. In NumPy's floats that we wrote, NaN is stored as missing."""
    kind = schema.field(field).type
    layout = layout_of(schema)
    if layout is not None and "foreign" not in layout and field not in layout["columns"]:
        return False
    return bool(pa.types.is_floating(kind) or pa.types.is_nested(kind) or pa.types.is_dictionary(kind))


def row_count(schema: pa.Schema, stored: int) -> int:
    """The number of rows of the frame. Without columns, the layout has it, because a Parquet file then has no rows."""
    layout = layout_of(schema)
    return stored if layout is None or schema.names else int(layout["rows"])


def nanoseconds_of(stored: pa.Schema) -> list[str]:
    """The fields that had times in nanoseconds according to pandas' metadata."""
    try:
        described = (stored.pandas_metadata or {}).get("columns", [])
        return [c["field_name"] for c in described if str(c.get("numpy_type")).startswith("datetime64[ns")]
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return []  # `described` raises an error about this metadata


def with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the metadata of this schema and of its fields."""
    return pa.Table.from_arrays(table.columns, schema=schema) if schema.names else table
