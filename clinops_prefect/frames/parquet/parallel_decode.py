"""Decode a Parquet file in units of a few megabytes, in threads of this process.

Not in pyarrow's: when a read has returned, those may still be about to let go of the file's bytes. Letting go of what
Python owns takes the GIL, and where the interpreter ends meanwhile, that aborts the process, at its very end and with
all its work done: "terminate called without an active exception". The threads here are gone when a read returns.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from clinops_prefect.frames import memory
from clinops_prefect.frames.conversion.schemas import null_table
from clinops_prefect.frames.parquet.column_chunks import ColumnChunk

# What is decoded at once, and then copied into its place in the frame: as much, and of a small file some for each core.
_MOST_BYTES = 4 << 20
_LEAST_BYTES = 512 << 10


@dataclass(frozen=True)
class DecodeUnit:
    """Some fields of some row groups.

    Attributes:
        groups: The row groups.
        at: How many of the rows that are read come before theirs.
        names: The fields; None, all of the file.
    """

    groups: tuple[int, ...]
    at: int
    names: tuple[str, ...] | None

    def read(self, file: pq.ParquetFile) -> pa.Table:
        """The table of it."""
        names = self.names and list(self.names)
        try:
            table = file.read_row_groups(list(self.groups), columns=names, use_threads=False)
        except pa.ArrowNotImplementedError:
            if len(self.groups) == 1:
                raise
            # Arrow reads a nested dictionary, or nested text of 2 GB, of one row group only.
            each = [file.read_row_groups([group], columns=names, use_threads=False) for group in self.groups]
            table = pa.concat_tables(each)
        return table if self.names is None else table.select(list(self.names))


def units_of(
    schema: pa.Schema,
    metadata: pq.FileMetaData,
    found: Sequence[ColumnChunk],
    groups: Sequence[int],
    names: list[str] | None,
) -> list[DecodeUnit]:
    """Units of a few megabytes: row groups together where they are small, a few columns where they are large.

    Args:
        schema: The file's.
        metadata: The file's.
        found: The chunks of these groups and fields.
        groups: The row groups, in the order to read them.
        names: The fields; None, all of the file.
    """
    fields = list(schema) if names is None else [schema.field(name) for name in names]
    # Several fields of one name can only be read together.
    is_one = len({field.name for field in fields}) < len(fields)
    everything = None if names is None else tuple(names)
    sizes: Counter[int] = Counter()
    for chunk in found:
        sizes[chunk.group] += chunk.decoded
    for group in groups:
        sizes[group] = max(sizes[group], memory.least_bytes(fields, metadata.row_group(group).num_rows))
    most = min(_MOST_BYTES, max(_LEAST_BYTES, sizes.total() // (2 * pa.cpu_count())))
    units: list[DecodeUnit] = []
    together: list[int] = []
    at = begin = held = 0

    def end() -> None:
        if together:
            units.append(DecodeUnit(tuple(together), begin, everything))
            together.clear()

    for group in groups:
        size = sizes[group]
        if held + size > most:
            end()
        if size > most and not is_one:
            width = max(1, most * len(fields) // size)
            parts = [fields[i : i + width] for i in range(0, len(fields), width)]
            units += [DecodeUnit((group,), at, tuple(field.name for field in part)) for part in parts]
        else:
            if not together:
                begin, held = at, 0
            together.append(group)
            held += size
        at += metadata.row_group(group).num_rows
    end()
    return units


def for_each(
    units: Sequence[DecodeUnit],
    opened: Callable[[], pq.ParquetFile],
    work: Callable[[DecodeUnit, pq.ParquetFile], None],
) -> None:
    """Do `work` with each unit and a reader of the file, several at once; the first error ends it.

    Args:
        units: The units.
        opened: Opens the file: a reader of it is for one thread.
        work: What to do.
    """
    local = threading.local()

    def one(unit: DecodeUnit) -> None:
        if not hasattr(local, "file"):
            local.file = opened()
        work(unit, local.file)

    if len(units) == 1:
        one(units[0])
        return
    with ThreadPoolExecutor(pa.cpu_count(), thread_name_prefix="clinops-decode") as workers:
        futures = [workers.submit(one, unit) for unit in units]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()


def table(
    units: Sequence[DecodeUnit],
    opened: Callable[[], pq.ParquetFile],
    schema: pa.Schema,
    names: list[str] | None,
    where: str,
) -> pa.Table:
    """One table of the units, in the types of the schema.

    Args:
        units: What `units_of` made of the row groups.
        opened: Opens the file.
        schema: The file's.
        names: As for `units_of`.
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: What was read as dictionaries does not fit into memory otherwise.
    """
    if names is not None:
        schema = pa.schema([schema.field(name) for name in names], schema.metadata)
    tables: dict[DecodeUnit, pa.Table] = {}
    for_each(units, opened, lambda unit, file: tables.update({unit: _compact(unit.read(file))}))
    by_groups: dict[tuple[int, ...], list[pa.Table]] = {}
    for unit in units:
        by_groups.setdefault(unit.groups, []).append(tables[unit])
    if not by_groups:
        return null_table(schema)
    rows = [_side_by_side(parts) for parts in by_groups.values()]
    # Tables without columns have rows all the same, which Arrow does not add up; those are one unit.
    table = pa.concat_tables(rows) if len(rows) > 1 else rows[0]
    if table.schema.types != schema.types:
        memory.check(sum(memory.decoded_bytes(column) for column in table.columns), where)
        table = table.cast(schema)
    return table


def _compact(table: pa.Table) -> pa.Table:
    """The table in memory of its size: PyArrow's reader leaves numbers in up to twice as much."""
    columns = []
    for column in table.columns:
        if column.num_chunks == 1 and len(column) > 1 and pa.types.is_primitive(column.type):
            chunk = column.chunk(0)
            # Two parts joined are a new array; of one part Arrow returns the part itself.
            column = pa.chunked_array([pa.concat_arrays([chunk.slice(0, 1), chunk.slice(1)])])
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=table.schema) if columns else table


def _side_by_side(parts: list[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    schema = pa.schema([field for part in parts for field in part.schema], parts[0].schema.metadata)
    return pa.Table.from_arrays([column for part in parts for column in part.columns], schema=schema)
