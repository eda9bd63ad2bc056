"""Frames in and out of a backend, in either format: all that a store needs of pandas and PyArrow."""

import hashlib
import io
from collections.abc import Hashable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow as pa

from clinops_prefect.artifacts import csv, parquet
from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.frames.conversion.frame_builder import to_frame
from clinops_prefect.frames.conversion.layout import to_arrow
from clinops_prefect.frames.csv.options import CsvOptions, Options
from clinops_prefect.frames.encoding import Encoded, encode_batches, encode_frame
from clinops_prefect.frames.selection.filters import Filters, is_none
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage_format import StorageFormat

__all__ = [
    "content_hash",
    "copy",
    "download",
    "encode_batches",
    "encode_frame",
    "info",
    "iter_frames",
    "remove",
    "write",
]

_CODECS: dict[StorageFormat, ModuleType] = {StorageFormat.PARQUET: parquet, StorageFormat.CSV: csv}


def write(
    backend: Backend, key: str, encoded: Encoded, format: StorageFormat, metadata: dict[str, str], overwrite: bool
) -> None:
    """Store an encoded artifact."""
    _CODECS[format].write(backend, key, encoded, metadata, overwrite)


def download(
    reader: ObjectReader,
    format: StorageFormat,
    columns: Sequence[Hashable] | None,
    filters: Filters | None,
    csv_options: CsvOptions | None = None,
) -> pd.DataFrame:
    """The frame, or the part of it that is asked for."""
    options = _options(format, csv_options)
    frame: pd.DataFrame = _CODECS[format].download(reader, columns, None if is_none(filters) else filters, *options)
    return frame


def content_hash(df: pd.DataFrame) -> str:
    """A hash of the frame: values, dtypes, index and labels.

    The same frame has the same hash. Equal frames may have two, for example where their missing values hide other bits.
    """
    table, sum = to_arrow(df), hashlib.sha256()
    with pa.PythonFile(_Sink(sum), mode="w") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    return sum.hexdigest()


class _Sink(io.RawIOBase):
    """A file for PyArrow to write to, which only hashes."""

    def __init__(self, sum: "hashlib._Hash") -> None:
        self._sum = sum

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sum.update(data)
        return len(data)


def _options(format: StorageFormat, csv_options: CsvOptions | None) -> list[CsvOptions]:
    """What only the codec of CSV takes, checked before anything is fetched."""
    Options.of(csv_options)
    if csv_options and format is not StorageFormat.CSV:
        raise TypeError(f"csv_options is for stores of CSV, and this one is of {format.value}")
    return [csv_options] if csv_options else []


def iter_frames(
    reader: ObjectReader,
    format: StorageFormat,
    columns: Sequence[Hashable] | None,
    filters: Filters | None,
    rows: int,
    csv_options: CsvOptions | None = None,
) -> Iterator[pd.DataFrame]:
    """The frame, or the part of it, in frames of so many rows; one empty frame where there are none."""
    options = _options(format, csv_options)
    filters = None if is_none(filters) else filters
    tables: Iterator[tuple[pa.Table, bool]] = _CODECS[format].iter_tables(reader, columns, filters, *options)
    held: pa.Table | None = None
    whole, offset, bare = True, 0, 0
    for table, whole in tables:
        if not table.num_columns:
            # Arrow loses count of the rows when it slices or joins tables without columns.
            held, bare = table, bare + table.num_rows
            continue
        held = table if held is None else pa.concat_tables([held, table])
        while held.num_rows > rows:
            yield to_frame(held.slice(0, rows), whole=whole, offset=offset)
            held, offset = held.slice(rows), offset + rows
    while held is not None and bare > offset:
        counted = pa.table({"": pa.nulls(min(rows, bare - offset))}).replace_schema_metadata(held.schema.metadata)
        yield to_frame(counted.select([]), whole=whole, offset=offset)
        offset += counted.num_rows
    if held is not None and not bare and (held.num_rows or not offset):
        yield to_frame(held, whole=whole, offset=offset)


def info(reader: ObjectReader, format: StorageFormat) -> ArtifactInfo:
    """What is known about the artifact without its rows."""
    found: ArtifactInfo = _CODECS[format].info(reader)
    return found


def copy(backend: Backend, source: str, target: str, format: StorageFormat) -> None:
    """Copy the artifact."""
    _CODECS[format].copy(backend, source, target)


def remove(backend: Backend, key: str, format: StorageFormat) -> None:
    """Remove the artifact."""
    _CODECS[format].remove(backend, key)
