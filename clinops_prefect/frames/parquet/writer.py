"""Writes Arrow tables as Parquet bytes with block checksums, and yields the bytes while it encodes.

There are two writers. Polars' writer uses all cores, and half the CPU time on a wide frame. pyarrow's writer accepts
every type, and a sequence of tables. Polars' writer is used only for tables whose types it is known to keep exactly
(the property tests read them all back).
"""

import base64
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinops_prefect.forks import in_child
from clinops_prefect.frames.parquet.checksums import CHECKSUMS_KEY, ChecksummedSink
from clinops_prefect.frames.parquet.writer_pipe import stream_of

if TYPE_CHECKING:
    import polars as pl

# The name of a compression, and its level.
_Codec = tuple[Literal["lz4", "zstd"], int | None]

# A filter can skip a row group, a writer holds a row group in memory, and reading a column takes one request per row
# group. 96 Ki rows of a narrow table take about 2 MB of Parquet. The rows of one stay may be in two row groups, which
# are 4 % of a table of 5M rows. 96 Ki wide rows would take a gigabyte, so the bytes are limited too. With half as many
# bytes, reading ten of a thousand columns would take twice as many requests.
_GROUP_ROWS = 98_304
_GROUP_ROWS_LEAST = 8_192
_GROUP_BYTES = 192 << 20
# Polars' writer holds a row group or two, so a table has at least four, unless they would be smaller than this.
_GROUPS_LEAST, _GROUP_BYTES_LEAST = 4, 16 << 20
# A polars frame of fewer row groups takes less memory when it is converted slice by slice and written by pyarrow.
_GROUPS_OF_POLARS_LEAST = 6
# The limit for a sequence of tables, where the next table needs memory as well.
_STREAMED_BYTES = 64 << 20
# Every reader of Parquet supports Zstandard; its higher levels gain nothing on measured values. With LZ4, a table of
# mostly floats is written in three quarters of the time and read faster, but is a quarter larger. Other tables would be
# two thirds larger with LZ4.
_ZSTD_LEVEL = 1
# Below this size, importing Polars and waking its threads costs more than it saves.
_POLARS_BYTES = 16 << 20
# Below this size, a table is encoded in the least time: sending it takes longer than Zstandard would save.
_SMALL_BYTES = 256 << 10
# The number of values sampled to tell a measured column (few distinct values: dictionary) from a computed one (byte
# stream split).
_SAMPLE = 2_000
# Columns of units, labels or codes have fewer distinct texts. Each row group stores a dictionary of all of them.
_MOST_WORDS = 1_000
_SLICE_ROWS = 500_000

# Polars writes in its compute threads, one per core. On two cores, two uploads that wait for the network would block
# all other work of Polars in the process, even an upload whose network is ready. So only one upload at a time uses
# Polars' writer. Uploads at the same time, which share the cores in any case, use pyarrow's.
_turn = threading.Lock()
_FEWEST_THREADS = 2
# A forked child of a process that used Polars inherits Polars' locks, but not its threads, so it would wait for ever.
_forked_with_polars = False


def is_a_group(tables: list[pa.Table]) -> bool:
    """Whether these tables are large enough for a row group."""
    rows, held = (sum(getattr(table, of) for table in tables) for of in ("num_rows", "nbytes"))
    return bool(rows >= _GROUP_ROWS or (rows >= _GROUP_ROWS_LEAST and held >= _STREAMED_BYTES))


def encode(table: pa.Table, schema: pa.Schema) -> Iterator[bytes]:
    """Yield one table as Parquet bytes.

    Args:
        table: The table.
        schema: The table's schema, with all metadata for the file.
    """
    if table.nbytes >= _POLARS_BYTES and _polars_keeps(schema):
        return _in_turn(lambda: _table_with_polars(table, _marked(schema)), lambda: encode_each([table], schema, table))
    if table.nbytes < _SMALL_BYTES:
        return _small(table, _marked(schema))
    return encode_each([table], schema, table)


