"""One emulator for the folder, and names that no two tests share."""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clinops_prefect.testing.step_functions_emulator import Emulator, emulator

# What `fail_once` and the like remember between calls, they keep in files below this variable's directory.
FUNCTIONS = {
    "echo": "def handler(event, context):\n    return event\n",
    "count": "def handler(event, context):\n    return event | {'n': event.get('n', 0) + 1}\n",
    "fail": "def handler(event, context):\n    raise ValueError('the patient is called Jane')\n",
    "sleep": "import time\n\ndef handler(event, context):\n    time.sleep(event['seconds'])\n    return event\n",
    # Returns when the file exists, so that a test decides for how long the execution runs.
    "held": (
        "import os, time\n\ndef handler(event, context):\n"
        "    while not os.path.exists(event['gate']):\n        time.sleep(0.05)\n"
        "    return event\n"
    ),
    # Fails at its first call, and makes the file with which later calls succeed.
    "once": (
        "import os\n\ndef handler(event, context):\n"
        "    if not os.path.exists(event['gate']):\n"
        "        open(event['gate'], 'w').close()\n        raise RuntimeError('the gate is closed')\n"
        "    return event | {'passed': True}\n"
    ),
    "gate": (
        "import os\n\ndef handler(event, context):\n"
        "    if not os.path.exists(event['gate']):\n        raise RuntimeError('the gate is closed')\n"
        "    return event | {'passed': True}\n"
    ),
}


@pytest.fixture(scope="session")
def aws() -> Iterator[Emulator]:
    with emulator() as running:
        for name, source in FUNCTIONS.items():
            running.function(name, source, timeout=600)
        yield running


@pytest.fixture
def function(aws: Emulator) -> Callable[[str], str]:
    """The ARN of one of `FUNCTIONS`."""
    return lambda name: f"arn:aws:lambda:{aws.region}:{aws.account}:function:{name}"


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """The file that a call of the function `held` waits for. At the end of the test there is one in any case."""
    yield tmp_path / "gate"
    (tmp_path / "gate").touch()


_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A state machine's name that nothing else has."""
    return f"machine-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def run(aws: Emulator, name: str) -> Callable[..., dict[str, Any]]:
    """Run a definition through plain boto3, past the code under test; the execution's description."""
    client = aws.client("stepfunctions")

    def execute(definition: dict[str, Any], *inputs: Any) -> list[dict[str, Any]]:
        machine = f"{name}-{next(_numbers)}"
        arn = client.create_state_machine(name=machine, definition=json.dumps(definition), roleArn=aws.role_arn)
        started = [
            client.start_execution(stateMachineArn=arn["stateMachineArn"], name=f"e{number}", input=json.dumps(value))
            for number, value in enumerate(inputs)
        ]
        ended = []
        for execution in started:
            while (description := client.describe_execution(executionArn=execution["executionArn"])) is not None:
                if description["status"] != "RUNNING":
                    break
                time.sleep(0.02)
            ended.append(description)
        return ended

    return execute
