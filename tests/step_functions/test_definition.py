"""Steps make the definition that the documentation shows, and their parameters never lose what flows in."""

import json
from collections.abc import Callable
from typing import Any

import jsonata
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinops_prefect.step_functions.language.check import definition_problems
from clinops_prefect.step_functions.language.merge import merged_input, nested_output
from clinops_prefect.step_functions.language.states_language import states_language
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep, Retry, S3Items, S3Results, Step

LAMBDA = "arn:aws:lambda:us-east-1:123456789:function:clinops-ingest"
AWKWARD = {
    "quotes": 'it\'s "quoted" \\ and \\" escaped',
    "separators": "a\u2028b\u2029c\u0000\u001f\u007f",
    "expression": "{% $states.input %}",
    "path": "$.input",
    "context": "$$.Execution.Input",
    "emoji": "\U0001f9ec",
    "": "an empty key",
    "numbers": [0, -1, 2**53, -(2**53), 1.5e-300, 0.1, -0.0],
    "nested": {"$": [], "%}": {}, "a.b": [[1], [], [[]], None, True]},
}


def language(*steps: Step, timeout_seconds: int = 0) -> dict[str, Any]:
    return states_language(steps, "c", timeout_seconds, "aws")


def problems(*steps: Step, express: bool = False) -> list[str]:
    return definition_problems(steps, express=express, timeout_seconds=0)


def test_a_step_without_parameters_is_plain_states_language() -> None:
    first, last = PipelineStep("Ingest", LAMBDA, timeout_seconds=1800), PipelineStep("Last", LAMBDA, retry_attempts=2)
    made = language(first, last)
    assert list(made) == ["Comment", "StartAt", "States"]
    assert made["StartAt"] == "Ingest"
    state = made["States"]["Ingest"]
    assert {key: state[key] for key in ("Type", "Resource", "TimeoutSeconds", "Next")} == {
        "Type": "Task",
        "Resource": LAMBDA,
        "TimeoutSeconds": 1800,
        "Next": "Last",
    }
    assert "QueryLanguage" not in state
    assert state["Retry"][0]["MaxAttempts"] == 3
    assert {"Lambda.ServiceException", "Lambda.TooManyRequestsException", "States.TaskFailed"} <= set(
        state["Retry"][0]["ErrorEquals"]
    )
    assert made["States"]["Last"]["End"] is True
    assert made["States"]["Last"]["Retry"][0]["MaxAttempts"] == 2


def test_paths_and_pass_input_are_handed_on_verbatim() -> None:
    paths = PipelineStep("A", LAMBDA, {"deep": [{"date.$": "$$.Execution.Input.date"}]})
    alone = PipelineStep("B", LAMBDA, {"x": 1}, pass_input=False)
    nothing = PipelineStep("C", LAMBDA, pass_input=False)
    states = language(paths, alone, nothing)["States"]
    assert states["A"]["Parameters"] == {"deep": [{"date.$": "$$.Execution.Input.date"}]}
    assert states["B"]["Parameters"] == {"x": 1}
    assert states["C"]["Parameters"] == {}
    assert not any("QueryLanguage" in state for state in states.values())


LAMBDA_ERRORS = {
    *("Lambda.ClientExecutionTimeoutException", "Lambda.ServiceException", "Lambda.AWSLambdaException"),
    *("Lambda.SdkClientException", "Lambda.TooManyRequestsException"),
}


def retried(step: PipelineStep) -> list[list[str]]:
    return [retrier["ErrorEquals"] for retrier in language(step)["States"]["s"]["Retry"]]


def test_a_lambda_step_keeps_lambdas_errors_whatever_it_retries_on() -> None:
    assert [set(names) for names in retried(PipelineStep("s", LAMBDA, retry_on=["Mine"]))] == [LAMBDA_ERRORS | {"Mine"}]
    everything = retried(PipelineStep("s", LAMBDA, retry_on=["States.ALL"]))
    assert [set(names) for names in everything] == [LAMBDA_ERRORS, {"States.ALL"}]
    job = {"TaskDefinition": "t"}
    assert retried(PipelineStep("s", "arn:aws:states:::ecs:runTask.sync", job, retry_on=["Mine"])) == [["Mine"]]


