"""`check()` both ways: what AWS takes is taken, and what AWS refuses is named.

The first column of a case says where the verdict comes from: `spec` is https://states-language.net/spec.html, `docs`
is AWS's developer guide, `api` is the model of the service's API that botocore carries.
"""

import time
from typing import Any

import pytest

from clinops_prefect import MapStep, PipelineStep, Retry, S3Items, StepFunctionsPipeline
from clinops_prefect.errors import ClinopsPrefectError, InvalidExecutionError, InvalidPipelineError
from clinops_prefect.step_functions.language.steps import Step
from clinops_prefect.testing.step_functions_emulator import Emulator

ROLE = "arn:aws:iam::123456789012:role/r"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
INTEGRATION = "arn:aws:states:::"


def pipeline(*steps: Step, **fields: Any) -> StepFunctionsPipeline:
    return StepFunctionsPipeline(
        **{"name": "p", "role_arn": ROLE, "region": "us-east-1", "steps": list(steps)} | fields
    )


def task(action: str, parameters: dict[Any, Any], **options: Any) -> PipelineStep:
    return PipelineStep("s", INTEGRATION + action, parameters, **options)


def function(parameters: dict[Any, Any], **options: Any) -> PipelineStep:
    return PipelineStep("s", FUNCTION, parameters, **{"pass_input": False} | options)


def mapped(items: Any, **options: Any) -> MapStep:
    return MapStep("m", [PipelineStep("s", FUNCTION)], items, **options)


def caught(**catcher: Any) -> PipelineStep:
    return PipelineStep("s", FUNCTION, catch=[{"ErrorEquals": ["E"], "Next": "s"} | catcher])


ACCEPTED: list[tuple[str, Step]] = [
    ("spec: the whole input is the array", mapped("$")),
    ("spec: names and indexes", mapped("$.a[0].b")),
    ("spec: brackets", mapped("$['x']")),
    ("docs: a name with a dash", mapped("$.patient-list")),
    ("docs: the context object", mapped("$$.Execution.Input.x")),
    ("docs: a place from the context", mapped(S3Items("$$.Execution.Input.bucket", "$.key", input_type="CSV"))),
    ("docs: an intrinsic function", mapped(S3Items("b", "States.Format('{}.csv', $.date)", input_type="CSV"))),
    ("docs: a status code of an HTTP task", PipelineStep("s", FUNCTION, retry_on=["States.Http.StatusCode.429"])),
    (
        "docs, input-output-itemselector: the item, its number, and what flows in",
        mapped(
            "$.p", item_selector={"i.$": "$$.Map.Item.Index", "of": {"v.$": "$$.Map.Item.Value.id", "d.$": "$.date"}}
        ),
    ),
    (
        "docs, input-output-itembatcher: what all batches share",
        mapped("$.p", batch_size=9, batch_input={"date.$": "$.date", "unit": "MICU"}),
    ),
    ("docs, input-output-itemreader: an inventory", mapped(S3Items("b", "manifest.json", input_type="MANIFEST"))),
    ("docs, input-output-itemreader: JSON Lines", mapped(S3Items("b", "rows.jsonl"))),
    ("docs, input-output-itemreader: Parquet", mapped(S3Items("b", "part-0.parquet"))),
    (
        "docs, input-output-itemreader: headers given, another delimiter",
        mapped(S3Items("b", "k.csv", csv_headers=["id"], csv_delimiter="TAB")),
    ),
    ("docs, input-output-itemreader: an array in an object", mapped(S3Items("b", "k.json", pointer="/ward/patients"))),
    (
        "AWS Compute Blog, S3 prefix: all rows below a prefix",
        mapped(S3Items("b", prefix="raw/2024/", input_type="PARQUET")),
    ),
    ("docs, a map of the whole bucket", mapped(S3Items("b"))),
    ("spec: a nested ResultPath", caught(ResultPath="$.errors.first")),
    ("spec: a ResultPath in brackets", caught(ResultPath="$['the error']")),
    ("spec: a JSONata catcher's Output", caught(Output="{% $states.errorOutput %}")),
    ("spec: the input is dropped", caught(ResultPath=None)),
    ("spec: wildcards", function({"x.$": "$.a[*].b"})),
    ("spec: descent", function({"x.$": "$..b"})),
    ("spec: a filter", function({"x.$": "$.a[?(@.b > 1)].c"})),
    ("spec: a slice", function({"x.$": "$.a[0:2]"})),
    ("docs: a variable", function({"x.$": "$run.date"})),
    ("docs: a function of functions", function({"x.$": "States.Array(States.UUID(), $.a, 'it\\'s (not) one')"})),
    ("docs: the task's token", function({"x.$": "$$.Task.Token"})),
    ("spec: a retry for all errors", PipelineStep("s", FUNCTION, retry=[Retry(["States.ALL"], attempts=0)])),
    (
        "api: containers of a task",
        task(
            "ecs:runTask.sync",
            {
                "TaskDefinition": "t",
                "Overrides": {"ContainerOverrides": [{"Name": "c", "Environment": [{"Name": "A", "Value.$": "$.a"}]}]},
            },
        ),
    ),
    ("api: free keys below a map", task("glue:startJobRun.sync", {"JobName": "j", "Arguments": {"--date": "x"}})),
    ("api: an item", task("dynamodb:putItem", {"TableName": "t", "Item": {"id": {"S.$": "$.id"}}})),
    ("docs: an object as the message", task("sqs:sendMessage", {"QueueUrl": "u", "MessageBody": {"a": 1}})),
    ("docs: an object as an event's detail", task("events:putEvents", {"Entries": [{"Detail": {"a": 1}}]})),
    ("docs, connect-lambda: all that flows in", task("lambda:invoke", {"FunctionName": "f", "Payload.$": "$"})),
    ("docs: a nested execution", task("states:startExecution.sync:2", {"StateMachineArn": "a", "Input": {"k": 1}})),
    (
        "docs: the SDK's name of a service",
        task(
            "aws-sdk:cloudwatchlogs:putLogEvents",
            {
                "LogGroupName": "g",
                "LogStreamName": "s",
                "LogEvents": [],
            },
        ),
    ),
    ("docs: Java's spelling of a field", task("aws-sdk:s3:putObject", {"Bucket": "b", "Key": "k", "SseKmsKeyId": "x"})),
    (
        "docs: the token is put in",
        task(
            "emr-serverless:startJobRun.sync",
            {
                "ApplicationId": "a",
                "ExecutionRoleArn": "r",
                "JobDriver": {"SparkSubmit": {"EntryPoint": "s3://b/k"}},
            },
        ),
    ),
    ("docs: a job of a cluster", task("eks:runJob.sync", {"ClusterName": "c", "Job": {"kind": "Job"}})),
    ("docs: a function in another account", PipelineStep("s", FUNCTION.replace("123456789012", "210987654321"))),
]

