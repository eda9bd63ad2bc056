"""The ICU chain from csv.gz to features: against clinops 0.6.1, against its own growth, and its shards on processes."""

import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import psutil

from tests.benchmarks.case import Bench, Case, Goal, Outcome, at_least, at_most
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant

_ROWS_PER_STAY = 1_000
_SHARDS = 8
# Rows of the catalogue in memory before they go to the store, as in the flow.
_HELD_ROWS = 1_000_000
_SAMPLE_SECONDS = 0.1


def steps(meter: Meter, source: str) -> None:
    """Ingest, clean and window in one process, everything in memory."""
    from flows.icu.catalogue import load_catalogue
    from flows.icu.events import clean
    from flows.icu.hashing import shard_of
    from flows.icu.raw import split_into_shards
    from flows.icu.windows import window_features
    from flows.sources.mimic import ingest, read_cohort

    windows, catalogue = 0, load_catalogue()
    with meter():
        stays = read_cohort(source).stays
        parts: dict[int, list[pd.DataFrame]] = {shard: [] for shard in range(_SHARDS)}
        for rows, _ in ingest(source, "chartevents", catalogue):
            for shard, part in split_into_shards(rows, _SHARDS).items():
                parts[shard].append(part)
        shard_of_stay = shard_of(stays["subject_id"].to_numpy("int64"), _SHARDS)
        for shard in range(_SHARDS):
            cleaned = clean(iter(parts.pop(shard)), stays, catalogue)
            windows += len(window_features(cleaned.events, stays[shard_of_stay == shard], catalogue))
    meter.note(windows=windows)


def streamed(meter: Meter, source: str, stays: int, scratch: str) -> None:
    """The same by way of a store: in memory is a buffer, then one shard, of which there are more with more rows."""
    from clinops_prefect import LocalPipelineStore
    from flows.icu.catalogue import load_catalogue
    from flows.icu.events import clean
    from flows.icu.hashing import shard_of
    from flows.icu.raw import split_into_shards
    from flows.icu.windows import window_features
    from flows.sources.mimic import ingest, read_cohort

    shards, catalogue = max(1, stays * _ROWS_PER_STAY // 1_000_000), load_catalogue()
    windows = 0
    with TemporaryDirectory(dir=scratch) as folder, meter():
        store = LocalPipelineStore(folder)
        cohort = read_cohort(source).stays
        held: list[pd.DataFrame] = []
        names: dict[int, list[str]] = {shard: [] for shard in range(shards)}

        def put() -> None:
            together = pd.concat(held, ignore_index=True)
            held.clear()
            for shard, part in split_into_shards(together, shards).items():
                names[shard].append(f"raw/{shard}/{len(names[shard])}")
                store.upload(part.reset_index(drop=True), names[shard][-1])

        waiting = 0
        for rows, _ in ingest(source, "chartevents", catalogue):
            held.append(rows)
            waiting += len(rows)
            if waiting >= _HELD_ROWS:
                put()
                waiting = 0
        if held:
            put()
        shard_of_stay = shard_of(cohort["subject_id"].to_numpy("int64"), shards)
        for shard in range(shards):
            cleaned = clean((store.download(name) for name in names[shard]), cohort, catalogue)
            features = window_features(cleaned.events, cohort[shard_of_stay == shard], catalogue)
            store.upload(features, f"features/{shard}")
            windows += len(features)
    meter.note(windows=windows)


def flow(meter: Meter, source: str, scratch: str, processes: int) -> None:
    """The whole flow, with Prefect and a local store, its shards on so many processes."""
    with TemporaryDirectory(dir=scratch) as folder, _tree() as tree:
        command = [sys.executable, "-m", "flows.icu_features", "--source", source, "--store", folder]
        command += ["--date", "2024-01-01", "--shards", str(_SHARDS), "--engine", f"processes={processes}"]
        with meter():
            subprocess.run(command, check=True, capture_output=True)
    # Not this process's, which only samples the memory.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    meter.note(memory=tree["all"], largest=tree["largest"], cpu=used.ru_utime + used.ru_stime)


@contextmanager
def _tree() -> Iterator[dict[str, int]]:
    """The peak memory of this process's children, together and of the largest; without Prefect's temporary server."""
    peak, done = {"all": 0, "largest": 0}, threading.Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_SECONDS):
            sizes = []
            for child in psutil.Process().children(recursive=True):
                try:
                    if "uvicorn" not in " ".join(child.cmdline()):
                        # What is shared between them is counted once.
                        sizes.append(child.memory_full_info().pss)
                except psutil.Error:
                    continue
            if sizes:
                peak["all"], peak["largest"] = max(peak["all"], sum(sizes)), max(peak["largest"], *sizes, 0)

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


