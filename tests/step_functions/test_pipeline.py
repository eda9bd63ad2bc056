"""Deploy, execute, wait, stop, redrive and history, on a Step Functions that really runs the states."""

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import pytest

from clinops_prefect.errors import (
    ExecutionFailedError,
    ExecutionNotFoundError,
    ExecutionTimeoutError,
    InvalidExecutionError,
    InvalidPipelineError,
    OperationNotSupportedError,
    StateMachineNotFoundError,
)
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.merge import nested_output
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep, S3Items, S3Results
from clinops_prefect.testing.step_functions_emulator import Emulator


@pytest.fixture
def pipeline(aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch) -> StepFunctionsPipeline:
    """A pipeline without steps yet, that finds the emulator as a user's process finds AWS: by its environment."""
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    aws.forget_calls()
    return StepFunctionsPipeline(name=name, role_arn=aws.role_arn)


def test_the_documented_example_works_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = StepFunctionsPipeline(
        name="clinops-daily-ingest",
        role_arn="arn:aws:iam::123456789:role/StepFunctionsRole",
        region="us-east-1",
    )
    ingest = PipelineStep(
        name="Ingest",
        resource="arn:aws:lambda:us-east-1:123456789:function:clinops-ingest",
        parameters={"source": "mimic-iv", "date": "2024-01-01"},
        timeout_seconds=1800,
    )
    assert pipeline.add_step(ingest) is pipeline
    pipeline.add_step(
        PipelineStep(
            name="Preprocess",
            resource="arn:aws:lambda:us-east-1:123456789:function:clinops-preprocess",
            retry_attempts=2,
        )
    )
    made = json.loads(pipeline.definition_json())
    assert list(made) == ["Comment", "StartAt", "States"]
    assert pipeline.definition() == made
    # AWS's account ids have twelve digits.
    assert len(pipeline.check()) == 1


def test_a_block_survives_pickling_and_prefects_hydration(aws: Emulator, name: str) -> None:
    pipeline = StepFunctionsPipeline(name, aws.role_arn, region="us-east-1", endpoint_url=aws.url)
    pipeline.add_step(PipelineStep("A", "arn:aws:lambda:::function:f", {"x": {"y": [1]}}))
    pipeline.add_step(MapStep("M", [PipelineStep("B", "arn:aws:lambda:::function:f")], S3Items("b", "k.csv")))
    pipeline.client()
    assert cloudpickle.loads(cloudpickle.dumps(pipeline)).definition() == pipeline.definition()
    assert pickle.loads(pickle.dumps(pipeline)).definition() == pipeline.definition()
    stored = json.loads(pipeline.model_dump_json())
    stored["_block_document_id"] = None
    stored["_block_document_name"] = "prod"
    again = StepFunctionsPipeline(**stored)
    assert again.definition() == pipeline.definition()
    assert again._block_document_name == "prod"


# What version 0.1.0 stored, before steps had `output`, `retry` and the like.
SAVED = {
    "name": "saved",
    "role_arn": "arn:aws:iam::123456789012:role/r",
    "region": "us-east-1",
    "steps": [
        {
            "name": "A",
            "resource": "arn:aws:lambda:us-east-1:123456789012:function:f",
            "parameters": {"x": 1},
            "retry_attempts": 3,
            "timeout_seconds": 3600,
            "comment": "",
            "heartbeat_seconds": 0,
            "catch": [{"ErrorEquals": ["States.ALL"], "Next": "M", "ResultPath": "$.error"}],
            "retry_on": [],
            "pass_input": True,
        },
        {
            "name": "M",
            "steps": [{"name": "B", "resource": "arn:aws:lambda:::function:f"}],
            "items": {"bucket": "b", "key": "k.csv", "prefix": "", "input_type": "", "max_items": 0},
            "max_concurrency": 0,
            "tolerated_failure_percentage": 0.0,
            "batch_size": 0,
            "results": {"bucket": "b", "prefix": "p"},
            "execution_type": "STANDARD",
            "comment": "",
        },
    ],
    "comment": "",
    "profile": "",
    "credentials": None,
    "endpoint_url": "",
    "timeout_seconds": 0,
    "type": "STANDARD",
    "tags": {},
    "logging_configuration": {},
    "tracing_configuration": {},
    "allow_http": False,
    "show_cause": False,
    "block_type_slug": "step-functions-pipeline",
}


def test_a_block_that_an_earlier_version_saved_is_loaded() -> None:
    pipeline = StepFunctionsPipeline(**json.loads(json.dumps(SAVED)))
    assert pipeline.check() == []
    states = pipeline.definition()["States"]
    assert list(states) == ["A", "M"]
    assert states["A"]["Catch"][0]["Output"] == nested_output(["error"], "$states.errorOutput")
    assert (pipeline.keep_versions, pipeline.handlers) == (100, [])


