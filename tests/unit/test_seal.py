"""The checksum inside a Parquet file."""

import io
import struct
import zlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactDecodeError
from clinops_prefect.frames import parquet
from clinops_prefect.frames.layout import to_arrow, to_frame
from clinops_prefect.frames.seal import SEAL_BYTES, SEAL_KEY

FRAME = pd.DataFrame({"a": range(50), "b": ["007", "x"] * 25})


def _sealed() -> bytes:
    table = to_arrow(FRAME)
    return b"".join(parquet.encode([table], table.schema, table))


def test_the_seal_is_where_it_is_documented_and_what_it_says_is_true() -> None:
    data = _sealed()
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    magic, before, after = struct.unpack("<4sII", data[footer - SEAL_BYTES : footer])
    assert magic == b"CPS1"
    assert before == zlib.crc32(data[: footer - SEAL_BYTES])
    assert after == zlib.crc32(data[footer:])


def test_other_readers_do_not_see_it() -> None:
    data = _sealed()
    assert SEAL_KEY in pq.read_schema(io.BytesIO(data)).metadata
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(data)), FRAME)


def test_every_flipped_bit_of_a_whole_file_is_found() -> None:
    data = _sealed()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(ArtifactDecodeError):
            parquet.decode(damaged, "x")


def test_a_file_without_a_seal_is_read_and_one_that_lost_it_is_not() -> None:
    table = pa.table({"a": [1, 2]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert to_frame(parquet.decode(sink.getvalue(), "x"))["a"].tolist() == [1, 2]
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({SEAL_KEY: b"1"}), sink)
    with pytest.raises(ArtifactDecodeError):
        parquet.decode(sink.getvalue(), "x")
