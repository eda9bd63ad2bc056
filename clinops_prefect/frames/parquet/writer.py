"""Arrow tables -> Parquet bytes with block checksums, handed on while they are encoded.

Two writers make the same file. Polars' uses all cores, and half the processor time on a wide frame; pyarrow's takes
every type, and tables that come one by one. Polars' is used for the types that it was seen to keep exactly (the
property tests read them all back); a table with any other type goes to pyarrow's.
"""

import base64
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinops_prefect.forks import in_child
from clinops_prefect.frames.parquet.checksums import CHECKSUMS_KEY, ChecksummedSink
from clinops_prefect.frames.parquet.writer_pipe import stream_of

# A row group is what a filter can skip, what a writer holds in memory, and what a column of it takes a request for.
# 96 Ki rows of a narrow table are some 2 MB of Parquet, and the rows of one stay may be in two groups: 4 % of a table
# of 5M rows. Of wide rows they would be a gigabyte, so bytes bound it too. Half as many bytes make ten of a thousand
# columns take twice as many requests.
_GROUP_ROWS = 98_304
_GROUP_ROWS_LEAST = 8_192
_GROUP_BYTES = 192 << 20
# Of tables that come one by one, the next of which needs memory as well.
_STREAMED_BYTES = 64 << 20
# Zstandard, whose higher levels gain nothing on measured values; every reader of Parquet has it. A table that is mostly
# floats is written in three quarters of the time, and read faster, with LZ4, and is a quarter larger; anything else
# would be two thirds larger.
_ZSTD_LEVEL = 1
# Below this, importing Polars and waking its threads costs more than it saves.
_POLARS_BYTES = 16 << 20
# Values looked at to tell a measured column (few distinct values: dictionary) from a computed one (byte streams).
_SAMPLE = 2_000
# Units, labels and codes have fewer words than that; each row group has a dictionary of all of them.
_MOST_WORDS = 1_000
_SLICE_ROWS = 500_000

# Polars writes in the threads that it computes in, one for each core. Two uploads that wait for their network would
# hold up all that Polars does in a process of two: the rest of a third upload, too, whose network is ready. So one has
# it at a time; others, which come at the same time and share the cores in any case, take pyarrow's writer.
_turn = threading.Lock()
_FEWEST_THREADS = 2
# A forked child of a process that used Polars has its locks and not its threads: it would wait for ever.
_forked_with_polars = False


def is_a_group(tables: list[pa.Table]) -> bool:
    """Whether these are enough for a row group."""
    rows, held = (sum(getattr(table, of) for table in tables) for of in ("num_rows", "nbytes"))
    return bool(rows >= _GROUP_ROWS or (rows >= _GROUP_ROWS_LEAST and held >= _STREAMED_BYTES))


def encode(table: pa.Table, schema: pa.Schema) -> Iterator[bytes]:
    """One table as Parquet.

    Args:
        table: The table.
        schema: Its schema, with all metadata that the file is to carry.
    """
    if table.nbytes >= _POLARS_BYTES and _polars_keeps(schema):
        return _in_turn(table, schema)
    return encode_each([table], schema, table)


