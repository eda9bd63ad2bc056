"""Reads a CSV file of another program as an Arrow table, or says why its meaning is not certain.

Only numbers are recognised: a column has numbers if each cell is a plain decimal, such as `-12.5`, without a leading
zero or plus, and no number loses a digit. All other columns stay text. An empty cell is missing; `NA` is a text. Since
one cell can change a column's type, the file is always read completely.
"""

import codecs
import csv as lines
import io
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.conversion import arrow_frames, foreign_schema
from clinops_prefect.frames.csv import cells as csv_cells
from clinops_prefect.frames.csv.options import Options
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.memory import arrow_owned

# pyarrow holds a few such blocks in memory at once. A row must fit into one block.
_BLOCK_BYTES = 16 << 20
# Header and first row must fit into this many bytes.
_HEAD_BYTES = 1 << 20
_OTHER_DELIMITERS = (";", "\t", "|")
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh91AY&SY", "bzip2"),
)
_LINE_END = re.compile(rb"\r\n|\r|\n")
# Marks that begin a comment in files of other programs.
_COMMENTS = ("#", "%", "//")
_MARKS = [(b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")]


class _UnclearError(Exception):
    """The meaning of the file is not certain. The message says what the file looks like, and which option to pass."""


def table(data: Any, options: Options, where: str) -> pa.Table:
    """Read the file as a table, with a layout for the pandas frame.

    Args:
        data: The whole file.
        options: The caller's options for the file.
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: The file is not CSV, or its meaning is not certain. No message quotes a cell.
        ArtifactColumnError: The options name a column that the file does not have.
    """
    with decoding(f"{where} cannot be read as CSV", where):
        try:
            text = _without_first(_utf8(data, options), options.skip_rows or 0)
            found, complete = csv_cells.typed(_texts(text, options), options, where)
        except _UnclearError as error:
            raise ArtifactDecodeError(f"{where} {error}", uri=where) from None
        schema = foreign_schema.described(found.schema, complete, (), found.num_rows, where)
        names = [field.name for field in schema if pa.types.is_dictionary(field.type)]
        known = {
            name: arrow_frames.categories_of([found.column(name)], found.schema.field(name).type.value_type)
            for name in names
        }
        return found.replace_schema_metadata(foreign_schema.with_categories(schema, known).metadata)


def _utf8(data: Any, options: Options) -> bytes:
    start = bytes(memoryview(data)[:10])
    for magic, program in _COMPRESSED:
        # Check this first. Otherwise the error would suggest latin-1, which can decode any bytes.
        if start.startswith(magic):
            raise _UnclearError(f"is compressed ({program}), or an archive: decompress it, and store the text")
    encoding = options.encoding
    for mark, name in _MARKS:
        # A byte order mark does not belong to the first name, even if the caller gave the encoding.
        if start.startswith(mark) and encoding in ("", "utf-8", "utf-16", name):
            encoding = name
            break
    said = f"is not in the encoding {encoding}" if encoding else "is not UTF-8"
    try:
        if encoding not in ("", "utf-8", "utf-8-sig") or options.comment:
            text = str(data, encoding or "utf-8")
            return _without_comments(text, options.comment or "", options.quote_char).encode()
        decoder = codecs.getincrementaldecoder("utf-8")()
        for at in range(0, len(data), _BLOCK_BYTES):
            decoder.decode(data[at : at + _BLOCK_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        hint = "" if options.encoding else ": pass csv_options={'encoding': 'latin-1'}, or the encoding it has"
        raise _UnclearError(said + hint) from None
    return bytes(data).removeprefix(codecs.BOM_UTF8)


def _without_comments(text: str, comment: str, quote: str) -> str:
    kept, is_open = [], False
    if not comment:
        return text
    for line in io.StringIO(text, newline=""):
        if is_open or not line.startswith(comment):
            kept.append(line)
            is_open ^= bool(quote) and line.count(quote) % 2 == 1
    return "".join(kept)


def _without_first(text: bytes, count: int) -> bytes:
    at = 0
    for _ in range(count):
        if not (end := _LINE_END.search(text, at)):
            raise _UnclearError(f"has fewer than the {count} lines that skip_rows leaves out: pass a smaller number")
        at = end.end()
    return text[at:] if at else text


def _texts(text: bytes, options: Options) -> pa.Table:
    """The table with every cell as text. Empty cells are missing."""
    if not text[:_HEAD_BYTES].strip() and not text.strip():
        return pa.table({})
    if b"\0" in text:
        raise _UnclearError(
            "has NUL characters: if it is text, pass csv_options={'encoding': 'utf-16-le'}, or what it has"
        )
    head = text[:_HEAD_BYTES].decode(errors="ignore")
    delimiter = options.delimiter or ","
    _look_at_start(head, options)
    if options.escape_char is None and options.quote_char and f"\\{options.quote_char}".encode() in text:
        raise _UnclearError(
            "has a backslash before a quotation mark: pass csv_options={'escape_char': '\\\\'} if it is an escape, "
            "else {'escape_char': ''}"
        )
    first, second, skipped = _first_rows(head, delimiter, options)
    _look_for_spaces(first, second, options)
    names = list(options.names or first) if options.header else list(options.names)
    if not names:
        names = [f"column_{position}" for position in range(len(first))]
    _look_at_names(names, first, options)
    row = second if options.header else first
    is_trailing = row is not None and len(row) == len(names) + 1 and not row[-1]
    columns = [*names, "\0"] if is_trailing else names
    if len(columns) == 1 and options.skip_blank_lines is None and re.search(rb"\n\r?\n|\r\r", text):
        raise _UnclearError(
            "has one column and blank lines, each of which may be a missing value: pass csv_options="
            "{'skip_blank_lines': True} if they are no rows, else False"
        )
    if options.quote_char and options.quote_char.encode() in text:
        _look_at_quotes(text, delimiter, options)
    if options.header and second is None:
        return pa.table({name: pa.array([], pa.large_string()) for name in names})
    read = _parsed(text, columns, delimiter, skipped if options.header else 0, options)
    if is_trailing:
        extra = read.column(len(names))
        if any(value for value in extra.unique().to_pylist()):
            raise _UnclearError(
                f"has one cell more in its rows than the {len(names)} in its header: pass csv_options={{'names': […]}} "
                "with a name for each"
            )
        read = read.select(range(len(names)))
    _look_at_rows(read, names, options)
    # There are two columns at most, since several columns without a name were refused above.
    if _is_like_title(names, options) and any(read.column(1).unique().to_pylist()):
        raise _title()
    # If each line ends with a delimiter, the last column has no name and no values. Drop it.
    if len(names) > 1 and not names[-1] and not any(read.column(len(names) - 1).unique().to_pylist()):
        read = read.select(range(len(names) - 1))
    return read


def _look_at_start(head: str, options: Options) -> None:
    line = next((line for line in re.split(r"[\r\n]", head) if line.strip()), "")
    mark = next((mark for mark in _COMMENTS if line.startswith(mark)), "")
    if options.comment is None and mark:
        raise _UnclearError(
            f"begins with {mark!r}: pass csv_options={{'comment': {mark!r}}} if such lines are comments, else "
            "{'comment': ''}"
        )
    if options.delimiter is None:
        bare = re.sub(r'"[^"]*"', "", line)
        for other in _OTHER_DELIMITERS:
            if bare.count(other) and bare.count(other) >= bare.count(","):
                decimal = ", and 'decimal': ',' if its numbers have one" if other == ";" else ""
                raise _UnclearError(
                    f"looks delimited by {other!r}: pass csv_options={{'delimiter': {other!r}}}{decimal}; or "
                    "{'delimiter': ','} if it is not"
                )
    if line.lower().startswith("sep="):
        raise _UnclearError(
            "begins with a line for Excel (sep=…): remove that line, and pass the delimiter in csv_options"
        )


def _first_rows(head: str, delimiter: str, options: Options) -> tuple[list[str], list[str] | None, int]:
    """The cells of the first two records, and the number of lines before the second record."""
    reader = _records(io.StringIO(head, newline=""), delimiter, options)
    try:
        first = next(row for row in reader if row)
        skipped = reader.line_num
        second = next((row for row in reader if row), None)
    except (lines.Error, StopIteration):
        raise _UnclearError(
            "has a quotation mark that does not close, or a first row of more than a megabyte"
        ) from None
    return first, second, skipped


def _look_for_spaces(first: list[str], second: list[str] | None, options: Options) -> None:
    if options.delimiter is None and len(first) == 1 and second and len(second) == 1:
        names, cells = first[0].split(), second[0].split()
        if len(cells) == len(names) > 1 and all(map(csv_cells.is_number, cells)):
            raise _UnclearError(
                "looks delimited by spaces: pass csv_options={'delimiter': ' '}, or {'delimiter': ','} if it is not"
            )


def _records(text: Any, delimiter: str, options: Options) -> Any:
    return lines.reader(
        text,
        delimiter=delimiter,
        quotechar=options.quote_char or None,
        quoting=lines.QUOTE_MINIMAL if options.quote_char else lines.QUOTE_NONE,
        escapechar=options.escape_char or None,
        doublequote=not options.escape_char,
        strict=True,
    )


def _look_at_quotes(text: bytes, delimiter: str, options: Options) -> None:
    """Refuse text after a closing quotation mark. pyarrow would add it to the cell, but Python's reader finds it."""
    reader = _records(io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline=""), delimiter, options)
    try:
        for _ in reader:
            pass
    except lines.Error as error:
        # The csv module has only one error class. Without this check, a long cell would be reported as an open
        # quotation mark.
        if "field limit" not in str(error):
            raise _UnclearError(
                f"has a quotation mark that does not close, or text after one that does, near line {reader.line_num}"
            ) from None


def _look_at_names(names: list[str], first: list[str], options: Options) -> None:
    if options.header and not options.names:
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice and _is_like_title(names, options):
            raise _title()
        if twice:
            raise _UnclearError(
                f"names a column twice ({twice[0]!r}): pass csv_options={{'names': […]}} with one for each"
            )
        if all(csv_cells.is_number(name) for name in names):
            raise _UnclearError(
                "has numbers where the names of its columns should be: pass csv_options={'header': False, 'names': […]}"
            )
    elif len(names) != len(first) and not options.header:
        raise _UnclearError(f"has {len(first)} cells in its first row, and csv_options has {len(names)} names")


def _is_like_title(names: list[str], options: Options) -> bool:
    """Whether only the first column has a name, as in a spreadsheet with a title line, whose other cells are empty."""
    is_header = options.header and not options.names and options.skip_rows is None
    return is_header and len(names) > 1 and bool(names[0]) and not any(names[1:])


def _title() -> _UnclearError:
    return _UnclearError(
        "names only its first column: pass csv_options={'skip_rows': 1} if the first line is a title, else "
        "{'names': […]} with one for each"
    )


def _parsed(text: bytes, names: list[str], delimiter: str, skipped: int, options: Options) -> pa.Table:
    ragged: list[tuple[int, bool]] = []

    def invalid(row: csv.InvalidRow) -> str:
        ragged.append((row.actual_columns, row.text.lstrip().startswith("#")))
        return "error"

    # Columns get their positions as names here. `_look_at_rows` then finds comments and repeated headers in the cells.
    places = [str(position) for position in range(len(names))]
    parse = csv.ParseOptions(
        delimiter=delimiter,
        quote_char=options.quote_char or False,
        double_quote=not options.escape_char,
        escape_char=options.escape_char or False,
        newlines_in_values=True,
        ignore_empty_lines=len(names) > 1 or bool(options.skip_blank_lines),
        invalid_row_handler=invalid,
    )
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(places, pa.large_string()),
        null_values=["", *options.missing],
        strings_can_be_null=True,
        quoted_strings_can_be_null=bool(options.missing),
    )
    # No threads of pyarrow, because they would call the Python handler for invalid rows.
    read = csv.ReadOptions(
        block_size=_BLOCK_BYTES, column_names=places, skip_rows=skipped, use_threads=False, encoding="utf8"
    )
    try:
        found = csv.read_csv(arrow_owned(text), read, parse, convert)
    except pa.ArrowInvalid:
        if not ragged:
            raise
        cells, is_comment = ragged[0]
        if is_comment and options.comment is None:
            raise _UnclearError(
                "has a line that begins with '#': pass csv_options={'comment': '#'} if it is one"
            ) from None
        raise _UnclearError(
            f"has a row of {cells} cells where its header has {len(names)}: another delimiter, a quotation mark that "
            "is missing, or a row to mend; or lines before the header, which csv_options={'skip_rows': …} leaves out"
        ) from None
    return found.rename_columns(names)


def _look_at_rows(read: pa.Table, names: list[str], options: Options) -> None:
    if not names or not read.num_rows:
        return
    first = read.column(0)
    begins = pc.starts_with(first, "#")
    if options.comment is None and pc.any(begins).as_py():
        raise _UnclearError(
            "has a line that begins with '#': pass csv_options={'comment': '#'} if it is a comment, else "
            "{'comment': ''}"
        )
    if options.header and not options.names:
        place = next((place for place, name in enumerate(names) if name), 0)
        for row in pc.indices_nonzero(pc.equal(read.column(place), names[place])).to_pylist():
            if [read.column(position)[row].as_py() or "" for position in range(len(names))] == names:
                raise _UnclearError(f"has its header again as row {row + 1}: two files joined? Leave that line out")
