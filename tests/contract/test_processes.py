"""Stores in other processes, forks, threads and async code, and races between them."""

import asyncio
import copy
import inspect
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, PipelineStore, ServiceUnavailableError
from tests.doors import Door
from tests.gallery import FRAMES, assert_same

FRAME = FRAMES["clinical"]


def test_a_used_store_is_pickled_and_copied_and_works_as_before(door: Door, format: str) -> None:
    store = door.store(prefix="p", format=format)
    store.upload(FRAME, "x")
    for twin in (
        pickle.loads(pickle.dumps(store)), copy.deepcopy(store), copy.copy(store), store.model_copy(deep=True),
        type(store).model_validate(store.model_dump()),
    ):  # fmt: skip
        assert (type(twin), twin.model_dump()) == (type(store), store.model_dump())
        assert_same(twin.download("x"), FRAME)
    # The instance has no client, so a pickle stays small.
    assert len(pickle.dumps(store)) < 5_000


def test_a_pickled_store_works_in_a_fresh_process(door: Door) -> None:
    store = door.store()
    store.upload(FRAME, "x")
    code = "import pickle,sys; print(len(pickle.loads(bytes.fromhex(sys.argv[1])).download('x')))"
    done = subprocess.run([sys.executable, "-c", code, pickle.dumps(store).hex()], capture_output=True, text=True)
    assert done.stdout.strip() == "60", done.stderr


def _pickle_errors(store: PipelineStore, answers: Any) -> None:
    import distributed.utils  # noqa: F401  # from here on, exceptions are pickled with their causes and contexts

    frame = FRAME.iloc[:3]
    calls = {
        "refused frame": lambda: store.upload(pd.DataFrame({"a": [1, "a"]}), "y"),
        "refused batch": lambda: store.upload_batches([frame, frame[["stay_id"]]], "y"),
        "failing batches": lambda: store.upload_batches((frame if n else 1 / n for n in (1, 0)), "y"),
        "existing": lambda: store.upload(frame, "x", overwrite=False),
        "missing": lambda: store.download("y"),
        "missing column": lambda: store.download("x", columns=["y"]),
        "unfit filter": lambda: store.download("x", filters=[("stay_id", "==", "y")]),
        "damaged": lambda: store.download("damaged"),
        "name": lambda: store.upload(frame, "../y"),
        "metadata": lambda: store.upload(frame, "y", metadata={"a": "\n"}),
        "result": lambda: store.read_path("pickle.json"),
        "service": lambda: type(store).from_uri(store.uri("x"), endpoint_url="http://127.0.0.1:9").list_artifacts(),
    }
    for what, call in calls.items():
        try:
            answers.put((what, f"gave {call()!r}"))
        except Exception as error:
            try:
                again = pickle.loads(pickle.dumps(error))
            except BaseException as pickling:
                answers.put((what, f"{type(error).__name__}, pickled: {pickling!r}"))
            else:
                answers.put((what, "" if (type(again), str(again)) == (type(error), str(error)) else repr(again)))
    answers.put(None)


def test_errors_travel_with_their_causes(door: Door) -> None:
    """Dask pickles an error with all its causes to send it to another process."""
    store = door.store()
    store.upload(FRAME, "x")
    door.put("damaged.parquet", b"PAR1 and no more")
    door.put("pickle.json", b'{"metadata": {"serializer": {"type": "pickle"}}, "result": ""}')
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=_pickle_errors, args=(store, answers))
    child.start()
    found = dict(iter(lambda: answers.get(timeout=280), None))
    child.join()
    assert child.exitcode == 0
    assert found.pop("service") == "" or type(store).__name__ == "LocalPipelineStore"
    assert found == dict.fromkeys(found, "")
    assert len(found) == 11


def _use_and_fork(store: PipelineStore, big: pd.DataFrame, answers: Any) -> None:
    try:
        store.upload(FRAME, "x")
        store.upload(big, "big")
        assert_same(store.download("big"), big)
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=_in_child, args=(store, number, answers)) for number in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
    except BaseException as error:
        answers.put((-1, repr(error), 0))


def _in_child(store: PipelineStore, number: int, answers: Any) -> None:
    try:
        store.upload(FRAME.iloc[: number + 1], f"child/{number}")
        big = store.download("big")
        answers.put((number, len(store.download("x")), len(big)))
    except BaseException as error:
        answers.put((number, repr(error), 0))


def test_a_used_store_works_after_a_fork(door: Door) -> None:
    """The child must not use the parent's connections, threads and locks.

    The parent runs in a separate process: here, threads of other tests may hold a lock that a child would never get.
    """
    store = door.store()
    big = pd.DataFrame({f"c{i}": pd.Series(range(200_000)).sample(frac=1, random_state=i).array for i in range(12)})
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    parent = context.Process(target=_use_and_fork, args=(store, big, answers))
    parent.start()
    found = sorted(answers.get(timeout=280) for _ in range(3))
    parent.join()
    assert found == [(number, 60, 200_000) for number in range(3)]
    assert store.list_artifacts("child") == ["child/0", "child/1", "child/2"]
    assert_same(store.download("x"), FRAME)


