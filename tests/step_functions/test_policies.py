"""The policies allow what is really called, and no more: both are held against calls recorded on the emulator."""

import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinops_prefect.errors import ExecutionFailedError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.__main__ import policies
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep, S3Items, S3Results
from clinops_prefect.testing.step_functions_emulator import Emulator
from tests.step_functions.test_pipeline import pipeline

__all__ = ["pipeline"]

ROOT = Path(__file__).parents[2]
ROLE = "arn:aws:iam::123456789012:role/machine"
HERE = "us-east-1:123456789012"


def allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    return any(
        action in statement["Action"]
        and any(fnmatch.fnmatchcase(resource, each) for each in listed(statement["Resource"]))
        for statement in policy["Statement"]
    )


def listed(resource: str | list[str]) -> list[str]:
    return [resource] if isinstance(resource, str) else resource


def granted(policy: dict[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def resources(policy: dict[str, Any], action: str) -> list[str]:
    found = [statement["Resource"] for statement in policy["Statement"] if action in statement["Action"]]
    return sorted(arn for each in found for arn in listed(each))


def test_the_caller_may_do_what_a_life_of_the_machine_takes_and_nothing_else(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], tmp_path: Path
) -> None:
    calls: set[tuple[str, str]] = set()

    def record(params: dict[str, Any], model: Any, **_: Any) -> None:
        named = ("mapRunArn", "executionArn", "stateMachineAliasArn", "stateMachineVersionArn", "stateMachineArn")
        arn = next((params[name] for name in (*named, "resourceArn") if name in params), pipeline.state_machine_arn)
        # moto puts the version into the ARN of a map's run, where AWS has the machine's name alone.
        calls.add((f"states:{model.name}", re.sub(r"(:mapRun:[^:/]+):\d+/", r"\1/", arn)))

    gate = tmp_path / "gate"
    pipeline.alias, pipeline.tags, pipeline.keep_versions = "live", {"team": "icu"}, 1
    patients = MapStep(
        "Patients", [PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0)], "$.p"
    )
    pipeline.add_step(patients)
    pipeline.client().meta.events.register("provide-client-params.stepfunctions.*", record)
    for comment in ("one", "two"):
        pipeline.comment = comment
        pipeline.deploy()
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.run({"p": [{"i": 1}]}, "once")
    assert caught.value.failed_items
    gate.touch()
    pipeline.run({"p": [{"i": 1}]}, "once")
    list(pipeline.history(caught.value.execution_arn))
    pipeline.wait(pipeline.execute({"p": []}))
    pipeline.stop(pipeline.execute({"p": []}))
    made, _ = policies(pipeline, delete=True)
    pipeline.delete(force=True)
    pipeline.delete(missing_ok=True)

    assert [call for call in calls if not allows(made["caller"], *call)] == []
    # No emulator has these; the other two are AWS's in the course of calls that were made.
    unseen = {"states:ValidateStateMachineDefinition", "states:TestState", "iam:PassRole"}
    # Polling lists executions only in a crowd; `delete` does here unless forced.
    rare = {"states:ListExecutions", "states:PublishStateMachineVersion", "states:TagResource"}
    assert granted(made["caller"]) - {action for action, _ in calls} - rare == unseen
    without, _ = policies(pipeline)
    assert granted(made["caller"]) - granted(without["caller"]) == {"states:DeleteStateMachine"}


def test_a_plain_pipeline_grants_nothing_for_what_it_does_not_have() -> None:
    plain = StepFunctionsPipeline("p", ROLE, region="us-east-1", keep_versions=0)
    plain.add_step(PipelineStep("A", f"arn:aws:lambda:{HERE}:function:f"))
    made, notes = policies(plain)
    words = (
        "Alias",
        "Tag",
        "MapRun",
        "DeleteStateMachine",
        "ListStateMachineVersions",
        "kms:",
        "xray:",
        "logs:",
        "s3:",
    )
    everything = granted(made["caller"]) | granted(made["role"])
    assert not [action for action in everything for word in words if word in action]
    assert made["role"]["Statement"] == [
        {
            "Sid": "InvokeFunctions",
            "Effect": "Allow",
            "Action": ["lambda:InvokeFunction"],
            "Resource": [f"arn:aws:lambda:{HERE}:function:f"],
        }
    ]
    assert notes == []


