"""Keys that are rotated in the credentials file while a process works and waits."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clinops_prefect.errors import AccessDeniedError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import PipelineStep
from clinops_prefect.testing.step_functions_emulator import Emulator

ENDED = "ExpiredTokenException"


@pytest.fixture
def rotate(monkeypatch: pytest.MonkeyPatch, aws: Emulator, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Put a key into the credentials file, which is the only place where one is."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", aws.region)
    aws.forget_calls()

    def put(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key=s\n")

    yield put
    # Others use the emulator too, and must not meet the faults that nobody asked for.
    aws.forget_calls()


def key_of(pipeline: StepFunctionsPipeline) -> str:
    """The access key that a request of the pipeline is signed with."""
    seen: list[str] = []

    def record(request: Any, **_: Any) -> None:
        seen.append(str(request.headers["Authorization"]).partition("Credential=")[2].partition("/")[0])

    client = pipeline.client()
    client.meta.events.register("before-send.stepfunctions.*", record)
    client.list_executions(stateMachineArn=pipeline.state_machine_arn)
    # botocore may give the header as bytes.
    return seen[-1].strip("b'")


def test_a_wait_outlives_its_keys_and_a_refusal_that_stays_is_raised(
    rotate: Callable[[str], None], aws: Emulator, function: Callable[[str], str], name: str, gate: Path
) -> None:
    rotate("AKIDOLD")
    pipeline = StepFunctionsPipeline(name, aws.role_arn)
    pipeline.add_step(PipelineStep("Held", function("held"), {"gate": str(gate)}))
    pipeline.deploy()
    execution = pipeline.execute({})
    assert key_of(pipeline) == "AKIDOLD"
    outputs: list[Any] = []
    waiting = threading.Thread(target=lambda: outputs.append(pipeline.wait(execution)), daemon=True)
    waiting.start()
    aws.forget_calls()
    while not aws.calls().get("GetExecutionHistory"):
        time.sleep(0.05)
    before = pipeline.client()
    rotate("AKIDNEW")
    aws.fail("GetExecutionHistory", ENDED)
    # The execution ends only after the wait was refused, which makes the pipeline forget the old client.
    while pipeline.client() is before and waiting.is_alive():
        time.sleep(0.05)
    gate.touch()
    waiting.join()
    assert outputs == [{"gate": str(gate)}]
    assert key_of(pipeline) == "AKIDNEW"
    aws.fail("GetExecutionHistory", ENDED, times=5)
    aws.fail("DescribeExecution", ENDED, times=5)
    with pytest.raises(AccessDeniedError, match=ENDED):
        pipeline.wait(execution)


def test_a_call_after_a_refusal_reads_the_keys_anew_and_a_missing_permission_changes_nothing(
    rotate: Callable[[str], None], aws: Emulator, function: Callable[[str], str], name: str
) -> None:
    rotate("AKIDOLD")
    pipeline = StepFunctionsPipeline(name, aws.role_arn)
    pipeline.add_step(PipelineStep("Count", function("count")))
    pipeline.deploy()
    aws.fail("DescribeStateMachine", ENDED)
    with pytest.raises(AccessDeniedError):
        pipeline.deploy()
    rotate("AKIDNEW")
    assert pipeline.deploy() == pipeline.state_machine_arn
    assert key_of(pipeline) == "AKIDNEW"
    before = pipeline.client()
    aws.fail("DescribeStateMachine", "AccessDeniedException")
    with pytest.raises(AccessDeniedError):
        pipeline.deploy()
    assert pipeline.client() is before