# Accepted by AWS, and named all the same: https://docs.aws.amazon.com/step-functions/latest/dg/input-output-inputpath-params.html
# says that `Parameters` replace what flows in.
NOTED: list[tuple[str, Step]] = [
    ("docs: one path among the parameters", function({"x.$": "$.x", "date": "a"}, pass_input=True)),
    ("docs: a path deep inside", function({"a": [{"x.$": "$$.Execution.Input.x"}]}, pass_input=True)),
    ("docs: a path for the function's name", task("lambda:invoke", {"FunctionName.$": "$.f", "Payload": {"x": 1}})),
    ("docs: a path in a payload", task("lambda:invoke", {"FunctionName": "f", "Payload": {"x.$": "$.x"}})),
    ("docs: a path in a map's step", MapStep("m", [PipelineStep("s", FUNCTION, {"x.$": "$.x"})], "$")),
]

REFUSED: list[tuple[str, Step, str]] = [
    ("spec: no path", function({"x.$": "date"}), "neither a path"),
    ("spec: no path, deep down", function({"a": [{"x.$": "$.a b"}]}), "parameters.a[0].x.$"),
    ("spec: a number", function({"x.$": 1}), "neither a path"),
    ("docs: an unknown function", function({"x.$": "States.Formt('x')"}), "neither a path"),
    ("docs: a function without its end", function({"x.$": "States.Format('x'"}), "neither a path"),
    ("docs: both spellings of a key", function({"x": 1, "x.$": "$.x"}), "beside"),
    ("spec: an unknown error", PipelineStep("s", FUNCTION, retry_on=["States.Http.Status.429"]), "does not know"),
    ("spec: an Output beside a ResultPath", caught(Output="{% 1 %}", ResultPath="$.a"), "ResultPath"),
    ("spec: a ResultPath into the context", caught(ResultPath="$$.Execution"), "ResultPath"),
    ("spec: no text as Next", caught(Next=["s"]), "no step beside it"),
    ("api: a misspelt field", task("ecs:runTask.sync", {"TaskDefinition": "t", "Clustr": "c"}), "'Cluster'"),
    ("api: a field in small letters", task("glue:startJobRun", {"JobName": "j", "arguments": {}}), "'Arguments'"),
    (
        "api: a nested field",
        task(
            "ecs:runTask",
            {
                "TaskDefinition": "t",
                "Overrides": {"ContainerOverrides": [{"Nam": "c"}]},
            },
        ),
        "Overrides.ContainerOverrides[0].Nam",
    ),
    ("api: a missing field", task("dynamodb:putItem", {"TableName": "t"}), "requires the parameter Item"),
    ("api: a missing field of the SDK", task("aws-sdk:s3:copyObject", {"Bucket": "b", "Key": "k"}), "CopySource"),
    ("docs: an unknown service", task("lamda:invoke", {}), "'lambda'"),
    ("docs: an unknown action", task("glue:startJob", {}), "'startJobRun'"),
    ("api: an unknown service of the SDK", task("aws-sdk:nothing:putObject", {}), "no service 'nothing'"),
    ("api: an unknown action of the SDK", task("aws-sdk:s3:putObjct", {"Bucket": "b"}), "'putObject'"),
    ("docs: no job to wait for", task("sqs:sendMessage.sync", {"QueueUrl": "u", "MessageBody": "b"}), ".sync"),
    ("docs: no .sync:2", task("ecs:runTask.sync:2", {"TaskDefinition": "t"}), ".sync:2"),
    ("docs: no job of this action", task("athena:getQueryResults.sync", {"QueryExecutionId": "q"}), ".sync"),
    (
        "docs: no callback",
        task("glue:startJobRun.waitForTaskToken", {"JobName.$": "$$.Task.Token"}),
        "waitForTaskToken",
    ),
    ("docs: another region", PipelineStep("s", FUNCTION.replace("us-east-1", "eu-west-1")), "eu-west-1"),
    ("docs: another partition", PipelineStep("s", FUNCTION.replace("aws", "aws-cn", 1)), "aws-cn"),
    ("docs: nine digits", PipelineStep("s", FUNCTION.replace("123456789012", "123456789")), "has 9"),
    ("spec: half a surrogate in a comment", PipelineStep("s", FUNCTION, comment="\ud800"), "surrogate"),
    ("spec: half a surrogate in a name", PipelineStep("\ud800", FUNCTION), "surrogate"),
    ("spec: no number in a catcher", caught(Comment=float("nan")), "NaN"),
    ("spec: a pause that shrinks", PipelineStep("s", FUNCTION, retry=[Retry(["E"], backoff=0.5)]), "backoff"),
    (
        "docs: the longest pause",
        PipelineStep("s", FUNCTION, retry=[Retry(["E"], interval=9, max_delay=5)]),
        "max_delay",
    ),
    ("spec: two for all", PipelineStep("s", FUNCTION, retry=[Retry(["States.ALL"]), Retry(["States.ALL"])]), "two"),
    ("spec: all among others", PipelineStep("s", FUNCTION, retry=[Retry(["States.ALL", "E"])]), "alone"),
    ("ours: a result that has no place", function({"x.$": "$.x"}, output="merge"), "own"),
    (
        "ours: no function in a map of JSONata",
        MapStep(
            "m", [PipelineStep("s", FUNCTION, {"d": 1})], S3Items("b", "States.Format('{}', $.k)", input_type="CSV")
        ),
        "JSONata",
    ),
    ("docs: a template's path", mapped("$.p", item_selector={"x.$": "id"}), "item_selector.x.$"),
    ("docs: both spellings in a template", mapped("$.p", item_selector={"x.$": "$.x", "x": 1}), "beside"),
    ("docs: BatchInput belongs to batches", mapped("$.p", batch_input={"a": 1}), "batch_size"),
    ("docs: a limit of a batch's input", mapped("$.p", batch_size=2, batch_input={"a": "x" * 300_000}), "262,144"),
    (
        "ours: a template of JSONata has no functions of JSONPath",
        MapStep("m", [PipelineStep("s", FUNCTION, {"d": 1})], "$.p", item_selector={"x.$": "States.UUID()"}),
        "JSONata",
    ),
    ("docs: an inventory has a key", mapped(S3Items("b", prefix="p/", input_type="MANIFEST")), "manifest's own key"),
    ("docs: headers of what is no CSV", mapped(S3Items("b", "k.json", csv_headers=["id"])), "'CSV'"),
    ("docs: a delimiter of what is no CSV", mapped(S3Items("b", "k.jsonl", csv_delimiter="TAB")), "'CSV'"),
    ("docs: a pointer into what is no JSON", mapped(S3Items("b", "k.csv", pointer="/a")), "'JSON'"),
    ("docs: a pointer begins with a slash", mapped(S3Items("b", "k.json", pointer="a")), "JSON Pointer"),
    ("docs: no such function", mapped(S3Items("b", "States.Join($.k)", input_type="CSV")), "intrinsic"),
]


