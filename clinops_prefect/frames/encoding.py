"""What a store writes: one frame, or a stream of frames, encoded and known to come back equal."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames.conversion import columns, objects
from clinops_prefect.frames.conversion.foreign_schema import refused_columns
from clinops_prefect.frames.conversion.frame_builder import to_frame
from clinops_prefect.frames.conversion.layout import (
    LAYOUT_KEY,
    fields_by_label,
    index_fields,
    layout_of,
    null_table,
    to_arrow,
)
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.frames.parquet.reader import ParquetReader
from clinops_prefect.storage_format import StorageFormat

METADATA_KEY = b"clinops.metadata"
# A CSV must be complete before the first byte of it is stored, because its checksum names its sidecar.
_SPOOL_BYTES = 64 << 20
_PIECE_BYTES = 4 << 20


@dataclass
class Encoded:
    """An encoded artifact.

    Attributes:
        chunks: Its bytes, to be consumed once.
        sidecar: The Table Schema of a CSV; empty for Parquet.
        sha256: The checksum of a CSV; empty for Parquet, which carries its own.
    """

    chunks: Iterator[bytes]
    sidecar: bytes = b""
    sha256: str = ""


def encode_frame(df: pd.DataFrame, format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    """Encode one frame.

    Args:
        df: Any frame whose values, dtypes, index and labels the format can carry.
        format: Parquet or CSV.
        metadata: Kept in the file (Parquet) or in its sidecar (CSV).

    Raises:
        UnsupportedFrameError: The frame would not come back equal.
    """
    table = to_arrow(df)
    if format is StorageFormat.CSV:
        spool = _CsvSpool()
        spool.add(df, table)
        return spool.encoded(table.schema, metadata)
    _prove(df, table, _through_parquet)
    return Encoded(parquet_writer.encode(table, _with_metadata(table.schema, metadata)))


def encode_batches(batches: Iterable[pd.DataFrame], format: StorageFormat, metadata: dict[str, str]) -> Encoded:
    """Encode frames that make one artifact together, holding about one row group of them in memory.

    Args:
        batches: Frames with the same columns, dtypes and index levels. Default indexes are renumbered.
        format: Parquet or CSV. A CSV passes through a temporary file.
        metadata: As in `encode_frame`.

    Raises:
        UnsupportedFrameError: There is no batch, or the first would not come back equal. A later batch that does not
            fit the first raises it while the chunks are consumed.
    """
    frames = iter(batches)
    try:
        first = next(frames)
    except StopIteration:
        raise UnsupportedFrameError(
            "there is no batch to upload; an empty artifact needs one empty frame, for its columns"
        ) from None
    table = to_arrow(first, numbered=True)
    if not table.num_columns:
        raise UnsupportedFrameError("batches need at least one column")
    schema = _streamed(table.schema)
    checked = _same_layout(_converted([(first, table)], frames), schema)
    if format is StorageFormat.CSV:
        spool = _CsvSpool()
        for df, batch in checked:
            spool.add(df, batch)
            del df, batch
        return spool.encoded(schema, metadata)
    return Encoded(parquet_writer.encode_each(_row_groups(_proven(checked)), _with_metadata(schema, metadata), table))


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """The metadata that a Parquet artifact was uploaded with."""
    raw = (schema.metadata or {}).get(METADATA_KEY)
    with decoding("the metadata stored with the table cannot be read"):
        return {str(key): str(value) for key, value in json.loads(raw).items()} if raw else {}


def dtypes_of(schema: pa.Schema) -> dict[str, str]:
    """Column -> dtype, of the frame that an artifact with this schema reads as."""
    # A column that cannot be read is shown with the type that the file has.
    refused = refused_columns(schema)
    readable = null_table(schema).select([name for name in schema.names if name not in refused])
    dtypes = {str(label): str(dtype) for label, dtype in to_frame(readable).dtypes.items()}
    if not refused:
        return dtypes
    names = {field: str(label) for label, field in fields_by_label(schema).items()}
    return {label: refused.get(field) or dtypes[label] for field, label in names.items()}


class _CsvSpool:
    """A CSV in the making."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self._sum = hashlib.sha256()
        self._rows = 0
        self._begun = False

    def add(self, df: pd.DataFrame, table: pa.Table) -> None:
        _prove(df, table, _through_csv)
        data = csv_text.encode(table, header=not self._begun)
        self._begun = True
        self._sum.update(data)
        self._file.write(data)
        self._rows += len(df)

    def encoded(self, schema: pa.Schema, metadata: dict[str, str]) -> Encoded:
        return Encoded(self._chunks(), csv_text.sidecar(schema, self._rows, metadata), self._sum.hexdigest())

    def _chunks(self) -> Iterator[bytes]:
        with self._file as file:
            file.seek(0)
            while piece := file.read(_PIECE_BYTES):
                yield piece


