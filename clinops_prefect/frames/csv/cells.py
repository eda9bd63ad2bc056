"""Converts text columns of a CSV file to the requested dtype, or to numbers if every cell is one and loses no digit."""

import re
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.errors import ArtifactColumnError, ArtifactDecodeError
from clinops_prefect.frames.csv.options import Options
from clinops_prefect.names import nearest

_INTEGER = r"0|-?[1-9][0-9]*"
_NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?"
# Very small and very large floats as Python writes them. Other forms, such as `1e5` and `1E10`, may be codes.
_FLOAT = _NUMBER + r"|-?[1-9](\.[0-9]+)?e[-+][0-9]{2,3}"
_WRAPPED = {"category": "str", "bool": "boolean", "int64": "Int64"}


def is_number(cell: str) -> bool:
    """Whether a cell is a plain decimal."""
    return bool(re.fullmatch(_NUMBER, cell))


def typed(texts: pa.Table, options: Options, where: str) -> tuple[pa.Table, set[str]]:
    """The table with the requested or inferred types, and the columns that must be complete because of their dtype.

    Raises:
        ArtifactColumnError: A dtype is given for a column that does not exist.
        ArtifactDecodeError: A column does not fit the dtype that is given for it.
    """
    wanted = options.dtype
    if isinstance(wanted, str):
        wanted = dict.fromkeys(texts.column_names, wanted)
    for name in wanted:
        if name not in texts.column_names:
            hint = nearest(name, texts.column_names)
            raise ArtifactColumnError(
                f"{where} has no column {name!r}{hint}, for which csv_options has a dtype", uri=where
            )
    arrays, complete = [], set()
    names, columns = texts.column_names, texts.columns[::-1]
    # Drop the table, so that the texts of each column are freed as soon as its numbers are made.
    del texts
    for name in names:
        column = columns.pop()
        if name in wanted:
            arrays.append(_as(column, wanted[name], options, name, where))
            if wanted[name] in ("bool", "int64"):
                if arrays[-1].null_count:
                    raise _refused(name, wanted[name], where, "has missing values")
                complete.add(name)
        else:
            arrays.append(_inferred(column, options))
    return pa.table(arrays, names=names), complete


def _inferred(column: pa.ChunkedArray, options: Options) -> pa.ChunkedArray:
    cells = _cells(column, options)
    # An empty cell in quotation marks is a missing value in a column of numbers, and an empty text in a column of
    # texts.
    cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, cells.type), cells)
    if cells.null_count == len(cells):
        return column
    if _all_match(cells, _INTEGER):
        try:
            return cells.cast(pa.int64())
        except pa.ArrowInvalid:
            return column  # an integer has more than 64 bits
    if not _all_match(cells, _FLOAT):
        return column
    numbers = cells.cast(pa.float64())
    return numbers if _keeps_digits(cells, numbers) else column


def _all_match(cells: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(cells, f"^({pattern})$")).as_py())


def _keeps_digits(cells: pa.ChunkedArray, numbers: pa.ChunkedArray) -> bool:
    """Whether each float is exactly the number in its cell. A decimal of up to 15 digits always is."""
    long = pc.or_(pc.greater(pc.binary_length(cells), 15), pc.match_substring(cells, "e"))
    if not pc.any(long).as_py():
        return True
    cells, numbers = cells.filter(long), numbers.filter(long)
    # Nearly all of these cells equal the float's own text. Only the rest needs the slow comparison.
    other = pc.not_equal(numbers.cast(pa.large_string()), cells)
    cells, numbers = cells.filter(other), numbers.filter(other)
    pairs = zip(cells.to_pylist(), numbers.to_pylist(), strict=True)
    return all(Decimal(cell) == Decimal(repr(number)) for cell, number in pairs)


def _cells(column: pa.ChunkedArray, options: Options) -> pa.ChunkedArray:
    """The cells with a decimal point and without thousands separators."""
    if options.thousands:
        mark, point = re.escape(options.thousands), re.escape(options.decimal)
        grouped = pc.match_substring_regex(column, f"^-?[1-9][0-9]{{0,2}}({mark}[0-9]{{3}})+({point}[0-9]+)?$")
        column = pc.if_else(grouped, pc.replace_substring(column, options.thousands, ""), column)
    if options.decimal != ".":
        # Replace points first, so that they are no decimal points: a column with both marks then stays text.
        column = pc.replace_substring(pc.replace_substring(column, ".", "_"), options.decimal, ".")
    return column


def _as(column: pa.ChunkedArray, dtype: str, options: Options, name: str, where: str) -> pa.ChunkedArray:
    plain = _WRAPPED.get(dtype, dtype)
    if plain == "str":
        return column.dictionary_encode() if dtype == "category" else column
    try:
        if plain == "boolean":
            kind: Any = pa.bool_()
        elif plain == "date":
            kind = pa.date32()
        elif plain.startswith("datetime64"):
            kind = pa.timestamp(plain[len("datetime64[") : -1])
        else:
            kind = pa.type_for_alias(plain.lower())
            column = _cells(column, options)
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
        cast = column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise _refused(name, dtype, where, "a cell holds something else") from None
    if pa.types.is_floating(kind) and not _in_range(column, cast):
        raise _refused(name, dtype, where, "a number is too large or too small for it; read it as str")
    return cast


def _in_range(cells: pa.ChunkedArray, numbers: pa.ChunkedArray) -> bool:
    """Whether the cast has made no number infinite or zero."""
    lost = pc.and_(pc.is_inf(numbers), pc.invert(pc.match_substring_regex(cells, "inf", ignore_case=True)))
    gone = pc.and_(pc.equal(numbers, 0.0), pc.match_substring_regex(cells, "^[^eE]*[1-9]"))
    return not (pc.any(lost).as_py() or pc.any(gone).as_py())


def _refused(name: str, dtype: str, where: str, why: str) -> ArtifactDecodeError:
    return ArtifactDecodeError(f"{where}: column {name!r} cannot be read as {dtype}: {why}", uri=where)