def test_own_retries_come_first_and_states_all_alone_and_last() -> None:
    own = [Retry(["States.ALL"], attempts=0), Retry(["A", "B"], 7, interval=5, backoff=1.5, max_delay=0, jitter=False)]
    first, second, last = language(PipelineStep("s", LAMBDA, retry=own))["States"]["s"]["Retry"]
    assert first == {"ErrorEquals": ["A", "B"], "IntervalSeconds": 5, "MaxAttempts": 7, "BackoffRate": 1.5}
    assert set(second["ErrorEquals"]) == LAMBDA_ERRORS | {"States.TaskFailed"}
    assert (last["ErrorEquals"], last["MaxAttempts"]) == (["States.ALL"], 0)


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("ecs:runTask.sync", {"TaskDefinition": "t", "Cluster": "c"}),
        ("batch:submitJob.sync", {"JobName": "n", "JobQueue": "q", "JobDefinition": "d"}),
        ("glue:startJobRun.sync", {"JobName": "n", "Arguments": {"--date": "{% x %}"}}),
        ("aws-sdk:s3:copyObject", {"Bucket": "b"}),
        ("sqs:sendMessage.waitForTaskToken", {"MessageBody": {"TaskToken.$": "$$.Task.Token"}, "QueueUrl": "u"}),
    ],
)
def test_the_parameters_of_a_service_are_its_request(action: str, parameters: dict[str, Any]) -> None:
    step = PipelineStep("S", f"arn:aws:states:::{action}", parameters)
    assert problems(step) == []
    state = language(step)["States"]["S"]
    assert state["Parameters"] == parameters
    assert state["Retry"][0]["ErrorEquals"] == ["States.TaskFailed"]


def test_a_nested_machine_gets_the_merge_and_gives_its_output() -> None:
    parameters = {"StateMachineArn": "arn:aws:states:us-east-1:1:stateMachine:m", "Input": {"date": "x"}}
    state = language(PipelineStep("N", "arn:aws:states:::states:startExecution.sync:2", parameters))["States"]["N"]
    assert state["Arguments"]["StateMachineArn"] == parameters["StateMachineArn"]
    assert state["Arguments"]["Input"] == merged_input({"date": "x"})
    assert state["Output"] == "{% $states.result.Output %}"


@pytest.mark.parametrize(
    "parameters",
    [{"Input.$": "$"}, {"Input": {"k.$": "$.k"}}, {"Input": "text"}, {"Input": {"k": 1}}, {}],
)
def test_a_nested_machines_output_is_unwrapped_however_its_arguments_are_spelt(parameters: dict[str, Any]) -> None:
    arguments = parameters | {"StateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:m"}
    for pass_input in (True, False):
        step = PipelineStep("N", "arn:aws:states:::states:startExecution.sync:2", arguments, pass_input=pass_input)
        state = language(step)["States"]["N"]
        assert "$.Output" in (state.get("OutputPath"),) or state.get("Output") == "{% $states.result.Output %}"


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (PipelineStep("", LAMBDA), "its name has 0 characters"),
        (PipelineStep("x" * 81, LAMBDA), "its name has 81 characters"),
        (PipelineStep("s", "arn:aws:ecs:us-east-1:1:task/x"), "resource"),
        (PipelineStep("s", "arn:aws:states:::lambda:invoke.sync", {"FunctionName": "f"}), "does not support .sync"),
        (
            PipelineStep(
                "s", "arn:aws:states:::glue:startJobRun.waitForTaskToken", {"JobName": "j", "T.$": "$$.Task.Token"}
            ),
            "glue does not support .waitForTaskToken",
        ),
        (PipelineStep("s", "arn:aws:states:::lambda:invoke"), "requires the parameter FunctionName"),
        (
            PipelineStep("s", "arn:aws:states:::lambda:invoke.waitForTaskToken", {"FunctionName": "$$.Task.Token"}),
            "task token",
        ),
        (PipelineStep("s", LAMBDA, timeout_seconds=0), "timeout_seconds is 0"),
        (PipelineStep("s", LAMBDA, timeout_seconds=10, heartbeat_seconds=10), "heartbeat_seconds"),
        (PipelineStep("s", LAMBDA, retry_attempts=-1), "retry_attempts is -1"),
        (PipelineStep("s", LAMBDA, retry_on=["States.ALL", "Other"]), "must stand alone"),
        (PipelineStep("s", LAMBDA, retry_on=["States.Taskfailed"]), "does not know"),
        (PipelineStep("s", LAMBDA, catch=[{"ErrorEquals": ["States.ALL"], "Next": "nowhere"}]), "'nowhere'"),
        (PipelineStep("s", LAMBDA, catch=[{"ErrorEquals": ["E"], "Next": "s", "ResultPath": "$[0]"}]), "ResultPath"),
        (
            PipelineStep(
                "s", LAMBDA, catch=[{"ErrorEquals": ["States.ALL"], "Next": "s"}, {"ErrorEquals": ["E"], "Next": "s"}]
            ),
            "must be the last",
        ),
        (PipelineStep("s", LAMBDA, {"a": [float("nan")]}), "parameters.a[0] is NaN"),
        (PipelineStep("s", LAMBDA, {"a": {1, 2}}), "parameters.a is a set"),
        (PipelineStep("s", LAMBDA, {1: 2}), "key of type int"),
        (PipelineStep("s", LAMBDA, {"a": 2**53 + 1}), "2^53"),
        (PipelineStep("s", LAMBDA, {"a": "\ud800"}), "surrogate"),
        (PipelineStep("s", LAMBDA, {"a": "ä" * 131_072}), "parameters has 262,152 bytes"),
        (MapStep("m", [], S3Items("b", "k.csv")), "the map has no steps"),
        (MapStep("m", [PipelineStep("s", LAMBDA)], S3Items("b", "k")), "input_type"),
        (MapStep("m", [PipelineStep("s", LAMBDA)], S3Items("b", "k.csv", "p")), "both a key and a prefix"),
        (MapStep("m", [PipelineStep("s", LAMBDA)], S3Items("")), "no bucket"),
        (MapStep("m", [PipelineStep("s", LAMBDA)], "patients"), "a path"),
        (MapStep("m", [PipelineStep("m", LAMBDA)], "$.p"), "2 steps have this name"),
        (MapStep("m", [PipelineStep("s", LAMBDA)], "$.p", tolerated_failure_percentage=101), "0 to 100"),
        (MapStep("m", [PipelineStep("s", "x")], "$.p"), "step 's': resource"),
        (
            MapStep(
                "m",
                [PipelineStep("s", "arn:aws:states:::ecs:runTask.sync", {"TaskDefinition": "t"})],
                "$.p",
                execution_type="EXPRESS",
            ),
            "Express",
        ),
    ],
)
def test_check_names_the_step_and_the_problem(step: Step, named: str) -> None:
    found = problems(step)
    assert len(found) == 1, found
    assert found[0].startswith("step ")
    assert named in found[0]


