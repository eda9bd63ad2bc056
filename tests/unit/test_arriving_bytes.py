"""How the bytes of a whole file are asked for: some parts ahead of the decoding, and none that a unit does not need."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import ServiceUnavailableError, StorageFormat
from clinops_prefect.frames.conversion.frame_builder import FrameBuilder
from clinops_prefect.frames.encoding import encode_frame
from clinops_prefect.frames.parquet import stored_file
from clinops_prefect.frames.parquet.file_bytes import FileBytes
from clinops_prefect.frames.parquet.reader import ParquetReader

Range = tuple[int, int]
PART = 64 << 10
TAIL = 100 << 10
FRAME = pd.DataFrame(np.random.default_rng(0).random((30_000, 16)), columns=[f"c{number}" for number in range(16)])


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_file, "PART_BYTES", PART)


@pytest.fixture(scope="module")
def stored() -> bytes:
    return b"".join(encode_frame(FRAME, StorageFormat.PARQUET, {}).chunks)


def _done(error: Exception | None = None) -> "Future[None]":
    future: Future[None] = Future()
    future.set_result(None) if error is None else future.set_exception(error)
    return future


def test_parts_are_asked_for_ahead_of_those_that_are_needed_but_not_all_at_once() -> None:
    asked: list[Range] = []

    def fetch(spans: Sequence[Range]) -> "list[Future[None]]":
        # A single range would be fetched in the caller's thread.
        assert len(spans) > 1
        asked.extend(spans)
        return [_done() for _ in spans]

    spans = [(at, at + 10) for at in range(0, 1_000, 10)]
    data = FileBytes(1_000)
    data.arrive(fetch, spans)
    assert 16 <= len(asked) < 40
    data.wait(0, 10)
    assert len(asked) < 40
    data.wait(405, 415)
    assert 42 + 16 <= len(asked) < 42 + 40
    data.wait()
    assert asked == spans


def test_only_the_parts_of_these_bytes_are_waited_for() -> None:
    late: Future[None] = Future()
    data = FileBytes(30)
    data.arrive(lambda _: [_done(), late, _done(OSError("cut"))], [(0, 10), (10, 20), (20, 30)])
    data.wait(2, 10)
    with pytest.raises(OSError, match="cut"):
        data.wait(20, 25)
    data.wait(30, 40)
    late.set_result(None)
    data.wait(0, 20)
    with pytest.raises(OSError, match="cut"):
        data.wait()


def test_a_frame_is_filled_while_its_row_group_arrives(stored: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = threading.Event()
    original = FrameBuilder.put

    def put(*arguments: object) -> None:
        original(*arguments)  # type: ignore[arg-type]
        filled.set()

    monkeypatch.setattr(FrameBuilder, "put", put)
    last = (len(stored) - TAIL) // PART * PART

    def one(span: Range, use: Callable[[int, bytes], None]) -> None:
        if span[0] == last - PART and not filled.wait(200):
            raise TimeoutError("nothing was decoded before the last parts arrived")
        use(span[0], stored[slice(*span)])

    with ThreadPoolExecutor(64) as workers:
        reader = ParquetReader(
            lambda spans, use: [workers.submit(one, span, use) for span in spans],
            stored[-TAIL:], len(stored), "x",
        )  # fmt: skip
        pd.testing.assert_frame_equal(reader.frame(), FRAME)


def test_after_an_error_no_more_parts_of_a_table_are_fetched(stored: bytes) -> None:
    futures: list[Future[None]] = []

    def fetch(spans: Sequence[Range], _: Callable[[int, bytes], None]) -> "list[Future[None]]":
        new: list[Future[None]] = [Future() for _ in spans]
        if not futures:
            new[0] = _done(ServiceUnavailableError("gone"))
        futures.extend(new)
        return new

    reader = ParquetReader(fetch, stored[-TAIL:], len(stored), "x")
    with pytest.raises(ServiceUnavailableError, match="gone"):
        reader.stored_table()
    assert len(futures) > 1
    assert all(future.cancelled() for future in futures[1:])
