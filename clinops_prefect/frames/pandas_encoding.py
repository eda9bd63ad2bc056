"""Converts pandas frames to stored tables with a layout, and checks that they come back equal."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, count, repeat

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames import streams
from clinops_prefect.frames.conversion import columns, objects, plain_frames
from clinops_prefect.frames.conversion.foreign_schema import refused_columns
from clinops_prefect.frames.conversion.frame_builder import to_frame
from clinops_prefect.frames.conversion.layout import fields_by_label, pandas_frame, to_arrow
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY, index_fields, layout_of, null_table
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.kinds import Frame
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.frames.parquet.reader import ParquetReader


def stored_table(frame: Frame, *, as_text: bool) -> pa.Table:
    """The frame as a stored table.

    Args:
        frame: The frame.
        as_text: Whether the table is written as CSV.

    Raises:
        UnsupportedFrameError: The frame would not come back equal.
    """
    df = pandas_frame(frame)
    known = plain_frames.table_of(df)
    if known is not None:
        return known
    table = to_arrow(df)
    _prove(df, table, _through_csv if as_text else _through_parquet)
    plain_frames.remember(df, table)
    return table


def stored_batches(given: Iterator[Frame], *, as_text: bool) -> tuple[pa.Schema, Iterator[pa.Table], pa.Table]:
    """Frames as stored tables of one artifact: the schema of all, the tables, and the first table.

    Raises:
        UnsupportedFrameError: The first frame would not come back equal. For a later frame that does not fit the
            first, the error is raised while the tables are consumed.
    """
    frames = _checked_kinds(given)
    # Without rows, a column of objects has no type that later batches could be compared with. So batches without rows
    # are checked after the first one that has some.
    empty: list[pd.DataFrame] = []
    first = next(frames)
    while not len(first) and (following := next(frames, None)) is not None:
        empty.append(first)
        first = following
        del following
    number = len(empty) + 1
    table = to_arrow(first, numbered=True)
    if not table.num_columns:
        raise UnsupportedFrameError("batches need at least one column")
    schema = _streamed(table.schema)
    numbers = chain(repeat(number, number), count(number + 1))
    checked = _same_layout(_converted([(first, table)], chain(_released(empty), frames)), schema, numbers)
    return schema, _proven(checked, _through_csv if as_text else _through_parquet), table


def dtypes_of(schema: pa.Schema) -> dict[str, str]:
    """Column -> dtype of the pandas frame for this schema."""
    # A column that pandas cannot read is shown with the type that it has in the file.
    refused = refused_columns(schema)
    readable = null_table(schema).select([name for name in schema.names if name not in refused])
    dtypes = {str(label): str(dtype) for label, dtype in to_frame(readable).dtypes.items()}
    if not refused:
        return dtypes
    names = {field: str(label) for label, field in fields_by_label(schema).items()}
    return {label: refused.get(field) or dtypes[label] for field, label in names.items()}


def _streamed(schema: pa.Schema) -> pa.Schema:
    """The schema of a stream, whose number of rows is not known when the schema is written."""
    layout = layout_of(schema)
    assert layout is not None  # to_arrow made the schema
    layout["index"].pop("range", None)
    layout["index"]["freqs"] = [None] * len(layout["index"]["freqs"])
    layout["rows"] = -1
    layout.pop("blocks", None)
    pandas_metadata = schema.pandas_metadata
    # Otherwise pandas would use the range of the first batch for the whole frame.
    pandas_metadata["index_columns"] = [c for c in pandas_metadata["index_columns"] if isinstance(c, str)]
    return schema.with_metadata(
        {**schema.metadata, LAYOUT_KEY: json.dumps(layout).encode(), b"pandas": json.dumps(pandas_metadata).encode()}
    )


def _checked_kinds(given: Iterator[Frame]) -> Iterator[pd.DataFrame]:
    yield pandas_frame(next(given))
    numbers = count(2)
    for frame in given:
        number = next(numbers)
        if not streams.is_pandas(frame):
            raise UnsupportedFrameError(
                f"batch {number} is a frame of another kind, and the first is one of pandas; pass its .to_pandas()"
            )
        yield pandas_frame(frame)
        del frame


# The functions below release each batch before the next one is made, so that memory holds at most two batches.


def _converted(
    converted: list[tuple[pd.DataFrame, pa.Table]], frames: Iterator[pd.DataFrame]
) -> Iterator[tuple[pd.DataFrame, pa.Table]]:
    yield converted.pop()
    for df in frames:
        yield df, to_arrow(df, numbered=True)
        del df


def _same_layout(
    batches: Iterable[tuple[pd.DataFrame, pa.Table]], schema: pa.Schema, numbers: Iterator[int]
) -> Iterator[tuple[pd.DataFrame, pa.Table]]:
    expected = layout_of(schema)
    assert expected is not None
    # `zip` would keep its last result, and so a batch, until the next one is made.
    for df, table in batches:
        number = next(numbers)
        found = layout_of(_streamed(table.schema))
        assert found is not None
        if table.schema.names != schema.names:
            raise UnsupportedFrameError(f"batch {number} has other columns, or another order of them, than the first")
        for name in schema.names:
            same_type = table.schema.field(name).type == schema.field(name).type
            if same_type and expected["columns"].get(name) == found["columns"].get(name):
                continue
            first = (expected["columns"].get(name) or {}).get("object")
            given = (found["columns"].get(name) or {}).get("object")
            if first is None or given is None:
                dtype = df.dtypes[name] if name in df.columns else "another dtype"
                raise UnsupportedFrameError(
                    f"batch {number}: column {name!r} ({dtype}) has another dtype, or other categories, than in "
                    "the first batch; give every batch the same, with .astype(…)"
                )
            table = _with_objects(table, schema.field(name), first, given, number)
        if any(expected[part] != found[part] for part in ("labels", "index", "attrs")):
            raise UnsupportedFrameError(
                f"batch {number} has another index, other column labels or attrs than the first; give every batch the "
                "same, with .reset_index(drop=True) for rows that were filtered"
            )
        yield df, table
        del df, table


def _with_objects(
    table: pa.Table, field: pa.Field, expected: objects.Kind, found: objects.Kind, number: int
) -> pa.Table:
    """The batch with its column of objects as the first batch has it.

    A batch that has no value in the column does not say what its objects are, and a batch that misses none does not say
    which marker missing values have.

    Raises:
        UnsupportedFrameError: The objects are others than in the first batch.
    """
    column = table.column(field.name)
    has_values, has_missing = column.null_count < len(column), column.null_count > 0
    if has_missing and found["missing"] != expected["missing"]:
        raise UnsupportedFrameError(
            f"batch {number}: column {field.name!r} marks missing values with {found['missing']}, and the first batch "
            f"with {expected['missing']}, or it has none; use one, as in df[c] = df[c].where(df[c].notna(), None)"
        )
    are_decimals = pa.types.is_decimal(column.type) and pa.types.is_decimal(field.type)
    if has_values and are_decimals and column.type.scale != field.type.scale:
        raise UnsupportedFrameError(
            f"batch {number}: column {field.name!r} holds objects of another kind than in the first batch: Decimals "
            "with more or fewer decimal places; give every batch the same, with .astype(pd.ArrowDtype(…)) or "
            ".map(lambda d: d.quantize(Decimal('0.01')), na_action='ignore')"
        )
    if has_values and (column.type != field.type or {**found, "missing": ""} != {**expected, "missing": ""}):
        raise UnsupportedFrameError(
            f"batch {number}: column {field.name!r} holds objects of another kind than in the first batch, or the "
            "first batch has no value there; give every batch one type, with .astype('string') or "
            ".astype(pd.ArrowDtype(…))"
        )
    if not has_values:
        column = pa.nulls(len(column), field.type)
    layout = layout_of(table.schema)
    assert layout is not None  # to_arrow made the schema
    layout["columns"][field.name] = {"object": expected}
    placed = table.set_column(table.schema.get_field_index(field.name), field, column)
    return placed.replace_schema_metadata({**table.schema.metadata, LAYOUT_KEY: json.dumps(layout).encode()})


def _released(frames: list[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    while frames:
        yield frames.pop(0)


def _proven(
    batches: Iterable[tuple[pd.DataFrame, pa.Table]], again: Callable[[pa.Table], pa.Table]
) -> Iterator[pa.Table]:
    for df, table in batches:
        _prove(df, table, again)
        del df
        yield table
        del table


def _prove(df: pd.DataFrame, table: pa.Table, again: Callable[[pa.Table], pa.Table]) -> None:
    """Read back and compare the columns whose dtype does not guarantee that they come back equal.

    Raises:
        UnsupportedFrameError: A column or the index would differ, or cannot be written or read.
    """
    index = index_fields(table.schema)
    names = table.column_names[: len(df.columns)]
    unproven = [i for i, dtype in enumerate(df.dtypes) if not columns.is_plain(dtype)]
    doubtful = [i for i in unproven if columns.needs_proof(df.iloc[:, i])]
    levels = [columns.series_of(level) for level in columns.levels(df.index)] if index else []
    index_doubtful = any(columns.needs_proof(level) for level in levels)
    if not doubtful and not index_doubtful:
        return
    back: pd.DataFrame | None = None
    with suppress(pa.ArrowException, ArtifactDecodeError):
        back = to_frame(again(table.select([*(names[i] for i in doubtful), *index])))
    if back is None:
        # The reader does not say which column failed, so try them one by one. If all succeed, it is the index.
        if len(doubtful) == 1 and not index:
            raise _refused_column(df, doubtful[0])
        for original in doubtful:
            alone = df.iloc[:, [original]].reset_index(drop=True)
            _prove(alone, to_arrow(alone), again)
        raise UnsupportedFrameError(f"the index {objects.complaint(levels[0])}")
    for position, original in enumerate(doubtful):
        if not _equal(df.iloc[:, original], back.iloc[:, position]):
            raise _refused_column(df, original)
    for number, (level, found) in enumerate(zip(levels, columns.levels(back.index), strict=False)):
        if not _equal(level, columns.series_of(found)):
            raise UnsupportedFrameError(f"the index (level {number}) {objects.complaint(level)}")


def _refused_column(df: pd.DataFrame, position: int) -> UnsupportedFrameError:
    return UnsupportedFrameError(f"column {df.columns[position]!r} {objects.complaint(df.iloc[:, position])}")


def _equal(before: "pd.Series", after: "pd.Series") -> bool:
    if before.dtype != after.dtype or len(before) != len(after):
        return False
    if isinstance(before.dtype, np.dtype):
        return objects.same(before.to_numpy(), after.to_numpy())
    return bool(before.array.equals(after.array))


def _through_parquet(table: pa.Table) -> pa.Table:
    return ParquetReader.of(b"".join(parquet_writer.encode(table, table.schema)), "").table()


def _through_csv(table: pa.Table) -> pa.Table:
    return csv_text.decode(csv_text.encode(table), table.schema, "")