def as_action(request: str) -> tuple[str, str]:
    """What IAM is asked about a request to Lambda or S3."""
    method, _, path = request.partition(" ")
    if found := re.search(r"/functions/([^/]+)/invocations", path):
        name = found[1].replace("%3A", ":")
        return "lambda:InvokeFunction", name if name.startswith("arn:") else f"arn:aws:lambda:{HERE}:function:{name}"
    bucket, _, rest = path.lstrip("/").partition("/")
    if method == "GET" and "list-type" in path:
        return "s3:ListBucket", f"arn:aws:s3:::{bucket.partition('?')[0]}"
    verb = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "POST": "Put"}[method]
    return f"s3:{verb}Object", f"arn:aws:s3:::{bucket}/{rest.partition('?')[0]}"


def test_the_role_may_do_what_its_states_do_and_reaches_nothing_beside(
    pipeline: StepFunctionsPipeline, aws: Emulator, function: Callable[[str], str], name: str
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="in/patients.jsonl", Body=b'{"n": 1}\n{"n": 2}\n')
    s3.put_object(Bucket=name, Key="parts/1.json", Body=b"[]")
    inner = [PipelineStep("Count", function("count"))]
    results = S3Results(name, "out/features")
    pipeline.add_step(MapStep("File", inner, S3Items(name, "in/patients.jsonl"), results=results))
    inner = [PipelineStep("Echo", "arn:aws:states:::lambda:invoke", {"FunctionName": function("echo")})]
    pipeline.add_step(MapStep("Folder", inner, S3Items(name, prefix="parts/")))
    pipeline.deploy()
    aws.forget_calls()
    pipeline.wait(pipeline.execute({}))
    requests = {as_action(request) for request in aws.other_requests()}
    role = policies(pipeline)[0]["role"]
    assert [request for request in requests if not allows(role, *request)] == []
    assert {"lambda:InvokeFunction", "s3:GetObject", "s3:PutObject", "s3:ListBucket"} == {
        action for action, _ in requests
    }
    for action, resource in [
        ("lambda:InvokeFunction", function("fail")),
        ("s3:GetObject", f"arn:aws:s3:::{name}/in/other.jsonl"),
        ("s3:PutObject", f"arn:aws:s3:::{name}/out/featuresque"),
        ("s3:DeleteObject", f"arn:aws:s3:::{name}/out/features/x"),
        ("states:StartExecution", f"{pipeline.state_machine_arn}-other"),
    ]:
        assert not allows(role, action, resource)
    assert allows(role, "states:StartExecution", pipeline.state_machine_arn)
    (listed,) = [one for one in role["Statement"] if one["Action"] == ["s3:ListBucket"]]
    assert listed["Condition"] == {"StringLike": {"s3:prefix": "parts/*"}}