@pytest.mark.parametrize(("source", "step"), ACCEPTED, ids=[source for source, _ in ACCEPTED])
def test_what_aws_takes_is_taken(source: str, step: Step) -> None:
    assert source
    assert pipeline(step).check() == []
    assert pipeline(step).definition_json()


@pytest.mark.parametrize(("source", "step"), NOTED, ids=[source for source, _ in NOTED])
def test_what_aws_takes_and_may_not_be_meant_is_named(source: str, step: Step) -> None:
    assert source
    (note,) = pipeline(step).check()
    assert "step 's'" in note
    assert "pass_input=False" in note
    assert pipeline(step).definition_json()


@pytest.mark.parametrize(("source", "step", "named"), REFUSED, ids=[source for source, *_ in REFUSED])
def test_what_aws_refuses_is_named(source: str, step: Step, named: str) -> None:
    assert source
    found = pipeline(step).check()
    assert len(found) == 1, found
    assert named in found[0]
    with pytest.raises(InvalidPipelineError) as caught:
        pipeline(step).deploy()
    assert caught.value.problems == found


def test_the_documented_account_of_nine_digits_is_printed_named_and_not_deployed() -> None:
    documented = pipeline(
        PipelineStep("Ingest", FUNCTION.replace("123456789012", "123456789")),
        role_arn="arn:aws:iam::123456789:role/StepFunctionsRole",
    )
    assert "123456789:function" in documented.definition_json()
    (problem,) = documented.check()
    assert "12 digits" in problem
    assert "role_arn, step 'Ingest'" in problem
    with pytest.raises(InvalidPipelineError) as caught:
        documented.deploy()
    assert caught.value.problems == [problem]


