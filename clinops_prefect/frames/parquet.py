"""Arrow tables <-> Parquet bytes: written a row group at a time, read whole or by the ranges that are needed."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from clinops_prefect.frames import chunks, seal
from clinops_prefect.frames.decoding import decoding

# A row group is what a filter can skip and what a writer holds in memory. 128 Ki rows of a narrow table are some 3 MB
# of Parquet, 2.6 % of a 5M-row table; a wide row would make that a gigabyte, so bytes bound it too, down to 16 Ki rows.
_GROUP_ROWS = 131_072
_GROUP_ROWS_LEAST = 16_384
_GROUP_BYTES = 64 << 20
# The end of the file is fetched first, blind: enough for the footer of nearly every artifact.
TAIL_BYTES = 128 << 10
# The same for `stat`, of which a flow may do thousands.
STAT_BYTES = 32 << 10
# A hole smaller than this costs less to read than a request of its own.
_HOLE_BYTES = 32 << 10
# Values looked at to tell a measured column (few distinct values: dictionary) from a computed one (byte streams).
_SAMPLE = 2_000

Fetch = Callable[[Sequence[tuple[int, int]]], list[bytes]]


def group_rows(table: pa.Table) -> int:
    """How many rows of tables like this one make a row group."""
    if not table.num_rows:
        return _GROUP_ROWS
    by_bytes: int = _GROUP_BYTES * table.num_rows // max(1, table.nbytes)
    return max(_GROUP_ROWS_LEAST, min(_GROUP_ROWS, by_bytes))


def encode(tables: Iterable[pa.Table], schema: pa.Schema, sample: pa.Table) -> Iterator[bytes]:
    """Parquet, sealed, in pieces; each table is written in row groups of its own.

    Args:
        tables: Tables of `schema`.
        schema: With all metadata that the file is to carry.
        sample: The first table, to choose encodings by.
    """
    schema = schema.with_metadata({**(schema.metadata or {}), seal.SEAL_KEY: b"1"})
    sink = seal.SealingSink()
    streams = _computed_floats(sample)
    rows = group_rows(sample)
    writer = pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in schema.names if name not in streams] if streams else True,
        column_encoding=dict.fromkeys(streams, "BYTE_STREAM_SPLIT") or None,
        write_page_checksum=True,
        store_schema=True,
    )
    try:
        for table in tables:
            # An empty table still makes an empty row group, and one file without any is the same file.
            if table.num_rows:
                writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=rows)
            yield from sink.drain()
    finally:
        writer.close()
    yield from sink.finish()


def decode(data: bytes | bytearray | memoryview, where: str) -> pa.Table:
    """The table in a whole Parquet file.

    Raises:
        ArtifactDecodeError: It is damaged, or no Parquet.
    """
    view = memoryview(data)
    seal.footer_start(view[-8:], len(view), where)

    def opened(as_dictionaries: list[str]) -> pq.ParquetFile:
        source = pa.py_buffer(data)
        return pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=as_dictionaries)

    with _decoding(where):
        file = opened([])
        schema = file.schema_arrow
    seal.check_whole(data, schema, where)
    with _decoding(where):
        groups = range(file.num_row_groups)
        found = chunks.find(file, groups, None, len(view), where)
        texts = chunks.doubtful_texts(schema, found, lambda start, end: view[start:end], where)
        return chunks.read(opened(texts) if texts else file, schema, groups, None, where)


class RangedParquet:
    """A Parquet file of which only the needed bytes are fetched.

    Args:
        fetch: Gets `(start, end)` ranges of the file, at once, in the order asked.
        tail: The last bytes of the file.
        size: The length of the file in bytes.
        where: The URI, for errors.
    """

    def __init__(self, fetch: Fetch, tail: bytes, size: int, where: str) -> None:
        self._fetch = fetch
        self._where = where
        start = seal.footer_start(tail, size, where)
        tail_start = size - len(tail)
        if (wanted := max(0, start - seal.SEAL_BYTES)) < tail_start:
            tail = fetch([(wanted, tail_start)])[0] + tail
            tail_start = wanted
        self._file = _SparseFile(size, fetch)
        self._file.add(tail_start, tail)
        self._size = size
        with _decoding(where):
            self._parquet = self._opened([])
            self.schema: pa.Schema = self._parquet.schema_arrow
        seal.check_footer(tail, start - tail_start, self.schema, where)
        self.rows: int = self._parquet.metadata.num_rows

    def groups(self, expression: pc.Expression | None) -> list[int]:
        """The row groups that may hold rows of `expression`, judged by the statistics in the footer."""
        if expression is None:
            return list(range(self._parquet.num_row_groups))
        with _decoding(self._where):
            fragment = ds.ParquetFileFormat().make_fragment(pa.PythonFile(self._file, mode="r"))
            return [info.id for info in fragment.subset(expression, schema=self.schema).row_groups]

    def read(self, groups: Sequence[int], fields: Sequence[str]) -> pa.Table:
        """These fields of these row groups.

        Raises:
            ArtifactDecodeError: The pages are damaged.
        """
        with _decoding(self._where):
            found = chunks.find(self._parquet, groups, list(fields), self._size, self._where)
        ranges = _coalesced([chunk.range for chunk in found])
        for (start, _), data in zip(ranges, self._fetch(ranges), strict=True):
            self._file.add(start, data)
        try:
            with _decoding(self._where):
                texts = chunks.doubtful_texts(self.schema, found, self._file.window, self._where)
                file = self._opened(texts) if texts else self._parquet
                return chunks.read(file, self.schema, groups, list(fields), self._where)
        finally:
            self._file.forget(ranges)

    def _opened(self, as_dictionaries: list[str]) -> pq.ParquetFile:
        source = pa.PythonFile(self._file, mode="r")
        return pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=as_dictionaries)


class _SparseFile(io.RawIOBase):
    """A file of which some ranges are in memory; the others are fetched when they are read after all."""

    def __init__(self, size: int, fetch: Fetch) -> None:
        self._size = size
        self._fetch = fetch
        self._position = 0
        self._parts: dict[int, bytes] = {}

    def add(self, start: int, data: bytes) -> None:
        self._parts[start] = data

    def forget(self, ranges: Sequence[tuple[int, int]]) -> None:
        for start, _ in ranges:
            self._parts.pop(start, None)

    def window(self, start: int, end: int) -> memoryview:
        self._position = start
        return memoryview(self.read(end - start))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._position + size)
        start, self._position = self._position, max(self._position, end)
        for first, data in self._parts.items():
            if first <= start and end <= first + len(data):
                return data[start - first : end - first]
        return self._fetch([(start, end)])[0] if start < end else b""


def _coalesced(wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for start, end in sorted(wanted):
        if ranges and start - ranges[-1][1] <= _HOLE_BYTES:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges


def _computed_floats(sample: pa.Table) -> set[str]:
    """The float columns whose values hardly repeat: byte streams compress these faster and better."""
    found = set()
    for field in sample.schema:
        if pa.types.is_float32(field.type) or pa.types.is_float64(field.type):
            values = sample.column(field.name).slice(0, _SAMPLE).drop_null()
            if len(values) and pc.count_distinct(values).as_py() > len(values) / 2:
                found.add(field.name)
    return found


def _decoding(where: str) -> AbstractContextManager[None]:
    return decoding(f"{where} cannot be read as Parquet: damaged, or not Parquet", where)
