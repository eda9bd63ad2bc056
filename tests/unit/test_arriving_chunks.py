"""Chosen columns are decoded while others are still fetched, and no frame is returned before all have arrived."""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import LocalPipelineStore
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.errors import ArtifactDecodeError, ServiceUnavailableError
from clinops_prefect.frames.conversion.frame_builder import FrameBuilder
from clinops_prefect.frames.parquet import parallel_decode
from clinops_prefect.frames.parquet.partial_file import PartialFile
from clinops_prefect.frames.parquet.reader import ParquetReader

ROWS = 400_000
COLUMNS = ["v1", "note", "v3"]
Range = tuple[int, int]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    df = pd.DataFrame({f"v{number}": rng.normal(size=ROWS) for number in range(12)})
    df.insert(2, "note", pd.Series(["stable", "worse", None, "better"] * (ROWS // 4), dtype="str"))
    return df


@pytest.fixture(scope="module")
def stored(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("stored")
    LocalPipelineStore(str(folder)).upload(frame, "x")
    return Path(folder, "x.parquet").read_bytes()


@pytest.fixture
def workers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as found:
        yield found


def _reader(stored: bytes, workers: ThreadPoolExecutor, got: Callable[[int, int, bytes], bytes]) -> ParquetReader:
    """A reader whose ranges are what `got(number, of, data)` returns, in threads."""

    def fetch(spans: Sequence[Range], use: Callable[[int, bytes], None]) -> "list[Future[None]]":
        def one(number: int, span: Range) -> None:
            use(span[0], got(number, len(spans), stored[slice(*span)]))

        return [workers.submit(one, number, span) for number, span in enumerate(spans)]

    return ParquetReader(fetch, stored[-(64 << 10) :], len(stored), "file:///x.parquet")


def test_a_row_group_is_decoded_before_the_last_one_has_arrived(
    frame: pd.DataFrame, stored: bytes, workers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, in_time = threading.Event(), []
    put = FrameBuilder.put

    def noted(self: FrameBuilder, *args: Any) -> None:
        put(self, *args)
        decoded.set()

    def got(number: int, of: int, data: bytes) -> bytes:
        if number == of - 1:
            in_time.append(decoded.wait(200))
        return data

    monkeypatch.setattr(FrameBuilder, "put", noted)
    columns = ["v1", "v3"]
    pd.testing.assert_frame_equal(_reader(stored, workers, got).some(columns), frame[columns])
    assert in_time == [True]


@pytest.mark.parametrize("columns", [COLUMNS, ["note"], ["v11", "v0"], ["v1", "note"]], ids=str)
def test_ranges_that_arrive_in_any_order_make_the_frame(
    frame: pd.DataFrame, stored: bytes, workers: ThreadPoolExecutor, columns: list[str]
) -> None:
    order = np.random.default_rng(1).permutation(100) / 5_000

    def got(number: int, of: int, data: bytes) -> bytes:
        threading.Event().wait(order[number % 100])
        return data

    pd.testing.assert_frame_equal(_reader(stored, workers, got).some(columns), frame[columns])


@pytest.mark.parametrize("late", [0.0, 0.3], ids=["at once", "after the others are decoded"])
@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
def test_a_range_that_is_damaged_or_does_not_arrive_is_an_error(
    stored: bytes, workers: ThreadPoolExecutor, which: int, late: float
) -> None:
    def damaged(number: int, of: int, data: bytes) -> bytes:
        if number != which % of:
            return data
        threading.Event().wait(late)
        return data[:-1] + bytes([data[-1] ^ 1])

    def gone(number: int, of: int, data: bytes) -> bytes:
        if number == which % of:
            threading.Event().wait(late)
            raise ServiceUnavailableError("gone")
        return data

    for _ in range(2):
        with pytest.raises(ArtifactDecodeError, match="checksum"):
            _reader(stored, workers, damaged).some(COLUMNS)
        with pytest.raises(ServiceUnavailableError, match="gone"):
            _reader(stored, workers, gone).some(COLUMNS)


def test_bytes_beside_the_columns_are_checked_too(
    stored: bytes, workers: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame is not returned before the last range was checked, even if nothing of it were decoded."""
    monkeypatch.setattr(parallel_decode, "for_each", lambda *_: None)
    monkeypatch.setattr(FrameBuilder, "frame", lambda _: "a frame")
    last = threading.Event()

    def damaged(number: int, of: int, data: bytes) -> bytes:
        if number != of - 1:
            return data
        last.wait(0.3)
        return bytes([data[0] ^ 1]) + data[1:]

    with pytest.raises(ArtifactDecodeError, match="checksum"):
        _reader(stored, workers, damaged).some(["v1"])


def test_the_first_request_for_columns_of_a_small_artifact_is_the_only_one(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, small = LocalPipelineStore(str(tmp_path)), frame.head(5_000)
    store.upload(small, "x")
    assert 256 << 10 < Path(tmp_path, "x.parquet").stat().st_size < 800 << 10
    fetched: list[Range] = []
    fetch = ObjectReader.fetch

    def counted(self: ObjectReader, spans: Sequence[Range], use: Callable[[int, bytes], None]) -> Any:
        fetched.extend(spans)
        return fetch(self, spans, use)

    monkeypatch.setattr(ObjectReader, "fetch", counted)
    pd.testing.assert_frame_equal(store.download("x", columns=COLUMNS), small[COLUMNS])
    assert fetched == []


def test_a_range_that_is_added_during_a_garbage_collection_does_not_disturb_a_read() -> None:
    """A collection can let another thread run. Python 3.11 collects garbage while it lists a dictionary."""
    file = PartialFile(1 << 20)
    for start in range(0, 50_000, 10):
        file.add(start, b"0123456789")
    later = iter(range(60_000, 1 << 20, 10))

    def add(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            file.add(next(later), b"0123456789")

    before = gc.get_threshold()
    gc.callbacks.append(add)
    try:
        gc.set_threshold(50)
        for _ in range(20):
            assert file.window(5_003, 5_006) == b"345"
    finally:
        gc.callbacks.remove(add)
        gc.set_threshold(*before)