INTEGRATIONS: list[tuple[str, dict[str, Any], dict[str, list[str]]]] = [
    (
        "glue:startJobRun.sync",
        {"JobName": "nightly"},
        {
            "glue:StartJobRun": [f"arn:aws:glue:{HERE}:job/nightly"],
            "glue:BatchStopJobRun": [f"arn:aws:glue:{HERE}:job/nightly"],
        },
    ),
    (
        "batch:submitJob.sync",
        {"JobName": "n", "JobQueue": "q", "JobDefinition": f"arn:aws:batch:{HERE}:job-definition/d:3"},
        {
            "batch:SubmitJob": [f"arn:aws:batch:{HERE}:job-definition/d:3", f"arn:aws:batch:{HERE}:job-queue/q"],
            "batch:TerminateJob": ["*"],
            "events:PutRule": [f"arn:aws:events:{HERE}:rule/StepFunctionsGetEventsForBatchJobsRule"],
        },
    ),
    (
        "states:startExecution.sync:2",
        {"StateMachineArn": f"arn:aws:states:{HERE}:stateMachine:other:live"},
        {
            "states:StartExecution": [f"arn:aws:states:{HERE}:stateMachine:other:live"],
            "states:StopExecution": [f"arn:aws:states:{HERE}:execution:other:*"],
            "events:PutTargets": [f"arn:aws:events:{HERE}:rule/StepFunctionsGetEventsForStepFunctionsExecutionRule"],
        },
    ),
    (
        "dynamodb:putItem",
        {"TableName": "runs", "Item": {}},
        {"dynamodb:PutItem": [f"arn:aws:dynamodb:{HERE}:table/runs"]},
    ),
    (
        "sqs:sendMessage",
        {"QueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/q", "MessageBody": "x"},
        {"sqs:SendMessage": [f"arn:aws:sqs:{HERE}:q"]},
    ),
    ("sns:publish", {"TopicArn": f"arn:aws:sns:{HERE}:t", "Message": "x"}, {"sns:Publish": [f"arn:aws:sns:{HERE}:t"]}),
    (
        "events:putEvents",
        {"Entries": [{"Source": "s", "DetailType": "d", "Detail": {}}]},
        {"events:PutEvents": [f"arn:aws:events:{HERE}:event-bus/default"]},
    ),
    (
        "lambda:invoke",
        {"FunctionName": "f", "Qualifier": "live"},
        {"lambda:InvokeFunction": [f"arn:aws:lambda:{HERE}:function:f:live"]},
    ),
    ("aws-sdk:s3:getObject", {"Bucket": "b", "Key": "k"}, {"s3:GetObject": ["arn:aws:s3:::b/k"]}),
    (
        "aws-sdk:s3:getObjectAttributes",
        {"Bucket": "b", "Key": "k", "ObjectAttributes": ["ETag"]},
        {"s3:GetObjectAttributes": ["arn:aws:s3:::b/k"]},
    ),
    ("aws-sdk:s3:getBucketTagging", {"Bucket": "b"}, {"s3:GetBucketTagging": ["arn:aws:s3:::b"]}),
    (
        "http:invoke",
        {"Authentication": {"ConnectionArn": f"arn:aws:events:{HERE}:connection/registry/1"}},
        {
            "states:InvokeHTTPEndpoint": [f"arn:aws:states:{HERE}:stateMachine:p"],
            "events:RetrieveConnectionCredentials": [f"arn:aws:events:{HERE}:connection/registry/1"],
            "secretsmanager:GetSecretValue": [f"arn:aws:secretsmanager:{HERE}:secret:events!connection/*"],
        },
    ),
    (
        "http:invoke",
        {"InvocationConfig": {"ConnectionArn": f"arn:aws:events:{HERE}:connection/registry/2"}},
        {"events:RetrieveConnectionCredentials": [f"arn:aws:events:{HERE}:connection/registry/2"]},
    ),
    (
        "http:invoke",
        {"ApiEndpoint": "https://registry"},
        {"events:RetrieveConnectionCredentials": [f"arn:aws:events:{HERE}:connection/*"]},
    ),
    ("aws-sdk:s3:listObjectsV2", {"Bucket": "b"}, {"s3:ListBucket": ["arn:aws:s3:::b"]}),
    (
        "aws-sdk:sfn:describeExecution",
        {"ExecutionArn": f"arn:aws:states:{HERE}:execution:m:e"},
        {"states:DescribeExecution": [f"arn:aws:states:{HERE}:execution:m:e"]},
    ),
]