def test_a_misspelt_keyword_names_the_field_that_was_meant() -> None:
    with pytest.raises(TypeError, match="did you mean 'role_arn'"):
        StepFunctionsPipeline(name="n", rolearn="r")


def test_all_problems_come_in_one_error() -> None:
    pipeline = StepFunctionsPipeline(
        name="a name?",
        role_arn="role",
        tags={"aws:x": "y"},
        logging_configuration={"level": "ALL"},
        steps=[PipelineStep("s", "nothing")],
    )
    with pytest.raises(InvalidPipelineError) as caught:
        pipeline.deploy()
    assert len(caught.value.problems) == 5
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    with pytest.raises(InvalidPipelineError, match="already"):
        pipeline.add_step(PipelineStep("s", "other"))


def test_deploy_creates_then_does_nothing_then_updates(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.tags = {"team": "icu"}
    arn = pipeline.deploy()
    assert pipeline.deploy() == arn
    assert aws.calls() == {"DescribeStateMachine": 2, "CreateStateMachine": 1, "ListTagsForResource": 1}

    pipeline.add_step(PipelineStep("B", function("count")))
    pipeline.tags = {"team": "icu", "data": "phi"}
    pipeline.tracing_configuration = {"enabled": True}
    assert pipeline.deploy() == arn
    client = aws.client("stepfunctions")
    found = client.describe_state_machine(stateMachineArn=arn)
    assert list(json.loads(found["definition"])["States"]) == ["A", "B"]
    assert found["tracingConfiguration"] == {"enabled": True}
    tags = {tag["key"]: tag["value"] for tag in client.list_tags_for_resource(resourceArn=arn)["tags"]}
    assert tags == {"team": "icu", "data": "phi"}


def test_publish_gives_one_version_per_definition(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    first = pipeline.deploy(publish=True)
    assert first == f"{pipeline.state_machine_arn}:1"
    assert pipeline.deploy(publish=True) == first
    pipeline.add_step(PipelineStep("B", function("count")))
    second = pipeline.deploy(publish=True)
    assert second == f"{pipeline.state_machine_arn}:2"
    assert pipeline.wait(pipeline.execute({}, state_machine_arn=first)) == {"n": 1}
    assert pipeline.wait(pipeline.execute({}, state_machine_arn=second)) == {"n": 2}


ASSUME = (
    "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to assume the "
    "provided role."
)
LOGS = "The state machine IAM Role is not authorized to access the Log Destination"


@pytest.mark.parametrize("action", ["CreateStateMachine", "UpdateStateMachine"])
@pytest.mark.parametrize("words", [ASSUME, LOGS, "'arn:aws:iam::1:role/x' is not authorized to create managed-rule."])
def test_a_role_that_was_just_made_is_waited_for(
    action: str,
    words: str,
    pipeline: StepFunctionsPipeline,
    aws: Emulator,
    function: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clinops_prefect.step_functions.service.deployment._ASKED_EVERY", 0.1)
    pipeline.add_step(PipelineStep("A", function("count")))
    if action == "UpdateStateMachine":
        pipeline.deploy()
        pipeline.comment = "changed"
    aws.fail(action, "AccessDeniedException", times=2, message=words)
    assert pipeline.deploy(publish=True).startswith(pipeline.state_machine_arn)


def test_a_refusal_that_no_wait_helps_comes_at_once_in_awss_own_words(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    words = (
        "User: arn:aws:iam::1:user/ann is not authorized to perform: iam:PassRole on resource: arn:aws:iam::1:role/x"
    )
    aws.fail("CreateStateMachine", "AccessDeniedException", message=words)
    with pytest.raises(PermissionError, match="iam:PassRole on resource"):
        pipeline.deploy()
    assert aws.calls()["CreateStateMachine"] == 1
    # A wait ends.
    monkeypatch.setattr("clinops_prefect.step_functions.service.deployment._PROPAGATES_IN", 1.0)
    monkeypatch.setattr("clinops_prefect.step_functions.service.deployment._ASKED_EVERY", 0.3)
    aws.fail("CreateStateMachine", "AccessDeniedException", times=100, message=ASSUME)
    with pytest.raises(PermissionError, match="assume the provided role"):
        pipeline.deploy()


def versions_of(aws: Emulator, pipeline: StepFunctionsPipeline) -> list[int]:
    listed = aws.client("stepfunctions").list_state_machine_versions(stateMachineArn=pipeline.state_machine_arn)
    return [int(version["stateMachineVersionArn"].rpartition(":")[2]) for version in listed["stateMachineVersions"]]


def test_the_newest_versions_and_those_with_an_alias_stay(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.keep_versions = 3
    pipeline.add_step(PipelineStep("A", function("count")))
    first = pipeline.deploy(publish=True)
    aws.client("stepfunctions").create_state_machine_alias(
        name="prod", routingConfiguration=[{"stateMachineVersionArn": first, "weight": 100}]
    )
    for number in range(5):
        pipeline.comment = str(number)
        pipeline.deploy(publish=True)
    assert versions_of(aws, pipeline) == [6, 5, 4, 1]
    # An unchanged machine is not looked through.
    aws.forget_calls()
    pipeline.deploy(publish=True)
    assert aws.calls() == {"DescribeStateMachine": 1, "PublishStateMachineVersion": 1}


def test_a_machine_that_is_full_of_versions_makes_room_or_says_so(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.keep_versions = 0
    pipeline.add_step(PipelineStep("A", function("count")))
    for number in range(4):
        pipeline.comment = str(number)
        pipeline.deploy(publish=True)
    pipeline.comment = "more"
    aws.fail("UpdateStateMachine", "ServiceQuotaExceededException")
    with pytest.raises(OperationNotSupportedError, match="keep_versions"):
        pipeline.deploy(publish=True)
    pipeline.keep_versions = 2
    aws.fail("UpdateStateMachine", "ServiceQuotaExceededException")
    assert pipeline.deploy(publish=True).endswith(":5")
    assert versions_of(aws, pipeline) == [5, 4]
    # Whoever may not delete versions can deploy all the same.
    pipeline.comment = "again"
    aws.fail("DeleteStateMachineVersion", "AccessDeniedException", message="states:DeleteStateMachineVersion")
    assert pipeline.deploy(publish=True).endswith(":6")
    assert "states:DeleteStateMachineVersion" in caplog.text
    assert "keep_versions" in StepFunctionsPipeline("p", aws.role_arn, keep_versions=1000).check()[-1]


def test_deploys_that_race_all_end_well(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    others = [pipeline.model_copy(update={"steps": [PipelineStep(f"S{i}", function("count"))]}) for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda other: other.deploy(), others)) == {pipeline.state_machine_arn}
    found = aws.client("stepfunctions").describe_state_machine(stateMachineArn=pipeline.state_machine_arn)
    assert json.loads(found["definition"]) in [other.definition() for other in others]


def test_each_steps_output_is_the_next_ones_input(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("One", function("count"), {"date": "2024-01-01", "source": "mimic-iv"}))
    pipeline.add_step(PipelineStep("Two", function("count")))
    invoke = PipelineStep(
        "Three", "arn:aws:states:::lambda:invoke", {"FunctionName": "count", "Payload": {"more": [1]}}
    )
    pipeline.add_step(invoke)
    pipeline.deploy()
    output = pipeline.wait(pipeline.execute(input_data={"date": "2024-01-15"}, execution_name="daily-2024-01-15"))
    assert output == {"n": 3, "date": "2024-01-15", "source": "mimic-iv", "more": [1]}


INVOKE = "arn:aws:states:::lambda:invoke"
SPELLINGS = [
    {"FunctionName": "count", "Payload": {"k": 1}},
    {"FunctionName": "count", "Payload.$": "$"},
    {"FunctionName": "count", "Payload": {"k.$": "$.k"}},
    {"FunctionName.$": "$.function", "Payload": {"k": 1}},
    {"FunctionName": "count", "Payload": {"k": 1}, "InvocationType": "RequestResponse"},
]


@pytest.mark.parametrize("pass_input", [True, False])
@pytest.mark.parametrize("parameters", SPELLINGS)
def test_a_step_hands_on_what_the_function_returned_however_its_arguments_are_spelt(
    parameters: dict[str, object], pass_input: bool, pipeline: StepFunctionsPipeline
) -> None:
    pipeline.add_step(PipelineStep("Invoke", INVOKE, parameters, pass_input=pass_input))
    pipeline.deploy()
    output = pipeline.wait(pipeline.execute({"k": 1, "function": "count"}))
    assert (output["k"], output["n"]) == (1, 1)
    assert "Payload" not in output


@pytest.mark.parametrize("given", [{"k": 1}, [1, 2]], ids=["object", "list"])
@pytest.mark.parametrize("resource", ["arn", INVOKE])
@pytest.mark.parametrize("parameters", [{}, {"p": 1}])
def test_what_a_step_returns_can_be_kept_beside_what_flowed_in(
    parameters: dict[str, int],
    resource: str,
    given: object,
    pipeline: StepFunctionsPipeline,
    aws: Emulator,
    name: str,
) -> None:
    arn = aws.function(name, "def handler(event, context):\n    return {'uri': 's3://x', 'k': 2}\n")
    flow = given if isinstance(given, dict) else {"input": given}
    arguments = parameters if resource == "arn" else {"FunctionName": name, "Payload": parameters}

    def step(**options: str) -> PipelineStep:
        return PipelineStep("A", arn if resource == "arn" else resource, arguments, **options)

    expected = [
        (step(), {"uri": "s3://x", "k": 2}),
        (step(output="merge"), flow | {"uri": "s3://x", "k": 2}),
        (step(output="keep"), given),
        (step(result_key="written"), flow | {"written": {"uri": "s3://x", "k": 2}}),
    ]
    for made, output in expected:
        pipeline.steps = [made]
        assert pipeline.check() == []
        pipeline.deploy()
        assert pipeline.wait(pipeline.execute(given)) == output


def test_a_step_of_own_paths_keeps_what_flowed_in(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    for options, output in (({"result_key": "x"}, {"k": 1, "x": {"v": 1, "n": 1}}), ({"output": "keep"}, {"k": 1})):
        pipeline.steps = [PipelineStep("A", function("count"), {"v.$": "$.k"}, pass_input=False, **options)]
        pipeline.deploy()
        assert pipeline.wait(pipeline.execute({"k": 1})) == output


def test_ingest_put_item_preprocess_loses_nothing(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], name: str
) -> None:
    aws.client("s3").create_bucket(Bucket=name)
    put = {"Bucket": name, "Key": "done", "Body": "text"}
    pipeline.add_step(PipelineStep("Ingest", function("count"), {"uri": "s3://x"}))
    pipeline.add_step(PipelineStep("Put", "arn:aws:states:::aws-sdk:s3:putObject", put, output="keep"))
    pipeline.add_step(PipelineStep("Preprocess", function("count")))
    pipeline.deploy()
    assert pipeline.wait(pipeline.execute({})) == {"uri": "s3://x", "n": 2}


def test_execute_refuses_before_anything_starts(pipeline: StepFunctionsPipeline, aws: Emulator) -> None:
    for value in (float("nan"), {1: 2}, {"a": {1}}, "x" * 262_144):
        with pytest.raises(InvalidExecutionError):
            pipeline.execute(value)
    for bad in ("a b", "x" * 81, "a/b", "a\x07"):
        with pytest.raises(InvalidExecutionError):
            pipeline.execute({}, bad)
    assert aws.calls() == {}
    with pytest.raises(StateMachineNotFoundError, match="deploy"):
        pipeline.execute({})


def test_a_name_is_one_execution(pipeline: StepFunctionsPipeline, function: Callable[[str], str], gate: Path) -> None:
    pipeline.add_step(PipelineStep("A", function("held")))
    pipeline.deploy()
    given = {"gate": str(gate)}
    running = pipeline.execute(given, "same")
    assert pipeline.execute(given, "same") == running
    with pytest.raises(InvalidExecutionError, match="'same' is taken"):
        pipeline.execute(given | {"k": 2}, "same")
    gate.touch()
    pipeline.wait(running)
    with pytest.raises(InvalidExecutionError, match="'same' is taken"):
        pipeline.execute(given, "same")
    assert len({pipeline.execute(given) for _ in range(5)}) == 5


def test_a_failure_names_the_state_and_keeps_the_cause_out_of_sight(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.add_step(PipelineStep("Fine", function("count")))
    pipeline.add_step(PipelineStep("Broken", function("fail"), retry_attempts=1))
    pipeline.deploy()
    arn = pipeline.execute({})
    with caplog.at_level("DEBUG", "clinops_prefect"), pytest.raises(ExecutionFailedError) as caught:
        pipeline.wait(arn)
    error = caught.value
    assert (error.status, error.error, error.failed_state, error.execution_arn) == (
        "FAILED",
        "ValueError",
        "Broken",
        arn,
    )
    assert "Jane" in error.cause
    assert "'Broken'" in str(error)
    assert "ValueError" in str(error)
    assert "Jane" not in str(error) + repr(error) + caplog.text
    events = [(event.state, event.event) for event in pipeline.history(arn)]
    # One retry: two failures of one state.
    assert events == [
        ("", "started"),
        ("Fine", "entered"),
        ("Fine", "exited"),
        ("Broken", "entered"),
        ("Broken", "failed"),
        ("Broken", "failed"),
        ("", "ended"),
    ]
    pipeline.show_cause = True
    with pytest.raises(ExecutionFailedError, match="Jane"):
        pipeline.wait(arn)


def test_a_retry_can_succeed(pipeline: StepFunctionsPipeline, function: Callable[[str], str], gate: Path) -> None:
    pipeline.add_step(PipelineStep("A", function("once"), retry_attempts=1))
    pipeline.deploy()
    arn = pipeline.execute({"gate": str(gate)})
    assert pipeline.wait(arn)["passed"]
    assert [event.error for event in pipeline.history(arn) if event.event == "failed"] == ["RuntimeError"]


def test_a_caught_error_reaches_its_handler(pipeline: StepFunctionsPipeline, function: Callable[[str], str]) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Handler", "ResultPath": "$.error"}]
    pipeline.add_step(PipelineStep("Broken", function("fail"), {"p": 1}, retry_attempts=0, catch=catch))
    pipeline.add_step(PipelineStep("Skipped", function("count")))
    pipeline.add_step(PipelineStep("Handler", function("echo")))
    pipeline.deploy()
    output = pipeline.wait(pipeline.execute({"kept": 1}))
    assert output["kept"] == 1
    assert "n" not in output
    assert output["error"]["Error"] == "ValueError"


@pytest.mark.parametrize("parameters", [{}, {"p": 1}, {"p.$": "$.kept"}], ids=["plain", "merged", "own"])
def test_a_handler_runs_off_the_chain_and_the_execution_fails_with_what_was_caught(
    parameters: dict[str, object], pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Notify", "ResultPath": "$.error"}]
    pipeline.add_step(PipelineStep("Broken", function("fail"), parameters, retry_attempts=0, catch=catch))
    pipeline.add_handler(PipelineStep("Notify", function("echo")))
    pipeline.deploy()
    arn = pipeline.execute({"kept": 1})
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.wait(arn)
    assert caught.value.error == "ValueError"
    assert "Jane" in caught.value.cause
    entered = [event.state for event in pipeline.history(arn) if event.event == "entered"]
    assert entered == ["Broken", "Notify", "Notify: fails"]
    assert "filled" in str(pipeline.visualize())


@pytest.mark.parametrize("given", [[{"id": 1}, {"id": 2}], "text", 7])
def test_a_handler_gets_an_input_that_is_no_object_beside_the_error(
    given: object, pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Mend", "ResultPath": "$.error"}]
    pipeline.add_step(PipelineStep("Hand on", function("echo"), {"given": given}))
    pick = PipelineStep("Pick", "arn:aws:states:::lambda:invoke", {"FunctionName": "echo", "Payload.$": "$.given"})
    pipeline.add_step(pick)
    pipeline.add_step(PipelineStep("Broken", function("fail"), {"p": 1}, retry_attempts=0, catch=catch))
    pipeline.add_handler(PipelineStep("Mend", function("echo")), fails=False)
    output = pipeline.run({})
    assert output.pop("error")["Error"] == "ValueError"
    assert output == {"input": given}


def test_a_handler_may_let_the_execution_succeed_and_is_passed_by_when_all_is_well(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Mend", "ResultPath": "$.error"}]
    pipeline.add_step(PipelineStep("Broken", function("fail"), retry_attempts=0, catch=catch))
    pipeline.add_handler(PipelineStep("Mend", function("count")), fails=False)
    pipeline.deploy()
    assert pipeline.wait(pipeline.execute({}))["error"]["Error"] == "ValueError"
    pipeline.steps = [PipelineStep("Fine", function("count"), catch=catch)]
    pipeline.deploy()
    assert pipeline.wait(pipeline.execute({})) == {"n": 1}
    pipeline.steps = [PipelineStep("Fine", function("count"))]
    assert "no catch leads" in pipeline.check()[0]
    with pytest.raises(InvalidPipelineError, match="already"):
        pipeline.add_step(PipelineStep("Mend", function("count")))


def test_the_time_out_of_a_state_and_of_the_machine(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], gate: Path
) -> None:
    slow = PipelineStep("Slow", function("held"), {"gate": str(gate)}, timeout_seconds=1, retry_attempts=0)
    pipeline.add_step(slow)
    pipeline.deploy()
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.wait(pipeline.execute({}))
    assert (caught.value.status, caught.value.error) == ("FAILED", "States.Timeout")
    assert caught.value.failed_state == "Slow"

    pipeline.steps[0].timeout_seconds = 60
    pipeline.timeout_seconds = 2
    pipeline.deploy()
    # On a busy machine, the time may pass before the state is entered. Then it is tried again.
    for _ in range(20):
        with pytest.raises(ExecutionFailedError) as caught:
            pipeline.wait(pipeline.execute({}))
        assert caught.value.status == "TIMED_OUT"
        if any(event.state for event in pipeline.history(caught.value.execution_arn)):
            break
    assert caught.value.failed_state == "Slow"


def test_a_timeout_that_is_no_number_is_told_before_anything_begins(pipeline: StepFunctionsPipeline) -> None:
    for call in (
        lambda: pipeline.wait("arn:aws:states:us-east-1:123456789012:execution:a:b", "5"),  # type: ignore[arg-type]
        lambda: pipeline.run(timeout="5"),
    ):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="timeout takes a number of seconds, or None, not str"):
            call()


def test_stop_aborts_and_wait_sees_it(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], gate: Path
) -> None:
    pipeline.add_step(PipelineStep("Slow", function("held"), {"gate": str(gate)}))
    pipeline.deploy()
    arn = pipeline.execute({})
    with pytest.raises(ExecutionTimeoutError):
        pipeline.wait(arn, timeout=0.5)
    threading.Timer(0.5, pipeline.stop, (arn, "Enough", "because")).start()
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.wait(arn)
    error = caught.value
    assert (error.status, error.error, error.cause, error.failed_state) == ("ABORTED", "Enough", "because", "")


def test_redrive_goes_on_at_the_failed_state(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pipeline.add_step(PipelineStep("Once", function("count")))
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))
    pipeline.deploy()
    arn = pipeline.execute({})
    with pytest.raises(ExecutionFailedError):
        pipeline.wait(arn)
    gate.touch()
    pipeline.redrive(arn)
    assert pipeline.wait(arn) == {"n": 1, "gate": str(gate), "passed": True}
    assert [event.state for event in pipeline.history(arn) if event.event == "entered"] == ["Once", "Gate", "Gate"]
    with pytest.raises(InvalidExecutionError, match="cannot be redriven"):
        pipeline.redrive(arn)


def test_run_attaches_returns_redrives_or_takes_a_new_name(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))
    with pytest.raises(ExecutionFailedError):
        pipeline.run({"k": 1}, "purpose")
    # Unchanged: redriven.
    with pytest.raises(ExecutionFailedError):
        pipeline.run({"k": 1}, "purpose")
    assert aws.calls()["RedriveExecution"] == 1
    # The definition was mended, and a redrive would run the old one: a new name.
    gate.touch()
    pipeline.add_step(PipelineStep("Mended", function("count")))
    assert pipeline.run({"k": 1}, "purpose") == {"k": 1, "gate": str(gate), "passed": True, "n": 1}
    # It has succeeded: its output, and nothing starts.
    before = executions_of(aws, pipeline)
    assert before == ["purpose", "purpose-2"]
    assert pipeline.run({"k": 1}, "purpose")["n"] == 1
    assert executions_of(aws, pipeline) == before
    with pytest.raises(InvalidExecutionError, match="another input"):
        pipeline.run({"k": 2}, "purpose")


def test_a_success_is_found_before_a_failure_is_acted_on(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], tmp_path: Path
) -> None:
    """A fails, B succeeds under the next name, and the definition is rolled back to A."""
    gate = tmp_path / "gate"
    broken = PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0)
    pipeline.add_step(broken)
    with pytest.raises(ExecutionFailedError):
        pipeline.run({}, "purpose")
    pipeline.steps = [PipelineStep("Whole", function("count"))]
    assert pipeline.run({}, "purpose") == {"n": 1}
    pipeline.steps = [broken]
    aws.forget_calls()
    assert pipeline.run({}, "purpose") == {"n": 1}
    assert "RedriveExecution" not in aws.calls()
    assert executions_of(aws, pipeline) == ["purpose", "purpose-2"]


def test_names_up_to_eighty_characters_can_be_run_again(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    names = ["x" * 79 + "a", "x" * 79 + "b", "y" * 78]
    pipeline.add_step(PipelineStep("A", function("fail"), retry_attempts=0))
    for each in names:
        for number in range(2):
            pipeline.comment = str(number)  # another definition: no redrive, but the next name
            with pytest.raises(ExecutionFailedError):
                pipeline.run({}, each)
    found = executions_of(aws, pipeline)
    assert len(found) == 6
    assert set(names) < set(found)
    assert max(map(len, found)) == 80
    with pytest.raises(InvalidExecutionError, match="81 characters"):
        pipeline.run({}, "x" * 81)


@pytest.mark.parametrize("action", ["GetExecutionHistory", "DescribeExecution"])
@pytest.mark.parametrize("error", ["ThrottlingException", "AccessDeniedException"])
def test_a_known_end_is_not_lost_when_a_later_question_is_not_answered(
    action: str,
    error: str,
    pipeline: StepFunctionsPipeline,
    aws: Emulator,
    function: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("clinops_prefect.step_functions.pipeline._CLIENT_CONFIG", {"retries": {"max_attempts": 1}})
    monkeypatch.setattr("clinops_prefect.step_functions.service.polling._UNREACHABLE_FOR", 8)
    pipeline.add_step(PipelineStep("A", function("fail"), retry_attempts=0))
    pipeline.deploy()
    arn = pipeline.execute({})
    client = aws.client("stepfunctions")
    while client.describe_execution(executionArn=arn)["status"] == "RUNNING":
        time.sleep(0.1)
    if error == "AccessDeniedException":
        # Otherwise the refusal comes first, before the end is known.
        description = client.describe_execution(executionArn=arn)
        monkeypatch.setattr("clinops_prefect.step_functions.service.polling.wait_for_end", lambda *_, **__: description)
    aws.fail(action, error, times=10_000)
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.wait(arn)
    assert (caught.value.status, caught.value.error) == ("FAILED", "ValueError")
    assert "Jane" in caught.value.cause


def test_what_has_succeeded_is_not_asked_about_again(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.run({}, "purpose")
    aws.forget_calls()
    aws.fail("GetExecutionHistory", "ThrottlingException", times=10_000)
    assert pipeline.run({}, "purpose") == {"n": 1}
    assert aws.calls()["DescribeExecution"] == 1


@pytest.mark.parametrize("garbage", ["", "garbage", "arn:aws:states:us-east-1:123456789012:stateMachine:m", "a:b:c:d"])
def test_what_is_no_arn_of_an_execution_is_refused_by_name(pipeline: StepFunctionsPipeline, garbage: str) -> None:
    asked = (pipeline.wait, pipeline.stop, pipeline.redrive, lambda arn: list(pipeline.history(arn)))
    for ask in (*asked, lambda arn: asyncio.run(pipeline.await_(arn))):
        with pytest.raises(InvalidExecutionError, match="not the ARN of an execution"):
            ask(garbage)


def test_an_arn_that_is_no_text_is_a_misuse_that_is_named(pipeline: StepFunctionsPipeline) -> None:
    asked = (pipeline.wait, pipeline.stop, pipeline.redrive, lambda arn: list(pipeline.history(arn)))
    for ask in (*asked, lambda arn: asyncio.run(pipeline.await_(arn))):
        for garbage in (5, None, ["arn"], b"arn"):
            with pytest.raises(TypeError, match="ARN of an execution is text"):
                ask(garbage)
    with pytest.raises(TypeError, match="name must be text"):
        pipeline.execute({}, 5)  # type: ignore[arg-type]


def executions_of(aws: Emulator, pipeline: StepFunctionsPipeline) -> list[str]:
    listed = aws.client("stepfunctions").list_executions(stateMachineArn=pipeline.state_machine_arn)
    return sorted(execution["name"] for execution in listed["executions"])


@pytest.mark.parametrize("action", ["GetExecutionHistory", "DescribeExecution"])
@pytest.mark.parametrize("error", ["ThrottlingException", "cut", "ExecutionDoesNotExist", "InternalServerError"])
def test_trouble_in_the_middle_of_polling_is_survived(
    action: str,
    error: str,
    pipeline: StepFunctionsPipeline,
    aws: Emulator,
    function: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # boto3's own retries would only make this slow; more trouble than they bear comes anyway.
    monkeypatch.setattr("clinops_prefect.step_functions.pipeline._CLIENT_CONFIG", {"retries": {"max_attempts": 1}})
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.deploy()
    arn = pipeline.execute({})
    aws.fail(action, error, times=1 if error == "ExecutionDoesNotExist" else 5)
    assert pipeline.wait(arn) == {"n": 1}


def test_a_machine_that_is_not_known_yet_is_started_all_the_same(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    aws.fail("StartExecution", "StateMachineDoesNotExist")
    assert pipeline.run({}) == {"n": 1}


def test_a_refusal_is_raised_at_once(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("sleep"), {"seconds": 3}))
    pipeline.deploy()
    arn = pipeline.execute({})
    aws.forget_calls()
    aws.fail("GetExecutionHistory", "AccessDeniedException", times=100)
    with pytest.raises(PermissionError, match="GetExecutionHistory"):
        pipeline.wait(arn)
    assert aws.calls()["GetExecutionHistory"] == 1


def test_an_execution_that_never_was(
    pipeline: StepFunctionsPipeline, monkeypatch: pytest.MonkeyPatch, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.deploy()
    monkeypatch.setattr("clinops_prefect.step_functions.service.polling._UNKNOWN_FOR", 2)
    with pytest.raises(ExecutionNotFoundError):
        pipeline.wait(pipeline.state_machine_arn.replace(":stateMachine:", ":execution:") + ":nothing")


def test_express_machines_are_deployed_and_started_but_not_waited_for(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str]
) -> None:
    pipeline.type = "EXPRESS"
    pipeline.add_step(PipelineStep("A", function("count")))
    arn = pipeline.deploy()
    assert aws.client("stepfunctions").describe_state_machine(stateMachineArn=arn)["type"] == "EXPRESS"
    for refused in (lambda: pipeline.run({}), lambda: pipeline.trigger({}), lambda: pipeline.wait("arn")):
        with pytest.raises(InvalidExecutionError, match="Express"):
            refused()
    assert "StartExecution" not in aws.calls()
    pipeline.type = "STANDARD"
    with pytest.raises(InvalidPipelineError, match="is EXPRESS"):
        pipeline.deploy()


def test_a_job_is_triggered_waited_for_and_fetched(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.deploy()
    run = pipeline.trigger({"k": 1})
    run.wait_for_completion()
    assert run.fetch_result() == {"k": 1, "n": 1}


def test_a_map_over_a_thousand_items_in_s3(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], name: str
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="patients.csv", Body="id\n" + "".join(f"{i}\n" for i in range(1000)))
    each = PipelineStep("Each", function("count"), {"source": "mimic"})
    pipeline.add_step(MapStep("All", [each], S3Items(name, "patients.csv"), max_concurrency=40))
    pipeline.deploy()
    output = pipeline.wait(pipeline.execute({}))
    assert len(output) == 1000
    assert {item["id"] for item in output} == {str(i) for i in range(1000)}
    assert all(item["source"] == "mimic" and item["n"] == 1 for item in output)


def test_a_map_writes_its_results_to_s3(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], name: str
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="items.json", Body=json.dumps([{"id": i} for i in range(3)]))
    items, results = S3Items(name, "$.key", input_type="JSON"), S3Results(name, "out")
    pipeline.add_step(MapStep("All", [PipelineStep("Each", function("count"))], items, results=results))
    pipeline.deploy()
    output = pipeline.wait(pipeline.execute({"key": "items.json"}))
    assert output["ResultWriterDetails"]["Bucket"] == name
    assert any(entry["Key"].startswith("out") for entry in s3.list_objects_v2(Bucket=name, Prefix="out")["Contents"])


def test_the_drawing_needs_no_graphviz(pipeline: StepFunctionsPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = "arn:aws:lambda:::function:f"
    pipeline.add_step(PipelineStep('A "quoted"', arn, catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}]))
    pipeline.add_step(MapStep("M", [PipelineStep("Inner", arn)], "$.p"))
    pipeline.add_step(PipelineStep("B", arn))
    diagram = pipeline.visualize()
    assert '"A \\"quoted\\"" -> "B" [style=dashed' in str(diagram)
    assert '"M" -> "Inner"' in str(diagram)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImportError, match="dot"):
        diagram.save("machine.png")


def test_async_code_has_a_twin_of_each_method_that_asks_aws(
    pipeline: StepFunctionsPipeline, function: Callable[[str], str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))

    async def steps() -> None:
        assert (await pipeline.adeploy()).endswith(f":stateMachine:{pipeline.name}")
        arn = await pipeline.aexecute({"k": 1}, "first")
        with pytest.raises(ExecutionFailedError):
            await pipeline.await_(arn)
        gate.touch()
        await pipeline.aredrive(arn)
        assert (await pipeline.await_(arn, timeout=60))["passed"]
        assert [event.event async for event in pipeline.ahistory(arn)][-1] == "ended"
        await pipeline.astop(arn)  # it has ended: nothing happens
        job = await pipeline.atrigger({"k": 2})
        await job.await_for_completion()
        assert (await job.afetch_result())["k"] == 2

    asyncio.run(steps())


def test_a_coroutine_that_is_cancelled_leaves_no_thread_that_waits(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], gate: Path
) -> None:
    pipeline.add_step(PipelineStep("Held", function("held")))
    pipeline.deploy()
    before = set(threading.enumerate())

    async def give_up() -> None:
        job = await pipeline.atrigger({"gate": str(gate)})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.afetch_result(), 1)

    asyncio.run(give_up())
    # A thread that waited on would end with the execution, which still runs.
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("ThreadPoolExecutor"):
            thread.join(120)
            assert not thread.is_alive()
    running = aws.client("stepfunctions").list_executions(
        stateMachineArn=pipeline.state_machine_arn, statusFilter="RUNNING"
    )
    assert len(running["executions"]) == 1
