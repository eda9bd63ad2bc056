"""Reads tables in the layout of MIMIC-IV: `icu/` and `hosp/` folders of CSV, plain or compressed, or Parquet.

Only the columns that a step needs are read, in batches of bounded size. Columns may be in any order and in upper case
(as in MIMIC-III). Other columns are ignored.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from flows.sources.columns import ColumnError, Kind, convert
from flows.sources.files import TableError, find_table
from flows.sources.objects import SourcePath, is_of_the_store, open_parquet, open_stream

# The start of pyarrow's message for a row with more or fewer columns than the header.
_RAGGED = re.compile(r"^CSV parse error: (?:Row #\d+: )?Expected (\d+) columns, got (\d+)")
# A part of pyarrow's message for a cell that is not UTF-8.
_NOT_UTF8 = "invalid UTF8"
# The separators of other CSV files, by the words with which errors name them.
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# About 22,000 chart rows: large enough that Python's work per batch is small, and small enough for the CPU cache.
_CSV_BLOCK_BYTES = 2 << 20
_PARQUET_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Layout:
    """The columns of a table that the steps read.

    Attributes:
        required: Columns that the table must have.
        optional: Columns that are read as null if the table does not have them.
    """

    required: dict[str, Kind]
    optional: dict[str, Kind] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Kind]:
        """All columns, the required ones first."""
        return {**self.required, **self.optional}


# The names are those of MIMIC-IV v2 (https://mimic.mit.edu/docs/iv/modules/). A chart table without its storing times
# is refused: without them, values would count before anyone could have known them.
_IDS = {"subject_id": Kind.ID, "stay_id": Kind.ID, "itemid": Kind.ID}
_VALUE = {"charttime": Kind.TIME, "storetime": Kind.TIME, "valuenum": Kind.NUMBER, "valueuom": Kind.TEXT}
LAYOUTS: dict[str, Layout] = {
    "icu/chartevents": Layout({**_IDS, **_VALUE}),
    "hosp/labevents": Layout(
        {"subject_id": Kind.ID, "itemid": Kind.ID, "charttime": Kind.TIME, "valuenum": Kind.NUMBER},
        # Lab rows belong to the hospital and name no stay. Older releases have no storing time.
        {"storetime": Kind.TIME, "valueuom": Kind.TEXT},
    ),
    "icu/icustays": Layout(
        {"subject_id": Kind.ID, "stay_id": Kind.ID, "intime": Kind.TIME, "outtime": Kind.TIME},
        {"hadm_id": Kind.ID, "first_careunit": Kind.TEXT},
    ),
    "hosp/patients": Layout(
        {"subject_id": Kind.ID},
        {"gender": Kind.TEXT, "anchor_age": Kind.NUMBER, "anchor_year": Kind.NUMBER, "dob": Kind.TIME},
    ),
    "hosp/admissions": Layout(
        {"hadm_id": Kind.ID},
        {"admission_type": Kind.TEXT, "hospital_expire_flag": Kind.NUMBER, "deathtime": Kind.TIME},
    ),
}


def read_batches(source: str | SourcePath, name: str) -> Iterator[pa.RecordBatch]:
    """A table in batches, not converted: text from CSV, and the stored types from Parquet (see `columns.convert`).

    Args:
        source: The folder with `icu/` and `hosp/`.
        name: One of `LAYOUTS`.

    Yields:
        The layout's columns in lower case and in the layout's order. An absent optional column is null. A batch has at
        most 65,536 rows of Parquet or 2 MiB of CSV. A table with a header and no rows yields nothing.

    Raises:
        TableNotFoundError: There is no such table.
        TableError: A column is missing or is there twice, or the file is damaged.
    """
    for path in find_table(source, name):
        yield from read_file(path, name)


def read_file(path: SourcePath, name: str) -> Iterator[pa.RecordBatch]:
    """One of a table's files in batches; see `read_batches`."""
    is_parquet = path.suffix.casefold() == ".parquet"
    stored = _match(path, file_columns(path), LAYOUTS[name])
    batches = _guard(path, lambda: (_parquet if is_parquet else _csv)(path, list(stored.values())))
    while (batch := _guard(path, lambda: next(batches, None))) is not None:
        columns = [
            batch.column(stored[column]) if column in stored else pa.nulls(batch.num_rows)
            for column in LAYOUTS[name].columns
        ]
        yield pa.RecordBatch.from_arrays(columns, names=list(LAYOUTS[name].columns))


def file_columns(path: SourcePath) -> list[str]:
    """The column names in a table's file. Raises `TableError` if the file cannot be read."""
    is_parquet = path.suffix.casefold() == ".parquet"
    names: list[str] = _guard(path, lambda: _parquet_header(path) if is_parquet else _csv_header(path))
    return names


