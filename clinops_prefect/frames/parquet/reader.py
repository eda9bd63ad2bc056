"""Reads a stored Parquet file as Arrow tables and frames. Only the needed ranges are fetched, in parallel."""

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinops_prefect.frames.conversion.arrow_frames import NOTE_KEY, categories_of, dictionaries_of
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY, layout_of, nanoseconds_of, with_schema
from clinops_prefect.frames.parquet import column_chunks, int96, parallel_decode, text_sizes
from clinops_prefect.frames.parquet.arriving_chunks import ArrivingChunks
from clinops_prefect.frames.parquet.file_bytes import DecodedBytes, FileBytes
from clinops_prefect.frames.parquet.known_schemas import KnownSchemas
from clinops_prefect.frames.parquet.stored_file import Fetch, StoredFile, nothing_to_fetch

if TYPE_CHECKING:
    import pandas as pd

# Modules that import pandas (PyArrow's datasets also do) are imported only for a pandas frame or a filter.

# The first request fetches the last bytes, before the size of the footer is known. This many hold nearly every footer.
TAIL_BYTES = 128 << 10
# The same for `stat`, which a flow may call thousands of times.
STAT_BYTES = 32 << 10
# The same for a read of the whole file, for which a larger first fetch wastes nothing.
WHOLE_BYTES = 1 << 20
# A frame of another program's file is filled unit by unit from this size on: a whole table would need twice the memory.
_LARGE_BYTES = 16 << 20


