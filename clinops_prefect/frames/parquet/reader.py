"""Parquet bytes -> Arrow tables and frames, of which only the needed ranges are fetched, many at once."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from clinops_prefect.frames.conversion import foreign_schema
from clinops_prefect.frames.conversion.foreign_values import categories_of
from clinops_prefect.frames.conversion.frame_builder import FrameBuilder, to_frame
from clinops_prefect.frames.conversion.layout import LAYOUT_KEY, layout_of
from clinops_prefect.frames.decoding import decoding_parquet
from clinops_prefect.frames.memory import arrow_owned
from clinops_prefect.frames.parquet import checksums, column_chunks, int96, parallel_decode, text_sizes
from clinops_prefect.frames.parquet.partial_file import PartialFile, Range, joined_ranges

# The end of the file is fetched first, blind: enough for the footer of nearly every artifact.
TAIL_BYTES = 128 << 10
# The same for `stat`, of which a flow may do thousands.
STAT_BYTES = 32 << 10
# The same for a whole file, of which nothing is in vain: the footer of a thousand columns, or a small artifact.
WHOLE_BYTES = 1 << 20
# A connection on a real network carries some 80 MB/s: large parts make the last one late, small ones cost requests.
_PART_BYTES = 4 << 20
# From here on a frame is filled row group by row group, instead of converted from a table that is as large again.
_LARGE_BYTES = 16 << 20

# Gets `(start, end)` ranges of the file, all at once; hands each to a function, in the thread that got it.
Fetch = Callable[[Sequence[Range], Callable[[int, bytes], None]], "list[Future[None]]"]


class ParquetReader:
    """A Parquet file that is somewhere else.

    Args:
        fetch: How to get ranges of it.
        tail: Its last bytes.
        size: Its length in bytes.
        where: Its URI, for errors.
        footer_only: Whether nothing but the footer will be asked for.

    Raises:
        ArtifactDecodeError: It is damaged, or no Parquet.
    """

    def __init__(self, fetch: Fetch, tail: bytes, size: int, where: str, *, footer_only: bool = False) -> None:
        self._fetch = fetch
        self._where = where
        self._size = size
        footer = checksums.footer_start(tail, size, where)
        start = size - len(tail)
        wanted = max(0, footer - (checksums.TRAILER_BYTES if footer_only else checksums.most_bytes(size)))
        if wanted < start:
            missing: list[bytes] = []
            _wait(fetch([(wanted, start)], lambda _, data: missing.append(data)))
            tail, start = missing[0] + tail, wanted
        self._tail, self._tail_start, self._footer = tail, start, footer
        self._checksums = checksums.read_checksums(tail, start, footer, where)
        self._file = PartialFile(size)
        self._file.add(start, tail)
        with self._decoding():
            # Of the footer alone: pyarrow would read the last 64 KiB of the file to find it.
            self._metadata = pq.read_metadata(pa.BufferReader(memoryview(tail)[footer - start :]))
            self._parquet = self._with_unit(pa.PythonFile(self._file, mode="r"), (), "us")
            self._stored: pa.Schema = self._parquet.schema_arrow
        if self._checksums is None and checksums.CHECKSUMS_KEY in (self._stored.metadata or {}):
            raise checksums.damaged(where)
        self.rows: int = self._metadata.num_rows
        self._is_foreign = LAYOUT_KEY not in (self._stored.metadata or {})
        self._int96 = int96.fields_of(self._metadata) if self._is_foreign else []
        self._fine: list[str] = []
        self._is_unique = True
        self._categories: dict[str, pa.Array] = {}

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The schema as which the file is read, with a layout; of another program's file, one that fits it.

        Raises:
            ArtifactDecodeError: Another program's file cannot be read as a frame.
        """
        if not self._is_foreign:
            return self._stored
        if self._int96:
            self._fine = self._units().fine()
            with self._decoding():
                self._stored = self._opened(pa.PythonFile(self._file, mode="r")).schema_arrow
        with self._decoding():
            complete, intervals = (
                foreign_schema.without_missing(self._metadata),
                foreign_schema.intervals(self._metadata),
            )
        schema = foreign_schema.described(self._stored, complete, intervals, self.rows, self._where)
        self._is_unique = schema.names == self._stored.names
        return schema

    @classmethod
    def of(cls, data: bytes, where: str) -> "ParquetReader":
        """A file that is all there."""
        return cls(_nothing_to_fetch, data, len(data), where)

    def frame(self) -> pd.DataFrame:
        """The whole frame; every byte of a file with block checksums is checked.

        Raises:
            ArtifactDecodeError: The file is damaged.
        """
        layout = layout_of(self.schema)
        found = self._found(range(self._metadata.num_row_groups), None)
        data, arriving = self._arriving()
        try:
            if layout is not None and self._is_unique and self._decoded_bytes() >= _LARGE_BYTES:
                with self._decoding(), suppress(text_sizes.TooManyTextsError):
                    return self._filled(layout, data, arriving, found)
            return to_frame(self._table(data, arriving, found))
        finally:
            for future in arriving:
                future.cancel()

    def table(self) -> pa.Table:
        """The whole table.

        Raises:
            ArtifactDecodeError: The file is damaged.
        """
        found = self._found(range(self._metadata.num_row_groups), None)
        return self._table(*self._arriving(), found)

    def groups(self, expression: pc.Expression | None) -> list[int]:
        """The row groups that may hold rows of `expression`, judged by the statistics in the footer."""
        if expression is None:
            return list(range(self._parquet.num_row_groups))
        with self._decoding():
            # A dataset reads in threads of pyarrow's: see parallel_decode.py.
            footer = arrow_owned(memoryview(self._tail)[self._footer - self._tail_start :])
            fragment = ds.ParquetFileFormat().make_fragment(pa.BufferReader(footer))
            try:
                return [info.id for info in fragment.subset(expression, schema=self.schema).row_groups]
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
                # The statistics do not fit the expression. Whether the rows do is for `Selection.apply` to say.
                return list(range(self._parquet.num_row_groups))

    def read(self, groups: Sequence[int], fields: Sequence[str]) -> pa.Table:
        """These fields of these row groups.

        Raises:
            ArtifactDecodeError: What was read is damaged.
        """
        table = self._as_described(self._read(groups, list(fields))).select(list(fields))
        if not self._is_foreign:
            return table
        names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
        if names:
            # A filter may leave no row, and still each part of the file has the same categories.
            known = {name: self._categories_of(name, groups, table) for name in names}
            table = table.replace_schema_metadata(foreign_schema.with_categories(table.schema, known).metadata)
        return table

    def _read(self, groups: Sequence[int], fields: list[str]) -> pa.Table:
        # Fields of one name can only be read together.
        names = fields if self._is_unique else None
        found = self._found(groups, names)
        spans = self._wanted(found)
        try:
            _wait(self._fetch(spans, self._take))
            with self._decoding():
                doubtful = text_sizes.doubtful_texts(self.schema, found, self._file.window, self._where)
                return self._fetched(found, groups, names, doubtful)
        finally:
            self._file.forget(spans)

    def _fetched(
        self,
        found: list[column_chunks.ColumnChunk],
        groups: Sequence[int],
        names: list[str] | None,
        doubtful: list[str],
    ) -> pa.Table:
        wanted = parallel_decode.units_of(self._stored, self._metadata, found, groups, names)
        return parallel_decode.table(wanted, lambda: self._again(doubtful), self._stored, names, self._where)

    def _again(self, doubtful: Sequence[str] = ()) -> Any:
        return self._opened(pa.PythonFile(self._file.again(), mode="r"), doubtful)

    def some(self, fields: Sequence[str]) -> pd.DataFrame:
        """The frame of these fields, index included: filled unit by unit, without a table of them all.

        Raises:
            ArtifactDecodeError: What was read is damaged.
        """
        layout, groups = layout_of(self.schema), range(self._metadata.num_row_groups)
        if layout is None or not fields or self._is_foreign:
            return to_frame(self.read(groups, fields))
        found = self._found(groups, list(fields))
        spans = self._wanted(found)
        try:
            _wait(self._fetch(spans, self._take))
            with self._decoding():
                if doubtful := text_sizes.doubtful_texts(self.schema, found, self._file.window, self._where):
                    return to_frame(self._fetched(found, groups, list(fields), doubtful))
                schema = pa.schema([self.schema.field(name) for name in fields], self.schema.metadata)
                builder = FrameBuilder(schema, layout, self.rows)
                wanted = parallel_decode.units_of(self.schema, self._metadata, found, groups, list(fields))
                parallel_decode.for_each(wanted, self._again, lambda unit, file: builder.put(unit.at, unit.read(file)))
                return builder.frame()
        finally:
            self._file.forget(spans)

    # --- another program's file ---

    def _as_described(self, table: pa.Table) -> pa.Table:
        if not self._is_foreign:
            return table
        names = table.column_names if self._is_unique else self.schema.names
        part = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
        return foreign_schema.converted(table, part, self._where)

    def _units(self) -> int96.Units:
        units = int96.Units(self._int96, foreign_schema.nanoseconds_of(self._stored), self._where)
        for group in range(self._metadata.num_row_groups):
            spans = self._wanted(self._found([group], self._int96))
            try:
                _wait(self._fetch(spans, self._take))
                with self._decoding():
                    units.look(lambda unit: self._with_unit(pa.PythonFile(self._file.again()), (), unit), group)
            finally:
                self._file.forget(spans)
        return units

    def _categories_of(self, name: str, groups: Sequence[int], table: pa.Table) -> pa.Array:
        """The categories of all row groups."""
        if name not in self._categories:
            every = range(self._metadata.num_row_groups)
            each = (self._as_described(self._read([group], [name])).column(name) for group in every)
            columns = [table.column(name)] if len(groups) == len(every) else each
            self._categories[name] = categories_of(columns, table.schema.field(name).type)
        return self._categories[name]

    # --- the whole ---

    def _arriving(self) -> "tuple[bytes | np.ndarray[Any, Any], list[Future[None]]]":
        """The file's bytes, and what becomes done as each part of them is there."""
        sums, tail, start = self._checksums, self._tail, self._tail_start
        end = start
        if sums is not None:
            # The tail begins in the middle of a block.
            end = sums.aligned(0, start)[1]
            sums.check(end, memoryview(tail)[end - start : sums.length - start])
        if not start:
            return tail, []
        # Not zeroed: memory that nothing was written to yet takes none.
        data = np.empty(self._size, dtype=np.uint8)
        data[start:] = np.frombuffer(tail, dtype=np.uint8)

        def put(at: int, part: bytes) -> None:
            if sums is not None:
                sums.check(at, part)
            data[at : at + len(part)] = np.frombuffer(part, dtype=np.uint8)

        spans = [(at, min(at + _PART_BYTES, end)) for at in range(0, end, _PART_BYTES)]
        return data, self._fetch(spans, put)

    def _table(self, data: Any, arriving: "list[Future[None]]", found: list[column_chunks.ColumnChunk]) -> pa.Table:
        _wait(arriving)
        view = memoryview(data)
        with self._decoding():
            doubtful = text_sizes.doubtful_texts(self.schema, found, lambda start, end: view[start:end], self._where)
            buffer, groups = pa.py_buffer(data), range(self._metadata.num_row_groups)
            wanted = parallel_decode.units_of(self._stored, self._metadata, found, groups, None)
            table = parallel_decode.table(
                wanted, lambda: self._opened(buffer, doubtful), self._stored, None, self._where
            )
            return self._as_described(table)

    def _filled(
        self, layout: dict[str, Any], data: Any, arriving: "list[Future[None]]", found: list[column_chunks.ColumnChunk]
    ) -> pd.DataFrame:
        builder = FrameBuilder(self.schema, layout, self.rows)
        buffer = pa.py_buffer(data)
        budget = text_sizes.TextBudget(self.schema, memoryview(data))
        by_group: dict[int, list[column_chunks.ColumnChunk]] = {}
        for chunk in found:
            by_group.setdefault(chunk.group, []).append(chunk)

        def fill(unit: parallel_decode.DecodeUnit, file: pq.ParquetFile) -> None:
            for group in unit.groups:
                begin = min(chunk.range[0] for chunk in by_group[group])
                end = max(chunk.range[1] for chunk in by_group[group])
                _wait(arriving[begin // _PART_BYTES : -(-end // _PART_BYTES)])
                budget.add(group, by_group[group])
            builder.put(unit.at, self._as_described(unit.read(file)))

        groups = range(self._metadata.num_row_groups)
        parallel_decode.for_each(
            parallel_decode.units_of(self._stored, self._metadata, found, groups, None),
            lambda: self._opened(buffer),
            fill,
        )
        return builder.frame()

    def _found(self, groups: Sequence[int], fields: list[str] | None) -> list[column_chunks.ColumnChunk]:
        with self._decoding():
            return column_chunks.find(self._parquet, groups, fields, self._size, self._where)

    def _decoded_bytes(self) -> int:
        return sum(self._metadata.row_group(group).total_byte_size for group in range(self._metadata.num_row_groups))

    def _opened(self, source: Any, as_dictionaries: Sequence[str] = ()) -> Any:
        if self._int96:
            return int96.Int96File(lambda unit: self._with_unit(source, as_dictionaries, unit), self._fine)
        return self._with_unit(source, as_dictionaries, "us")

    def _with_unit(self, source: Any, as_dictionaries: Sequence[str], unit: str) -> pq.ParquetFile:
        return pq.ParquetFile(
            source,
            metadata=self._metadata,
            # Only of times that are stored as INT96, which say no unit.
            coerce_int96_timestamp_unit=unit,
            # It is all in memory; and to read ahead takes threads of pyarrow's.
            pre_buffer=False,
            page_checksum_verification=self._checksums is None,
            read_dictionary=list(as_dictionaries),
        )

    def _decoding(self) -> AbstractContextManager[None]:
        return decoding_parquet(self._where)

    def _take(self, start: int, data: bytes) -> None:
        if self._checksums is not None:
            self._checksums.check(start, data)
        self._file.add(start, data)

    def _wanted(self, found: list[column_chunks.ColumnChunk]) -> list[Range]:
        """The ranges to fetch for these; what the tail has of them is checked."""
        spans = joined_ranges([chunk.range for chunk in found])
        if self._checksums is not None:
            spans = joined_ranges([self._checksums.aligned(*span) for span in spans])
        wanted = []
        for begin, end in spans:
            if begin < self._tail_start:
                wanted.append((begin, end))
            elif self._checksums is not None:
                self._checksums.check(begin, memoryview(self._tail)[begin - self._tail_start : end - self._tail_start])
        return wanted


def _nothing_to_fetch(spans: Sequence[Range], _: Callable[[int, bytes], None]) -> "list[Future[None]]":
    if spans:
        raise ValueError("the footer points to before the file")
    return []


def _wait(futures: "Sequence[Future[None]]") -> None:
    for future in futures:
        future.result()
