"""Small frames are encoded and decoded by one thread at a time, and nothing can block for ever because of it."""

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import DataFrameSerializer, LocalPipelineStore
from clinops_prefect.frames import encoding, turns
from clinops_prefect.frames.conversion import frame_builder
from clinops_prefect.frames.parquet import writer
from clinops_prefect.frames.parquet.reader import ParquetReader
from clinops_prefect.storage.local.backend import LocalBackend

SMALL, LARGE = (
    pd.DataFrame(np.random.default_rng(0).normal(size=(rows, 8))).rename(columns=str) for rows in (9, 9_999)
)
# Its file is small.
EVEN = pd.DataFrame({"value": np.full(100_000, 1.25)})


def _locked_in(
    frame: pd.DataFrame, folder: Path, monkeypatch: pytest.MonkeyPatch, format: Literal["parquet", "csv"] = "parquet"
) -> dict[str, bool]:
    """Where the lock is held while a frame is uploaded and downloaded."""
    seen: dict[str, bool] = {}

    def noted(what: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*args: Any, **options: Any) -> Any:
            seen[what] = turns._lock.locked()
            return work(*args, **options)

        return noting

    monkeypatch.setattr(writer, "encode", noted("encode", writer.encode))
    monkeypatch.setattr(writer.ChecksummedSink, "finish", noted("last chunk", writer.ChecksummedSink.finish))
    monkeypatch.setattr(encoding, "_csv", noted("encode", encoding._csv))
    monkeypatch.setattr(ParquetReader, "frame", noted("decode", ParquetReader.frame))
    monkeypatch.setattr(frame_builder, "to_frame", noted("decode", frame_builder.to_frame))
    monkeypatch.setattr(LocalBackend, "write", noted("send", LocalBackend.write))
    monkeypatch.setattr(LocalBackend, "open", noted("fetch", LocalBackend.open))
    store = LocalPipelineStore(folder, format=format)
    store.upload(frame, "a")
    pd.testing.assert_frame_equal(store.download("a"), frame)
    return seen


def test_a_small_frame_is_encoded_and_decoded_in_a_turn_but_never_sent_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _locked_in(SMALL, tmp_path, monkeypatch)
    assert found == {"encode": True, "last chunk": True, "decode": True, "send": False, "fetch": False}
    assert not turns._lock.locked()


def test_a_small_csv_is_encoded_and_decoded_in_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _locked_in(SMALL, tmp_path, monkeypatch, "csv")
    assert found == {"encode": True, "decode": True, "send": False, "fetch": False}
    assert not turns._lock.locked()


@pytest.mark.parametrize(("frame", "is_turn"), [(SMALL, True), (LARGE, False), (EVEN, False)])
def test_a_result_is_in_a_turn_if_it_is_small(
    frame: pd.DataFrame, is_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = ParquetReader.frame
    monkeypatch.setattr(ParquetReader, "frame", lambda reader: seen.append(turns._lock.locked()) or real(reader))
    serializer = DataFrameSerializer()
    pd.testing.assert_frame_equal(serializer.loads(serializer.dumps(frame)), frame)
    assert seen == [is_turn]
    assert not turns._lock.locked()


@pytest.mark.parametrize(("frame", "format"), [(LARGE, "parquet"), (EVEN, "parquet"), (LARGE, "csv")])
def test_large_frames_take_no_turns(
    frame: pd.DataFrame, format: Literal["parquet", "csv"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _locked_in(frame, tmp_path, monkeypatch, format)
    assert {"encode", "decode"} <= set(found)
    assert not any(found.values())


def test_the_second_thread_waits_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 600)
    order: list[str] = []

    def second() -> None:
        with turns.turn(1):
            order.append("second")

    with turns.turn(1):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_turn_within_a_turn_goes_on(tmp_path: Path) -> None:
    store = LocalPipelineStore(tmp_path)
    with turns.turn(1):
        store.upload(SMALL, "a")
        pd.testing.assert_frame_equal(store.download("a"), SMALL)
        assert turns._lock.locked()
    assert not turns._lock.locked()


def test_a_failure_ends_the_turn() -> None:
    with pytest.raises(ValueError, match="damaged"), turns.turn(1):
        raise ValueError("damaged")
    assert not turns._lock.locked()


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="forks only where POSIX is")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_threads() -> None:
    def child() -> None:
        sys.exit(int(turns._lock.locked()))

    with turns.turn(1):
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
    assert process.exitcode == 0
