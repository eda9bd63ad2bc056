"""The ICU flow and a backfill, killed at any moment: a manifest names artifacts of one run, and a rerun completes."""

import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from prefect.settings import PREFECT_API_URL

from clinops_prefect import PipelineStore
from flows.backfill import backfill
from flows.icu.catalogue import DEFAULT_CATALOGUE
from flows.icu_features import icu_features
from flows.quality_report import NotComparableError, quality_report
from flows.synthetic.tables import generate
from tests.doors import Door
from tests.faults.conftest import FULL
from tests.faults.victim import wait_until_served
from tests.flows.expected import expected_features, stored_features
from tests.prefect.server import harness

ROOT = Path(__file__).parents[2]
DAYS = [dt.date(2024, 3, day) for day in (1, 2)]
ROUNDS = 20 if FULL else 3


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    """The environment in which a process finds the server and the flows."""
    with harness():
        yield {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "PYTHONPATH": str(ROOT)}


@pytest.mark.timeout(3600)
def test_a_flow_that_is_killed_at_any_moment_leaves_whole_dates_and_is_completed(
    server: dict[str, str], door: Door, tmp_path: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [tmp_path / "before", tmp_path / "after"]
    for number, source in enumerate(sources):
        generate(source, 30, seed=number)
    expected = [expected_features(source) for source in sources]
    environment, store, uri = door.environment(), door.store(), door.uri()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # Two small sources differ more than the limits allow between two runs of a date.
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text(DEFAULT_CATALOGUE.read_text().replace("missing_jump = 0.2", "missing_jump = 1"))
    options = {"shards": 2, "catalogue": str(catalogue), "accept_empty": True}
    killable = partial(_run, catalogue=catalogue, server={**server, **environment}, door=door, uri=uri)
    # The first run is not killed. Its duration is the range of the moments of the kills.
    lasts = killable("icu_features", sources[0], None)
    backfill(str(sources[0]), uri, DAYS, **options)
    seen = {"old": 0, "new": 0, "withdrawn": 0}
    for number in range(ROUNDS):
        old, new = number % 2, 1 - number % 2
        flow = "backfill" if number % 3 == 1 else "icu_features"
        moment = chance.uniform(0, lasts)
        killable(flow, sources[new], moment)
        what = f"round {number}: {flow}, killed {moment:.2f} of {lasts:.2f} s after its first artifact"
        for day in DAYS:
            manifest = json.loads(store.read_bytes(f"icu/{day}/manifest.json"))
            runs = {_run_of(store, name) for name in store.list_artifacts(f"icu/{day}")}  # each can be read
            if not manifest["run"]:
                seen["withdrawn"] += 1
                with pytest.raises(NotComparableError, match="being replaced"):
                    quality_report(uri, day, day)
                continue
            assert runs == {manifest["run"]}, what
            found = stored_features(store, day.isoformat())
            is_new = found.equals(expected[new])
            pd.testing.assert_frame_equal(found, expected[new if is_new else old], check_exact=True)
            seen["new" if is_new else "old"] += 1
        if flow == "backfill":
            backfill(str(sources[new]), uri, DAYS, **options)
        else:
            for day in DAYS:
                icu_features(str(sources[new]), uri, day, **options)
        for day in DAYS:
            pd.testing.assert_frame_equal(stored_features(store, day.isoformat()), expected[new], check_exact=True)
        assert not _staged(door), what
        assert not [key for key in door.keys() if "/.clinops-" in key], what
    print(f"{ROUNDS} rounds: {seen}")
    assert seen["old"]


def _run(
    flow: str,
    source: Path,
    killed_after: float | None,
    *,
    catalogue: Path,
    server: dict[str, str],
    door: Door,
    uri: str,
) -> float:
    """Run the command. Returns the seconds from its first artifact to its end, killed or not."""
    dates = ["--date", str(DAYS[0])] if flow == "icu_features" else ["--dates", *map(str, DAYS)]
    limits = ["--catalogue", str(catalogue), "--accept-empty"]
    arguments = ["--source", str(source), "--store", uri, "--shards", "2", *limits, *dates]
    run = subprocess.Popen(
        [sys.executable, "-m", f"flows.{flow}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=server,
        start_new_session=True,  # so that its child processes are killed with it
    )
    deadline = time.monotonic() + 1200
    # On a busy machine it may have ended when it is looked at again.
    while run.poll() is None and not _staged(door):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    began = time.monotonic()
    if killed_after is None:
        assert run.wait(1200) == 0
        return time.monotonic() - began
    try:
        run.wait(killed_after)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        wait_until_served(door)
    return killed_after


def _staged(door: Door) -> bool:
    return any(key.startswith("icu/_staging/") for key in door.keys())


def _run_of(store: PipelineStore, name: str) -> str:
    store.download(name)
    return store.stat(name).metadata["run"]
