"""200 workers use the same names: one wins each name, and no read mixes two versions. No resource grows with use."""

import gc
import multiprocessing
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest

from clinops_prefect import ArtifactExistsError, ArtifactNotFoundError, PipelineStore, ServiceUnavailableError
from tests.doors import Door
from tests.faults.conftest import FULL
from tests.gallery import assert_same

WORKERS = 200
NAMES = 40 if FULL else 3
OVERWRITES = 30 if FULL else 2
# Operations of a round in so many threads, and rounds after the first. The first round opens what stays open.
AT_ONCE, BATCH = 32, 96
BATCHES = 100 if FULL else 2
# The bytes that an operation may leave in memory, and that the allocators may keep in addition.
BYTES_AN_OPERATION, BYTES_KEPT = 1_000, 24 << 20


def of(writer: int) -> pd.DataFrame:
    """A frame whose every row, number of rows and type show which worker wrote it."""
    frame = pd.DataFrame({"writer": [writer] * (10 + writer % 7), "code": f"{writer:05d}"})
    frame["unit"] = pd.Series(["w"] * len(frame), dtype=pd.CategoricalDtype(["w", f"u{writer}"]))
    return frame


def wide(writer: int) -> pd.DataFrame:
    """A frame whose partial read takes two requests, between which it may be overwritten."""
    frame = pd.DataFrame({f"c{i}": np.random.default_rng(writer + i).random(3_000 + writer) for i in range(8)})
    frame["writer"] = writer
    return frame


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Call `work` with 0 to 199, each in a thread of its own. All threads begin together."""
    together = threading.Barrier(WORKERS)

    def begun(number: int) -> Any:
        together.wait()
        return work(number)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(begun, range(WORKERS)))


# A CSV is two objects and a dozen requests, which takes a minute on the clouds' emulators: only in the full form.
SHORT_FORM = [("local", "parquet"), ("local", "csv"), ("s3", "parquet"), ("gcs", "parquet")]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("door", "format"), [*SHORT_FORM, *([("s3", "csv"), ("gcs", "csv")] if FULL else [])], indirect=["door"]
)
def test_of_200_workers_one_wins_each_name_and_every_read_is_whole(
    door: Door, format: str, chance: random.Random
) -> None:
    store = door.store(format=format)
    names = [f"n/{number}" for number in range(NAMES)]
    writing = threading.Semaphore(0)
    orders = [chance.sample(names, NAMES) for _ in range(WORKERS)]

    def work(number: int) -> tuple[list[str], int]:
        won, reads = [], 0
        if number % 2:
            while True:
                name = orders[number][reads % NAMES]
                try:
                    found = store.download(name)
                except (ArtifactNotFoundError, ServiceUnavailableError):
                    pass
                else:
                    assert_same(found, of(int(found["writer"].iloc[0])))
                reads += 1
                time.sleep(0.1)  # without a pause, the readers would occupy the emulator completely
                if writing.acquire(blocking=False):
                    writing.release()
                    return won, reads
        for name in orders[number]:
            try:
                store.upload(of(number), name, overwrite=False)
            except ArtifactExistsError:
                continue
            won.append(name)
        if number == 0:
            writing.release()
        return won, reads

    answers = at_once(work)
    wins = Counter(name for won, _ in answers for name in won)
    assert wins == dict.fromkeys(names, 1)
    for number, (won, _) in enumerate(answers):
        for name in won:
            assert_same(store.download(name), of(number))
    assert store.list_artifacts() == sorted(names)
    print(f"{door.scheme}, {format}: {NAMES} names, {sum(reads for _, reads in answers)} reads, one winner of 100 each")


@pytest.mark.timeout(1800)
def test_200_workers_overwrite_and_read_and_no_read_is_torn(door: Door, chance: random.Random) -> None:
    store = door.store()
    names = [f"n/{number}" for number in range(5)]
    for name in names:
        store.upload(wide(0), name)
    picks = [[chance.choice(names) for _ in range(OVERWRITES)] for _ in range(WORKERS)]

    def work(number: int) -> int:
        unavailable = 0
        for name in picks[number]:
            if number % 2:
                store.upload(wide(number), name)
                continue
            try:
                found = store.download(name, columns=None if number % 4 else ["writer", "c5"])
            except ServiceUnavailableError:  # the error when an artifact is overwritten faster than it can be read
                unavailable += 1
                continue
            assert_same(found, wide(int(found["writer"].iloc[0]))[found.columns])
        return unavailable

    unavailable = sum(at_once(work))
    reads = WORKERS // 2 * OVERWRITES
    print(f"{door.scheme}: {reads} writes and {reads} reads of 5 names; {unavailable} reads gave up")
    assert unavailable < reads / 2
    for name in names:
        found = store.download(name)
        assert_same(found, wide(int(found["writer"].iloc[0])))
    assert len(door.keys()) == len(names)
    assert door.unfinished() == []


@pytest.mark.timeout(1800)
def test_nothing_grows_with_use(door: Door) -> None:
    """Descriptors, sockets, threads and memory do not grow in hundreds (in the full form: ten thousand) of operations.

    This runs in a separate process, because leftovers of other tests in this one may be closed, or grow, meanwhile.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    stores = door.store(), door.store(format="csv", prefix="csv")
    child = context.Process(target=_use_and_measure, args=(*stores, answers))
    child.start()
    child.join(1700)
    assert child.exitcode == 0
    before, after, seconds = answers.get(timeout=600)
    operations = BATCHES * BATCH
    print(f"{door.scheme}: {operations} operations in {seconds:.0f} s: {before} -> {after}")
    for what in ("descriptors", "sockets", "threads"):
        # The growth may be as large as the number of concurrent operations, but not as the number of all operations:
        # how many are at once in the first rounds is the machine's affair.
        assert after[what] <= before[what] + AT_ONCE, what
    assert after["memory"] - before["memory"] < BYTES_KEPT + BYTES_AN_OPERATION * operations


def _use_and_measure(parquet: PipelineStore, csv: PipelineStore, answers: Any) -> None:
    frame = of(3)

    def operation(number: int) -> None:
        store: PipelineStore = csv if number % 4 == 0 else parquet
        name = f"n/{number % 16}-{number % 32}"
        store.upload(frame, name)
        assert len(store.download(name)) == len(frame)
        assert sum(map(len, store.iter_batches(name, columns=["code"], rows=5))) == len(frame)
        assert store.exists(name)
        assert f"r/{number}" not in store.list_artifacts("r")
        with pytest.raises(ArtifactNotFoundError):
            store.download("n/none")

    def batch() -> dict[str, int]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(operation, range(BATCH)))
        gc.collect()
        pa.default_memory_pool().release_unused()
        process = psutil.Process()
        return {
            "descriptors": process.num_fds(),
            "sockets": len(process.net_connections()),
            "threads": process.num_threads(),
            "memory": process.memory_info().rss,
        }

    # Two rounds: connections and threads are made on demand, and the second round may need one more.
    before = [batch(), batch()][1]
    began = time.monotonic()
    for _ in range(BATCHES):
        after = batch()
    answers.put((before, after, time.monotonic() - began))
