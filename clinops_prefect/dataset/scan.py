"""A dataset as a polars LazyFrame, by polars' public interface for sources (`register_io_source`).

polars passes the predicate as an expression. We analyse it only with `Expr.meta`: take the inputs of an expression,
combine them with each known operator, and compare the result with the expression. A term that is not recognised skips
nothing. The whole predicate is applied to all rows that are read.
"""

import datetime as dt
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from clinops_prefect.dataset.planning import Plan, Planner
from clinops_prefect.errors import ArtifactColumnError
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.conversion.schemas import null_table
from clinops_prefect.frames.selection.filters import expression_of
from clinops_prefect.frames.selection.selection import Selection

Condition = tuple[Any, ...]

_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "!=": operator.ne,
}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
# The operators that a NaN never matches. For polars, NaN is greater than every number, but statistics ignore NaN.
_SAFE_WITH_NAN = ("==", "<", "<=")
# Floats represent all integers up to this one exactly.
_EXACT_INTEGERS = 2**53


def scan(planner: Planner) -> pl.LazyFrame:
    """Make the LazyFrame; see `ArtifactDataset.scan`."""
    plan = planner.plan(None, None, None, "polars")
    known = arrow_frames.made(null_table(plan.schema(plan.chosen.fields)), "polars", planner.where).schema

    def source(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        del batch_size
        names = list(known) if with_columns is None else with_columns
        read = list(dict.fromkeys([*names, *(predicate.meta.root_names() if predicate is not None else ())]))
        # To count rows, polars asks for no columns. A polars frame without columns has no rows, so read one column.
        read = read or list(known)[:1]
        # `n_rows` counts rows before the predicate is applied, so with `n_rows` no row may be skipped.
        only = None if n_rows is not None else predicate
        left = n_rows
        for frame in _frames(planner, plan, read, only, known):
            part = frame if left is None else frame.head(left)
            if left is not None:
                left -= part.height
            if predicate is not None:
                part = part.filter(predicate)
            yield part.select(names) if names else part
            if left == 0:
                return

    return register_io_source(source, schema=known, validate_schema=True)


def _frames(
    planner: Planner, every: Plan, read: list[str], predicate: pl.Expr | None, known: pl.Schema
) -> Iterator[Any]:
    """Frames of the parts that a predicate may leave, with the schema that all parts agreed on, which polars knows."""
    conditions: list[Condition] = []
    parts: list[int] | None = None
    partitions, schema = every.partitions, every.agreed.schema
    for one in _conjuncts(predicate) if predicate is not None else ():
        if one.meta.root_names() and set(one.meta.root_names()) <= set(partitions.names):
            chosen = _parts(one, partitions.table, known, planner.where)
            parts = chosen if parts is None else [number for number in chosen if number in set(parts)]
        elif condition := _condition(one, known):
            conditions.append(condition)
    conditions = [one for one in conditions if _fits(one, schema, planner.where)]
    wanted = Selection(schema, read, conditions or None, planner.where, by_field=True)
    plan = planner.planned(planner.opener(), every.agreed, wanted, partitions, every.numbers, "polars", places=parts)
    # The conditions have skipped parts and row groups in the plan. The rows are filtered by polars' own predicate.
    plan.chosen.expression = None
    for table, _ in plan.tables():
        frame = arrow_frames.made(table.select(read), "polars", planner.where)
        yield frame.cast({name: known[name] for name in read})


def _parts(predicate: pl.Expr, table: Any, known: pl.Schema, where: str) -> list[int]:
    """The numbers of the parts whose partition values match a predicate."""
    # The values are converted as the rows are: polars itself would not notice seconds that it cannot count.
    values: Any = arrow_frames.made(table, "polars", where)
    values = values.cast({name: known[name] for name in values.columns}).with_row_index("\0part")
    numbers: list[int] = values.filter(predicate).get_column("\0part").to_list()
    return numbers


def _fits(condition: Condition, schema: Any, where: str) -> bool:
    try:
        expression_of([condition], schema, {name: name for name in schema.names}, lambda _: None, where)
    except ArtifactColumnError:
        return False
    return True


def _conjuncts(predicate: pl.Expr) -> list[pl.Expr]:
    """The expressions that must all hold."""
    inputs = predicate.meta.pop()
    if len(inputs) == 2 and predicate.meta.eq(inputs[1] & inputs[0]):
        return _conjuncts(inputs[1]) + _conjuncts(inputs[0])
    return [predicate]


def _condition(predicate: pl.Expr, known: pl.Schema) -> Condition | None:
    """The predicate as a condition of `filters=`; None if no condition is sure to keep all matching rows."""
    inputs = predicate.meta.pop()
    if len(inputs) == 1 and (name := _column(inputs[0])):
        if predicate.meta.eq(inputs[0].is_null()):
            return (name, "is null")
        if predicate.meta.eq(inputs[0].is_not_null()) and not known[name].is_float():
            return (name, "is not null")
        return None
    if len(inputs) != 2:
        return None
    right, left = inputs
    sign = next((sign for sign, made in _SIGNS.items() if predicate.meta.eq(made(left, right))), None)
    if sign is None:
        name = _column(left)
        if not name or right.meta.root_names() or not predicate.meta.eq(left.is_in(right)):
            return None
        values = _values(right)
        fits = values is not None and all(_is_of(value, known[name], "==") for value in values)
        return (name, "in", values) if fits else None
    if not _column(left) and _column(right):
        left, right, sign = right, left, _TURNED.get(sign, sign)
    name = _column(left)
    if not name or right.meta.root_names():
        return None
    values = _listed(right)
    return (name, sign, values[0]) if values and len(values) == 1 and _is_of(values[0], known[name], sign) else None


def _column(expression: pl.Expr) -> str:
    names = expression.meta.root_names()
    return names[0] if len(names) == 1 and expression.meta.eq(pl.col(names[0])) else ""


def _values(literal: pl.Expr) -> list[Any] | None:
    values = _listed(literal)
    return values[0] if values and len(values) == 1 and isinstance(values[0], list) else values


def _listed(literal: pl.Expr) -> list[Any] | None:
    """The values of a literal as Python objects; None if Python cannot hold one, as a time after the year 9999."""
    found = pl.select(literal)
    if found.width != 1 or _is_fine(found.dtypes[0]):
        return None
    try:
        return found.to_series().to_list()
    except (OverflowError, ValueError, pl.exceptions.PanicException):
        return None


def _is_fine(dtype: Any) -> bool:
    """Whether values of this dtype would lose digits as times of Python."""
    inner = getattr(dtype, "inner", dtype)
    return getattr(inner, "time_unit", None) == "ns"


def _is_of(value: Any, dtype: pl.DataType, sign: str) -> bool:
    """Whether a comparison of the column with this value means the same in polars and in `filters=`."""
    if isinstance(value, bool):
        return dtype == pl.Boolean and sign in ("==", "!=")
    if isinstance(value, int):
        if dtype == pl.Float64:
            return sign in _SAFE_WITH_NAN and abs(value) <= _EXACT_INTEGERS
        return dtype.is_integer()
    if isinstance(value, float):
        return dtype == pl.Float64 and sign in _SAFE_WITH_NAN and math.isfinite(value)
    if isinstance(value, str):
        return dtype == pl.String
    if isinstance(value, dt.datetime):
        return isinstance(dtype, pl.Datetime) and (dtype.time_zone is None) == (value.tzinfo is None)
    return isinstance(value, dt.date) and dtype == pl.Date
