"""Converts `filters=` to one pyarrow expression that means the same for every column type, format and row group.

pyarrow's own interpretation of such lists keeps missing values in `not in` and NaN in `!=`, casts a column to the unit
of the compared value (which overflows for dates outside of nanoseconds), and quotes values in its errors. Here the
value is converted exactly to the column's type before it is compared.
"""

import operator
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.errors import ArtifactColumnError
from clinops_prefect.frames.conversion.schemas import layout_of
from clinops_prefect.frames.selection import literals

# A condition is `(column, operator, value)`, as a tuple or, from JSON, as a list.
Condition: TypeAlias = tuple[Any, ...] | list[Any]
# An expression, a condition, a list of conditions that must all hold, or lists of conditions of which one must hold.
Filters: TypeAlias = pc.Expression | Condition | list[Condition] | list[list[Condition]]

_COMPARISONS: dict[str, Callable[[Any, Any], pc.Expression]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDER = ("<", "<=", ">", ">=")
_OPERATORS = (*_COMPARISONS, "in", "not in", "is null", "is not null")
# For other extension types, the order of the stored values may differ from the order of the values.
_COMPARED_EXTENSIONS = ("arrow.uuid", "arrow.bool8", "arrow.json")
_NEVER, _ALWAYS = pc.scalar(False), pc.scalar(True)
# The operators that hold for every value of the column if the compared value is below (-1) or above (1) the range of
# the column's type.
_BEYOND = {-1: (">", ">=", "!="), 1: ("<", "<=", "!=")}


def expression_of(
    filters: Any,
    schema: pa.Schema,
    fields: Mapping[Hashable, str],
    check: Callable[[Any], None],
    where: str,
    *,
    of_groups: bool = False,
) -> pc.Expression | None:
    """The filters as an expression over the fields of a schema; None for no filter.

    Args:
        filters: As in `PipelineStore.download`.
        schema: The artifact's schema.
        fields: Label -> field name.
        check: Raises an `ArtifactColumnError` for a label that is not in the artifact.
        where: The URI, for errors.
        of_groups: Whether the expression is for `ParquetReader.groups`. Statistics ignore NaN, so Arrow would assume
            that a row group with one number and NaN has no NaN.

    Raises:
        ArtifactColumnError: The filters are malformed, or do not fit the columns. No message quotes a compared value.
    """
    if filters is None or isinstance(filters, pc.Expression):
        return filters
    if type(filters).__module__.partition(".")[0] == "polars":
        raise ArtifactColumnError(
            "filters takes no polars expression: use store.dataset(…).scan().filter(…), or write it in pyarrow's, as "
            "pyarrow.compute.field('stay_id') == 7",
            uri=where,
        )
    groups = _groups(filters, where)
    if not groups:
        return None

    notes = (layout_of(schema) or {}).get("columns", {})

    def one(condition: Condition) -> pc.Expression:
        label = condition[0]
        # A label with several levels is a tuple, which is a list in JSON.
        label = tuple(label) if isinstance(label, list) else label
        try:
            check(label)
        except TypeError:
            raise _unreadable(where) from None  # not hashable, so no label
        name = fields[label]
        kind = schema.field(name).type
        # Parquet cannot store a dictionary of numbers, so only the layout tells whether categories are ordered.
        note = notes.get(name)
        is_ordered = isinstance(note, dict) and bool(note.get("ordered"))
        is_ordered = is_ordered or (pa.types.is_dictionary(kind) and kind.ordered)
        found = _condition(pc.field(name), kind, condition[1:], f"column {label!r}", where, is_ordered=is_ordered)
        return _ALWAYS if of_groups and _asks_for_nan(condition, kind) else found

    return reduce(operator.or_, [reduce(operator.and_, map(one, group)) for group in groups])


def only_on(filters: Any, names: Collection[str], where: str) -> list[list[Condition]] | None:
    """The conditions on these columns alone. All rows that match the filters satisfy them. None if they exclude no row.

    Raises:
        ArtifactColumnError: The filters are malformed.
    """
    groups = [
        [one for one in group if isinstance(one[0], str) and one[0] in names] for group in _groups(filters, where)
    ]
    return groups if groups and all(groups) else None


def _groups(filters: Any, where: str) -> list[list[Condition]]:
    """Lists of conditions, of which one list must hold."""
    if not isinstance(filters, list | tuple):
        raise _unreadable(where)
    if not filters:
        return []
    if _is_condition(filters):
        return [[filters]]
    if all(map(_is_condition, filters)):
        return [list(filters)]
    if all(isinstance(group, list | tuple) and group and all(map(_is_condition, group)) for group in filters):
        return [list(group) for group in filters]
    raise _unreadable(where)


def _is_condition(value: Any) -> bool:
    """Whether the value is meant as one condition, even a malformed one: only then is the second item text."""
    return isinstance(value, list | tuple) and len(value) >= 2 and isinstance(value[1], str)


def _unreadable(where: str) -> ArtifactColumnError:
    return ArtifactColumnError(
        "filters takes [(column, operator, value), …], a list of such lists, or a pyarrow expression; an operator is "
        f"one of {', '.join(_OPERATORS)}",
        uri=where,
    )


def _condition(
    field: pc.Expression, kind: pa.DataType, rest: Any, what: str, where: str, *, is_ordered: bool
) -> pc.Expression:
    sign = " ".join(rest[0].lower().split())
    sign = "==" if sign == "=" else sign

    def refused(why: str) -> ArtifactColumnError:
        return ArtifactColumnError(f"the filter on {what} ({kind}) {why}", uri=where)

    if sign not in _OPERATORS:
        raise refused(f"has an unknown operator; use one of {', '.join(_OPERATORS)}")
    wants = 0 if sign.startswith("is") else 1
    values = list(rest[1:])
    if wants == 0 and values == [None]:
        values = []  # a form may send None for an empty list
    if len(values) != wants:
        raise refused(f"has {len(values)} values, and {sign!r} takes {'one' if wants else 'none'}")
    if sign in _ORDER and is_ordered:
        # Arrow would compare the categories alphabetically: "grave" before "mild".
        raise refused("asks for an order, and the column's categories have one of their own: list them with 'in'")
    stored = _stored(field, kind)
    present = field.is_valid()
    if pa.types.is_floating(stored.kind):
        # pandas treats NaN as missing, and in our own files every missing float is stored as missing.
        present &= ~stored.field.is_nan()
    if not wants:
        # With `~present`, Arrow could not skip row groups without missing values.
        absent = field.is_null()
        absent = absent | stored.field.is_nan() if pa.types.is_floating(stored.kind) else absent
        return present if sign == "is not null" else absent
    try:
        if sign in _COMPARISONS:
            return _compared(sign, stored, values[0]) & present
        return _among(sign, stored, values[0]) & present
    except literals.ValueRefusedError as error:
        raise refused(str(error)) from None
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError) as error:
        # A value of another package may raise any error, whose message may quote the value.
        raise refused(f"compares with a value that cannot be converted ({type(error).__name__})") from None


