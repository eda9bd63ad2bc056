"""The block checksums inside a Parquet file."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactDecodeError, LocalPipelineStore
from clinops_prefect.frames.conversion.layout import to_arrow
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.frames.parquet.checksums import BLOCK_BYTES, CHECKSUMS_KEY
from clinops_prefect.frames.parquet.reader import ParquetReader

FRAME = pd.DataFrame({"a": range(50), "b": ["007", "x"] * 25})


def _checksummed(frame: pd.DataFrame = FRAME) -> bytes:
    table = to_arrow(frame)
    return b"".join(parquet_writer.encode(table, table.schema))


def test_the_block_checksums_are_where_the_documentation_says_and_are_right() -> None:
    data = _checksummed(pd.DataFrame({"a": np.random.default_rng(1).random(5_000)}))
    footer = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
    length, of_table, of_footer, magic = struct.unpack("<QII4s", data[footer - 20 : footer])
    assert magic == b"CPS2"
    assert of_footer == zlib.crc32(data[footer:])
    assert of_table == zlib.crc32(data[length : footer - 20])
    blocks = [data[at : min(at + BLOCK_BYTES, length)] for at in range(0, length, BLOCK_BYTES)]
    assert len(blocks) > 4
    assert data[length : footer - 20] == struct.pack(f"<{len(blocks)}I", *map(zlib.crc32, blocks))


def test_other_readers_do_not_see_the_block_checksums() -> None:
    data = _checksummed()
    assert CHECKSUMS_KEY in pq.read_schema(io.BytesIO(data)).metadata
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(data)), FRAME)


def test_every_flipped_bit_of_a_whole_file_is_found() -> None:
    data = _checksummed()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        with pytest.raises(ArtifactDecodeError):
            ParquetReader.of(bytes(damaged), "x").frame()


def test_a_file_without_block_checksums_is_read_and_one_that_lost_them_is_not() -> None:
    table = pa.table({"a": [1, 2]})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    assert ParquetReader.of(sink.getvalue(), "x").frame()["a"].tolist() == [1, 2]
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({CHECKSUMS_KEY: b"1"}), sink)
    with pytest.raises(ArtifactDecodeError):
        ParquetReader.of(sink.getvalue(), "x").frame()


def test_a_file_that_pyarrow_wrote_again_with_our_notes_is_refused_with_what_helps(tmp_path: Path) -> None:
    """The notes no longer fit an edited table, so it is not read as ours."""
    store = LocalPipelineStore(tmp_path)
    store.upload(FRAME, "x")
    edited = pq.read_table(tmp_path / "x.parquet").slice(10)
    pq.write_table(edited, tmp_path / "x.parquet")
    with pytest.raises(ArtifactDecodeError, match=r"another program that kept its notes.*replace_schema_metadata"):
        store.download("x")
    pq.write_table(edited.replace_schema_metadata(), tmp_path / "x.parquet")
    assert store.download("x")["a"].tolist() == list(range(10, 50))