def encode_each(tables: Iterable[pa.Table], schema: pa.Schema, sample: pa.Table) -> Iterator[bytes]:
    """Tables as one Parquet file; each is written in row groups of its own.

    Args:
        tables: Tables of `schema`.
        schema: With all metadata that the file is to carry.
        sample: The first table, to choose encodings by.
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
            # An empty table still makes an empty row group, and one file without any is the same file.
            if table.num_rows:
                writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=_group_rows(table))
            # Release the table before the next one is made.
            del table
            yield from sink.drain()
    finally:
        writer.close()
    yield from sink.finish()


def _in_turn(table: pa.Table, schema: pa.Schema) -> Iterator[bytes]:
    import polars as pl  # half as long to import as pandas; only here, for those who never come here

    if pl.thread_pool_size() < _FEWEST_THREADS or not _turn.acquire(blocking=False):
        yield from encode_each([table], schema, table)
        return
    try:
        yield from _with_polars(table, _marked(schema))
    finally:
        _turn.release()


def _group_rows(table: pa.Table) -> int:
    """How many rows of the table make a row group, all of which are about as large."""
    rows = int(table.num_rows)
    by_bytes = _GROUP_BYTES * rows // max(1, int(table.nbytes))
    most = max(_GROUP_ROWS_LEAST, min(_GROUP_ROWS, by_bytes))
    groups = max(1, round(rows / most))
    return max(1, -(-rows // groups))


def _with_polars(table: pa.Table, schema: pa.Schema) -> Iterator[bytes]:
    import polars as pl

    sink = ChecksummedSink()
    rows = _group_rows(table)
    # Polars knows no fixed offsets. Parquet keeps UTC in any case; the zone is in the schema.
    in_utc = _with_dictionaries(table.cast(pa.schema([_in_utc(field) for field in table.schema])))
    # Polars keeps no metadata of a table. With these, pyarrow and pandas find what their own writer would have left.
    metadata = {key.decode(): value.decode() for key, value in schema.metadata.items()}
    metadata["ARROW:schema"] = base64.b64encode(schema.serialize().to_pybytes()).decode()
    footer = _most_footer_bytes(in_utc, -(-table.num_rows // rows), metadata)
    codec, level = _codec(table)
    held = [in_utc]
    del in_utc

    def write(file: IO[bytes]) -> None:
        # Not kept beside the frame, which has other dictionaries than Arrow's.
        frame = pl.from_arrow(held.pop(), rechunk=False)
        assert isinstance(frame, pl.DataFrame)
        frame.write_parquet(
            file,
            compression=codec,
            compression_level=level,
            row_group_size=rows,
            metadata=metadata,
        )

    for piece in stream_of(write):
        sink.write(piece)
        yield from sink.drain(keep=footer)
    yield from sink.finish()


def _codec(table: pa.Table) -> tuple[Literal["lz4", "zstd"], int | None]:
    floats = sum(column.nbytes for column in table.columns if pa.types.is_floating(column.type))
    return ("lz4", None) if floats > table.nbytes / 2 else ("zstd", _ZSTD_LEVEL)


def _with_dictionaries(table: pa.Table) -> pa.Table:
    """The same values; texts that repeat as dictionaries, which they become in the file in any case.

    Polars would hold a view of 16 bytes of each text first: on 5M rows of five columns, half of all memory it takes.
    """
    for position, field in enumerate(table.schema):
        if _is_text(field.type) and (encoded := _dictionaries(table.column(position))):
            table = table.set_column(position, field.name, encoded)
    return table


def _dictionaries(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The texts as dictionaries of a few words; None if they are too many."""
    sample = np.linspace(0, len(texts) - 1, min(len(texts), _SAMPLE), dtype=np.int64)
    if pc.count_distinct(texts.take(sample)).as_py() > _MOST_WORDS:
        return None
    with ThreadPoolExecutor(pa.cpu_count(), thread_name_prefix="clinops-encode") as workers:
        encoded = list(workers.map(pa.ChunkedArray.dictionary_encode, _slices(texts)))
    chunks = [chunk for slice in encoded for chunk in slice.chunks]
    if max((len(chunk.dictionary) for chunk in chunks), default=0) > _MOST_WORDS:
        return None
    return pa.chunked_array(chunks, type=pa.dictionary(pa.int32(), texts.type))


def _most_footer_bytes(table: pa.Table, groups: int, metadata: dict[str, str]) -> int:
    """More than the footer takes: these bytes are held back until the end is known."""
    total = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    for field in table.schema:
        texts: list[Any] = []
        if _is_text(field.type):
            texts = _slices(table.column(field.name))
        elif pa.types.is_dictionary(field.type):
            texts = [chunk.dictionary for chunk in table.column(field.name).chunks]
        longest = max((pc.max(pc.binary_length(some)).as_py() or 0 for some in texts), default=0)
        # The statistics have the least and the greatest value, each twice; the rest is some 100 bytes.
        total += (groups + 1) * (2 * len(field.name.encode()) + 4 * longest + 512)
    return total + 4096


def _slices(column: pa.ChunkedArray) -> list[pa.ChunkedArray]:
    return [column.slice(begin, _SLICE_ROWS) for begin in range(0, len(column), _SLICE_ROWS)]


def _marked(schema: pa.Schema) -> pa.Schema:
    return schema.with_metadata({**(schema.metadata or {}), CHECKSUMS_KEY: b"2"})


def _polars_keeps(schema: pa.Schema) -> bool:
    # A column without a name would get one.
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
    """The float columns whose values hardly repeat: byte streams compress these faster and better."""
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
