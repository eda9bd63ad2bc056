"""Decodes a Parquet file in units of a few megabytes, in threads that end with the read.

pyarrow's own threads may release the file's bytes after the read has returned. Releasing an object that Python owns
takes the GIL, and if the interpreter exits meanwhile, the process aborts after all its work is done: "terminate called
without an active exception".
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

# The size of a decode unit in bytes, which is then copied into the frame. Units of a small file are smaller, so that
# each core has some.
_MOST_BYTES = 4 << 20
_LEAST_BYTES = 512 << 10
_MOST_BATCHES = 4096
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


@dataclass(frozen=True)
class DecodeUnit:
    """Some fields of some row groups, decoded in one go.

    Attributes:
        groups: The row groups.
        at: Number of rows of the read before these row groups.
        names: The fields. None means all fields of the file.
        batch_rows: Number of rows to decode at a time; 0 for all. A column of texts is the only one that is cut.
    """

    groups: tuple[int, ...]
    at: int
    names: tuple[str, ...] | None
    batch_rows: int = 0

    def read(self, file: pq.ParquetFile) -> pa.Table:
        """Read the unit as a table."""
        names = self.names and list(self.names)
        # Each batch of a column that is read as dictionaries would hold the whole dictionary.
        if (
            self.batch_rows
            and names
            and hasattr(file, "iter_batches")
            and _is_text(file.schema_arrow.field(names[0]).type)
        ):
            return self._in_batches(file)
        try:
            table = file.read_row_groups(list(self.groups), columns=names, use_threads=False)
        except pa.ArrowNotImplementedError:
            if len(self.groups) == 1:
                raise
            # Arrow can read a nested dictionary, or 2 GB of nested text, only from one row group at a time.
            each = [file.read_row_groups([group], columns=names, use_threads=False) for group in self.groups]
            table = pa.concat_tables(each)
        table = table if self.names is None else table.select(list(self.names))
        return _with_exact_texts(table)

    def _in_batches(self, file: pq.ParquetFile) -> pa.Table:
        # To decode texts at once, PyArrow doubles its memory until they fit, which takes three times their size.
        batches = file.iter_batches(
            self.batch_rows, row_groups=list(self.groups), columns=list(self.names or ()), use_threads=False
        )
        tables = [_with_exact_texts(pa.Table.from_batches([batch])) for batch in batches]
        return pa.concat_tables(tables).select(list(self.names or ()))


def units_of(
    schema: pa.Schema,
    metadata: pq.FileMetaData,
    found: Sequence[ColumnChunk],
    groups: Sequence[int],
    names: list[str] | None,
) -> list[DecodeUnit]:
    """Divide a read into units of a few megabytes: several small row groups, or a few columns of a large one.

    Args:
        schema: The file's schema.
        metadata: The file's metadata.
        found: The column chunks of these row groups and fields.
        groups: The row groups, in the order to read them.
        names: The fields. None means all fields of the file.
    """
    fields = list(schema) if names is None else [schema.field(name) for name in names]
    # Fields with the same name can only be read together.
    is_one = len({field.name for field in fields}) < len(fields)
    everything = None if names is None else tuple(names)
    sizes: Counter[int] = Counter()
    columns: dict[tuple[int, str], int] = {}
    for chunk in found:
        sizes[chunk.group] += chunk.decoded
        columns[chunk.group, chunk.path] = chunk.decoded
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
            rows = metadata.row_group(group).num_rows
            for part in parts:
                decoded = columns.get((group, part[0].name), 0)
                is_cut = len(part) == 1 and _is_text(part[0].type) and decoded > most and rows > 0
                # The footer may be wrong about the size, so there is a limit on the number of batches.
                batch_rows = max(-(-rows // _MOST_BATCHES), rows * _LEAST_BYTES // decoded) if is_cut else 0
                units.append(DecodeUnit((group,), at, tuple(field.name for field in part), batch_rows))
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
    ready: Callable[[DecodeUnit], None] = lambda _: None,
) -> None:
    """Call `work` with each unit and a reader of the file, several at once. The first error cancels the rest.

    Args:
        units: The units.
        opened: Opens the file. Each thread gets its own reader.
        work: The function to call.
        ready: Waits until the bytes of a unit are there.
    """
    local = threading.local()

    def one(unit: DecodeUnit) -> None:
        if not hasattr(local, "file"):
            local.file = opened()
        ready(unit)
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
    done: Callable[[DecodeUnit], None] = lambda _: None,
) -> pa.Table:
    """Read the units as one table with the types of the schema.

    Args:
        units: The units from `units_of`.
        opened: Opens the file.
        schema: The file's schema.
        names: As in `units_of`.
        where: The URI, for errors.
        done: Called after a unit was decoded.

    Raises:
        ArtifactDecodeError: Columns that were read as dictionaries do not fit into memory when they are decoded.
    """
    if names is not None:
        schema = pa.schema([schema.field(name) for name in names], schema.metadata)
    tables: dict[DecodeUnit, pa.Table] = {}

    def decode(unit: DecodeUnit, file: pq.ParquetFile) -> None:
        tables[unit] = _compact(unit.read(file))
        done(unit)

    for_each(units, opened, decode)
    by_groups: dict[tuple[int, ...], list[pa.Table]] = {}
    for unit in units:
        by_groups.setdefault(unit.groups, []).append(tables[unit])
    if not by_groups:
        return null_table(schema)
    rows = [_side_by_side(parts) for parts in by_groups.values()]
    # A table without columns still has rows, but Arrow does not add them up. Such a table is always a single unit.
    table = pa.concat_tables(rows) if len(rows) > 1 else rows[0]
    if table.schema.types != schema.types:
        sizes = [memory.decoded_bytes(column) for column in table.columns]
        memory.check(sum(sizes), where)
        columns = [_decoded(*one) for one in zip(table.columns, sizes, schema, strict=True)]
        table = pa.Table.from_arrays(columns, schema=schema)
    return table


def _decoded(column: pa.ChunkedArray, size: int, field: pa.Field) -> pa.ChunkedArray:
    if not (pa.types.is_dictionary(column.type) and _is_text(field.type) and size > _MOST_BYTES):
        return column.cast(field.type)
    # A few megabytes at a time, as in `DecodeUnit`.
    rows = max(1, len(column) * _MOST_BYTES // size)
    parts = [_exact(column.slice(at, rows).cast(field.type)) for at in range(0, len(column), rows)]
    return pa.chunked_array([chunk for part in parts for chunk in part.chunks], field.type)


def _compact(table: pa.Table) -> pa.Table:
    """The table without unused memory: PyArrow's reader uses up to twice the size of the numbers."""
    columns = [_exact(column) if pa.types.is_primitive(column.type) else column for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema) if columns else table


def _with_exact_texts(table: pa.Table) -> pa.Table:
    """The table without unused memory in its texts, which stay in the frame as they are decoded."""
    if not any(_is_text(field.type) for field in table.schema):
        return table
    columns = [_exact(column) if _is_text(column.type) else column for column in table.columns]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _exact(column: pa.ChunkedArray) -> pa.ChunkedArray:
    # Joining two slices makes a new array of exact size. For a single slice, Arrow would return the slice itself.
    chunks = [
        pa.concat_arrays([chunk.slice(0, 1), chunk.slice(1)]) if len(chunk) > 1 else chunk for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, column.type)


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _TEXTS)


def _side_by_side(parts: list[pa.Table]) -> pa.Table:
    if len(parts) == 1:
        return parts[0]
    schema = pa.schema([field for part in parts for field in part.schema], parts[0].schema.metadata)
    return pa.Table.from_arrays([column for part in parts for column in part.columns], schema=schema)
