"""Compares two Arrow tables, or two polars frames: types, values, order, metadata.

The comparison shares no code with the package.
"""

from typing import Any

import polars as pl
import pyarrow as pa


def assert_same_table(found: pa.Table, expected: pa.Table) -> None:
    """Assert that schemas with all metadata, and all values in their units, are equal."""
    assert type(found) is type(expected)
    assert found.schema.equals(expected.schema, check_metadata=True), f"{found.schema} is not {expected.schema}"
    assert str(found.schema) == str(expected.schema)
    assert found.num_rows == expected.num_rows
    if _is_valid(expected):  # not valid: a date64 within a day, which a dictionary may have without any row
        found.validate(full=True)
    for name, one, other in zip(expected.column_names, found.columns, expected.columns, strict=True):
        assert values(one) == values(other), f"column {name!r}: {values(one)} is not {values(other)}"


def _is_valid(table: pa.Table) -> bool:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def assert_same_frame(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Assert that dtypes, categories and all values are equal."""
    assert type(found) is type(expected)
    assert list(found.schema.items()) == list(expected.schema.items())
    assert found.height == expected.height
    for name in expected.columns:
        one, other = (pa.chunked_array([frame[name].rechunk().to_arrow()]) for frame in (found, expected))
        assert one.type == other.type
        assert values(one) == values(other), f"column {name!r}: {values(one)} is not {values(other)}"


def values(column: pa.ChunkedArray) -> list[Any]:
    """The values as Python objects. A time is a count of its unit, so that it is not rounded."""
    return [_value(scalar) for chunk in column.chunks for scalar in chunk]


def _value(scalar: pa.Scalar) -> Any:
    kind, types = scalar.type, pa.types
    if not scalar.is_valid:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        return _value(scalar.value)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _value(scalar.value)
    if types.is_struct(kind):
        return {"struct": [_value(scalar[position]) for position in range(kind.num_fields)]}
    if types.is_nested(kind):
        return [_value(each) for each in scalar.values]
    if types.is_temporal(kind):
        return ("time", scalar.value)
    if types.is_floating(kind):
        value = float(scalar.as_py())
        return "nan" if value != value else value.hex()
    if types.is_decimal(kind):
        return scalar.as_py().as_tuple()
    return scalar.as_py()
