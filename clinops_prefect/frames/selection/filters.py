"""`filters=` as one pyarrow expression that means the same for every column type, format and row group.

pyarrow's own reading of such lists keeps missing values in `not in` and NaN in `!=`, casts a column to the unit of the
compared value (which overflows for dates outside nanoseconds), and quotes values in its errors. Here the value is
converted to the column's type, exactly, before anything is compared.
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

# A condition is `(column, operator, value)`; JSON has lists where Python has tuples.
Condition: TypeAlias = tuple[Any, ...] | list[Any]
# An expression, a condition, conditions that all hold, or lists of such conditions of which any holds.
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
# The order of the stored values of any other extension type may mean something else.
_COMPARED_EXTENSIONS = ("arrow.uuid", "arrow.bool8", "arrow.json")
_NEVER, _ALWAYS = pc.scalar(False), pc.scalar(True)
# Operators that every value of the column satisfies, when the compared value is below (-1) or above (1) all that the
# column can hold.
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
        filters: As `PipelineStore.download` takes them.
        schema: The artifact's.
        fields: Label -> field name.
        check: Raises an `ArtifactColumnError` for a label that is not in the artifact.
        where: The URI, for errors.
        of_groups: Whether it is for `ParquetReader.groups`. Statistics leave NaN out, so to Arrow a row group of one
            number and NaN has no NaN.

    Raises:
        ArtifactColumnError: They are not filters, or do not fit the columns. No message quotes a compared value.
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
        # A label of several levels is a tuple, for which JSON has a list.
        label = tuple(label) if isinstance(label, list) else label
        try:
            check(label)
        except TypeError:
            raise _unreadable(where) from None  # not hashable, so no label
        name = fields[label]
        kind = schema.field(name).type
        # Parquet stores no dictionary of numbers, so only the layout says that these are ordered categories.
        note = notes.get(name)
        is_ordered = isinstance(note, dict) and bool(note.get("ordered"))
        is_ordered = is_ordered or (pa.types.is_dictionary(kind) and kind.ordered)
        found = _condition(pc.field(name), kind, condition[1:], f"column {label!r}", where, is_ordered=is_ordered)
        return _ALWAYS if of_groups and _asks_for_nan(condition, kind) else found

    return reduce(operator.or_, [reduce(operator.and_, map(one, group)) for group in groups])


def only_on(filters: Any, names: Collection[str], where: str) -> list[list[Condition]] | None:
    """The conditions on these columns alone, which hold wherever the filters do; None if that is everywhere.

    Raises:
        ArtifactColumnError: They are not filters.
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
    """Whether it is one condition, right or wrong: its second item is text, as only an operator is."""
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
        raise refused(f"has an operator that there is not; there are {', '.join(_OPERATORS)}")
    wants = 0 if sign.startswith("is") else 1
    values = list(rest[1:])
    if wants == 0 and values == [None]:
        values = []  # as a form may fill it in
    if len(values) != wants:
        raise refused(f"has {len(values)} values, and {sign!r} takes {'one' if wants else 'none'}")
    if sign in _ORDER and is_ordered:
        # Arrow would compare the categories themselves: "grave" before "mild", by the alphabet.
        raise refused("asks for an order, and the column's categories have one of their own: list them with 'in'")
    stored = _stored(field, kind)
    present = field.is_valid()
    if pa.types.is_floating(stored.kind):
        # pandas shows NaN as missing, and our own files have no other.
        present &= ~stored.field.is_nan()
    if not wants:
        # Not `~present`, from which Arrow could not tell that a row group has no missing value.
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
        # What a value of some other package raises when it is looked at; its words may quote the value.
        raise refused(f"compares with a value that cannot be converted ({type(error).__name__})") from None


def _asks_for_nan(condition: Condition, kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_floating(values)) and condition[1].lower().split() == ["is", "null"]


@dataclass(frozen=True)
class _Stored:
    """A field as a type that Arrow compares.

    Attributes:
        field: The field, cast where its own type is not compared.
        kind: The type.
        is_uuid: Whether the sixteen bytes are a UUID.
        is_flag: Whether the bytes are booleans.
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
    # What has no kernel of its own to compare, in the next wider type that has.
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
        # Between two values of the column: above the lower one is above both `<` and `<=` of it.
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
            found.append(number.floor)  # the column holds no other
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
