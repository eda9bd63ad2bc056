"""Flow runs in real processes are killed, evicted and cancelled: what happens to the execution and to the next run."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Cancelling, Scheduled

from clinops_prefect.step_functions.runs.cancellation import stop_executions_on_cancellation
from tests.e2e.step_functions import flows_under_test
from tests.e2e.step_functions.conftest import ROOT, eventually, process

POOL = "lifecycle"
SOURCE = "tests/e2e/step_functions/flows_under_test.py"
# Longer than any test takes: an execution that is to end before is stopped or let go.
LONG = 850


@pytest.fixture(scope="module")
def worker(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A worker of a process pool. Yields its log."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with process(["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"], environment, log):
        yield log


@pytest.fixture
def start(prefect: SyncPrefectClient, environment: dict[str, str]) -> Callable[..., UUID]:
    """Create a flow run of a deployment of one of the flows under test."""

    def create(name: str, *, pool: bool = True, **parameters: Any) -> UUID:
        flow: Flow[..., Any] = Flow.from_source(source=str(ROOT), entrypoint=f"{SOURCE}:{name}")  # type: ignore[assignment]
        # The pool has no worker, so that the test itself can run the flow run and kill it.
        where = POOL if pool else f"{POOL}-by-hand"
        ensure_pool(environment, where)
        deployment: Any = flow.deploy(f"{name}-{where}", work_pool_name=where, print_next_steps=False)
        return prefect.create_flow_run_from_deployment(deployment, parameters=parameters).id

    return create


def ensure_pool(environment: dict[str, str], name: str) -> None:
    with process(["-m", "prefect", "work-pool", "create", name, "--type", "process"], environment) as created:
        created.wait(600)


def running(statuses: dict[str, str]) -> bool:
    return "RUNNING" in statuses.values()


@pytest.mark.parametrize("name", ["direct", "awaited", "submitted", "unwatched", "nested"])
def test_cancelling_the_flow_run_stops_the_execution(
    name: str,
    start: Callable[..., UUID],
    worker: Path,
    prefect: SyncPrefectClient,
    machine: str,
    executions: Callable[[str], dict[str, str]],
) -> None:
    run = start(name, machine=machine, seconds=LONG)
    eventually(lambda: running(executions(machine)))
    prefect.set_flow_run_state(run, Cancelling())
    eventually(lambda: list(executions(machine).values()) == ["ABORTED"])
    eventually(lambda: prefect.read_flow_run(run).state.is_final())
    assert prefect.read_flow_run(run).state.is_cancelled(), worker.read_text()[-3000:]


def lines_of(report: Path) -> list[str]:
    """The whole lines that a flow has written."""
    return report.read_text().split("\n")[:-1] if report.exists() else []


@contextlib.contextmanager
def by_hand(
    run: UUID, environment: dict[str, str], prefect: SyncPrefectClient, log: Path
) -> Iterator["subprocess.Popen[str]"]:
    """A process that executes the flow run. Yields it when the flow has begun; what ends before is begun again."""
    before = prefect.read_flow_run(run).run_count

    def has_begun() -> bool:
        return prefect.read_flow_run(run).run_count > before

    for is_last in (False, False, True):
        with process(["-m", "prefect", "flow-run", "execute", str(run)], environment, log) as executing:
            eventually(lambda: executing.poll() is not None or has_begun())
            if has_begun():
                yield executing
                return
        print(log.read_text())
        assert not is_last, f"the flow never began, and its process ended with {executing.returncode}"
        prefect.set_flow_run_state(run, Scheduled(), force=True)


def test_a_run_that_is_killed_while_it_polls_and_started_again_finds_its_execution(
    start: Callable[..., UUID],
    environment: dict[str, str],
    prefect: SyncPrefectClient,
    machine: str,
    executions: Callable[[str], dict[str, str]],
    let_go: Path,
    tmp_path: Path,
) -> None:
    report = tmp_path / "report"
    report.with_suffix(".go").touch()
    run = start("then_waits", pool=False, machine=machine, seconds=LONG, report=str(report))
    with by_hand(run, environment, prefect, tmp_path / "first.log") as first:
        eventually(lambda: running(executions(machine)), by=first)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert executions(machine) == {f"{machine}-{run}-0": "RUNNING"}
    prefect.set_flow_run_state(run, Scheduled(), force=True)
    with by_hand(run, environment, prefect, tmp_path / "second.log") as second:
        (let_go / machine).touch()
        eventually(lambda: lines_of(report), by=second)
        eventually(lambda: prefect.read_flow_run(run).state.is_final(), by=second)
    assert json.loads(report.read_text())["output"]["seconds"] == LONG
    assert executions(machine) == {f"{machine}-{run}-0": "SUCCEEDED"}


def test_a_run_that_is_killed_after_the_execution_succeeded_returns_its_output_when_started_again(
    start: Callable[..., UUID],
    environment: dict[str, str],
    prefect: SyncPrefectClient,
    machine: str,
    executions: Callable[[str], dict[str, str]],
    tmp_path: Path,
) -> None:
    report = tmp_path / "report"
    run = start("then_waits", pool=False, machine=machine, seconds=0, report=str(report))
    with by_hand(run, environment, prefect, tmp_path / "first.log") as first:
        eventually(lambda: lines_of(report), by=first)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    report.with_suffix(".go").touch()
    prefect.set_flow_run_state(run, Scheduled(), force=True)
    with by_hand(run, environment, prefect, tmp_path / "second.log") as second:
        eventually(lambda: len(lines_of(report)) == 2, by=second)
        eventually(lambda: prefect.read_flow_run(run).state.is_final(), by=second)
    lines = [json.loads(line) for line in lines_of(report)]
    assert lines[0]["output"] == lines[1]["output"]
    assert lines[0]["output"]["seconds"] == 0
    assert lines[0]["pid"] != lines[1]["pid"]
    assert executions(machine) == {f"{machine}-{run}-0": "SUCCEEDED"}


def test_eviction_leaves_the_execution_running(
    start: Callable[..., UUID],
    environment: dict[str, str],
    prefect: SyncPrefectClient,
    machine: str,
    executions: Callable[[str], dict[str, str]],
    let_go: Path,
    tmp_path: Path,
) -> None:
    run = start("direct", pool=False, machine=machine, seconds=LONG)
    log = tmp_path / "evicted.log"
    with by_hand(run, environment, prefect, log) as evicted:
        eventually(lambda: running(executions(machine)), by=evicted)
        os.killpg(evicted.pid, signal.SIGTERM)
        evicted.wait(600)
    assert executions(machine) == {f"{machine}-{run}-0": "RUNNING"}
    (let_go / machine).touch()
    eventually(lambda: executions(machine) == {f"{machine}-{run}-0": "SUCCEEDED"})


@pytest.mark.parametrize("name", ["direct", "nested"])
def test_the_hook_stops_an_execution_whose_process_is_gone(
    name: str,
    start: Callable[..., UUID],
    environment: dict[str, str],
    prefect: SyncPrefectClient,
    machine: str,
    executions: Callable[[str], dict[str, str]],
    tmp_path: Path,
) -> None:
    run = start(name, pool=False, machine=machine, seconds=LONG)
    with by_hand(run, environment, prefect, tmp_path / "gone.log") as gone:
        eventually(lambda: running(executions(machine)), by=gone)
        os.killpg(gone.pid, signal.SIGKILL)
        gone.wait()
    stop_executions_on_cancellation(getattr(flows_under_test, name), prefect.read_flow_run(run), Cancelling())
    ((execution, status),) = executions(machine).items()
    assert status == "ABORTED"
    assert execution.startswith(f"{machine}-{run}-")
