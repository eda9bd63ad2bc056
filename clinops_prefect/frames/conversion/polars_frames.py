"""Converts polars frames to stored tables and back, including the polars types that Arrow lacks."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames.conversion.extension_types import of_children, storage_of
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY
from clinops_prefect.frames.conversion.valid_texts import broken_text, holds_broken_text
from clinops_prefect.frames.decoding import decoding

if TYPE_CHECKING:
    import polars as pl

# The dtypes that Arrow keeps exactly. All others are described in the note.
_PLAIN = {
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *("Float32", "Float64", "Boolean", "String", "Binary", "Date", "Time", "Datetime", "Duration", "Null"),
}
_SIMPLE = {*_PLAIN, "Float16"}


def noted(schema: "pl.Schema") -> dict[str, Any]:
    """Column -> description of its dtype, for the columns whose Arrow type does not determine the dtype.

    Raises:
        UnsupportedFrameError: Parquet cannot store a dtype. The message names the column and the remedy.
    """
    found = {}
    for name, dtype in schema.items():
        _check_name(name, name)
        description = _described(dtype, name, dtype)
        if description[0] not in _PLAIN:
            found[name] = description
    return found


def to_arrow(frame: "pl.DataFrame") -> pa.Table:
    """The frame as a table, with types that every version of Arrow has."""
    import polars as pl

    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def empty(schema: "pl.Schema") -> pa.Table:
    """A table with these columns and no rows."""
    import polars as pl

    return to_arrow(pl.DataFrame(schema=schema))


def texts(values: list[str]) -> pa.Array:
    """Texts as an Arrow array. PyArrow would import pandas to make one from a list."""
    import polars as pl

    return pl.Series(values, dtype=pl.String).to_arrow(compat_level=pl.CompatLevel.oldest())


def made(table: pa.Table, note: dict[str, Any] | None, where: str) -> "pl.DataFrame":
    """The polars frame of a stored table.

    Args:
        table: The stored table. It may have only some of the columns and rows.
        note: The note of `arrow_frames.stored_schema`, if any.
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: Polars cannot represent a column, or the note contradicts the table.
    """
    import polars as pl

    if len(set(table.column_names)) < table.num_columns:
        raise ArtifactDecodeError(
            f"{where} has several columns of one name, which polars cannot hold: read it with as_='arrow'", uri=where
        )
    # pandas and polars hold no other texts. Older versions did not check tables of Arrow.
    if LAYOUT_KEY not in (table.schema.metadata or {}) and (note is None or note.get("kind") != "polars"):
        for name, held in zip(table.column_names, table.columns, strict=True):
            if holds_broken_text(held):
                raise broken_text(where, name)
    with decoding(f"{where} has a column of a type that polars cannot hold: read it with as_='arrow'", where):
        columns = [_series(pl, field.name, table.column(field.name)) for field in table.schema]
    dtypes = note["dtypes"] if note else {}
    with decoding(f"{where}: the stored note does not fit the stored table", where):
        # Names are given explicitly, because polars would otherwise rename a column "" to "column_0".
        return pl.DataFrame({column.name: restored(column, dtypes.get(column.name)) for column in columns})


def restored(column: "pl.Series", description: Any) -> "pl.Series":
    """The column with the dtype in the note, if it has one."""
    if description is None:
        return column
    dtype = dtype_of(description)
    given: pl.Series = column if column.dtype == dtype else column.cast(dtype)
    return given


def _check_name(name: str, column: str) -> None:
    if "\0" in name:  # polars would panic, because it passes names to Arrow as C strings
        raise UnsupportedFrameError(
            f"column {column!r} has a null character in its name, or in a field's, which polars cannot hand over; "
            "rename it"
        )


def _series(pl: Any, name: str, column: pa.ChunkedArray) -> Any:
    # Polars would make extension types of its own of these, and warn about each that it does not know.
    column = storage_of(column)
    kind = column.type
    if "\0" in str(kind):
        raise ValueError  # polars would get only the beginning of such a name
    held = _held(kind)
    if held != kind:
        column = column.cast(held)  # raises if a value does not fit
    try:
        made: Any = _from_arrow(pl, column)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise ValueError from None  # polars' message may quote a value
    return made.alias(name)


def _from_arrow(pl: Any, column: pa.ChunkedArray) -> Any:
    try:
        return pl.from_arrow(column, rechunk=False)
    except pl.exceptions.PolarsError:
        if "fixed_size_list" not in str(column.type):
            raise
        # Polars 2.1 refuses arrays with a missing value that begin in the middle of a buffer, as batches do. A copy
        # begins at the start.
        return pl.from_arrow(column.take(pa.array(range(len(column)), pa.int64())), rechunk=False)


def _held(kind: pa.DataType) -> pa.DataType:
    """The closest type that polars has, at any depth."""
    types = pa.types
    if types.is_duration(kind) and kind.unit == "s":
        return pa.duration("ms")  # polars would multiply without checking for overflow
    if types.is_timestamp(kind) and kind.tz and kind.tz[0] in "+-":
        return pa.timestamp(kind.unit, "UTC")  # polars has no zones with a fixed offset
    if types.is_decimal256(kind):
        return pa.decimal128(38, kind.scale)
    if types.is_decimal(kind) and kind.bit_width < 128:
        return pa.decimal128(kind.precision, kind.scale)  # polars panics later on some that are nested
    if types.is_list_view(kind):
        return pa.list_(_held_field(kind.value_field))
    if types.is_large_list_view(kind):
        return pa.large_list(_held_field(kind.value_field))
    return of_children(kind, _held_field)


def _held_field(field: pa.Field) -> pa.Field:
    return field.with_type(_held(field.type))


def _described(dtype: Any, name: str, whole: Any) -> list[Any]:
    import polars as pl

    if isinstance(dtype, pl.List):
        return ["List", _described(dtype.inner, name, whole)]
    if isinstance(dtype, pl.Array):
        return ["Array", _described(dtype.inner, name, whole), dtype.size]
    if dtype.base_type().__name__ == "Map":  # since polars 2.1
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
    """The dtype for a description in a note.

    Raises:
        ValueError: The description is not one that a note contains.
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
