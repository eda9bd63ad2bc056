"""A process is killed in the middle of a write: readers see the complete old artifact or the complete new one."""

import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from functools import partial

import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, PipelineStore
from tests.doors import Door
from tests.faults.conftest import FULL
from tests.faults.victim import WORK, start, version, wait_until_served, write
from tests.gallery import assert_same

# One frame is uploaded in two parts and has several row groups. The other one is sent in one request.
LARGE, SMALL = 90_000, 2_000
ROUNDS = {"file": (24, 120), "s3": (8, 40), "gs": (8, 40)}


@pytest.mark.timeout(1800)
def test_a_write_that_is_killed_at_any_moment_leaves_old_or_new(door: Door, chance: random.Random) -> None:
    lasts: dict[tuple[str, str, int], float] = {}
    old_seen = new_seen = killed = 0
    rounds, number = ROUNDS[door.scheme][FULL], -1
    # On a busy machine some kills come too late: then there are more rounds.
    while (number := number + 1) < rounds or killed <= rounds / 3 or not old_seen:
        assert number < 20 * rounds, f"{killed} were killed in time, and left the old artifact {old_seen} times"
        format, work, rows = chance.choice(["parquet", "csv"]), chance.choice([*WORK]), chance.choice([SMALL, LARGE])
        if format == "csv":
            rows = SMALL * 5  # text is slow to make, and more rows would test no more
        store = door.store(prefix=f"round-{number}", format=format)
        old, new = version(number, rows), version(number + 1000, rows)
        replaces = chance.random() < 0.75
        if replaces:
            store.upload(old, "x")
        kind = (format, work, rows)
        if kind not in lasts:
            lasts[kind] = _duration(door.store(prefix="measured", format=format), work, new)
        here, there = multiprocessing.Pipe()
        victim = start(write, store, work, new, there)
        began = here.recv()
        moment = chance.uniform(0, 1.1 * lasts[kind])
        time.sleep(max(0.0, began + moment - time.monotonic()))
        victim.kill()
        victim.join()
        killed += victim.exitcode == -signal.SIGKILL
        if here.poll():
            lasts[kind] = min(lasts[kind], here.recv() - began)
        wait_until_served(door)
        what = f"round {number}: {kind}, killed after {moment:.3f} of {lasts[kind]:.3f} s"
        look = partial(_look, store, old if replaces else None, new, what)
        is_new = _settled(look, door, f"round-{number}/")
        old_seen, new_seen = old_seen + (is_new is False), new_seen + (is_new is True)
        WORK[work](store, new)
        assert_same(store.download("x"), new)
        assert store.list_artifacts() == ["x"], what
        mine = [key for key in door.keys() if key.startswith(f"round-{number}/") and "/.clinops-" not in key]
        assert len(mine) == {"parquet": 1, "csv": 2}[format], what
    print(f"{door.scheme}: {number} rounds, {killed} killed in time; old {old_seen}, new {new_seen} times")


def _look(store: PipelineStore, old: pd.DataFrame | None, new: pd.DataFrame, what: str) -> bool | None:
    """Whether the new frame is there. None if there is no frame and there was none before."""
    try:
        found = store.download("x")
    except ArtifactNotFoundError:
        assert old is None, what
        assert store.list_artifacts() == [], what
        return None
    is_new = bool(found["version"].iloc[0] == new["version"].iloc[0])
    assert is_new or old is not None, what
    assert_same(found, new if is_new or old is None else old)
    assert_same(pd.concat(store.iter_batches("x", rows=7_000), ignore_index=True), found)
    assert store.stat("x").rows == len(new), what
    assert store.list_artifacts() == ["x"], what
    return is_new


def _settled(look: Callable[[], bool | None], door: Door, below: str) -> bool | None:
    """What is seen once it no longer changes: a server may carry out a killed process's request only now."""
    while True:
        before = _objects(door, below)
        failure, seen = None, None
        try:
            seen = look()
        except Exception as error:
            failure = error
        if _objects(door, below) == before:
            if failure is not None:
                raise failure
            return seen


def _objects(door: Door, below: str) -> dict[str, bytes]:
    return {key: door.get(key) for key in door.keys() if key.startswith(below) and "/.clinops-" not in key}


def _duration(store: object, work: str, frame: pd.DataFrame) -> float:
    here, there = multiprocessing.Pipe()
    process = start(write, store, work, frame, there)
    began, ended = here.recv(), here.recv()
    process.join()
    return ended - began