def _with_metadata(schema: pa.Schema, metadata: dict[str, str]) -> pa.Schema:
    kept = {METADATA_KEY: json.dumps(metadata).encode()} if metadata else {}
    return schema.with_metadata({**schema.metadata, **kept})


def _streamed(schema: pa.Schema) -> pa.Schema:
    """The schema of a whole whose rows are not known when it begins."""
    layout = layout_of(schema)
    assert layout is not None  # to_arrow made the schema
    layout["index"].pop("range", None)
    layout["index"]["freqs"] = [None] * len(layout["index"]["freqs"])
    layout["rows"] = -1
    layout.pop("blocks", None)
    pandas_metadata = schema.pandas_metadata
    # pandas would take the first batch's range for the whole's.
    pandas_metadata["index_columns"] = [c for c in pandas_metadata["index_columns"] if isinstance(c, str)]
    return schema.with_metadata(
        {**schema.metadata, LAYOUT_KEY: json.dumps(layout).encode(), b"pandas": json.dumps(pandas_metadata).encode()}
    )


# The functions below release each batch before the next one is made: memory may hold two of them and no more.


def _converted(
    converted: list[tuple[pd.DataFrame, pa.Table]], frames: Iterator[pd.DataFrame]
) -> Iterator[tuple[pd.DataFrame, pa.Table]]:
    yield converted.pop()
    for df in frames:
        yield df, to_arrow(df, numbered=True)
        del df


def _same_layout(
    batches: Iterable[tuple[pd.DataFrame, pa.Table]], schema: pa.Schema
) -> Iterator[tuple[pd.DataFrame, pa.Table]]:
    expected = layout_of(schema)
    assert expected is not None
    numbers = count(1)
    # Not `enumerate`: it keeps its last result until the next one is made.
    for df, table in batches:
        number = next(numbers)
        found = layout_of(_streamed(table.schema))
        assert found is not None
        if table.schema.names != schema.names:
            raise UnsupportedFrameError(f"batch {number} has other columns, or another order of them, than the first")
        for name in schema.names:
            same_type = table.schema.field(name).type == schema.field(name).type
            if not same_type or expected["columns"].get(name) != found["columns"].get(name):
                dtype = df.dtypes[name] if name in df.columns else "another dtype"
                raise UnsupportedFrameError(
                    f"batch {number}: column {name!r} ({dtype}) has another dtype, or other categories, than in "
                    "the first batch; give every batch the same, with .astype(…)"
                )
        if any(expected[part] != found[part] for part in ("labels", "index", "attrs")):
            raise UnsupportedFrameError(
                f"batch {number} has another index, other column labels or attrs than the first"
            )
        yield df, table
        del df, table


def _proven(batches: Iterable[tuple[pd.DataFrame, pa.Table]]) -> Iterator[pa.Table]:
    for df, table in batches:
        _prove(df, table, _through_parquet)
        del df
        yield table
        del table


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Small batches together, so that ten thousand of one row do not become ten thousand row groups."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        del table
        if parquet_writer.is_a_group(held):
            whole = pa.concat_tables(held)
            held = []
            yield whole
            del whole
    if held:
        yield pa.concat_tables(held)


def _prove(df: pd.DataFrame, table: pa.Table, again: Callable[[pa.Table], pa.Table]) -> None:
    """Read back what cannot be known to survive from its dtype, and compare.

    Raises:
        UnsupportedFrameError: A column or the index is not the same, or cannot be written or read at all.
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
        # The reader does not say which column it was: one at a time then, and what is left is the index.
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
