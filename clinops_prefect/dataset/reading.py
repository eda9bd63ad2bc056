"""Reads the rows of many parts: several batches at once, in bounded memory, yielded in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from clinops_prefect.dataset.agreement import Agreed
from clinops_prefect.dataset.partitions import Partitions, check_values
from clinops_prefect.dataset.parts import Batch, OpenPart
from clinops_prefect.frames.conversion.schemas import bare_table
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.kinds import FrameKind

T = TypeVar("T")
R = TypeVar("R")

# Latency dominates small batches, and a batch of a few columns is small, so many threads help.
_THREADS = 24
# The limit for all batches that are being fetched or decoded, or wait for the caller, in bytes.
AHEAD_BYTES = 96 << 20


def in_order(
    work: Callable[[T], R], items: Sequence[T], size: Callable[[T], int], *, ahead: int = AHEAD_BYTES
) -> Iterator[R]:
    """Yield `work(item)` for each item in order, with several calls at once. The first error cancels the rest.

    Args:
        work: The function to call.
        items: The arguments, one for each call.
        size: Returns the approximate memory of an item in bytes.
        ahead: Maximum bytes in memory at once, without results that were yielded. A single item may exceed it.
    """
    if len(items) == 1:
        yield work(items[0])
        return
    running: deque[tuple[Future[R], int]] = deque()
    held = at = 0
    # This call has its own threads. In the shared transfer threads, the work would wait for those same threads.
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="clinops-dataset") as workers:
        try:
            while at < len(items) or running:
                while at < len(items) and (not running or held + size(items[at]) <= ahead):
                    held += size(items[at])
                    running.append((workers.submit(work, items[at]), size(items[at])))
                    at += 1
                future, taken = running.popleft()
                done = future.result()
                del future
                yield done
                del done
                held -= taken
        finally:
            for future, _ in running:
                future.cancel()


class Batches:
    """Reads batches of the parts, and converts them to rows of the dataset.

    Args:
        opened: Opens the part with a number. Small parts are kept open.
        partitions: The partition columns.
        agreed: The common schema of the parts.
        numbers: The numbers of the parts that are read.
        kind: The kind of frame.
    """

    def __init__(
        self,
        opened: Callable[[int], OpenPart],
        partitions: Partitions,
        agreed: Agreed,
        numbers: Sequence[int],
        kind: FrameKind,
    ) -> None:
        self._opened = opened
        self._partitions = partitions
        self._agreed = agreed
        self._numbers = numbers
        self._kind = kind

    def table(self, part: int, batch: Batch, fields: Sequence[str]) -> pa.Table:
        """Read these fields of a batch, as the dataset has them.

        Args:
            part: Position of the part among the parts that are read.
            batch: The batch.
            fields: Fields of the dataset.
        """
        opened = self._opened(self._numbers[part])
        read = stored_fields(self._agreed, fields)
        table = self.adapted(part, opened.read(batch, read, self._kind), opened.where)
        more = self.added(part, batch.at, batch.rows, fields)
        schema = pa.schema([self._agreed.schema.field(name) for name in fields], self._agreed.schema.metadata)
        if not fields:
            return bare_table(batch.rows, schema.metadata)
        own = set(read)
        arrays = [table.column(name) if name in own else more.column(name) for name in fields]
        return pa.Table.from_arrays(arrays, schema=schema)

    def fill(self, part: int, batch: Batch, fields: Sequence[str], put: Callable[[int, pa.Table], None]) -> None:
        """Like `table`, but calls `put(at, table)` several times, `at` rows into the dataset."""
        opened = self._opened(self._numbers[part])
        where = opened.where
        begin = self._agreed.starts[part] + batch.at
        if read := stored_fields(self._agreed, fields):
            opened.fill(batch, read, lambda at, table: put(begin + at, self.adapted(part, table, where)))
        more = self.added(part, batch.at, batch.rows, fields)
        if more.num_columns:
            put(begin, more)

    def adapted(self, part: int, table: pa.Table, where: str) -> pa.Table:
        """The fields of a part, converted to the types of the dataset."""
        arrays, fields = [], []
        for name in table.column_names:
            column, wanted = table.column(name), self._agreed.schema.field(name)
            if name in self._partitions.names:
                check_values(column, self._partitions.value(self._numbers[part], name), name, where)
            if column.type != wanted.type:
                with decoding(f"{where}: column {name!r} cannot be read as {wanted.type}", where):
                    column = column.cast(wanted.type)
            arrays.append(column)
            fields.append(wanted)
        if not fields:
            return table
        return pa.Table.from_arrays(arrays, schema=pa.schema(fields))

    def added(self, part: int, at: int, rows: int, fields: Sequence[str]) -> pa.Table:
        """The fields that are not in the part: partition columns, and an index of joined ranges."""
        found: dict[str, Any] = {}
        for name in fields:
            if name in self._agreed.added:
                kind = self._agreed.schema.field(name).type
                value = self._partitions.value(self._numbers[part], name)
                found[name] = pa.nulls(rows, kind) if not value.is_valid else pa.repeat(value.cast(kind), rows)
            elif name in self._agreed.index.fields and self._agreed.index.ranges:
                found[name] = self._agreed.index.values(part, at, rows)
        return pa.table(found)


def stored_fields(agreed: Agreed, fields: Sequence[str]) -> list[str]:
    """The fields among these that are read from the parts."""
    made = set(agreed.added)
    if agreed.index.ranges:
        made |= set(agreed.index.fields)
    return [name for name in fields if name not in made]