def test_check_finds_all_problems_at_once() -> None:
    found = problems(PipelineStep("a", "x", {"v": {1}}), PipelineStep("a", LAMBDA, timeout_seconds=-1))
    assert len(found) == 4


def test_express_machines_refuse_what_they_cannot_run() -> None:
    job = PipelineStep("job", "arn:aws:states:::ecs:runTask.sync", {"TaskDefinition": "t"})
    activity = PipelineStep("activity", "arn:aws:states:us-east-1:123456789012:activity:a")
    many = MapStep("map", [PipelineStep("s", LAMBDA)], "$.p")
    assert len(problems(job, activity, many, express=True)) == 3
    assert problems(job, activity, many) == []


@pytest.mark.parametrize(
    "resource",
    [
        LAMBDA,
        "arn:aws:lambda:::function:f",
        "arn:aws-cn:lambda:cn-north-1:123456789012:function:f:prod",
        "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f:$LATEST",
        "arn:aws:states:us-east-1:123456789012:activity:a",
    ],
)
def test_arns_of_all_partitions_and_qualifiers_pass(resource: str) -> None:
    assert problems(PipelineStep("a", resource)) == []


def test_a_misspelt_keyword_names_the_field_that_was_meant() -> None:
    with pytest.raises(ValueError, match="'retry_attempts'"):
        PipelineStep("a", LAMBDA, retry_attempt=2)
    with pytest.raises(ValueError, match="'name' twice"):
        PipelineStep("a", LAMBDA, name="b")


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
# Few names, so that the three layers meet in them.
keys = st.sampled_from(["date", "input", "", "$p"]) | st.text()
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(keys, json_values, max_size=4)


def documented_merge(flow: Any, parameters: dict[str, Any], given: Any) -> dict[str, Any]:
    """previous output < parameters < the execution's input for declared keys, as the documentation words it."""
    declared = {key: given[key] for key in parameters if key in given} if isinstance(given, dict) else {}
    return (flow if isinstance(flow, dict) else {"input": flow}) | parameters | declared


