"""An emulator of Step Functions beside the Prefect server, and processes that end with their test."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from clinops_prefect.testing.step_functions_emulator import Emulator, emulator
from tests.prefect.server import PrefectServer

ROOT = Path(__file__).parents[3]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def aws() -> Iterator[Emulator]:
    with emulator() as running:
        # It sleeps for `seconds`, or until the file `until` exists.
        running.function(
            "sleep",
            "import os, time\n\ndef handler(event, context):\n    ends = time.monotonic() + event['seconds']\n"
            "    while time.monotonic() < ends and not os.path.exists(event.get('until', '')):\n"
            "        time.sleep(0.05)\n    return event\n",
            timeout=900,
        )
        running.function("count", "def handler(event, context):\n    return event | {'n': event.get('n', 0) + 1}\n")
        running.function(
            "gate",
            "import os\n\ndef handler(event, context):\n    if not os.path.exists(event['gate']):\n"
            "        raise RuntimeError('Jane is at the gate')\n    return event | {'passed': True}\n",
        )
        yield running


@pytest.fixture(scope="session")
def let_go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: a file of a machine's name in it ends the sleep of the machine's executions."""
    return tmp_path_factory.mktemp("let-go")


@pytest.fixture(scope="session")
def environment(server: PrefectServer, aws: Emulator, let_go: Path) -> dict[str, str]:
    """The environment of every process of the session."""
    return {
        "CLINOPS_E2E_LET_GO": str(let_go),
        **server.environment,
        **aws.environment,
        "PYTHONPATH": str(ROOT),
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }


@contextlib.contextmanager
def process(
    arguments: list[str], environment: dict[str, str], log: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a process group of its own, which is killed at the end."""
    with log.open("w") if log else open(os.devnull, "w") as output:  # noqa: PTH123
        started = subprocess.Popen(
            [sys.executable, *arguments],
            env=environment,
            cwd=ROOT,
            text=True,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@pytest.fixture
def prefect(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncPrefectClient]:
    """A client of the server. Flows that this process runs use the server and the emulator, too."""
    for key, value in environment.items():
        if key.startswith("AWS_"):
            monkeypatch.setenv(key, value)
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def machine(let_go: Path) -> Iterator[str]:
    """A unique name for a state machine, whose executions sleep no longer than the test lasts."""
    name = f"e2e-{os.getpid()}-{next(_numbers)}"
    yield name
    # A stopped execution's function would sleep on, and the emulator runs only few at once.
    (let_go / name).touch()


@pytest.fixture
def executions(aws: Emulator) -> Callable[[str], dict[str, str]]:
    """The status of each execution of a machine, by name, as boto3 reports it."""
    client = aws.client("stepfunctions")

    def statuses(machine: str) -> dict[str, str]:
        arn = f"arn:aws:states:{aws.region}:{aws.account}:stateMachine:{machine}"
        try:
            listed = client.list_executions(stateMachineArn=arn)["executions"]
        except client.exceptions.StateMachineDoesNotExist:
            return {}
        return {execution["name"]: execution["status"] for execution in listed}

    return statuses


def eventually(condition: Callable[[], Any], seconds: float = 600, *, by: "subprocess.Popen[str] | None" = None) -> Any:
    """Wait until `condition` returns a true value, and return that value; `by`: the process that will make it true."""
    deadline = time.monotonic() + seconds
    while True:
        # Asked before the condition, which the process may make true with its last act.
        ended = None if by is None else by.poll()
        if value := condition():
            return value
        assert ended is None, f"the process ended before, with {ended}"
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.25)