class ParquetReader:
    """Reads a stored Parquet file.

    Args:
        fetch: Fetches ranges of the file.
        tail: The last bytes of the file.
        size: Size of the file in bytes.
        where: The file's URI, for errors.
        footer_only: Whether only the footer will be read.
        known: The schemas of other files. If this file has one of them, it is taken from there.

    Raises:
        ArtifactDecodeError: The file is damaged, or not Parquet.
    """

    def __init__(
        self,
        fetch: Fetch,
        tail: bytes,
        size: int,
        where: str,
        *,
        footer_only: bool = False,
        known: KnownSchemas | None = None,
    ) -> None:
        self._file = StoredFile(fetch, tail, size, where, footer_only=footer_only, known=known)
        self._where = where
        self.rows = self._file.rows
        self.file_schema: pa.Schema = self._file.schema
        self._is_foreign = LAYOUT_KEY not in (self._file.schema.metadata or {})
        if self._is_foreign:
            self._file.int96 = int96.fields_of(self._file.metadata)
        self._is_unique = len(set(self._file.schema.names)) == len(self._file.schema.names)
        self._categories: dict[str, pa.Array] = {}
        self._noted: set[str] = set()

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The schema that pandas frames are made from. The layout of another program's file is inferred.

        Raises:
            ArtifactDecodeError: Another program's file cannot be read as a frame.
        """
        stored = self.stored_schema
        if not self._is_foreign:
            return stored
        from clinops_prefect.frames.conversion import foreign_schema

        with self._file.decoding():
            complete = foreign_schema.without_missing(self._file.metadata)
            intervals = foreign_schema.intervals(self._file.metadata)
        schema = foreign_schema.described(stored, complete, intervals, self.rows, self._where)
        if NOTE_KEY not in (stored.metadata or {}):
            return schema
        noted = dictionaries_of(stored).items()
        known = {name: values for name, values in noted if foreign_schema.is_categorical(schema, name)}
        self._noted = set(known)
        return foreign_schema.with_categories(schema, known)

    @functools.cached_property
    def stored_schema(self) -> pa.Schema:
        """The schema that is stored in the file."""
        if self._file.int96:
            self._file.set_fine(self._units().fine())
        return self._file.schema

    @classmethod
    def of(cls, data: bytes, where: str) -> "ParquetReader":
        """A reader of a file that is completely in memory."""
        return cls(nothing_to_fetch, data, len(data), where)

    def frame(self) -> "pd.DataFrame":
        """Read the whole frame. Every byte of a file with block checksums is checked.

        Raises:
            ArtifactDecodeError: The file is damaged.
        """
        from clinops_prefect.frames.conversion.frame_builder import to_frame

        layout = layout_of(self.schema)
        found = self._file.chunks_of(range(self._file.metadata.num_row_groups), None)
        data = self._file.arriving()
        try:
            is_large = column_chunks.total_bytes(self._file.metadata) >= _LARGE_BYTES
            if layout is not None and self._is_unique and (not self._is_foreign or is_large):
                with self._file.decoding(), suppress(text_sizes.TooManyTextsError):
                    return self._filled(layout, data, found)
                if not data.is_whole:
                    data.cancel()
                    data = self._file.arriving()
            return to_frame(self._as_described(self._table(data, found)))
        finally:
            data.cancel()

    def table(self) -> pa.Table:
        """Read the whole table.

        Raises:
            ArtifactDecodeError: The file is damaged.
        """
        return self._as_described(self.stored_table())

    def stored_table(self) -> pa.Table:
        """Read the whole table with the types of `stored_schema`. Every byte of a file with block checksums is checked.

        Raises:
            ArtifactDecodeError: The file is damaged.
        """
        schema = self.stored_schema
        found = self._file.chunks_of(range(self._file.metadata.num_row_groups), None)
        data = self._file.arriving()
        try:
            return with_schema(self._table(data, found), schema)
        finally:
            data.cancel()

    def groups(
        self,
        expression: pc.Expression | None,
        schema: pa.Schema | None = None,
        guarantee: pc.Expression | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[int]:
        """The row groups that may have rows for which `expression` holds, by the statistics in the footer.

        `schema` is the schema of the expression, if it has more fields than the file. `guarantee` holds for every row.
        `fields` are the fields of the expression, if they are known.
        """
        return self._file.groups(expression, schema, guarantee, fields)

    @property
    def held_bytes(self) -> int:
        """About how much memory the footer takes."""
        return self._file.held_bytes

    def hold_only(self, fields: Sequence[str]) -> None:
        """Release what a read of these fields does not need. Afterwards, only reads of them work."""
        if self._is_unique and not self._is_foreign:
            self._file.hold_only(fields)

    def complete(self) -> frozenset[str]:
        """The columns of objects of which the footer proves that no value is missing."""
        schema = self.schema
        # A look at each of a thousand columns takes as long as parsing the footer, and most files have no objects.
        if b'"object":' not in schema.metadata[LAYOUT_KEY]:
            return frozenset()
        from clinops_prefect.frames.conversion import foreign_schema

        with self._file.decoding():
            return frozenset(foreign_schema.without_missing(self._file.metadata))

    def group_sizes(self, fields: Sequence[str]) -> list[tuple[int, int]]:
        """For each row group, the number of rows and the approximate bytes that these fields take in memory."""
        return column_chunks.group_sizes(self._file.metadata, self._file.schema, fields)

    def fill(self, groups: Sequence[int], fields: Sequence[str], put: Callable[[int, pa.Table], None]) -> None:
        """Pass these fields of these row groups to `put`, as `read` would return them, in units of a few megabytes.

        `put(at, table)` gets the number of rows before the table, and a table of some fields. Several threads call it.
        """
        names = list(fields)
        if not names or not self._is_unique:
            put(0, self._as_described(self._read(groups, names)).select(names))
            return
        found = self._file.chunks_of(groups, names)
        with self._file.fetched(found):
            schema = self._file.schema
            if doubtful := text_sizes.doubtful_texts(schema, found, self._file.window, self._where):
                put(0, self._as_described(self._fetched(found, groups, names, doubtful)).select(names))
                return
            wanted = parallel_decode.units_of(schema, self._file.metadata, found, groups, names)
            parallel_decode.for_each(
                wanted, self._file.again, lambda unit, file: put(unit.at, self._as_described(unit.read(file)))
            )

    def categories(self, name: str) -> pa.Array:
        """All categories of a column in another program's file, from all row groups; none if it has no value."""
        is_dictionary = pa.types.is_dictionary(self.schema.field(name).type)
        return self._categories_of(name, [], None) if is_dictionary else pa.nulls(0)

    def read(self, groups: Sequence[int], fields: Sequence[str]) -> pa.Table:
        """Read these fields of these row groups.

        Raises:
            ArtifactDecodeError: The bytes read are damaged.
        """
        table = self._as_described(self._read(groups, list(fields))).select(list(fields))
        if not self._is_foreign:
            return table
        names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
        if names := [name for name in names if name not in self._noted]:
            from clinops_prefect.frames.conversion import foreign_schema

            # Use the categories of all row groups, so that every part of the file has the same ones, even without rows.
            known = {name: self._categories_of(name, groups, table) for name in names}
            table = table.replace_schema_metadata(foreign_schema.with_categories(table.schema, known).metadata)
        return table

    def read_stored(self, groups: Sequence[int], fields: Sequence[str]) -> pa.Table:
        """Read these fields of these row groups, with the types of `stored_schema`.

        Raises:
            ArtifactDecodeError: The bytes read are damaged.
        """
        schema = self.stored_schema
        wanted = pa.schema([schema.field(name) for name in fields], schema.metadata) if self._is_unique else schema
        table = self._read(groups, list(fields))
        return with_schema(table.select(list(fields)) if self._is_unique else table, wanted)

    def _read(self, groups: Sequence[int], fields: list[str]) -> pa.Table:
        # Fields with the same name can only be read together.
        names = fields if self._is_unique else None
        found = self._file.chunks_of(groups, names)
        with self._file.fetched(found):
            doubtful = text_sizes.doubtful_texts(self._file.schema, found, self._file.window, self._where)
            return self._fetched(found, groups, names, doubtful)

    def _fetched(
        self,
        found: list[column_chunks.ColumnChunk],
        groups: Sequence[int],
        names: list[str] | None,
        doubtful: list[str],
    ) -> pa.Table:
        wanted = parallel_decode.units_of(self._file.schema, self._file.metadata, found, groups, names)
        return parallel_decode.table(wanted, lambda: self._file.again(doubtful), self._file.schema, names, self._where)

    def some(self, fields: Sequence[str]) -> "pd.DataFrame":
        """Read these fields, which include the index, as a frame that is filled unit by unit without a table of it all.

        Raises:
            ArtifactDecodeError: The bytes read are damaged.
        """
        from clinops_prefect.frames.conversion.frame_builder import FrameBuilder, to_frame

        layout, groups = layout_of(self.schema), range(self._file.metadata.num_row_groups)
        if layout is None or not fields or self._is_foreign:
            return to_frame(self.read(groups, fields))
        found = self._file.chunks_of(groups, list(fields))
        # Decode what has arrived while the rest is fetched: Python's lock, which each request needs, is then free.
        with self._file.fetching(found) as arriving, self._file.decoding():
            chunks = ArrivingChunks(found, arriving, self._file.window)
            if doubtful := text_sizes.doubtful_texts(self.schema, found, chunks.window, self._where):
                arriving.wait_for_all()
                return to_frame(self._fetched(found, groups, list(fields), doubtful))
            schema = pa.schema([self.schema.field(name) for name in fields], self.schema.metadata)
            builder = FrameBuilder(schema, layout, self.rows)
            wanted = parallel_decode.units_of(self.schema, self._file.metadata, found, groups, list(fields))
            put = builder.put
            parallel_decode.for_each(
                wanted, self._file.again, lambda unit, file: put(unit.at, unit.read(file)), chunks.wait_for
            )
            return builder.frame()

    # --- another program's file ---

    def _as_described(self, table: pa.Table) -> pa.Table:
        if not self._is_foreign:
            return table
        from clinops_prefect.frames.conversion import foreign_schema

        names = table.column_names if self._is_unique else self.schema.names
        part = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
        return foreign_schema.converted(table, part, self._where)

    def _units(self) -> int96.Units:
        units = int96.Units(self._file.int96, nanoseconds_of(self._file.schema), self._where)
        for group in range(self._file.metadata.num_row_groups):
            with self._file.fetched(self._file.chunks_of([group], self._file.int96)):
                units.look(self._file.in_unit, group)
        return units

    def _categories_of(self, name: str, groups: Sequence[int], table: pa.Table | None) -> pa.Array:
        """The categories of a column, from all row groups."""
        if name not in self._categories:
            every = range(self._file.metadata.num_row_groups)
            each = (self._as_described(self._read([group], [name])).column(name) for group in every)
            columns = [table.column(name)] if table is not None and len(groups) == len(every) else each
            self._categories[name] = categories_of(columns, self.schema.field(name).type.value_type)
        return self._categories[name]

    # --- the whole file ---

    def _table(self, data: FileBytes, found: list[column_chunks.ColumnChunk]) -> pa.Table:
        data.wait()
        with self._file.decoding():
            doubtful = text_sizes.doubtful_texts(
                self._file.schema, found, lambda start, end: data.array.data[start:end], self._where
            )
            buffer, groups = pa.py_buffer(data.array), range(self._file.metadata.num_row_groups)
            wanted = parallel_decode.units_of(self._file.schema, self._file.metadata, found, groups, None)
            decoded = DecodedBytes(data, found, wanted)
            return parallel_decode.table(
                wanted, lambda: self._file.opened(buffer, doubtful), self._file.schema, None, self._where, decoded.done
            )

    def _filled(
        self, layout: dict[str, Any], data: FileBytes, found: list[column_chunks.ColumnChunk]
    ) -> "pd.DataFrame":
        from clinops_prefect.frames.conversion.frame_builder import FrameBuilder

        builder = FrameBuilder(self.schema, layout, self.rows)
        buffer = pa.py_buffer(data.array)
        budget = text_sizes.TextBudget(self.schema, data.array.data)

        def fill(unit: parallel_decode.DecodeUnit, file: pq.ParquetFile) -> None:
            budget.add(decoded.arrived(unit))
            builder.put(unit.at, self._as_described(unit.read(file)))
            decoded.done(unit)

        groups = range(self._file.metadata.num_row_groups)
        units = parallel_decode.units_of(self._file.schema, self._file.metadata, found, groups, None)
        decoded = DecodedBytes(data, found, units)
        parallel_decode.for_each(units, lambda: self._file.opened(buffer), fill)
        data.wait()  # also for what is between the column chunks, which has checksums, too
        return builder.frame()
