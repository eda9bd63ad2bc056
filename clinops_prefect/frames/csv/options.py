"""The options for reading a CSV file of another program, and their checks."""

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from clinops_prefect.names import nearest

_LONGEST_COMMENT = 4


class CsvOptions(TypedDict, total=False):
    """The keys of `csv_options` in `download` and `iter_batches`. Every key is optional."""

    delimiter: str  # one character; "," by default
    decimal: str  # "." by default, or ","
    thousands: str  # one character between thousands, such as "."; none by default
    encoding: str  # such as "latin-1"; by default the one of the byte order mark, or else UTF-8
    quote_char: str  # one character; '"' by default, "" for none
    escape_char: str  # one character that removes the special meaning of the next; none by default
    comment: str  # the beginning of lines to skip, such as "#" or "//"; "" if no line is a comment
    skip_rows: int  # the number of lines to skip at the start, such as a title; comments are not counted
    header: bool  # whether the first line has the names; True by default
    names: Sequence[str]  # the names of the columns, instead of the names in the header
    missing: Sequence[str]  # texts that mean a missing value, such as "NA", in addition to the empty cell
    dtype: Mapping[str, str] | str  # column -> dtype, or one dtype for all: "str" reads everything as text
    skip_blank_lines: bool  # for a file with one column, whether to skip blank lines instead of reading them as rows


@dataclass(frozen=True)
class Options:
    """Checked options. None means that the caller did not set an option."""

    delimiter: str | None = None
    decimal: str = "."
    thousands: str = ""
    encoding: str = ""
    quote_char: str = '"'
    escape_char: str | None = None
    comment: str | None = None
    skip_rows: int | None = None
    header: bool = True
    names: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    dtype: Mapping[str, str] | str = field(default_factory=dict)
    skip_blank_lines: bool | None = None

    @classmethod
    def of(cls, given: Any) -> "Options":
        """Check the options that a caller passed.

        Raises:
            TypeError: A key is unknown, or a value is invalid. The message names the most similar key.
        """
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise TypeError(
                f"csv_options takes a dictionary such as {{'delimiter': ';'}}, not a {type(given).__name__}"
            )
        known = [one.name for one in fields(cls)]
        for key in given:
            if key not in known:
                hint = nearest(str(key), known) or f"; there are {', '.join(known)}"
                raise TypeError(f"csv_options has no {key!r}{hint}")
        made = {}
        for key, value in given.items():
            made[key] = _CHECKS[key](key, value)
        options = cls(**made)
        marks = [
            mark
            for mark in (options.delimiter or ",", options.quote_char, options.comment, options.escape_char)
            if mark
        ]
        if len(set(marks)) < len(marks) or options.decimal == options.thousands or options.decimal == options.delimiter:
            raise TypeError("csv_options gives one character two meanings")
        return options


def _character(key: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) != 1 or not value.isascii() or value in "\r\n\0":
        raise TypeError(f"csv_options: {key} takes one ASCII character")
    return value


def _character_or_none(key: str, value: Any) -> str:
    return value if isinstance(value, str) and not value else _character(key, value)


def _comment(key: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_COMMENT or not (value.isascii() and value.isprintable()):
        raise TypeError(f"csv_options: {key} takes one to {_LONGEST_COMMENT} ASCII characters, or none")
    return value


def _count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"csv_options: {key} takes a number of lines")
    return value


def _decimal(key: str, value: Any) -> str:
    if value not in (".", ","):
        raise TypeError(f"csv_options: {key} takes '.' or ','")
    return str(value)


def _encoding(key: str, value: Any) -> str:
    try:
        return codecs.lookup(value).name
    except (LookupError, TypeError, ValueError):
        raise TypeError(f"csv_options: {key} takes the name of an encoding, such as 'latin-1'") from None


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"csv_options: {key} takes True or False")
    return value


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"csv_options: {key} takes a list of texts")
    if key == "names" and len(set(value)) < len(value):
        raise TypeError("csv_options: names has a name twice")
    return tuple(value)


def _dtypes(key: str, value: Any) -> Mapping[str, str] | str:
    wanted = value.items() if isinstance(value, Mapping) else [("", value)]
    for name, dtype in wanted:
        if not isinstance(name, str) or dtype not in DTYPES:
            raise TypeError(f"csv_options: {key} takes column -> one of {', '.join(DTYPES)}")
    return dict(value) if isinstance(value, Mapping) else str(value)


DTYPES = (
    "str", "category", "boolean", "float32", "float64", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32",
    "UInt64", "int64", "bool", "datetime64[s]", "datetime64[ms]", "datetime64[us]", "datetime64[ns]", "date",
)  # fmt: skip
_CHECKS: dict[str, Any] = {
    "delimiter": _character,
    "decimal": _decimal,
    "thousands": _character_or_none,
    "encoding": _encoding,
    "quote_char": _character_or_none,
    "escape_char": _character_or_none,
    "comment": _comment,
    "skip_rows": _count,
    "header": _flag,
    "names": _texts,
    "missing": _texts,
    "dtype": _dtypes,
    "skip_blank_lines": _flag,
}