def test_paths_that_switch_the_merge_off_are_named_and_deployed(
    aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    step = PipelineStep("s", f"arn:aws:lambda:{aws.region}:{aws.account}:function:echo", {"x.$": "$.x", "date": "a"})
    found = pipeline(step, name=name).check()
    assert len(found) == 1
    assert "merged" in found[0]
    assert pipeline(step, name=name).deploy()
    assert pipeline(step.model_copy(update={"pass_input": False})).check() == []


def test_the_environments_region_counts_when_it_is_deployed(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    elsewhere = pipeline(PipelineStep("s", FUNCTION.replace("us-east-1", "eu-west-1")), region="")
    assert elsewhere.check() == []
    with pytest.raises(InvalidPipelineError, match="the machine in us-east-1"):
        elsewhere.deploy()


def test_what_is_nested_too_deeply_is_named() -> None:
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    (problem,) = pipeline(PipelineStep("s", FUNCTION, {"a": deep})).check()
    assert "deeper" in problem
    with pytest.raises(InvalidExecutionError, match="deeper"):
        pipeline().execute(deep)


@pytest.mark.parametrize(
    "configuration",
    [
        {"level": "ALL", "destinations": [None]},
        {"level": "ALL", "destinations": [{"cloudWatchLogsLogGroup": None}]},
        {"level": "ALL", "destinations": None},
        {"level": ["ALL"]},
        {"level": "ALL", "destinations": {"a": 1}},
    ],
)
def test_a_logging_configuration_of_any_shape_is_a_problem_and_no_error(configuration: dict[str, Any]) -> None:
    assert pipeline(PipelineStep("s", FUNCTION), logging_configuration=configuration).check()


def test_what_botocore_refuses_is_an_error_of_ours(aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    made = pipeline(PipelineStep("s", FUNCTION), name=name, tracing_configuration={"enabled": "Jane"})
    with pytest.raises(ClinopsPrefectError) as caught:
        made.deploy()
    assert "tracingConfiguration.enabled" in str(caught.value)
    assert "Jane" not in str(caught.value)


def test_a_client_is_made_once(aws: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("AWS_REGION", f"eu-west-{int(time.time()) % 3 + 1}")  # a configuration that nobody had
    made = pipeline(PipelineStep("s", FUNCTION), region="")
    assert made.client() is made.client()
