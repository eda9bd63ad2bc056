"""Polars frames <-> stored tables: which polars types Arrow lacks, and how they come back."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames.decoding import decoding

if TYPE_CHECKING:
    import polars as pl

# Arrow has them, with nothing left to say; the others are noted.
_PLAIN = {
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *("Float32", "Float64", "Boolean", "String", "Binary", "Date", "Time", "Datetime", "Duration", "Null"),
}
_SIMPLE = {*_PLAIN, "Float16"}


def noted(schema: "pl.Schema") -> dict[str, Any]:
    """Column -> description of its dtype, of the columns whose Arrow type does not say it.

    Raises:
        UnsupportedFrameError: Parquet has nothing for a dtype; the message names the column and what to do.
    """
    found = {}
    for name, dtype in schema.items():
        _check_name(name, name)
        description = _described(dtype, name, dtype)
        if description[0] not in _PLAIN:
            found[name] = description
    return found


def to_arrow(frame: "pl.DataFrame") -> pa.Table:
    """The frame as a table, in types that every version of Arrow has."""
    import polars as pl

    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def empty(schema: "pl.Schema") -> pa.Table:
    """A table of no row of these columns."""
    import polars as pl

    return to_arrow(pl.DataFrame(schema=schema))


def texts(values: list[str]) -> pa.Array:
    """Texts as Arrow has them. PyArrow would import pandas to make them of a list."""
    import polars as pl

    return pl.Series(values, dtype=pl.String).to_arrow(compat_level=pl.CompatLevel.oldest())


def made(table: pa.Table, note: dict[str, Any] | None, where: str) -> Any:
    """The polars frame of a stored table.

    Args:
        table: The stored table; columns and rows may have been left out.
        note: What `arrow_frames.stored_schema` noted, if it did.
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: Polars has no such columns, or the note contradicts the table.
    """
    import polars as pl

    if len(set(table.column_names)) < table.num_columns:
        raise ArtifactDecodeError(
            f"{where} has several columns of one name, which polars cannot hold: read it with as_='arrow'", uri=where
        )
    with decoding(f"{where} has a column of a type that polars cannot hold: read it with as_='arrow'", where):
        columns = [_series(pl, field.name, table.column(field.name)) for field in table.schema]
    dtypes = note["dtypes"] if note else {}
    with decoding(f"{where}: the stored note does not fit the stored table", where):
        # By names: of a column called "" polars makes "column_0" otherwise.
        return pl.DataFrame({column.name: restored(column, dtypes.get(column.name)) for column in columns})


def restored(column: "pl.Series", description: Any) -> "pl.Series":
    """The column in the dtype that was noted, if one was."""
    if description is None:
        return column
    dtype = dtype_of(description)
    given: pl.Series = column if column.dtype == dtype else column.cast(dtype)
    return given


def _check_name(name: str, column: str) -> None:
    if "\0" in name:  # at which the process would panic: names go to Arrow as C has them
        raise UnsupportedFrameError(
            f"column {column!r} has a null character in its name, or in a field's, which polars cannot hand over; "
            "rename it"
        )


def _series(pl: Any, name: str, column: pa.ChunkedArray) -> Any:
    while isinstance(column.type, pa.BaseExtensionType):
        # Polars warns of each extension type that it does not know, and takes what is stored.
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    kind = column.type
    if "\0" in str(kind):
        raise ValueError  # of such a name polars would get only the beginning
    held = _held(kind)
    if held != kind:
        column = column.cast(held)  # fails on what has no place in it
    made: Any = pl.from_arrow(column, rechunk=False)
    return made.alias(name)


def _held(kind: pa.DataType) -> pa.DataType:
    """The type, as far as polars has it, at any depth."""
    types = pa.types
    if types.is_duration(kind) and kind.unit == "s":
        return pa.duration("ms")  # polars would multiply without looking whether it fits
    if types.is_timestamp(kind) and kind.tz and kind.tz[0] in "+-":
        return pa.timestamp(kind.unit, "UTC")  # polars has no zones of a fixed offset
    if types.is_decimal256(kind):
        return pa.decimal128(38, kind.scale)
    if types.is_list(kind) or types.is_list_view(kind):
        return pa.list_(_held_field(kind.value_field))
    if types.is_large_list(kind) or types.is_large_list_view(kind):
        return pa.large_list(_held_field(kind.value_field))
    if types.is_fixed_size_list(kind):
        return pa.list_(_held_field(kind.value_field), kind.list_size)
    if types.is_map(kind):
        return pa.map_(_held(kind.key_type), _held_field(kind.item_field), kind.keys_sorted)
    return pa.struct([_held_field(field) for field in kind]) if types.is_struct(kind) else kind


def _held_field(field: pa.Field) -> pa.Field:
    return field.with_type(_held(field.type))


def _described(dtype: Any, name: str, whole: Any) -> list[Any]:
    import polars as pl

    if isinstance(dtype, pl.List):
        return ["List", _described(dtype.inner, name, whole)]
    if isinstance(dtype, pl.Array):
        return ["Array", _described(dtype.inner, name, whole), dtype.size]
    if dtype.base_type().__name__ == "Map":  # of polars 2.1
        return ["Map", _described(dtype.key, name, whole), _described(dtype.value, name, whole)]
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            _check_name(field.name, name)
        return ["Struct", [[field.name, _described(field.dtype, name, whole)] for field in dtype.fields]]
    if isinstance(dtype, pl.Enum):
        return ["Enum", dtype.categories.to_list()]
    if isinstance(dtype, pl.Categorical):
        categories = getattr(dtype, "categories", None)
        if categories is None or categories.is_global():
            return ["Categorical"]
        return ["Categorical", categories.name(), categories.namespace(), str(categories.physical())]
    if isinstance(dtype, pl.Decimal):
        return ["Decimal", dtype.precision, dtype.scale]
    if isinstance(dtype, pl.Datetime):
        return ["Datetime", dtype.time_unit, dtype.time_zone]
    if isinstance(dtype, pl.Duration):
        return ["Duration", dtype.time_unit]
    if str(dtype) in _SIMPLE:
        return [str(dtype)]
    remedy = "to pl.Int64, pl.Decimal(38, 0) or pl.String" if str(dtype).endswith("Int128") else "to a type with values"
    raise UnsupportedFrameError(
        f"column {name!r} ({whole}) has a polars type that Parquet cannot keep; cast it {remedy}"
    )


def dtype_of(description: Any) -> Any:
    """The dtype that was described.

    Raises:
        ValueError: No note has such a description.
    """
    import polars as pl

    kind, *of = description
    match kind:
        case "List":
            return pl.List(dtype_of(of[0]))
        case "Array":
            return pl.Array(dtype_of(of[0]), of[1])
        case "Map":
            return vars(pl)["Map"](dtype_of(of[0]), dtype_of(of[1]))
        case "Struct":
            return pl.Struct([pl.Field(name, dtype_of(inner)) for name, inner in of[0]])
        case "Enum":
            return pl.Enum(of[0])
        case "Categorical":
            return pl.Categorical(pl.Categories(of[0], of[1], getattr(pl, of[2]))) if of else pl.Categorical()
        case "Decimal" | "Datetime" | "Duration":
            return getattr(pl, kind)(*of)
    if kind not in _SIMPLE:
        raise ValueError("no polars type that a note has")
    return getattr(pl, kind)()
