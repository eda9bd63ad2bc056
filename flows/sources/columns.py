"""Column types: converts a file's columns to the four kinds with which the steps work.

CSV files are read as text, and Parquet files in their stored types. The same conversion serves both, and happens late,
only on the rows that are kept. Error messages name the column and the number of cells, but never a cell.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flows.icu.disclosure import told

# All times are in microseconds. They are exact for the sources, which have seconds. Nanoseconds end in the year 2262,
# and the shifted dates of de-identified data come close to it.
TIME = pa.timestamp("us")

# A date, and optionally a time. A zone is not allowed: dropping it would shift the event against the stay.
_TIME_TEXT = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$"

# A number of another locale: 37,5 or 1.234,5 or 1,234.
_COMMA_NUMBER = r"^[+-]?\d[\d.]*,\d[\d.,]*$"


class ColumnError(ValueError):
    """A column has cells that its kind does not allow. The message says what is wrong, and in how many cells."""


class Kind(Enum):
    """The meaning of a column. Each kind has one Arrow type."""

    ID = pa.int64()
    TIME = TIME
    NUMBER = pa.float64()
    TEXT = pa.string()


def convert(column: pa.Array, kind: Kind) -> pa.Array:
    """The column in the type of its kind. Nulls stay null.

    Args:
        column: Text (as from CSV), or any type that a Parquet file may have.
        kind: `ID` takes whole numbers, also as floats (`30001.0`, which pandas writes for a column with nulls). `TIME`
            takes dates and naive timestamps of any unit, and ISO texts, cut to microseconds. `NUMBER` takes anything,
            and makes null of what is not a number, such as text measurements; a number with a comma is refused. `TEXT`
            takes anything.

    Raises:
        ColumnError: An id is not a whole number, a time is not a time or has a zone, or a number has a comma. Such a
            cell does not become null: without its storing time, an event would count as known too early, and of the
            numbers with a decimal comma only the whole ones would be left.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == kind.value:
        return column
    if pa.types.is_null(column.type):
        return column.cast(kind.value)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return _CONVERTERS[kind](column)


def _id(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):
        # Writers without nulls write NaN for a missing id.
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        # The usual case. The cast is checked, so 1.5 and 2^63 fail.
        return column.cast(pa.int64())
    except pa.ArrowException:
        pass  # The exception quotes the cell, so it must not become the cause of another one.
    numbers = _number(column)
    whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**53))
    bad = _count_missing(column, numbers) + _count(pc.invert(whole))
    if bad:
        raise ColumnError(f"{told(bad)} of {told(len(column))} cells are not whole numbers")
    return numbers.cast(pa.int64())


def _number(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        # safe=False rounds a large integer, as reading the same digits from CSV does.
        return column.cast(pa.float64(), safe=False)
    if not pa.types.is_string(kind):
        return pa.nulls(len(column), pa.float64())
    try:
        return column.cast(pa.float64())
    except pa.ArrowException:
        pass
    text = pc.utf8_trim_whitespace(column)
    if commas := _count(pc.match_substring_regex(text, _COMMA_NUMBER)):
        raise ColumnError(f"{told(commas)} of {told(len(column))} cells are numbers with a comma; write 37.5, not 37,5")
    numbers = pd.to_numeric(pd.Series(text.to_pandas()), errors="coerce")
    return pa.array(numbers.to_numpy("float64"), pa.float64(), from_pandas=True)


def _time(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        if kind.tz is not None:
            raise ColumnError("the timestamps carry a time zone; the steps need naive local time")
        return column.cast(TIME, safe=False)
    if pa.types.is_date(kind):
        return column.cast(TIME)
    if not pa.types.is_string(kind):
        raise ColumnError(f"holds {kind}, not times")
    try:
        return column.cast(TIME)
    except pa.ArrowException:
        pass
    text = pc.utf8_trim_whitespace(column)
    # An empty text means that there is no time.
    text = pc.if_else(pc.equal(text, ""), None, text)
    bad = _count(pc.invert(pc.match_substring_regex(text, _TIME_TEXT)))
    if not bad:
        # Arrow would refuse digits beyond microseconds. pandas turns impossible dates into NaT instead of raising.
        text = pc.replace_substring_regex(text, r"(\.\d{6})\d+$", r"\1")
        times = pa.Array.from_pandas(pd.to_datetime(pd.Series(text.to_pandas()), format="ISO8601", errors="coerce"))
        times = times.cast(TIME, safe=False)
        bad = _count_missing(text, times)
    if bad:
        raise ColumnError(
            f"{told(bad)} of {told(len(column))} cells are not times (YYYY-MM-DD HH:MM:SS, without a time zone)"
        )
    return times


def _text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowException:
        pass
    raise ColumnError(f"holds {column.type}, not text")


def _count(flags: pa.Array) -> int:
    return int(pc.sum(flags, min_count=0).as_py())


def _count_missing(before: pa.Array, after: pa.Array) -> int:
    return int(after.null_count - before.null_count)


_CONVERTERS: dict[Kind, Callable[[Any], Any]] = {
    Kind.ID: _id,
    Kind.NUMBER: _number,
    Kind.TEXT: _text,
    Kind.TIME: _time,
}
