"""Reads a file whose index is a named range that no field has, as if a field had its values; see `named_ranges`."""

import functools
import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.frames.conversion.arrow_frames import NOTE_KEY
from clinops_prefect.frames.conversion.named_ranges import NamedRange, named_range
from clinops_prefect.frames.parquet.reader import ParquetReader

if TYPE_CHECKING:
    import pandas as pd


def with_labels(reader: ParquetReader) -> "ParquetReader | LabelledReader":
    """The reader, with a field for the index if the file has a named range without one."""
    found = named_range(reader.file_schema, reader.rows)
    return reader if found is None else LabelledReader(reader, found)


class LabelledReader:
    """A `ParquetReader` whose schemas and tables have one more field, the index. The methods are those of the reader.

    Args:
        reader: The reader of the file.
        index: The index.
    """

    def __init__(self, reader: ParquetReader, index: NamedRange) -> None:
        self._reader, self._index, self._name = reader, index, index.field
        self.rows = reader.rows
        # An Arrow table of `pa.Table.from_pandas` comes back as it was, without the field.
        self._is_arrow = NOTE_KEY in (reader.file_schema.metadata or {})

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """The schema that pandas frames are made from."""
        return self._index.described(self._reader.schema)

    @functools.cached_property
    def stored_schema(self) -> pa.Schema:
        """The schema for polars and Arrow."""
        return self._reader.stored_schema if self._is_arrow else self._index.described(self._reader.stored_schema)

    def frame(self) -> "pd.DataFrame":
        """Read the whole frame, whose index is the range."""
        return self._reader.frame()

    def some(self, fields: Sequence[str]) -> "pd.DataFrame":
        """Read these fields of all rows as a frame, whose index is the range."""
        return self._reader.some(self._without(fields))

    def stored_table(self) -> pa.Table:
        """Read the whole table with the types of `stored_schema`."""
        table = self._reader.stored_table()
        if self._is_arrow:
            return table
        # By position, because several columns may have the same name.
        return pa.Table.from_arrays([*table.columns, self._labels(None)], schema=self.stored_schema)

    def read(self, groups: Sequence[int], fields: Sequence[str]) -> pa.Table:
        """Read these fields of these row groups."""
        table = self._reader.read(groups, self._without(fields))
        if self._name not in fields:
            return table
        # The table's layout may have categories that the schema does not have.
        metadata = self._index.described(table.schema).metadata
        return self._joined(table, self._labels(groups), fields, metadata)

    def read_stored(self, groups: Sequence[int], fields: Sequence[str]) -> pa.Table:
        """Read these fields of these row groups, with the types of `stored_schema`."""
        table = self._reader.read_stored(groups, self._without(fields))
        if self._name not in fields:
            return table
        return self._joined(table, self._labels(groups), fields, self.stored_schema.metadata)

    def fill(self, groups: Sequence[int], fields: Sequence[str], put: Callable[[int, pa.Table], None]) -> None:
        """Pass these fields of these row groups to `put`."""
        if others := self._without(fields):
            self._reader.fill(groups, others, put)
        if self._name in fields:
            put(0, pa.table([self._labels(groups)], [self._name]))

    def groups(
        self,
        expression: pc.Expression | None,
        schema: pa.Schema | None = None,
        guarantee: pc.Expression | None = None,
        fields: Sequence[str] | None = None,
    ) -> list[int]:
        """The row groups that may have matching rows."""
        # The file has no statistics of the labels, and Arrow would take the field for one without values.
        if expression is not None and re.search(rf"(?<!\w){re.escape(self._name)}(?!\w)", str(expression)):
            expression = None
        return self._reader.groups(expression, schema, guarantee, fields)

    def group_sizes(self, fields: Sequence[str]) -> list[tuple[int, int]]:
        """For each row group, the number of rows and the approximate bytes that these fields take in memory."""
        more = 8 if self._name in fields else 0
        return [(rows, size + more * rows) for rows, size in self._reader.group_sizes(self._without(fields))]

    @property
    def held_bytes(self) -> int:
        """About how much memory the footer takes."""
        return self._reader.held_bytes

    def hold_only(self, fields: Sequence[str]) -> None:
        """Release what a read of these fields does not need. Afterwards, only reads of them work."""
        self._reader.hold_only(self._without(fields))

    def complete(self) -> frozenset[str]:
        """The columns of objects of which the footer proves that no value is missing."""
        return self._reader.complete()

    def categories(self, name: str) -> pa.Array:
        """All categories of a dictionary column in another program's file."""
        return self._reader.categories(name)

    def _without(self, fields: Sequence[str]) -> list[str]:
        return [name for name in fields if name != self._name]

    def _labels(self, groups: Sequence[int] | None) -> pa.Array:
        if groups is None:
            return self._index.labels(np.arange(self.rows, dtype=np.int64))
        sizes = [rows for rows, _ in self._reader.group_sizes([])]
        starts = [0, *accumulate(sizes)]
        each = [np.arange(starts[group], starts[group] + sizes[group], dtype=np.int64) for group in groups]
        rows = np.concatenate(each) if each else np.empty(0, dtype=np.int64)
        return self._index.labels(rows)

    def _joined(self, table: pa.Table, labels: pa.Array, fields: Sequence[str], metadata: Any) -> pa.Table:
        schema = pa.schema([*table.schema, pa.field(self._name, pa.int64())])
        joined = pa.Table.from_arrays([*table.columns, labels], schema=schema)
        # Several columns of one name are only read all together.
        chosen = joined if len(set(joined.column_names)) < joined.num_columns else joined.select(list(fields))
        return chosen.replace_schema_metadata(metadata)
