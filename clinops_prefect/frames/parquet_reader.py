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

from clinops_prefect.frames import chunks, foreign, int96, seal, slices, texts
from clinops_prefect.frames.builder import FrameBuilder, to_frame
from clinops_prefect.frames.decoding import decoding_parquet
from clinops_prefect.frames.foreign_values import categories_of
from clinops_prefect.frames.layout import LAYOUT_KEY, layout_of
from clinops_prefect.frames.native import native
from clinops_prefect.frames.sparse_file import Span, SparseFile, coalesced

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
Fetch = Callable[[Sequence[Span], Callable[[int, bytes], None]], "list[Future[None]]"]


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
        footer = seal.footer_start(tail, size, where)
        start = size - len(tail)
        wanted = max(0, footer - (seal.TRAILER_BYTES if footer_only else seal.most_bytes(size)))
        if wanted < start:
            missing: list[bytes] = []
            _wait(fetch([(wanted, start)], lambda _, data: missing.append(data)))
            tail, start = missing[0] + tail, wanted
        self._tail, self._tail_start, self._footer = tail, start, footer
        self._seal = seal.open_seal(tail, start, footer, where)
        self._file = SparseFile(size)
        self._file.add(start, tail)
        with self._decoding():
            # Of the footer alone: pyarrow would read the last 64 KiB of the file to find it.
            self._metadata = pq.read_metadata(pa.BufferReader(memoryview(tail)[footer - start :]))
            self._parquet = self._with_unit(pa.PythonFile(self._file, mode="r"), (), "us")
            self._stored: pa.Schema = self._parquet.schema_arrow
        if self._seal is None and seal.SEAL_KEY in (self._stored.metadata or {}):
            raise seal.damaged(where)
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
            complete, intervals = foreign.without_missing(self._metadata), foreign.intervals(self._metadata)
        schema = foreign.described(self._stored, complete, intervals, self.rows, self._where)
        self._is_unique = schema.names == self._stored.names
        return schema

    @classmethod
    def of(cls, data: bytes, where: str) -> "ParquetReader":
        """A file that is all there."""
        return cls(_nothing_to_fetch, data, len(data), where)

    def frame(self) -> pd.DataFrame:
        """The whole frame; every byte of a sealed file is checked.

        Raises:
            ArtifactDecodeError: The file is damaged.
        """
        layout = layout_of(self.schema)
        found = self._found(range(self._metadata.num_row_groups), None)
        data, arriving = self._arriving()
        try:
            if layout is not None and self._is_unique and self._decoded_bytes() >= _LARGE_BYTES:
                with self._decoding(), suppress(texts.TooManyTextsError):
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
            # A dataset reads in threads of pyarrow's: see slices.py.
            footer = native(memoryview(self._tail)[self._footer - self._tail_start :])
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
            table = table.replace_schema_metadata(foreign.with_categories(table.schema, known).metadata)
        return table

    def _read(self, groups: Sequence[int], fields: list[str]) -> pa.Table:
        # Fields of one name can only be read together.
        names = fields if self._is_unique else None
        found = self._found(groups, names)
        spans = self._wanted(found)
        try:
            _wait(self._fetch(spans, self._take))
            with self._decoding():
                doubtful = texts.doubtful_texts(self.schema, found, self._file.window, self._where)
                return self._fetched(found, groups, names, doubtful)
        finally:
            self._file.forget(spans)

    def _fetched(
        self, found: list[chunks.Chunk], groups: Sequence[int], names: list[str] | None, doubtful: list[str]
    ) -> pa.Table:
        wanted = slices.cut(self._stored, self._metadata, found, groups, names)
        return slices.table(wanted, lambda: self._again(doubtful), self._stored, names, self._where)

    def _again(self, doubtful: Sequence[str] = ()) -> Any:
        return self._opened(pa.PythonFile(self._file.again(), mode="r"), doubtful)

    def some(self, fields: Sequence[str]) -> pd.DataFrame:
        """The frame of these fields, index included: filled slice by slice, without a table of them all.

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
                if doubtful := texts.doubtful_texts(self.schema, found, self._file.window, self._where):
                    return to_frame(self._fetched(found, groups, list(fields), doubtful))
                schema = pa.schema([self.schema.field(name) for name in fields], self.schema.metadata)
                builder = FrameBuilder(schema, layout, self.rows)
                wanted = slices.cut(self.schema, self._metadata, found, groups, list(fields))
                slices.each(wanted, self._again, lambda slice, file: builder.put(slice.at, slice.read(file)))
                return builder.frame()
        finally:
            self._file.forget(spans)

    # --- another program's file ---

    def _as_described(self, table: pa.Table) -> pa.Table:
        if not self._is_foreign:
            return table
        names = table.column_names if self._is_unique else self.schema.names
        part = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
        return foreign.converted(table, part, self._where)

    def _units(self) -> int96.Units:
        units = int96.Units(self._int96, foreign.nanoseconds_of(self._stored), self._where)
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
        sealed, tail, start = self._seal, self._tail, self._tail_start
        end = start
        if sealed is not None:
            # The tail begins in the middle of a block.
            end = sealed.aligned(0, start)[1]
            sealed.check(end, memoryview(tail)[end - start : sealed.length - start])
        if not start:
            return tail, []
        # Not zeroed: memory that nothing was written to yet takes none.
        data = np.empty(self._size, dtype=np.uint8)
        data[start:] = np.frombuffer(tail, dtype=np.uint8)

        def put(at: int, part: bytes) -> None:
            if sealed is not None:
                sealed.check(at, part)
            data[at : at + len(part)] = np.frombuffer(part, dtype=np.uint8)

        spans = [(at, min(at + _PART_BYTES, end)) for at in range(0, end, _PART_BYTES)]
        return data, self._fetch(spans, put)

    def _table(self, data: Any, arriving: "list[Future[None]]", found: list[chunks.Chunk]) -> pa.Table:
        _wait(arriving)
        view = memoryview(data)
        with self._decoding():
            doubtful = texts.doubtful_texts(self.schema, found, lambda start, end: view[start:end], self._where)
            buffer, groups = pa.py_buffer(data), range(self._metadata.num_row_groups)
            wanted = slices.cut(self._stored, self._metadata, found, groups, None)
            table = slices.table(wanted, lambda: self._opened(buffer, doubtful), self._stored, None, self._where)
            return self._as_described(table)

    def _filled(
        self, layout: dict[str, Any], data: Any, arriving: "list[Future[None]]", found: list[chunks.Chunk]
    ) -> pd.DataFrame:
        builder = FrameBuilder(self.schema, layout, self.rows)
        buffer = pa.py_buffer(data)
        budget = texts.TextBudget(self.schema, memoryview(data))
        by_group: dict[int, list[chunks.Chunk]] = {}
        for chunk in found:
            by_group.setdefault(chunk.group, []).append(chunk)

        def fill(slice: slices.Slice, file: pq.ParquetFile) -> None:
            for group in slice.groups:
                begin = min(chunk.range[0] for chunk in by_group[group])
                end = max(chunk.range[1] for chunk in by_group[group])
                _wait(arriving[begin // _PART_BYTES : -(-end // _PART_BYTES)])
                budget.add(group, by_group[group])
            builder.put(slice.at, self._as_described(slice.read(file)))

        groups = range(self._metadata.num_row_groups)
        slices.each(slices.cut(self._stored, self._metadata, found, groups, None), lambda: self._opened(buffer), fill)
        return builder.frame()

    def _found(self, groups: Sequence[int], fields: list[str] | None) -> list[chunks.Chunk]:
        with self._decoding():
            return chunks.find(self._parquet, groups, fields, self._size, self._where)

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
            page_checksum_verification=self._seal is None,
            read_dictionary=list(as_dictionaries),
        )

    def _decoding(self) -> AbstractContextManager[None]:
        return decoding_parquet(self._where)

    def _take(self, start: int, data: bytes) -> None:
        if self._seal is not None:
            self._seal.check(start, data)
        self._file.add(start, data)

    def _wanted(self, found: list[chunks.Chunk]) -> list[Span]:
        """The ranges to fetch for these; what the tail has of them is checked."""
        spans = coalesced([chunk.range for chunk in found])
        if self._seal is not None:
            spans = coalesced([self._seal.aligned(*span) for span in spans])
        wanted = []
        for begin, end in spans:
            if begin < self._tail_start:
                wanted.append((begin, end))
            elif self._seal is not None:
                self._seal.check(begin, memoryview(self._tail)[begin - self._tail_start : end - self._tail_start])
        return wanted


def _nothing_to_fetch(spans: Sequence[Span], _: Callable[[int, bytes], None]) -> "list[Future[None]]":
    if spans:
        raise ValueError("the footer points to before the file")
    return []


def _wait(futures: "Sequence[Future[None]]") -> None:
    for future in futures:
        future.result()
