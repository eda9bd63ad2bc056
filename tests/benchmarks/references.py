"""A flow of twelve tasks that each make 50 MB: its memory with frames as results, and with references."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.case import Bench, Case, Outcome, at_most
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant

FRAMES, REFERENCES = "frames", "references"
_TASKS = 12
_ROWS, _COLUMNS = 65_000, 100  # 52 MB of floats


def hand_on(meter: Meter, way: str, scratch: str) -> None:
    """Twelve tasks make a frame each, and twelve more read one each."""
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner
    from prefect.testing.utilities import prefect_test_harness

    from clinops_prefect import LocalPipelineStore
    from clinops_prefect.tasks import upload_artifact

    store = LocalPipelineStore(Path(scratch) / "references")

    def made(seed: int) -> pd.DataFrame:
        values = np.random.default_rng(seed).random((_ROWS, _COLUMNS))
        return pd.DataFrame(values, columns=[f"c{number}" for number in range(_COLUMNS)])

    @task
    def make(seed: int) -> Any:
        if way == REFERENCES:
            return upload_artifact.fn(store, made(seed), f"frames/{seed}", as_ref=True)
        return made(seed)

    @task
    def use(found: Any) -> float:
        df = found.download() if way == REFERENCES else found
        return float(df["c7"].sum())

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def run(tasks: int) -> list[float]:
        futures = [make.submit(seed) for seed in range(tasks)]
        return [used.result() for used in [use.submit(future) for future in futures]]

    # Its server ends with it; one that Prefect starts by itself would outlive this process.
    with prefect_test_harness(server_startup_timeout=180):
        run(1)
        with meter():
            sums = run(_TASKS)
    assert sums[3] == made(3)["c7"].sum()
    meter.note(frame=_ROWS * _COLUMNS * 8 * _TASKS)


def _references(bench: Bench) -> Outcome:
    contestants = [
        Contestant(way, f"{__name__}:hand_on", {"way": way, "scratch": str(bench.scratch)})
        for way in (REFERENCES, FRAMES)
    ]
    results = bench.compare(contestants, rounds=min(bench.rounds, 3))
    share = 1 / results[REFERENCES].times_faster(results[FRAMES], "memory")
    return Outcome(
        "A flow of 12 tasks that make 50 MB each, and 12 that read it: references against frames",
        "the local disk",
        results,
        [at_most("the memory with frames", 0.5, share)],
        frame_bytes=int(results[FRAMES].median("frame")),
    )


CASES = [Case("references", _references)]