def takes_polars(frame: "pl.DataFrame", schema: pa.Schema) -> bool:
    """Whether `encode_polars` takes this polars frame, which is stored with this schema."""
    held = int(frame.estimated_size())
    groups = -(-frame.height // _group_rows(frame.height, held))
    return held >= _POLARS_BYTES and groups >= _GROUPS_OF_POLARS_LEAST and _polars_keeps(schema)


def encode_polars(
    frame: "pl.DataFrame", schema: pa.Schema, otherwise: Callable[[], Iterator[bytes]]
) -> Iterator[bytes]:
    """Yield a polars frame as Parquet bytes, without converting it to Arrow.

    Args:
        frame: A frame that `takes_polars`.
        schema: Its stored schema, with all metadata for the file.
        otherwise: Yields the same frame as Parquet bytes. It is called if another upload uses Polars' writer.
    """
    return _in_turn(lambda: _frame_with_polars(frame, _marked(schema)), otherwise)


def encode_each(tables: Iterable[pa.Table], schema: pa.Schema, sample: pa.Table) -> Iterator[bytes]:
    """Yield tables as one Parquet file. Each table gets its own row groups.

    Args:
        tables: Tables of `schema`.
        schema: The schema, with all metadata for the file.
        sample: The first table, by which the encodings are chosen.
    """
    sink = ChecksummedSink()
    schema = _marked(schema)
    streams = _computed_floats(sample)
    del sample
    writer = pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=_ZSTD_LEVEL,
        use_dictionary=[name for name in schema.names if name not in streams] if streams else True,
        column_encoding=dict.fromkeys(streams, "BYTE_STREAM_SPLIT") or None,
        store_schema=True,
    )
    try:
        for table in tables:
            # Skip empty tables: pyarrow would write an empty row group for each, and a file needs none.
            if table.num_rows:
                writer.write_table(
                    table.replace_schema_metadata(schema.metadata),
                    row_group_size=_group_rows(table.num_rows, table.nbytes),
                )
            # Release the table before the next one is made.
            del table
            yield from sink.drain()
    finally:
        writer.close()
    yield from sink.finish()


def _small(table: pa.Table, schema: pa.Schema) -> Iterator[bytes]:
    # In Arrow's memory: a file of Python's takes the GIL for each of the small chunks that a writer writes, which under
    # many threads is most of the time.
    written = pa.BufferOutputStream()
    floats = [field.name for field in schema if pa.types.is_float32(field.type) or pa.types.is_float64(field.type)]
    with pq.ParquetWriter(
        written,
        schema,
        compression="lz4",
        use_dictionary=[name for name in schema.names if name not in floats] if floats else True,
        column_encoding=dict.fromkeys(floats, "BYTE_STREAM_SPLIT") or None,
        store_schema=True,
    ) as writer:
        if table.num_rows:
            writer.write_table(
                table.replace_schema_metadata(schema.metadata), row_group_size=_group_rows(table.num_rows, table.nbytes)
            )
    sink = ChecksummedSink()
    sink.write(written.getvalue().to_pybytes())
    yield from sink.finish()


def _in_turn(with_polars: Callable[[], Iterator[bytes]], otherwise: Callable[[], Iterator[bytes]]) -> Iterator[bytes]:
    import polars as pl  # imported only here, since importing takes half as long as pandas and few calls need it

    if pl.thread_pool_size() < _FEWEST_THREADS or not _turn.acquire(blocking=False):
        yield from otherwise()
        return
    try:
        yield from with_polars()
    finally:
        _turn.release()