def parquet_names(path: SourcePath) -> list[str]:
    """The column names of a Parquet file. Raises `TableError` if it is not Parquet."""
    names: list[str] = _guard(path, lambda: _parquet_header(path))
    return names


def read_parquet(path: SourcePath, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Columns of a Parquet file in batches of at most 65,536 rows. Raises `TableError` if the file cannot be read."""
    batches = _guard(path, lambda: _parquet(path, columns))
    while (batch := _guard(path, lambda: next(batches, None))) is not None:
        yield batch


def convert_batch(batch: pa.RecordBatch, name: str, where: str | SourcePath) -> pa.RecordBatch:
    """A batch of `read_batches` in the types of the table's layout.

    Args:
        batch: Rows of the table, not converted.
        name: One of `LAYOUTS`.
        where: The table's path, for errors.

    Raises:
        TableError: The kind of a column does not allow one of its cells.
    """
    columns = []
    for column, kind in LAYOUTS[name].columns.items():
        try:
            columns.append(convert(batch.column(column), kind))
        except ColumnError as error:
            raise TableError(f"{where}: column {column}: {error}") from None
    return pa.RecordBatch.from_arrays(columns, names=list(LAYOUTS[name].columns))


def read_frame(source: str | SourcePath, name: str) -> pd.DataFrame:
    """A small table as a frame: int64 ids as `Int64`, times as `datetime64[us]`, texts as `str`.

    Raises:
        TableNotFoundError: There is no such table.
        TableError: See `read_batches` and `convert_batch`.
    """
    schema = pa.schema([(column, kind.value) for column, kind in LAYOUTS[name].columns.items()])
    batches = [convert_batch(batch, name, path) for path in find_table(source, name) for batch in read_file(path, name)]
    return to_frame(pa.Table.from_batches(batches, schema))


def to_frame(table: pa.Table | pa.RecordBatch) -> pd.DataFrame:
    """A frame of converted columns. Ids become the nullable `Int64`, since floats would round them."""
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def _parquet_header(path: SourcePath) -> list[str]:
    with open_parquet(path) as file:
        names: list[str] = pa.parquet.read_schema(file).names
        return names


def _csv_header(path: SourcePath) -> list[str]:
    with open_stream(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        header = next(csv.reader(text), None)
    if not header:
        raise TableError(f"{path}: the file is empty; there is not even a header")
    for separator, name in _SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise TableError(f"{path}: its columns are separated by {name}; write the file with commas")
    return header


def _csv(path: SourcePath, columns: list[str]) -> Iterator[pa.RecordBatch]:
    try:
        with (
            open_stream(path) as stream,
            pa.csv.open_csv(
                stream,
                read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
                # Free-text columns may contain line breaks. Without this, a block could end inside a cell. There is no
                # handler of invalid rows: pyarrow's threads would still hold it at the process's end, which may abort.
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                # Read text only: most rows are dropped by their item before their other columns are used.
                convert_options=pa.csv.ConvertOptions(
                    include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=True
                ),
            ) as reader,
        ):
            yield from reader
        return
    except pa.ArrowInvalid as error:
        # Use only the numbers in the message, since the rest of it quotes the row.
        if not (ragged := _RAGGED.search(str(error))):
            raise
    raise TableError(f"{path}: a row has {ragged[2]} columns and not {ragged[1]}")


def _parquet(path: SourcePath, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with open_parquet(path) as opened, pa.parquet.ParquetFile(opened) as file:
        yield from file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=columns)


def _match(path: SourcePath, names: list[str], layout: Layout) -> dict[str, str]:
    """From each column of the layout that the file has to its name in the file."""
    stored: dict[str, str] = {}
    for name in names:
        column = name.strip().lower()
        if column in layout.columns:
            if column in stored:
                raise TableError(f"{path}: column {column} is there twice")
            stored[column] = name
    missing = [column for column in layout.required if column not in stored]
    if missing:
        raise TableError(f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    return {column: stored[column] for column in layout.columns if column in stored}


def _guard(path: SourcePath, read: Callable[[], Any]) -> Any:
    """The result of `read`. A reader's error becomes a `TableError` without its text, which quotes rows of the file."""
    try:
        return read()
    except TableError:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, csv.Error) as error:
        if is_of_the_store(error, path):
            raise
        if isinstance(error, PermissionError):
            raise TableError(f"{path}: no permission to read it") from None
        is_utf8 = not isinstance(error, UnicodeDecodeError) and _NOT_UTF8 not in str(error)
        problem = type(error).__name__
    # Raised outside of the handler, so that the original error, which quotes cells, does not become the context.
    if not is_utf8:
        raise TableError(f"{path}: is not text in UTF-8; convert it to UTF-8, or correct the end of its name")
    raise TableError(f"{path}: cannot be read; it is damaged, cut short, or not what its name says ({problem})")
