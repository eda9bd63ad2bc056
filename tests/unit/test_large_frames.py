"""Large frames are written and read in a faster way than small ones, with the same result."""

import errno
import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

from clinops_prefect import AccessDeniedError, ArtifactDecodeError, LocalPipelineStore, StorageFormat
from clinops_prefect.frames.conversion.layout import to_arrow
from clinops_prefect.frames.encoding import encode_frame
from clinops_prefect.frames.parquet import writer as parquet_writer
from clinops_prefect.frames.parquet.checksums import BLOCK_BYTES, ChecksummedSink
from clinops_prefect.frames.parquet.reader import ParquetReader
from clinops_prefect.storage.local.backend import LocalBackend

ROWS = 210_000


def _large() -> pd.DataFrame:
    """Every kind of column that polars' writer is used for, in more than one row group."""
    random = np.random.default_rng(7)
    missing = random.random(ROWS) < 0.6
    columns: dict[str, object] = {
        f"f{i}": np.where(missing, np.nan, random.standard_normal(ROWS).round(i % 6)) for i in range(24)
    }
    text = random.choice(["007", "", "ä", "long " * 60], ROWS)
    columns |= {
        "flag": random.random(ROWS) < 0.5,
        "i8": random.integers(-128, 127, ROWS, "int8"),
        "u64": random.integers(0, 2**64 - 1, ROWS, "uint64"),
        "f32": random.random(ROWS, "float32"),
        "text": pd.Series(text, dtype="str").where(~missing),
        "string": pd.Series(text, dtype="string").where(~missing),
        "object": pd.Series(text, dtype="object").where(~missing, None),
        "kind": pd.Categorical(np.where(missing, None, text), categories=["z", "007", "", "ä", "long " * 60]),
        "Int64": pd.Series(random.integers(0, 9, ROWS), dtype="Int64").mask(missing),
        "boolean": pd.Series(missing, dtype="boolean").mask(~missing),
        "at": pd.Series(pd.date_range("2110-01-01", periods=ROWS, freq="s").as_unit("us")).where(~missing),
        "zoned": pd.Series(pd.date_range("2110-01-01", periods=ROWS, freq="s", tz="America/St_Johns")),
        "offset": pd.Series(pd.date_range("2110-01-01", periods=ROWS, freq="s", tz="+05:30").as_unit("ms")),
        "delta": pd.Series(pd.to_timedelta(np.arange(ROWS), unit="s").astype("timedelta64[us]")).where(~missing),
        "g0": random.random(ROWS),
        "g1": random.random(ROWS),
    }
    frame = pd.DataFrame(columns)
    frame.index = pd.Index(np.arange(ROWS)[::-1] * 3, name="stay_id")
    frame.attrs = {"unit": "mmHg"}
    return frame


@pytest.fixture(scope="module")
def large() -> pd.DataFrame:
    return _large()