@settings(max_examples=300, deadline=None)
@given(json_values | objects, objects, json_values | objects)
def test_a_step_receives_the_documented_merge(flow: Any, parameters: dict[str, Any], given_input: Any) -> None:
    expression = merged_input(parameters).removeprefix("{%").removesuffix("%}")
    states = {"input": flow, "context": {"Execution": {"Input": given_input}}}
    evaluate = jsonata.Jsonata(expression)
    evaluate.assign("states", states)
    assert same(evaluate.evaluate(None), documented_merge(flow, parameters, given_input))


def documented_path(flow: Any, path: list[str], error: Any) -> Any:
    """`ResultPath`: `error` is put at a path of the input, and nothing of the input is lost."""
    if not path:
        return error
    whole = flow if isinstance(flow, dict) else {"input": flow}
    inner = whole.get(path[0], {})
    return whole | {path[0]: documented_path(inner, path[1:], error)}


@settings(max_examples=300, deadline=None)
@given(json_values | objects, st.lists(keys, min_size=1, max_size=3))
def test_a_handler_receives_the_whole_input_beside_the_error(flow: Any, path: list[str]) -> None:
    error = {"Error": "E", "Cause": "c"}
    evaluate = jsonata.Jsonata(nested_output(path, "$states.errorOutput").removeprefix("{%").removesuffix("%}"))
    evaluate.assign("states", {"input": flow, "errorOutput": error})
    assert same(evaluate.evaluate(None), documented_path(flow, path, error))


def same(left: Any, right: Any) -> bool:
    # A JSON number has no type: 1.0 is 1.
    return json.loads(json.dumps(left), parse_int=float) == json.loads(json.dumps(right), parse_int=float)


def all_kinds() -> list[Step]:
    invoke = PipelineStep("Invoke", "arn:aws:states:::lambda:invoke", {"FunctionName": "{% f %}", "Payload": AWKWARD})
    return [
        PipelineStep("Awkward", LAMBDA, AWKWARD, comment="c", heartbeat_seconds=5),
        invoke.model_copy(
            update={"catch": [{"ErrorEquals": ["States.ALL"], "Next": "Last", "ResultPath": "$.error"}]},
        ),
        PipelineStep("Paths", LAMBDA, {"date.$": "$.date"}),
        PipelineStep(
            "Token",
            "arn:aws:states:::lambda:invoke.waitForTaskToken",
            {"FunctionName": "f", "Payload": {"TaskToken.$": "$$.Task.Token"}},
        ),
        MapStep("CSV", [PipelineStep("C", LAMBDA, {"x": 1})], S3Items("b", "k.csv"), results=S3Results("b", "p")),
        MapStep("Objects", [PipelineStep("O", LAMBDA)], S3Items("b", prefix="p/"), max_concurrency=5),
        MapStep("Manifest", [PipelineStep("I", LAMBDA)], S3Items("b", "m.json", input_type="MANIFEST"), batch_size=10),
        MapStep("Lines", [PipelineStep("L", LAMBDA)], S3Items("b", "$.key", input_type="JSONL", max_items=5)),
        MapStep("Path", [PipelineStep("P", LAMBDA)], "$.patients", tolerated_failure_percentage=5),
        PipelineStep("Last", "arn:aws:states:us-east-1:123456789012:activity:a", retry_attempts=0),
    ]


def test_every_kind_of_step_passes_the_check() -> None:
    assert problems(*all_kinds()) == []


FLOWING: list[Any] = [{"date": "flow", "kept": 1}, [1, 2], "text", None]


@pytest.mark.parametrize("flowing", FLOWING, ids=["object", "list", "string", "null"])
def test_precedence_on_the_engine(flowing: Any, run: Callable[..., Any], function: Callable[[str], str]) -> None:
    """Three layers, for the first step, where what flows in is the execution's input, and for a later one."""
    parameters = {"date": "parameters", "own": "{% $x %}\u2028'\""}
    step = PipelineStep("Second", function("echo"), parameters)
    (first,) = run(language(step), flowing)
    assert json.loads(first["output"]) == documented_merge(flowing, parameters, flowing)

    # A first step that gives back exactly `flowing`, whatever the execution's input is.
    before = {"Type": "Pass", "Result": flowing, "Next": "Second"}
    later = language(step)
    later = later | {"StartAt": "First", "States": {"First": before} | later["States"]}
    inputs = [{}, {"date": "execution"}, {"undeclared": 1}, [1], None]
    for given_input, ended in zip(inputs, run(later, *inputs), strict=True):
        assert json.loads(ended["output"]) == documented_merge(flowing, parameters, given_input)
