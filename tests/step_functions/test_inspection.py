"""What AWS says before anything is deployed. Nothing here ran on AWS: botocore checks the requests and the answers."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from clinops_prefect.errors import (
    AccessDeniedError,
    ArtifactDecodeError,
    InvalidExecutionError,
    InvalidPipelineError,
    OperationNotSupportedError,
)
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep
from clinops_prefect.testing.step_functions_emulator import Emulator

ROLE = "arn:aws:iam::123456789012:role/StepFunctionsRole"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:ingest"


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> StepFunctionsPipeline:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    made = StepFunctionsPipeline("p", ROLE, region="us-east-1", timeout_seconds=60)
    made.add_step(PipelineStep("A", FUNCTION, {"date": "2024-01-01"}))
    return made.add_step(MapStep("M", [PipelineStep("Inner", FUNCTION)], "$.items"))


@pytest.fixture
def stub(pipeline: StepFunctionsPipeline) -> Iterator[Stubber]:
    """Answers in AWS's place, and holds requests and answers against AWS's own model of the service."""
    with Stubber(pipeline.client()) as stubber:
        yield stubber


def answer(stub: Stubber, operation: str, response: dict[str, Any]) -> list[dict[str, Any]]:
    """The requests that are made of it."""
    sent: list[dict[str, Any]] = []
    stub.add_response(operation, response)
    stub.client.meta.events.register_first(
        "provide-client-params.stepfunctions.*", lambda params, **_: sent.append(dict(params))
    )
    return sent


def test_aws_takes_the_definition_and_says_what_it_would_do_otherwise(
    pipeline: StepFunctionsPipeline, stub: Stubber
) -> None:
    warning = {"severity": "WARNING", "code": "W", "message": "no time-out", "location": "/States/M"}
    answer(stub, "validate_state_machine_definition", {"result": "OK", "diagnostics": [warning]})
    assert pipeline.validate() == ["/States/M: no time-out (W)"]
    stub.assert_no_pending_responses()


def test_what_aws_finds_is_the_errors_problems(pipeline: StepFunctionsPipeline, stub: Stubber) -> None:
    found = [
        {"severity": "WARNING", "code": "W", "message": "no time-out"},
        {
            "severity": "ERROR",
            "code": "MISSING_TRANSITION_TARGET",
            "message": "no state X",
            "location": "/States/A/Next",
        },
        {"severity": "ERROR", "code": "SCHEMA", "message": "bad field"},
    ]
    answer(stub, "validate_state_machine_definition", {"result": "FAIL", "diagnostics": found, "truncated": True})
    with pytest.raises(InvalidPipelineError, match="AWS left out") as caught:
        pipeline.validate()
    assert caught.value.problems == ["/States/A/Next: no state X (MISSING_TRANSITION_TARGET)", "bad field (SCHEMA)"]
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    assert caught.value.uri.endswith(":stateMachine:p")


def test_the_request_is_the_definition_of_its_type(pipeline: StepFunctionsPipeline, stub: Stubber) -> None:
    sent = answer(stub, "validate_state_machine_definition", {"result": "OK", "diagnostics": []})
    assert pipeline.validate() == []
    assert json.loads(sent[0].pop("definition")) == pipeline.definition()
    assert sent == [{"type": "STANDARD", "severity": "WARNING"}]
    pipeline.steps.clear()
    with pytest.raises(InvalidPipelineError):
        pipeline.validate()
    assert len(sent) == 1, "what check() finds is not asked of AWS"


def test_without_credentials_validate_says_so(pipeline: StepFunctionsPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    # Only so that the cache makes a client for this environment.
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/else")
    with pytest.raises(AccessDeniedError, match="credentials"):
        pipeline.validate()


@pytest.mark.parametrize("name", ["A", "Inner"])
def test_one_step_is_tested_with_the_role_and_secrets_stay_away(
    pipeline: StepFunctionsPipeline, stub: Stubber, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "clinops_prefect")
    sent = answer(stub, "test_state", {"status": "SUCCEEDED", "output": '{"patient": "Jane"}', "nextState": "M"})
    tested = pipeline.test_step(name, {"date": "2024-01-15", "key": "s3cret"})
    assert (tested.status, tested.output, tested.next_state) == ("SUCCEEDED", {"patient": "Jane"}, "M")
    (request,) = sent
    state = json.loads(request["definition"])
    assert (state["Type"], state["Resource"]) == ("Task", FUNCTION)
    assert (request["roleArn"], request["revealSecrets"]) == (ROLE, False)
    assert json.loads(request["input"]) == {"date": "2024-01-15", "key": "s3cret"}
    assert "mock" not in request
    assert not {"Jane", "s3cret"} & set((repr(tested) + caplog.text).replace('"', " ").replace("'", " ").split())


def test_a_mocked_step_gets_the_runs_own_values(pipeline: StepFunctionsPipeline, stub: Stubber) -> None:
    sent = answer(stub, "test_state", {"status": "CAUGHT_ERROR", "error": "E", "cause": "Jane", "nextState": "H"})
    tested = pipeline.test_step("M", {"items": [1]}, result=[2])
    assert (tested.status, tested.error, tested.cause, tested.output) == ("CAUGHT_ERROR", "E", "Jane", None)
    assert "Jane" not in repr(tested)
    assert json.loads(sent[0]["mock"]["result"]) == [2]
    assert json.loads(sent[0]["context"]) == {"Execution": {"Input": {"items": [1]}}}


def test_what_cannot_be_tested_is_refused(pipeline: StepFunctionsPipeline, stub: Stubber) -> None:
    with pytest.raises(InvalidPipelineError, match="no step 'Nope'"):
        pipeline.test_step("Nope")
    with pytest.raises(InvalidExecutionError, match="result"):
        pipeline.test_step("A", result=float("nan"))
    stub.add_client_error("test_state", "InvalidExecutionInput", "Jane")
    with pytest.raises(InvalidExecutionError) as caught:
        pipeline.test_step("A")
    assert "Jane" not in str(caught.value)
    stub.add_client_error("test_state", "InvalidDefinition", "a map needs a mock")
    with pytest.raises(InvalidPipelineError, match="a map needs a mock"):
        pipeline.test_step("M")
    stub.add_response("test_state", {"status": "SUCCEEDED", "output": "no json"})
    with pytest.raises(ArtifactDecodeError):
        pipeline.test_step("A")


def test_an_emulator_says_that_it_cannot(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    pipeline = StepFunctionsPipeline("p", ROLE, steps=[PipelineStep("A", FUNCTION)])
    with pytest.raises(OperationNotSupportedError, match="ValidateStateMachineDefinition"):
        pipeline.validate()
    with pytest.raises(OperationNotSupportedError, match="is not AWS"):
        pipeline.test_step("A")