@pytest.fixture(scope="module")
def path(large: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    LocalPipelineStore(str(directory)).upload(large, "x", metadata={"a": "b"})
    return directory / "x.parquet"


def test_a_large_frame_comes_back_equal_in_each_way(large: pd.DataFrame, path: Path) -> None:
    file = pq.ParquetFile(path)
    assert file.metadata.created_by.startswith("Polars")
    assert file.num_row_groups > 1
    store = LocalPipelineStore(str(path.parent))
    found = store.download("x")
    pd.testing.assert_frame_equal(found, large, check_exact=True)
    assert found.attrs == large.attrs
    # Adjacent columns of one dtype are one block, as in a frame that pandas made.
    assert len(found._mgr.blocks) <= len(large._mgr.blocks) + 2
    pd.testing.assert_frame_equal(ParquetReader.of(path.read_bytes(), "x").frame(), large, check_exact=True)
    batches = pd.concat(store.iter_batches("x", rows=7_000))
    pd.testing.assert_frame_equal(batches, large, check_exact=True)
    assert store.stat("x").metadata == {"a": "b"}


def test_pandas_reads_a_large_artifact(large: pd.DataFrame, path: Path) -> None:
    plain = large.drop(columns=["object", "string", "kind", "offset"])
    found = pd.read_parquet(path)[list(plain.columns)]
    pd.testing.assert_frame_equal(found, plain, check_exact=True)


def test_selected_columns_and_rows_equal_those_of_the_whole(large: pd.DataFrame, path: Path) -> None:
    store = LocalPipelineStore(str(path.parent))
    columns = ["kind", "zoned", "f3", "text"]
    pd.testing.assert_frame_equal(store.download("x", columns=columns), large[columns])
    wanted = [("f3", ">", 1.0), ("text", "==", "007")]
    expected = large[(large["f3"] > 1.0) & (large["text"] == "007")]
    pd.testing.assert_frame_equal(store.download("x", filters=wanted), expected)


def test_a_flipped_bit_in_the_bytes_that_are_read_is_found(large: pd.DataFrame, path: Path, tmp_path: Path) -> None:
    """Polars writes no page checksums, so the block checksums must find the bit, also when a few columns are read."""
    data = bytearray(path.read_bytes())
    file = pq.ParquetFile(path)
    position = {name: i for i, name in enumerate(file.schema_arrow.names)}
    chunk = file.metadata.row_group(1).column(position["g1"])
    at = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[at] ^= 4
    (tmp_path / "x.parquet").write_bytes(data)
    store = LocalPipelineStore(str(tmp_path))
    for read in (
        lambda: store.download("x"),
        lambda: store.download("x", columns=["g1"]),
        lambda: list(store.iter_batches("x")),
        lambda: store.download("x", filters=[("g1", ">", 0.5)], columns=["f0"]),
    ):
        with pytest.raises(ArtifactDecodeError, match="checksum differs"):
            read()
    # A flipped bit in another column's bytes does not prevent this read.
    pd.testing.assert_frame_equal(store.download("x", columns=["f0"]), large[["f0"]])


def test_checksums_cover_every_byte_of_a_large_file(path: Path) -> None:
    data = path.read_bytes()
    random = np.random.default_rng(3)
    for at in [0, 3, BLOCK_BYTES - 1, BLOCK_BYTES, *random.integers(0, len(data), 60)]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(random.integers(8))
        with pytest.raises(ArtifactDecodeError):
            ParquetReader.of(bytes(damaged), "x").frame()


def encoders() -> set[threading.Thread]:
    """The encoder threads of the process, including those that other tests may have left."""
    return {thread for thread in threading.enumerate() if thread.name == "clinops-encode"}


def test_a_failed_upload_stops_the_writer(large: pd.DataFrame) -> None:
    table, before = to_arrow(large), encoders()
    chunks = parquet_writer.encode(table, table.schema)
    next(chunks)
    assert encoders() - before
    chunks.close()  # type: ignore[attr-defined]
    assert not encoders() - before


def test_a_failed_upload_whose_error_is_kept_stops_the_writer_too(
    large: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: LocalBackend, __: str, chunks: Iterator[bytes], *___: object) -> None:
        next(chunks)
        raise PermissionError(errno.EACCES, "not here")

    monkeypatch.setattr(LocalBackend, "_write", fail)
    before = encoders()
    with pytest.raises(AccessDeniedError) as kept:
        LocalPipelineStore(str(tmp_path)).upload(large, "x")
    assert kept.value.__traceback__ is not None
    assert not encoders() - before


def test_uploads_that_wait_for_the_network_do_not_block_other_uploads(tmp_path: Path) -> None:
    """Other uploads have begun and nobody takes their chunks. The last upload still finishes."""
    code = """if True:
        import numpy as np, pandas as pd, os
        from clinops_prefect.frames.parquet import writer as parquet_writer
        from clinops_prefect.frames.conversion.layout import to_arrow
        from clinops_prefect.frames.parquet.reader import ParquetReader
        frame = pd.DataFrame(np.random.default_rng(0).random((1_000_000, 4)), columns=list("abcd"))
        table = to_arrow(frame)
        waiting = [parquet_writer.encode(table, table.schema) for _ in range(os.cpu_count() + 2)]
        for chunks in waiting:
            next(chunks)
        whole = b"".join(parquet_writer.encode(table, table.schema))
        assert ParquetReader.of(whole, "x").frame().equals(frame)
        first = next(waiting[0]) + b"".join(waiting[0])
        waiting[1:] = []
        again = b"".join(parquet_writer.encode(table, table.schema))
        assert b"Polars" in again[-100_000:], "the turn was not given back"
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_forked_child_does_not_wait_for_threads_of_its_parent(tmp_path: Path) -> None:
    # This runs in a separate process, because this one has the threads of earlier tests.
    code = """if True:
        import multiprocessing, sys
        import numpy as np, pandas as pd
        from clinops_prefect import LocalPipelineStore
        store, frame = LocalPipelineStore(sys.argv[1]), pd.DataFrame(np.random.default_rng(0).random((3_000_000, 1)))
        store.upload(frame, "parent")
        assert "polars" in sys.modules
        child = multiprocessing.get_context("fork").Process(target=store.upload, args=(frame, "child"))
        child.start()
        child.join(240)
        child.kill()
        sys.exit(child.exitcode or not store.download("child").equals(frame))
    """
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    created_by = {path.stem: pq.ParquetFile(path).metadata.created_by for path in tmp_path.glob("*.parquet")}
    assert created_by["parent"].startswith("Polars")
    assert not created_by["child"].startswith("Polars")


def test_a_column_without_a_name_comes_back_without_a_name() -> None:
    frame = pd.DataFrame({"": np.random.default_rng(0).random(3_000_000)})
    table = to_arrow(frame)
    data = b"".join(parquet_writer.encode(table, table.schema))
    pd.testing.assert_frame_equal(ParquetReader.of(data, "x").frame(), frame)
    assert pd.read_parquet(io.BytesIO(data)).columns.tolist() == [""]


def test_a_large_polars_frame_is_written_by_polars_unless_another_upload_uses_it(tmp_path: Path) -> None:
    random, rows = np.random.default_rng(0), 300_000
    missing, nan = random.random(rows) < 0.3, random.random(rows) < 0.3
    frame = pl.DataFrame(
        {
            "stay_id": np.arange(rows),
            "value": np.where(nan, np.nan, random.normal(80, 15, rows)),
            "note": [f"{word} ü" for word in random.integers(0, 50_000, rows)],
            "at": pl.Series(np.arange(rows)).cast(pl.Datetime("us")).dt.replace_time_zone("America/New_York"),
        }
    ).with_columns(pl.when(~pl.Series(missing)).then(pl.col("value", "note")).otherwise(None))
    assert frame.estimated_size() < 32 << 20
    frame = pl.concat([frame, frame, frame[:7]], rechunk=False)
    store = LocalPipelineStore(str(tmp_path))
    store.upload(frame, "free", metadata={"study": "7"})
    with parquet_writer._turn:
        store.upload(frame, "busy", metadata={"study": "7"})
    created_by = {path.stem: pq.ParquetFile(path).metadata.created_by for path in tmp_path.glob("*.parquet")}
    assert created_by["free"].startswith("Polars")
    assert not created_by["busy"].startswith("Polars")
    for name in created_by:
        found = store.download(name, as_="polars")
        assert found.schema == frame.schema
        assert found.equals(frame)
        assert found["value"].is_nan().sum() == frame["value"].is_nan().sum()
        assert store.stat(name).metadata["study"] == "7"
        chosen = store.download(name, as_="polars", filters=[("value", ">", 100.0), ("note", "is not null")])
        assert (
            chosen.height
            == frame.filter((pl.col("value") > 100) & ~pl.col("value").is_nan() & pl.col("note").is_not_null()).height
        )
    pd.testing.assert_frame_equal(store.download("free"), store.download("busy"))


def test_a_large_frame_has_row_groups_that_fit_into_memory_beside_it(tmp_path: Path) -> None:
    store, values = LocalPipelineStore(str(tmp_path)), np.random.default_rng(0).normal(80, 15, (70_000, 160)).round(1)
    frame = pd.DataFrame(values, columns=[f"f{number}" for number in range(160)])
    store.upload(frame, "pandas")
    store.upload(pl.from_pandas(frame), "polars")
    written = {path.stem: pq.ParquetFile(path).metadata for path in tmp_path.glob("*.parquet")}
    assert written["pandas"].created_by.startswith("Polars")
    assert written["pandas"].num_row_groups == 4
    # Of a polars frame with few row groups, polars' writer would hold as much again.
    assert not written["polars"].created_by.startswith("Polars")


def test_a_footer_with_a_row_group_for_each_chunk_of_a_polars_frame_is_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Polars 1.30 ends a row group with each chunk."""
    for name, value in {
        "_POLARS_BYTES": 0,
        "_GROUPS_OF_POLARS_LEAST": 1,
        "_GROUP_ROWS": 9,
        "_GROUP_ROWS_LEAST": 2,
    }.items():
        monkeypatch.setattr(parquet_writer, name, value)
    kept: list[int] = []
    drain = ChecksummedSink.drain

    def noted(self: ChecksummedSink, keep: int = 0) -> list[bytes]:
        kept.append(keep)
        return drain(self, keep)

    monkeypatch.setattr(ChecksummedSink, "drain", noted)
    part = pl.DataFrame({"note": ["n" * 20_000] * 12})
    df = pl.concat([frame for _ in range(40) for frame in (part[:1], part)], rechunk=False)
    data = b"".join(encode_frame(df, StorageFormat.PARQUET, {}).chunks)
    assert min(kept) > 120 * 2 * 20_000  # 1, 9 and 3 rows, 40 times; each with its smallest and largest text
    assert pl.read_parquet(data).equals(df)
