"""Frames are decoded in threads that end before the read returns. pyarrow's own threads never hold Python's memory.

pyarrow's threads release memory after a read has returned. Releasing Python's memory takes the GIL, and while the
interpreter shuts down this ends the process with SIGABRT, after the work is done.
"""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinops_prefect import LocalPipelineStore, StorageFormat
from clinops_prefect.artifacts import csv as csv_artifacts
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.parquet import column_chunks, parallel_decode
from clinops_prefect.frames.parquet import reader as parquet_reader
from clinops_prefect.frames.parquet.partial_file import PartialFile

ROWS = 150_000
VALUES = np.random.default_rng(7).random(ROWS)
FRAME = pd.DataFrame({"stay_id": np.arange(ROWS), "value": VALUES, "unit": ["mmHg", "bpm", None] * (ROWS // 3)})
WAYS: dict[str, Any] = {
    "download": lambda store: store.download("x"),
    "columns": lambda store: store.download("x", columns=["unit", "value"]),
    "filters": lambda store: store.download("x", filters=[("stay_id", "<", 70_000)]),
    "batches": lambda store: pd.concat(store.iter_batches("x", rows=40_000)),
    "one batch": lambda store: next(store.iter_batches("x", rows=40_000)),
    "stat": lambda store: store.stat("x"),
}


def _foreign_threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which every read by a thread that Python did not start is appended."""
    found: list[str] = []
    original = PartialFile.read

    def read(self: PartialFile, size: int = -1) -> bytes:
        if threading.get_ident() not in {thread.ident for thread in threading.enumerate()}:
            found.append(f"{size} bytes")
        return original(self, size)

    monkeypatch.setattr(PartialFile, "read", read)
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "another program's"])
@pytest.mark.parametrize("large", [0, 1 << 40], ids=["as large", "as small"])
def test_no_thread_of_pyarrow_reads_a_parquet_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, is_ours: bool, large: int
) -> None:
    store = LocalPipelineStore(str(tmp_path))
    if is_ours:
        store.upload(FRAME, "x")
    else:
        FRAME.to_parquet(tmp_path / "x.parquet", row_group_size=50_000)
    monkeypatch.setattr(parquet_reader, "_LARGE_BYTES", large)
    monkeypatch.setattr(parquet_reader, "TAIL_BYTES", 4 << 10)
    foreign = _foreign_threads(monkeypatch)
    original = pq.ParquetFile

    def opened(*args: Any, **settings: Any) -> pq.ParquetFile:
        assert not settings["pre_buffer"]
        file = original(*args, **settings)
        read = file.read_row_groups

        def read_row_groups(*args: Any, use_threads: bool = True, **settings: Any) -> pa.Table:
            assert not use_threads
            return read(*args, use_threads=use_threads, **settings)

        file.read_row_groups = read_row_groups
        return file

    monkeypatch.setattr(pq, "ParquetFile", opened)
    WAYS[way](store)
    assert foreign == []


@pytest.mark.parametrize("way", [way for way in WAYS if way != "stat"])
@pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "on disk"])
def test_no_thread_of_pyarrow_holds_pythons_memory_of_a_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, in_memory: bool
) -> None:
    store = LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV)
    store.upload(FRAME, "x")
    expected = WAYS[way](store)
    if not in_memory:
        monkeypatch.setattr(csv_artifacts, "_SPOOL_BYTES", 0)
    fetched: list[bytearray] = []
    whole = ObjectReader.whole
    monkeypatch.setattr(ObjectReader, "whole", lambda reader: fetched.append(bytearray(whole(reader))) or fetched[-1])
    sources: list[Any] = []

    class Csv:
        """`pyarrow.csv`, which records what it reads."""

        def __getattr__(self, name: str) -> Any:
            function = getattr(pa.csv, name)
            return (lambda *args: read(function, *args)) if name in ("read_csv", "open_csv") else function

    def read(function: Any, source: Any, *options: Any) -> Any:
        sources.append(source)
        for data in fetched:
            data.append(0)  # raises a BufferError if pyarrow has a view of it
            data.pop()
        return function(source, *options)

    monkeypatch.setattr(csv_text, "csv", Csv())
    pd.testing.assert_frame_equal(WAYS[way](store), expected)
    assert sources
    assert {type(source) for source in sources} <= {pa.Buffer, pa.BufferReader, pa.OSFile}


def test_reading_a_csv_in_batches_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No named file exists even while it is read: a nameless file disappears with the process."""
    store = LocalPipelineStore(str(tmp_path / "store"), format=StorageFormat.CSV)
    store.upload(FRAME, "x")
    monkeypatch.setattr(csv_artifacts, "_SPOOL_BYTES", 0)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    batches = store.iter_batches("x", rows=10)
    next(batches)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_filters_on_another_programs_csv_use_pyarrows_memory(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "x.csv", index=False)
    # In a separate process: pyarrow counts the memory of the whole process, and other tests leave and free some.
    code = """if True:
        import sys
        import pyarrow as pa
        from clinops_prefect import LocalPipelineStore
        from clinops_prefect.frames.selection.selection import Selection
        seen, original = [], Selection.apply
        Selection.apply = lambda self, table: seen.append(table) or original(self, table)
        store = LocalPipelineStore(sys.argv[1], format="csv")
        before = pa.total_allocated_bytes()
        store.download("x", filters=[("stay_id", "<", 70_000)])
        print(pa.total_allocated_bytes() - before, seen[0].nbytes)
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    allocated, needed = map(int, done.stdout.split())
    assert allocated >= needed


@given(rows=st.lists(st.integers(0, 400), min_size=1, max_size=6), data=st.data(), least=st.integers(1, 4000))
def test_decode_units_cover_every_field_of_every_row_once(rows: list[int], data: st.DataObject, least: int) -> None:
    sink = pa.BufferOutputStream()
    schema = pa.schema({"a": pa.int64(), "b": pa.string(), "c": pa.float32(), "d": pa.bool_()})
    with pq.ParquetWriter(sink, schema) as writer:
        for number, count in enumerate(rows):
            columns = [range(count), [f"{number}"] * count, [number / 2] * count, [True] * count]
            writer.write_table(
                pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
            )
    file = pq.ParquetFile(buffer := sink.getvalue())
    groups = data.draw(st.lists(st.sampled_from(range(file.num_row_groups)), unique=True).map(sorted))
    names = data.draw(st.none() | st.lists(st.sampled_from(schema.names), unique=True))
    found = column_chunks.find(file, groups, names, buffer.size, "x")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parallel_decode, "_LEAST_BYTES", least)
        patched.setattr(parallel_decode, "_MOST_BYTES", least)
        cut = parallel_decode.units_of(file.schema_arrow, file.metadata, found, groups, names)
    table = parallel_decode.table(cut, lambda: pq.ParquetFile(buffer), file.schema_arrow, names, "x")
    expected = file.read_row_groups(groups, columns=names)
    assert table.num_rows == expected.num_rows
    assert table.equals(expected if names is None else expected.select(names))