def test_one_store_is_used_by_32_threads_at_once(door: Door, format: str) -> None:
    store = door.store(format=format)

    def work(number: int) -> None:
        frame = FRAME.iloc[number : number + 3]
        store.upload(frame, f"d/{number}")
        assert_same(store.download(f"d/{number}"), frame)
        assert store.stat(f"d/{number}").rows == 3

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, range(48)))
    assert len(store.list_artifacts()) == 48


def test_the_twins_do_what_their_methods_do(door: Door, format: str) -> None:
    store = door.store(format=format)

    async def use() -> None:
        assert await store.aupload(FRAME, "x", metadata={"a": "b"}) == store.uri("x")
        assert_same(await store.adownload("x", columns=["icd_code"]), FRAME[["icd_code"]])
        await store.aupload_batches([FRAME, FRAME], "y")
        assert sum([len(batch) async for batch in store.aiter_batches("y", rows=50)]) == 120
        assert await store.alist_artifacts() == ["x", "y"]
        assert await store.aexists("x")
        assert (await store.astat("x")).metadata == {"a": "b"}
        assert len(await store.alist_versions("x")) == 1
        await store.acopy_artifact("x", "z")
        assert await store.adelete_artifacts("z") == []
        await store.adelete_artifact("z")
        assert await store.awrite_bytes("r.txt", b"1")
        assert await store.aread_bytes("r.txt") == b"1"
        with pytest.raises(ArtifactNotFoundError):
            await store.adownload("z")
        assert len(await asyncio.gather(*(store.adownload("x") for _ in range(8)))) == 8

    asyncio.run(use())


def test_every_method_that_does_io_has_a_twin_of_the_same_signature(door: Door) -> None:
    store = type(door.store())
    methods = [
        "upload", "upload_batches", "download", "iter_batches", "list_artifacts", "exists", "stat", "list_versions",
        "copy_artifact", "delete_artifact", "delete_artifacts", "write_bytes", "read_bytes",
    ]  # fmt: skip
    for name in methods:
        twin = getattr(store, f"a{name}")
        assert inspect.iscoroutinefunction(twin) or inspect.isasyncgenfunction(twin)
        assert twin.__name__ == f"a{name}"
        assert twin.__doc__


def test_the_event_loop_goes_on_while_a_twin_works(door: Door) -> None:
    store = door.store()

    async def use() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        task = asyncio.create_task(tick())
        # If the async form blocked the loop, no tick would ever happen.
        for _ in range(200):
            await store.aupload(FRAME, "x")
            if ticks >= 2:
                break
        task.cancel()
        return ticks

    assert asyncio.run(use()) >= 2


@pytest.mark.parametrize(("writers", "readers", "seconds"), [(8, 8, 3.0)])
def test_readers_see_whole_versions_while_writers_overwrite(
    door: Door, format: str, writers: int, readers: int, seconds: float
) -> None:
    """Each version has only one value. A frame with two values, or with another type or no type, was mixed."""
    store = door.store(format=format)
    dtype = pd.CategoricalDtype(["w", "r"])

    def version(number: int) -> pd.DataFrame:
        frame = pd.DataFrame({"v": [number] * (10 + number % 7), "code": f"{number:05d}"})
        frame["c"] = pd.Series(["w"] * len(frame), dtype=dtype)
        return frame

    store.upload(version(0), "x")
    end, failures, reads = time.monotonic() + seconds, [], []
    stop = threading.Event()

    def goes_on(longest: float) -> bool:
        """Whether to go on: for some seconds, and on a busy machine until there are as many reads as readers."""
        now = time.monotonic()
        return not stop.is_set() and (now < end or (len(reads) < readers and now < end + longest))

    def write(worker: int) -> None:
        number = worker
        # Then the writers stop, so that a very slow machine can read the last version.
        while goes_on(60):
            number += writers
            store.upload(version(number), "x")

    def read(worker: int) -> None:
        while goes_on(float("inf")):
            try:
                frame = store.download("x") if worker % 2 else pd.concat(store.iter_batches("x", rows=4))
            except ServiceUnavailableError:
                continue  # overwritten during the read: the error says so, and nothing is returned
            assert_same(frame, version(int(frame["v"].iloc[0])))
            reads.append(worker)

    def guarded(work: Any, worker: int) -> None:
        try:
            work(worker)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=guarded, args=(write, n)) for n in range(writers)]
    threads += [threading.Thread(target=guarded, args=(read, n)) for n in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert len(reads) >= readers
    final = store.download("x")
    assert_same(final, version(int(final["v"].iloc[0])))
    assert len(door.keys()) == {"parquet": 1, "csv": 2}[format]
