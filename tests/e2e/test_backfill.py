"""A backfill of ten dates is killed halfway and started again: it finishes, and computes no complete date again."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from clinops_prefect import PipelineStore
from flows.backfill import backfill
from flows.synthetic.tables import generate
from tests.flows.expected import expected_features, stored_features

pytestmark = pytest.mark.usefixtures("server")

DAYS = [dt.date(2024, 1, day) for day in range(1, 11)]
# The command, which publishes no date from the ninth on: so it is killed halfway however late the kill comes.
HALTING = """if True:
    import time
    from flows.running.partition import Partition
    withdraw = Partition.withdraw  # before anything of a date is published
    def halting(self, *given):
        while self.date >= "2024-01-09":
            time.sleep(1)
        withdraw(self, *given)
    Partition.withdraw = halting
    from flows.backfill import main
    main()
"""


def files(store: Path, dates: set[str]) -> dict[Path, int]:
    """The modification time of each file of the dates."""
    return {path: path.stat().st_mtime_ns for date in dates for path in (store / "icu" / date).rglob("*")}


def test_a_killed_backfill_finishes_and_repeats_no_complete_date(tmp_path: Path) -> None:
    source, store = tmp_path / "source", tmp_path / "store"
    generate(source, 40, seed=7)
    arguments = ["--source", str(source), "--store", str(store), "--shards", "2", "--dates", f"{DAYS[0]}..{DAYS[-1]}"]
    command = [sys.executable, "-c", HALTING, *arguments]
    # A session of its own, so that its child processes are killed with it.
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 1200
    while len(list(store.glob("icu/*/manifest.json"))) < 5:
        assert run.poll() is None, "the backfill ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    complete = {path.parent.name for path in store.glob("icu/*/manifest.json")}
    assert 5 <= len(complete) < 10
    before = files(store, complete)
    done = backfill(str(source), str(store), DAYS, shards=2)
    assert files(store, complete) == before
    assert {row["date"] for row in done if row["state"] == "complete before"} == complete
    expected = expected_features(source)
    for day in DAYS:
        found = stored_features(PipelineStore.from_uri(store), day.isoformat())
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert not (store / "icu/_staging").exists()
