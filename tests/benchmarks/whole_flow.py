"""The ICU feature flow as its command runs it: with a server that runs, without one, on threads and on processes."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import flow
from tests.benchmarks.case import Bench, Case, Outcome, at_most
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.servers import Server
from tests.prefect.server import PrefectServer

_SHARDS = 8
_THREADS, _PROCESSES, _STEPS = "the flow, threads", "the flow, processes", "its steps alone, without Prefect"
_NOTE = (
    f"A local store, {_SHARDS} shards. CPU seconds are those of the command and its workers, and of the temporary "
    "server where none runs; memory is that of the largest process. The steps alone keep everything in memory, and "
    "read no labs, which the flow does. A flow run ends with Prefect's heartbeat thread, which sleeps for a second at "
    "a time. Of 10.7 s for 3M rows on threads with a server, imports take 2.7 s, reading 2.0 s, the shards 2.7 s, "
    "the report 1.5 s, publishing 0.9 s (2026-11-27)."
)


def run(meter: Meter, engine: str, source: str, scratch: str) -> None:
    """Run the command, with the server of the environment or, if there is none, with a new home of Prefect."""
    with TemporaryDirectory(dir=scratch) as store, TemporaryDirectory(dir=scratch) as home:
        command = [sys.executable, "-m", "flows.icu_features", "--source", source, "--store", store]
        command += ["--date", "2024-01-01", "--shards", str(_SHARDS), "--engine", engine]
        environment = dict(os.environ)
        if "PREFECT_API_URL" not in environment:
            environment["PREFECT_HOME"] = home
        with meter():
            subprocess.run(command, env=environment, check=True, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    meter.note(cpu=used.ru_utime + used.ru_stime, memory=used.ru_maxrss * 1024)


@contextmanager
def _server(bench: Bench) -> Iterator[Server]:
    with TemporaryDirectory(dir=bench.scratch) as home:
        server = PrefectServer(Path(home))
        server.start()
        try:
            environment = {"PREFECT_API_URL": server.api_url, "PREFECT_HOME": home}
            yield Server(server.ui_url, "a Prefect server that runs", environment)
        finally:
            server.stop()


def _contestants(bench: Bench, stays: int, *engines: str) -> list[Contestant]:
    source, names = flow.synthetic(bench, stays), {"threads": _THREADS, "processes": _PROCESSES}
    common = {"source": source, "scratch": str(bench.scratch)}
    return [Contestant(names[engine], f"{__name__}:run", {"engine": engine, **common}) for engine in engines]


def _alone(bench: Bench) -> Outcome:
    results = bench.compare(_contestants(bench, 3_000, "processes", "threads"))
    ours = results[_PROCESSES]
    goals = [
        at_most("on processes", 30, ours.seconds, " s", least=36),
        at_most("of CPU on processes", 25, ours.median("cpu"), " s", least=30),
    ]
    return Outcome("The flow, 3M rows, no server runs", "a temporary Prefect server", results, goals, [_NOTE])


def _served(stays: int, bench: Bench) -> Outcome:
    contestants = _contestants(bench, stays, "threads", "processes")
    steps = Contestant(_STEPS, "tests.benchmarks.flow:steps", {"source": flow.synthetic(bench, stays)})
    with _server(bench) as server:
        # The first run on a new server sets it up.
        bench.compare(_contestants(bench, 1_000, "threads"), server, rounds=1)
        results = bench.compare([*contestants, steps], server)
    ours = results[_THREADS]
    if stays >= 10_000:
        goals = [at_most("its steps", 2, 1 / ours.times_faster(results[_STEPS]))]
    else:
        goals = [at_most("on threads", 6, ours.seconds, " s")]
    title = f"The flow, {flow.millions(stays)} rows, a server runs"
    return Outcome(title, server.name, results, goals, [_NOTE])


CASES = [
    Case("flow-3m-alone", _alone, rounds=2),
    Case("flow-3m-served", partial(_served, 3_000)),
    Case("flow-10m-served", partial(_served, 10_000), rounds=2),
]