def synthetic(bench: Bench, stays: int) -> str:
    """Synthetic data, made once: a thousand chart rows a stay."""
    folder = bench.scratch / f"synthetic-{stays}"
    if not folder.exists():
        making = folder.with_name(f"{folder.name}-making")
        subprocess.run(
            [sys.executable, "-m", "flows.synthetic", "--out", str(making), "--stays", str(stays)],
            check=True,
            capture_output=True,
        )
        making.rename(folder)
    return str(folder)


def _against_clinops(stays: int, bench: Bench) -> Outcome:
    from flows.icu.catalogue import load_catalogue

    source = synthetic(bench, stays)
    ours = Contestant("clinops_prefect", f"{__name__}:steps", {"source": source})
    contestants = [ours]
    if bench.clinops_python:
        variables = {str(item): variable.name for variable in load_catalogue().variables for item in variable.items}
        arguments: dict[str, Any] = {"source": source, "variables": variables, "fahrenheit": [678, 223761]}
        contestants.append(
            Contestant("clinops 0.6.1", "tests.benchmarks.clinops_steps:steps", arguments, bench.clinops_python)
        )
    # One round of it: it takes minutes.
    results = bench.compare(contestants, rounds=1 if bench.clinops_python else 0)
    mine = results[ours.name]
    goals = []
    if bench.clinops_python:
        ratio = mine.times_faster(results["clinops 0.6.1"], "cpu")
        goals.append(at_least("clinops' speed, in CPU seconds", 25, ratio))
    if stays >= 10_000:
        goals.append(at_most("of CPU", 12, mine.median("cpu"), " s"))
        goals.append(at_most("of memory", 3, mine.memory / 2**30, " GiB"))
    notes = [
        "pyarrow's reading of the CSV text takes six tenths of the time (7 of 12 s in a sampling profile of 10M rows)."
    ]
    if not bench.clinops_python:
        notes.append("clinops needs a Python of its own: `CLINOPS_PYTHON=…`.")
    return Outcome(f"Ingest, preprocess, features: {millions(stays)} rows", "csv.gz on disk", results, goals, notes)


def _growth(bench: Bench) -> Outcome:
    sizes = {millions(stays): stays for stays in (1_000, 10_000, 30_000)}
    results = bench.compare(
        [
            Contestant(
                f"{size} rows",
                f"{__name__}:streamed",
                {"source": synthetic(bench, stays), "stays": stays, "scratch": str(bench.scratch)},
            )
            for size, stays in sizes.items()
        ]
    )
    one, ten, thirty = results.values()
    time_growth = thirty.median("cpu") / ten.median("cpu")
    goals = [
        at_most("the CPU time from 1M to 10M rows", 10, ten.median("cpu") / one.median("cpu")),
        at_most("the CPU time from 10M to 30M rows", 3.15, time_growth),
        at_most("the memory from 1M to 10M rows", 10, ten.memory / one.memory),
        at_most("the memory from 10M to 30M rows, streamed", 1.25, thirty.memory / ten.memory),
    ]
    note = (
        f"Streamed through a local store, {_HELD_ROWS:,} rows of the catalogue at a time, a shard a million rows. One "
        "million rows have fewer of the catalogue: only from the second figure on is that memory full."
    )
    return Outcome("Growth with the rows", "csv.gz on disk", results, goals, [note])


def _on_processes(bench: Bench) -> Outcome:
    source = synthetic(bench, 10_000)
    names = {1: "one process", 2: "two processes"}
    results = bench.compare(
        [
            Contestant(
                name, f"{__name__}:flow", {"source": source, "scratch": str(bench.scratch), "processes": processes}
            )
            for processes, name in names.items()
        ]
    )
    one, two = results[names[1]], results[names[2]]
    memory = two.median("largest") / max(one.median("largest"), 1)
    goals = [
        Goal("two processes are faster than one", f"{two.times_faster(one):.2f}×", two.times_faster(one) > 1),
        at_most("the memory of the one, each of the two", 1.25, memory),
    ]
    note = (
        "The whole flow with Prefect, 10M rows, 8 shards, a local store. Reading the one csv.gz is one task, whatever "
        "the number of processes. The memory is that of the flow and its workers, without Prefect's own server."
    )
    return Outcome("The flow's shards on processes", "a local store", results, goals, [note])


def millions(stays: int) -> str:
    """How many rows so many stays have, for a title."""
    return f"{stays * _ROWS_PER_STAY // 1_000_000}M"


CASES = [
    Case("flow-1m", partial(_against_clinops, 1_000)),
    Case("flow-10m", partial(_against_clinops, 10_000)),
    Case("flow-growth", _growth),
    Case("flow-processes", _on_processes),
]