def _asks_for_nan(condition: Condition, kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_floating(values)) and condition[1].lower().split() == ["is", "null"]


@dataclass(frozen=True)
class _Stored:
    """A field with a type that Arrow can compare.

    Attributes:
        field: The field, cast if Arrow cannot compare its own type.
        kind: The type.
        is_uuid: Whether the values are the sixteen bytes of a UUID.
        is_flag: Whether the values are booleans in bytes.
    """

    field: pc.Expression
    kind: pa.DataType
    is_uuid: bool = False
    is_flag: bool = False


def _stored(field: pc.Expression, kind: pa.DataType) -> _Stored:
    if isinstance(kind, pa.BaseExtensionType):
        name, storage = kind.extension_name, kind.storage_type
        if name not in _COMPARED_EXTENSIONS:
            return _Stored(field, kind)
        return _Stored(field.cast(storage), storage, is_uuid=name == "arrow.uuid", is_flag=name == "arrow.bool8")
    if pa.types.is_dictionary(kind):
        return _stored(field.cast(kind.value_type), kind.value_type)
    # Types without a comparison kernel are cast to the next wider type that has one.
    for test, wider in ((pa.types.is_float16, pa.float32()), (pa.types.is_string_view, pa.string())):
        if test(kind):
            return _Stored(field.cast(wider), wider)
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        wider = pa.decimal128(kind.precision, kind.scale)
        return _Stored(field.cast(wider), wider)
    return _Stored(field, kind)


def _compared(sign: str, stored: _Stored, value: Any) -> pc.Expression:
    field, kind = stored.field, stored.kind
    if pa.types.is_null(kind):
        return _NEVER
    if not literals.is_exact(kind) or stored.is_flag:
        return _COMPARISONS[sign](field, pc.scalar(_literal(stored, value)))
    found = literals.exact(value, kind)
    if found.position:
        return _ALWAYS if sign in _BEYOND[found.position] else _NEVER
    if not found.is_equal:
        # The value lies between two values of the column's type, and `floor` is the lower one. So `<` becomes `<=`
        # floor, and `>=` becomes `>` floor.
        sign = {"<": "<=", ">=": ">"}.get(sign, sign)
        if sign in ("==", "!="):
            return _ALWAYS if sign == "!=" else _NEVER
    return _COMPARISONS[sign](field, pc.scalar(found.floor))


def _among(sign: str, stored: _Stored, values: Any) -> pc.Expression:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        values = values.to_pylist()
    if not isinstance(values, Collection | np.ndarray) or isinstance(values, str | bytes | bytearray | Mapping):
        raise literals.ValueRefusedError(f"takes a list of values after {sign!r}, not a {type(values).__name__}")
    found: list[pa.Scalar] = []
    for value in values:
        if not literals.is_exact(stored.kind) or stored.is_flag:
            found.append(_literal(stored, value))
        elif (number := literals.exact(value, stored.kind)).is_equal:
            found.append(number.floor)  # other numbers cannot occur in the column
    if not found or pa.types.is_null(stored.kind):
        return _NEVER if sign == "in" else _ALWAYS
    is_in = stored.field.isin(pa.array(found, found[0].type))
    return is_in if sign == "in" else ~is_in


def _literal(stored: _Stored, value: Any) -> pa.Scalar:
    if stored.is_uuid:
        return pa.scalar(literals.uuid_bytes(value), stored.kind)
    if stored.is_flag:
        return literals.plain(value, pa.bool_()).cast(stored.kind)
    return literals.plain(value, stored.kind)
