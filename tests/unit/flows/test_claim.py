"""Only one run computes a date at a time: which run has the claim, which is refused, and what a killed run leaves."""

import datetime as dt
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from clinops_prefect import LocalPipelineStore
from flows.running import claim
from flows.running.claim import ClaimLostError, DateClaimedError, check_claim, claimed

DATE = "2024-01-15"


@pytest.fixture
def store(tmp_path: Path) -> LocalPipelineStore:
    return LocalPipelineStore(tmp_path)


def hold(store: LocalPipelineStore, owner: str, warnings: list[str] | None = None) -> AbstractContextManager[None]:
    return claimed(store, DATE, owner, ([] if warnings is None else warnings).append)


def test_a_second_run_is_refused_with_the_time_of_the_claim(store: LocalPipelineStore) -> None:
    with hold(store, "first"):
        check_claim(store, DATE, "first")
        with pytest.raises(DateClaimedError, match=r"2024-01-15 is under way: flow run first began at 20\d\d-"):
            hold(store, "second").__enter__()
        with claimed(store, "2024-01-16", "second", print):  # another date is free
            pass
    with hold(store, "second"):
        check_claim(store, DATE, "second")
    assert store.list_artifacts() == []


def test_a_retried_run_finds_its_own_claim(store: LocalPipelineStore) -> None:
    with hold(store, "one"), hold(store, "one"):
        check_claim(store, DATE, "one")


def test_of_many_runs_that_begin_simultaneously_one_gets_the_claim(store: LocalPipelineStore) -> None:
    begin, held, refused = threading.Barrier(8), [], []

    def run(number: int) -> None:
        begin.wait()
        try:
            with hold(store, str(number)):
                held.append(number)
                while len(refused) < 7:
                    time.sleep(0.01)
        except DateClaimedError:
            refused.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert (len(held), len(refused)) == (1, 7)


def test_the_claim_of_a_process_that_is_gone_is_taken_over_at_once(store: LocalPipelineStore, tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from clinops_prefect import LocalPipelineStore\n"
        "from flows.running.claim import claimed\n"
        f"held = claimed(LocalPipelineStore(sys.argv[1]), {DATE!r}, 'killed', print)\n"
        "held.__enter__()\n"
        "os._exit(9)"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=root, check=False).returncode == 9
    assert store.list_artifacts() == [f"icu/_claims/{DATE}"]
    warnings: list[str] = []
    with hold(store, "next", warnings):
        check_claim(store, DATE, "next")
    assert len(warnings) == 1
    assert "is gone; its claim is taken over" in warnings[0]


def test_a_stale_claim_of_another_machine_is_taken_over_and_its_run_cannot_publish(
    store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_host", lambda: "elsewhere")
    with hold(store, "sleeper"):
        monkeypatch.setattr(claim, "_host", lambda: "here")
        with pytest.raises(DateClaimedError):
            hold(store, "next").__enter__()
        # Not 0: the time of the claim is the file system's, whose clock may be ahead of ours.
        monkeypatch.setattr(claim, "STALE_AFTER", dt.timedelta(days=-1))
        with hold(store, "next"):
            with pytest.raises(ClaimLostError, match="publishes nothing more"):
                check_claim(store, DATE, "sleeper")
            check_claim(store, DATE, "next")


def test_a_heartbeat_keeps_a_claim_fresh(store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "HEARTBEAT_SECONDS", 0.05)
    with hold(store, "one"):
        first = store.stat(f"icu/_claims/{DATE}").created
        deadline = time.monotonic() + 60
        while store.stat(f"icu/_claims/{DATE}").created == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        check_claim(store, DATE, "one")
    assert store.list_artifacts() == []
