"""Step Functions is eventually consistent, and refuses changes that collide: old answers, deletions and conflicts."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clinops_prefect.errors import ExecutionFailedError, InvalidExecutionError, ServiceUnavailableError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import PipelineStep
from clinops_prefect.testing.step_functions_emulator import Emulator
from tests.step_functions.test_pipeline import pipeline

__all__ = ["pipeline"]


@contextmanager
def answered(pipeline: StepFunctionsPipeline, action: str, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """Let `change` edit each answer of `action` that is no error."""
    event = f"after-call.stepfunctions.{action}"

    def edit(parsed: dict[str, Any], **_: Any) -> None:
        if "Error" not in parsed:
            change(parsed)

    events = pipeline.client().meta.events
    events.register(event, edit)
    try:
        yield
    finally:
        events.unregister(event, edit)


def failed(pipeline: StepFunctionsPipeline, function: Callable[[str], str], gate: Path) -> tuple[str, dict[str, Any]]:
    """A failed execution of the name `purpose`, and its description."""
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.run({}, "purpose")
    arn = caught.value.execution_arn
    return arn, dict(pipeline.client().describe_execution(executionArn=arn))


@pytest.mark.parametrize("how", ["run", "redrive"])
def test_an_old_failure_is_not_taken_for_the_end_of_the_redrive(
    how: str, pipeline: StepFunctionsPipeline, function: Callable[[str], str], tmp_path: Path
) -> None:
    arn, old = failed(pipeline, function, tmp_path / "gate")
    (tmp_path / "gate").touch()
    left = [3]

    def describe_late(parsed: dict[str, Any]) -> None:
        if left[0]:
            left[0] -= 1
            parsed.clear()
            parsed.update(old)

    with answered(pipeline, "DescribeExecution", describe_late):
        if how == "run":
            output = pipeline.run({}, "purpose")
        else:
            pipeline.redrive(arn)
            output = pipeline.wait(arn)
    assert output["passed"]
    assert left == [0]


def test_a_redrive_that_fails_again_is_reported_without_delay(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arn, _ = failed(pipeline, function, tmp_path / "gate")
    monkeypatch.setattr("clinops_prefect.step_functions.service.executions._SETTLES_IN", 3600.0)
    pipeline.redrive(arn)
    with pytest.raises(ExecutionFailedError):
        pipeline.wait(arn)


def test_the_redrive_of_another_process_is_joined_though_aws_still_shows_the_failure(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], tmp_path: Path
) -> None:
    """The other process redrives between our look and our own redrive."""
    arn, old = failed(pipeline, function, tmp_path / "gate")
    left = [2]

    def describe_late(parsed: dict[str, Any]) -> None:
        parsed.clear()
        parsed.update(old if left[0] else old | {"status": "RUNNING", "redriveStatus": "NOT_REDRIVABLE"})
        left[0] -= 1

    aws.fail("RedriveExecution", "ExecutionNotRedrivable")
    with answered(pipeline, "DescribeExecution", describe_late):
        pipeline.redrive(arn)
    assert left == [-1]


def test_a_failure_that_aws_never_redrives_is_refused_in_the_end(
    pipeline: StepFunctionsPipeline,
    aws: Emulator,
    function: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clinops_prefect.step_functions.service.executions._SETTLES_IN", 1.0)
    arn, _ = failed(pipeline, function, tmp_path / "gate")
    aws.fail("RedriveExecution", "ExecutionNotRedrivable")
    with pytest.raises(InvalidExecutionError, match="cannot be redriven"):
        pipeline.redrive(arn)


@pytest.mark.parametrize("publish", [False, True])
def test_a_machine_that_is_being_deleted_is_not_taken_for_deployed(
    publish: bool, pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.deploy(publish)

    def deleting(parsed: dict[str, Any]) -> None:
        parsed["status"] = "DELETING"

    with answered(pipeline, "DescribeStateMachine", deleting), pytest.raises(ServiceUnavailableError, match="deleted"):
        pipeline.deploy(publish)


@pytest.mark.parametrize("publish", [False, True])
@pytest.mark.parametrize(
    "action", ["CreateStateMachine", "UpdateStateMachine", "PublishStateMachineVersion", "UpdateStateMachineAlias"]
)
def test_changes_that_collide_are_made_again(
    action: str, publish: bool, pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    if action == "UpdateStateMachineAlias":
        pipeline.alias = "live"
    pipeline.add_step(PipelineStep("A", function("count")))
    if action != "CreateStateMachine":
        pipeline.deploy()
    if action.startswith("Update"):
        pipeline.comment = "changed"
    aws.forget_calls()
    aws.fail(action, "ConflictException", times=2)
    assert pipeline.deploy(publish).startswith(pipeline.state_machine_arn)
    asked = aws.calls().get(action, 0)
    assert asked == (0 if action.startswith("Publish") and not publish else 3)
    found = aws.client("stepfunctions").describe_state_machine(stateMachineArn=pipeline.state_machine_arn)
    assert json.loads(found["definition"]) == pipeline.definition()


def test_collisions_without_end_are_a_busy_service(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinops_prefect.step_functions.service.versions.ROUNDS", 3)
    pipeline.alias = "live"
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.deploy()
    pipeline.comment = "changed"
    aws.fail("UpdateStateMachineAlias", "ConflictException", times=3)
    with pytest.raises(ServiceUnavailableError, match="changed by others"):
        pipeline.deploy()