def _group_rows(rows: int, held: int, most_bytes: int = _GROUP_BYTES) -> int:
    """The number of rows of a row group, so that all row groups have about the same size.

    Args:
        rows: The number of rows of the table.
        held: The table's memory in bytes.
        most_bytes: About the most bytes of a row group in memory.
    """
    by_bytes = most_bytes * rows // max(1, held)
    most = max(_GROUP_ROWS_LEAST, min(_GROUP_ROWS, by_bytes))
    groups = max(1, round(rows / most))
    return max(1, -(-rows // groups))


def _table_with_polars(table: pa.Table, schema: pa.Schema) -> Iterator[bytes]:
    import polars as pl

    # Polars does not know time zones with a fixed offset. Parquet stores UTC in any case, and the schema has the zone.
    in_utc = _with_dictionaries(table.cast(pa.schema([_in_utc(field) for field in table.schema])))
    longest = {field.name: _longest_text(in_utc.column(field.name)) for field in in_utc.schema}
    floats = sum(column.nbytes for column in table.columns if pa.types.is_floating(column.type))
    held, chunks = [in_utc], max((column.num_chunks for column in in_utc.columns), default=0)
    del in_utc

    def frame() -> "pl.DataFrame":
        # Release the Arrow table at once, because Polars makes its own copy of the dictionaries.
        made = pl.from_arrow(held.pop(), rechunk=False)
        assert isinstance(made, pl.DataFrame)
        return made

    most_bytes = max(_GROUP_BYTES_LEAST, min(_GROUP_BYTES, table.nbytes // _GROUPS_LEAST))
    rows = _group_rows(table.num_rows, table.nbytes, most_bytes)
    most_groups = -(-table.num_rows // rows) + chunks
    yield from _written(frame, schema, rows, _codec(floats, table.nbytes), _footer(longest, most_groups))


def _frame_with_polars(frame: "pl.DataFrame", schema: pa.Schema) -> Iterator[bytes]:
    import polars as pl

    longest, floats, held = {}, 0, int(frame.estimated_size())
    for column in frame.iter_columns():
        text_bytes = column.str.len_bytes() if column.dtype == pl.String else None
        longest[column.name] = 0 if text_bytes is None else cast("int", text_bytes.max() or 0)
        floats += int(column.estimated_size()) if column.dtype.is_float() else 0
    rows = _group_rows(frame.height, held)
    # Old versions of Polars end a row group with each chunk of the columns.
    most_groups = -(-frame.height // rows) + max(frame.n_chunks("all"))
    yield from _written(lambda: frame, schema, rows, _codec(floats, held), _footer(longest, most_groups))


def _written(
    frame: "Callable[[], pl.DataFrame]", schema: pa.Schema, rows: int, codec: _Codec, footer: int
) -> Iterator[bytes]:
    sink = ChecksummedSink()
    # Polars drops the metadata of a table. We add what pyarrow's writer would have added, for pyarrow and pandas.
    metadata = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    metadata["ARROW:schema"] = base64.b64encode(schema.serialize().to_pybytes()).decode()
    footer += sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())

    def write(file: IO[bytes]) -> None:
        frame().write_parquet(
            file,
            compression=codec[0],
            compression_level=codec[1],
            row_group_size=rows,
            metadata=metadata,
        )

    for chunk in stream_of(write):
        sink.write(chunk)
        yield from sink.drain(keep=footer)
    yield from sink.finish()


def _codec(floats: int, held: int) -> _Codec:
    return ("lz4", None) if floats > held / 2 else ("zstd", _ZSTD_LEVEL)


def _with_dictionaries(table: pa.Table) -> pa.Table:
    """The same values, with repeated texts as dictionaries, which the file uses for them in any case.

    Otherwise Polars would first hold a view of 16 bytes for each text. With five columns of 5M rows, these views would
    be half of the memory that it uses.
    """
    for position, field in enumerate(table.schema):
        if _is_text(field.type) and (encoded := _dictionaries(table.column(position))):
            table = table.set_column(position, field.name, encoded)
    return table


def _dictionaries(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The texts as dictionaries; None if there are too many distinct texts."""
    sample = np.linspace(0, len(texts) - 1, min(len(texts), _SAMPLE), dtype=np.int64)
    if pc.count_distinct(texts.take(sample)).as_py() > _MOST_WORDS:
        return None
    with ThreadPoolExecutor(pa.cpu_count(), thread_name_prefix="clinops-encode") as workers:
        encoded = list(workers.map(pa.ChunkedArray.dictionary_encode, _slices(texts)))
    chunks = [chunk for slice in encoded for chunk in slice.chunks]
    if max((len(chunk.dictionary) for chunk in chunks), default=0) > _MOST_WORDS:
        return None
    return pa.chunked_array(chunks, type=pa.dictionary(pa.int32(), texts.type))


def _longest_text(column: pa.ChunkedArray) -> int:
    """The number of bytes of the longest text in the column; 0 if it has no texts."""
    texts: list[Any] = []
    if _is_text(column.type):
        texts = _slices(column)
    elif pa.types.is_dictionary(column.type):
        texts = [chunk.dictionary for chunk in column.chunks]
    return max((pc.max(pc.binary_length(some)).as_py() or 0 for some in texts), default=0)


def _footer(longest: dict[str, int], most_groups: int) -> int:
    """An upper bound of the footer's size in bytes, without metadata. The sink holds these bytes back until the end.

    Args:
        longest: Column -> the number of bytes of its longest text.
        most_groups: The most row groups that the file may have.
    """
    # The statistics have the smallest and the largest value, each twice. The rest takes about 100 bytes.
    each = sum(2 * len(name.encode()) + 4 * text + 512 for name, text in longest.items())
    return (most_groups + 1) * each + 4096


def _slices(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    return [column.slice(begin, _SLICE_ROWS) for begin in range(0, len(column), _SLICE_ROWS)]


def _marked(schema: pa.Schema) -> pa.Schema:
    return schema.with_metadata({**(schema.metadata or {}), CHECKSUMS_KEY: b"2"})


def _polars_keeps(schema: pa.Schema) -> bool:
    # Polars would give a name to a column without one.
    return not _forked_with_polars and all(field.name and _kept(field.type) for field in schema)


def _kept(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return bool(kind.unit != "s")
    is_number = pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    return bool(is_number or pa.types.is_boolean(kind)) or _is_text(kind)


def _in_utc(field: pa.Field) -> pa.Field:
    is_zoned = pa.types.is_timestamp(field.type) and field.type.tz
    return field.with_type(pa.timestamp(field.type.unit, "UTC")) if is_zoned else field


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _computed_floats(sample: pa.Table) -> set[str]:
    """The float columns whose values rarely repeat. Byte stream split compresses these faster and better."""
    found = set()
    for field in sample.schema:
        if pa.types.is_float32(field.type) or pa.types.is_float64(field.type):
            values = sample.column(field.name).slice(0, _SAMPLE).drop_null()
            if len(values) and pc.count_distinct(values).as_py() > len(values) / 2:
                found.add(field.name)
    return found


def _forked() -> None:
    global _forked_with_polars
    _forked_with_polars = "polars" in sys.modules


in_child(_forked)