@pytest.mark.parametrize(("resource", "parameters", "expected"), INTEGRATIONS, ids=lambda value: str(value)[:30])
def test_an_integration_is_allowed_on_what_its_parameters_name(
    resource: str, parameters: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    machine = StepFunctionsPipeline("p", ROLE, region="us-east-1")
    machine.add_step(PipelineStep("A", f"arn:aws:states:::{resource}", parameters))
    made, notes = policies(machine)
    assert {action: resources(made["role"], action) for action in expected} == expected
    assert notes == []


def test_what_only_the_run_knows_is_said_and_not_hidden_in_a_wildcard() -> None:
    machine = StepFunctionsPipeline("p", ROLE, region="us-east-1")
    machine.add_step(PipelineStep("Computed", "arn:aws:states:::dynamodb:getItem", {"TableName.$": "$.t", "Key": {}}))
    machine.add_step(PipelineStep("Athena", "arn:aws:states:::athena:startQueryExecution.sync", {"QueryString": "x"}))
    map_step = MapStep(
        "Map", [PipelineStep("F", f"arn:aws:lambda:{HERE}:function:f")], S3Items("$.bucket", "$.key", input_type="JSON")
    )
    machine.add_step(map_step)
    _, notes = policies(machine)
    for state in ("Computed", "Athena", "Map"):
        assert any(f"state {state!r}" in note for note in notes), notes


def test_a_state_with_a_role_of_its_own_needs_that_role_and_nothing_else() -> None:
    theirs = "arn:aws:iam::210987654321:role/Ingest"
    machine = StepFunctionsPipeline("p", ROLE, region="us-east-1")
    machine.add_step(PipelineStep("A", "arn:aws:lambda:us-east-1:210987654321:function:f", assume_role_arn=theirs))
    machine.add_step(PipelineStep("B", "arn:aws:states:::apigateway:invoke", {"ApiEndpoint": "a", "Method": "GET"}))
    made, notes = policies(machine)
    role = made["role"]
    assert granted(role) == {"sts:AssumeRole", "execute-api:Invoke"}
    assert resources(role, "sts:AssumeRole") == [theirs]
    assert resources(role, "execute-api:Invoke") == [f"arn:aws:execute-api:{HERE}:*"]
    assert [f"state 'A' runs with {theirs}" in notes[0], "state 'B': name the API" in notes[1]] == [True, True]


def test_each_statement_has_a_name_of_its_own_and_only_step_functions_gets_the_role() -> None:
    machine = StepFunctionsPipeline("p", ROLE, region="us-east-1")
    for name, action in [("A", "getItem"), ("B", "updateItem"), ("C", "deleteItem"), ("D", "getItem")]:
        machine.add_step(PipelineStep(name, f"arn:aws:states:::dynamodb:{action}", {"TableName": name, "Key": {}}))
    made, _ = policies(machine)
    assert [statement["Sid"] for statement in made["role"]["Statement"]] == [
        "CallDynamodb",
        "CallDynamodb2",
        "CallDynamodb3",
    ]
    assert {statement["Sid"]: statement.get("Condition") for statement in made["caller"]["Statement"]} == {
        "KeepTheMachineUpToDate": None,
        "StartItsExecutions": None,
        "FollowStopAndRedriveThem": None,
        "ValidateAndTest": None,
        "HandOverTheMachinesRole": {"StringEquals": {"iam:PassedToService": "states.amazonaws.com"}},
    }


def test_a_role_reads_the_items_of_maps_and_writes_their_results() -> None:
    machine = StepFunctionsPipeline("p", ROLE, region="us-east-1")
    each = [PipelineStep(n, "arn:aws:states:::dynamodb:getItem", {"TableName": "t", "Key": {}}) for n in ("I", "J")]
    machine.add_step(MapStep("Folder", each[:1], S3Items("b", prefix="parts/")))
    machine.add_step(
        MapStep("List", each[1:], S3Items("l", "in/m.json", input_type="MANIFEST"), results=S3Results("r", "o"))
    )
    statements = policies(machine)[0]["role"]["Statement"]
    assert {one["Sid"]: (one["Action"], one["Resource"]) for one in statements if "Items" in one["Sid"]} == {
        "ListItems": (["s3:ListBucket"], ["arn:aws:s3:::b"]),
        "ReadItems": (["s3:GetObject"], ["arn:aws:s3:::l/*", "arn:aws:s3:::l/in/m.json"]),
    }
    (written,) = [one for one in statements if one["Sid"] == "WriteResults"]
    assert written["Action"] == [
        "s3:PutObject",
        "s3:GetObject",
        "s3:ListMultipartUploadParts",
        "s3:AbortMultipartUpload",
    ]
    assert written["Resource"] == ["arn:aws:s3:::r/o/*"]


def test_an_aliased_key_is_granted_by_its_alias() -> None:
    machine = StepFunctionsPipeline("p", ROLE, region="us-east-1", kms_key_id="alias/clinops")
    machine.add_step(PipelineStep("A", f"arn:aws:lambda:{HERE}:function:f"))
    for policy in policies(machine)[0].values():
        (statement,) = [one for one in policy["Statement"] if "kms:Decrypt" in one["Action"]]
        assert statement["Resource"] == [f"arn:aws:kms:{HERE}:key/*"]
        assert statement["Condition"]["ForAnyValue:StringEquals"] == {"kms:ResourceAliases": "alias/clinops"}


@pytest.mark.parametrize("kind", ["caller", "role"])
def test_the_example_of_the_deployments_is_what_the_command_prints(kind: str) -> None:
    module = [sys.executable, "-m", "clinops_prefect.step_functions", "policy"]
    given = [*module, "deployments.permissions.example:pipeline", "--only", kind]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads((ROOT / f"deployments/permissions/aws-map-{kind}.json").read_text())
    assert ("state 'Registry' runs with" in done.stderr) == (kind == "role" or "note" in done.stderr)


def test_the_command_names_what_is_no_pipeline() -> None:
    module = [sys.executable, "-m", "clinops_prefect.step_functions", "policy", "deployments.plan:main"]
    done = subprocess.run([*module[:-1], "deployments.plan:nothing"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert "module:name" in done.stderr
    assert "Traceback" not in done.stderr
