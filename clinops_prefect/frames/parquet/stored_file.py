"""A stored Parquet file: its footer, its block checksums, and its fetched ranges."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinops_prefect.frames.decoding import decoding_parquet
from clinops_prefect.frames.memory import arrow_owned
from clinops_prefect.frames.parquet import checksums, column_chunks, int96, narrow_footers
from clinops_prefect.frames.parquet.file_bytes import FileBytes
from clinops_prefect.frames.parquet.known_schemas import KnownSchemas, SharedSchema
from clinops_prefect.frames.parquet.partial_file import Added, ArrivingRanges, PartialFile, Range, joined_ranges, wait

if TYPE_CHECKING:
    import pyarrow.dataset as ds

# A connection on a real network carries about 80 MB/s. Larger parts delay the last part; smaller parts cost requests.
PART_BYTES = 4 << 20
# A footer below this size is held whole, since a narrow one would save little.
_NARROWED_BYTES = 32 << 10

# Fetches `(start, end)` ranges of the file in parallel, and passes each to a function in the thread that fetched it.
Fetch = Callable[[Sequence[Range], Callable[[int, bytes], None]], "list[Future[None]]"]


class StoredFile:
    """A stored Parquet file. The arguments are those of `ParquetReader`.

    Attributes:
        metadata: The metadata in the footer.
        schema: The file's schema.
        rows: Number of rows.
        int96: The fields that another program stored as INT96.
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
        self._fetch = fetch
        self._where = where
        self._size = size
        footer = checksums.footer_start(tail, size, where)
        start = size - len(tail)
        wanted = max(0, footer - (checksums.TRAILER_BYTES if footer_only else checksums.most_bytes(size)))
        if wanted < start:
            missing: list[bytes] = []
            wait(fetch([(wanted, start)], lambda _, data: missing.append(data)))
            tail, start = missing[0] + tail, wanted
        self._tail, self._tail_start, self._footer = tail, start, footer
        self._checksums = checksums.read_checksums(tail, start, footer, where)
        self._file = PartialFile(size)
        self._file.add(start, tail)
        self._shared: SharedSchema | None = None
        self._narrow: tuple[list[str], int] | None = None
        with self.decoding():
            # Pass only the footer, because pyarrow would otherwise read the last 64 KiB of the file.
            if known is None:
                parsed = self._reader(pa.BufferReader(self.footer), None, (), "us")
                self.metadata: pq.FileMetaData = parsed.metadata
                self.schema: pa.Schema = parsed.schema_arrow
            else:
                self.metadata = known.reader(self.footer)(pa.BufferReader(self.footer)).metadata
                self._shared = known.of(self.footer, self.metadata, self._own_schema)
                self.schema = self._shared.schema
            checksums.check_unencrypted(self.footer, self.metadata.serialized_size, where)
            # The footer also has the number of all rows, which may contradict its row groups.
            groups = map(self.metadata.row_group, range(self.metadata.num_row_groups))
            self.rows = sum(group.num_rows for group in groups)
        if self._checksums is None and checksums.CHECKSUMS_KEY in (self.schema.metadata or {}):
            raise checksums.missing(where)
        self.int96: list[str] = []
        self._fine: list[str] = []

    @property
    def footer(self) -> memoryview:
        """The bytes of the footer."""
        return memoryview(self._tail)[self._footer - self._tail_start :]

    @property
    def held_bytes(self) -> int:
        """About how much memory the footer takes: parsed, five times its length."""
        if self._narrow is not None:
            return 5 * self._narrow[1] + checksums.most_bytes(self._size)
        return len(self._tail) + 5 * len(self.footer)

    def hold_only(self, fields: Sequence[str]) -> None:
        """Release what a read of these fields does not need. Afterwards, only `chunks_of` and reads of them work.

        Only files of this package without nested fields are released. A file with its own program's footer is kept.
        """
        shared = self._shared
        if shared is None or self._checksums is None or self._narrow or len(self.footer) < _NARROWED_BYTES:
            return
        places = shared.places
        # To write a footer in Python takes longer than to parse one, if it describes most of the columns.
        if not fields or 2 * len(fields) > len(places) or not all(name in places for name in fields):
            return
        found = self.chunks_of(range(self.metadata.num_row_groups), list(fields))
        if any(chunk.range[1] > self._tail_start for chunk in found):
            return  # the tail has bytes of the columns themselves
        schema = pa.schema([self.schema.field(name) for name in fields])
        with self.decoding():
            made = narrow_footers.narrowed(self.metadata, shared.elements, schema, [places[name] for name in fields])
        if made is not None:
            self.metadata, length = made
            self._narrow = list(fields), length
            self._tail, self._tail_start, self._file = b"", self._size, PartialFile(self._size)

    @property
    def schema_arrow(self) -> pa.Schema:
        """`schema`, as pyarrow calls it."""
        return self.schema

    def groups(
        self,
        expression: pc.Expression | None,
        schema: pa.Schema | None,
        guarantee: pc.Expression | None,
        fields: Sequence[str] | None,
    ) -> list[int]:
        """The row groups that may have matching rows. The arguments are those of `ParquetReader.groups`."""
        every = list(range(self.metadata.num_row_groups))
        if expression is None:
            return every
        with self.decoding():
            fragment = self._as_fragment(guarantee, fields)
            try:
                known = self.schema if schema is None else schema
                return [info.id for info in fragment.subset(expression, schema=known).row_groups]
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowIndexError):
                # The statistics do not fit the expression. `Selection.apply` checks whether the rows do.
                return every

    def _as_fragment(self, guarantee: pc.Expression | None, fields: Sequence[str] | None) -> "ds.ParquetFileFragment":
        import pyarrow.dataset as ds

        # A dataset reads in threads of pyarrow, which must not release memory of Python (see parallel_decode.py). So
        # we give it a copy in memory of Arrow.
        source = pa.BufferReader(arrow_owned(self._statistics_of(fields) or self.footer))
        return ds.ParquetFileFormat().make_fragment(source, partition_expression=guarantee)

    def _statistics_of(self, fields: Sequence[str] | None) -> bytes | None:
        """A short footer with the statistics of these fields; None if the file's own must be used.

        A fragment parses its footer again. For a thousand columns this takes 4.5 ms, and with a short footer 0.3 ms.
        """
        if fields is None or self._shared is None or self._narrow or len(self.footer) < _NARROWED_BYTES:
            return None
        places = self._shared.places
        # The others are of partition folders. Such a name may also be the path of a nested column, such as a.b.
        names = [name for name in fields if name in places and self.schema.get_field_index(name) >= 0]
        # For more than about an eighth of the columns, to write a footer in Python takes longer than to parse one.
        if not names or 8 * len(names) > len(places):
            return None
        schema = pa.schema([self.schema.field(name) for name in names])
        return narrow_footers.with_statistics(
            self.metadata, self._shared.elements, schema, [places[name] for name in names]
        )

    def _own_schema(self) -> pa.Schema:
        return self.with_unit(pa.PythonFile(self._file, mode="r"), (), "us").schema_arrow

    def set_fine(self, fields: list[str]) -> None:
        """From now on, read these INT96 fields in nanoseconds."""
        self._fine = fields
        with self.decoding():
            self.schema = self.opened(pa.PythonFile(self._file, mode="r")).schema_arrow

    @contextmanager
    def fetched(self, found: Sequence[column_chunks.ColumnChunk]) -> Iterator[None]:
        """Fetch these column chunks, and keep them until the context ends."""
        with self.fetching(found) as arriving:
            arriving.wait_for_all()
            with self.decoding():
                yield

    @contextmanager
    def fetching(self, found: Sequence[column_chunks.ColumnChunk]) -> Iterator[ArrivingRanges]:
        """Start to fetch these column chunks, and keep them until the context ends. It ends after all have arrived."""
        added: list[Added] = []

        def take(start: int, data: bytes) -> None:
            if self._checksums is not None:
                self._checksums.check(start, data)
            added.append(self._file.add(start, data))

        spans = self._wanted(found)
        arriving = ArrivingRanges(spans, self._fetch(spans, take))
        try:
            yield arriving
            arriving.wait_for_all()
        finally:
            arriving.cancel()
            self._file.forget(added)

    def window(self, start: int, end: int) -> memoryview:
        """The bytes of a fetched range."""
        return self._file.window(start, end)

    def in_unit(self, unit: str) -> pq.ParquetFile:
        """A reader of the fetched ranges, with INT96 in this unit."""
        return self.with_unit(pa.PythonFile(self._file.again()), (), unit)

    def again(self, doubtful: Sequence[str] = ()) -> Any:
        """A reader of the fetched ranges, for one thread. The `doubtful` columns are read as dictionaries."""
        return self.opened(pa.PythonFile(self._file.again(), mode="r"), doubtful)

    def arriving(self) -> FileBytes:
        """Start to fetch the whole file, in parts of `PART_BYTES`."""
        sums, tail, start = self._checksums, self._tail, self._tail_start
        end = start
        if sums is not None:
            # The tail begins in the middle of a block, so that block is fetched again.
            end = sums.aligned(0, start)[1]
            sums.check(end, memoryview(tail)[end - start : sums.length - start])
        if not start:
            return FileBytes(tail)
        data = FileBytes(self._size)
        data.array[start:] = np.frombuffer(tail, dtype=np.uint8)

        def put(at: int, part: bytes) -> None:
            if sums is not None:
                sums.check(at, part)
            data.array[at : at + len(part)] = np.frombuffer(part, dtype=np.uint8)

        spans = [(at, min(at + PART_BYTES, end)) for at in range(0, end, PART_BYTES)]
        data.arrive(lambda some: self._fetch(some, put), spans)
        return data

    def chunks_of(self, groups: Sequence[int], fields: list[str] | None) -> list[column_chunks.ColumnChunk]:
        """The column chunks of these fields, or of all, in these row groups."""
        with self.decoding():
            paths = self._narrow[0] if self._narrow else self._shared.paths if self._shared else None
            return column_chunks.find(self, groups, fields, self._size, self._where, paths)

    def opened(self, source: Any, as_dictionaries: Sequence[str] = ()) -> Any:
        """A reader of `source` that reads each INT96 field in the unit that the field needs."""
        if self.int96:
            return int96.Int96File(lambda unit: self.with_unit(source, as_dictionaries, unit), self._fine)
        return self.with_unit(source, as_dictionaries, "us")

    def with_unit(self, source: Any, as_dictionaries: Sequence[str], unit: str) -> pq.ParquetFile:
        """A reader of `source` that reads INT96 in this unit."""
        return self._reader(source, self.metadata, as_dictionaries, unit)

    def _reader(
        self, source: Any, metadata: pq.FileMetaData | None, as_dictionaries: Sequence[str], unit: str
    ) -> pq.ParquetFile:
        make = self._shared.reader if self._shared and not self._narrow else pq.ParquetFile
        return make(
            source,
            metadata=metadata,
            # This affects only INT96 times, which have no unit.
            coerce_int96_timestamp_unit=unit,
            # All bytes are in memory, and reading ahead would use pyarrow's threads.
            pre_buffer=False,
            page_checksum_verification=self._checksums is None,
            read_dictionary=list(as_dictionaries),
        )

    def decoding(self) -> AbstractContextManager[None]:
        """A context for decoding stored bytes, which translates errors."""
        return decoding_parquet(self._where)

    def _wanted(self, found: Sequence[column_chunks.ColumnChunk]) -> list[Range]:
        """The ranges to fetch for these column chunks. Ranges within the tail are checked at once."""
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


def nothing_to_fetch(spans: Sequence[Range], _: Callable[[int, bytes], None]) -> "list[Future[None]]":
    """The `fetch` for a file that is completely in memory."""
    if spans:
        raise ValueError("the footer points to before the file")
    return []
