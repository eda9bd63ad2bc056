"""`check()` of definitions of the user's own, both ways: machines as AWS documents them, and reported refusals.

The first column says where the verdict comes from: a page of AWS's developer guide (`docs`), the specification
(`spec`, https://states-language.net/spec.html), AWS's own linter (`statelint`), or a public report that quotes AWS. All
are written anew. The emulator, which stands for AWS, must say the same.
"""

import json
from typing import Any

import pytest

from clinops_prefect import StepFunctionsPipeline
from clinops_prefect.errors import InvalidPipelineError
from clinops_prefect.testing.step_functions_emulator import Emulator

ROLE = "arn:aws:iam::123456789012:role/StepFunctionsRole"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:echo"
SERVICE = "arn:aws:states:::"

Definition = dict[str, Any]


def task(**fields: Any) -> Definition:
    end = {} if {"Next", "End"} & set(fields) else {"End": True}
    return {"Type": "Task", "Resource": FUNCTION} | end | fields


def passed(**fields: Any) -> Definition:
    return {"Type": "Pass"} | ({} if {"Next", "End"} & set(fields) else {"End": True}) | fields


def machine(*, start: Any = "", **states: Any) -> Definition:
    return {"StartAt": start or next(iter(states)), "States": states}


def choice(*targets: str, **fields: Any) -> Definition:
    rules = [{"Variable": "$.k", "NumericEquals": number, "Next": name} for number, name in enumerate(targets)]
    return {"Type": "Choice", "Choices": rules} | fields


def parallel(*branches: Any, **fields: Any) -> Definition:
    return {"Type": "Parallel", "Branches": list(branches), "End": True} | fields


def each(processor: Any, **fields: Any) -> Definition:
    return {"Type": "Map", "ItemProcessor": processor, "End": True} | fields


def distributed(**states: Any) -> Definition:
    return {"ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}} | machine(**states)


LOAD = {"Resource": f"{SERVICE}s3:getObject", "ReaderConfig": {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW"}}

ACCEPTED: list[tuple[str, Definition]] = [
    ("docs, tutorial-creating-lambda-state-machine: one task", machine(Hello=task())),
    (
        "docs, sample-project-job-poller: a loop of Wait, Task and Choice",
        machine(
            Submit=task(Next="Rest"),
            Rest={"Type": "Wait", "SecondsPath": "$.seconds", "Next": "Ask"},
            Ask=task(Next="Is it done?"),
            **{"Is it done?": choice("Broken", "Final", Default="Rest")},
            Broken={"Type": "Fail", "Cause": "the job failed", "Error": "JobFailed"},
            Final=task(),
        ),
    ),
    (
        "docs, state-choice: And, Or, Not, and no Default",
        machine(
            Pick={
                "Type": "Choice",
                "Choices": [
                    {"Not": {"Variable": "$.ward", "StringEquals": "MICU"}, "Next": "Other"},
                    {
                        "And": [
                            {"Variable": "$.age", "NumericGreaterThanEquals": 18},
                            {"Variable": "$.age", "NumericLessThan": 90},
                        ],
                        "Next": "Adult",
                    },
                ],
            },
            Other=passed(),
            Adult=passed(),
        ),
    ),
    ("docs, state-choice: a choice back to itself", machine(A=choice("A", "B", Default="A"), B={"Type": "Succeed"})),
    (
        "docs, state-parallel: two branches, one of them longer",
        machine(Both=parallel(machine(Vitals=task()), machine(Labs=task(Next="Units"), Units=passed()))),
    ),
    ("docs, state-parallel: branches within branches", machine(A=parallel(machine(B=parallel(machine(C=task())))))),
    (
        "docs, tutorial-handling-error-conditions: a Catch for each error",
        machine(
            Risky=task(
                Catch=[
                    {"ErrorEquals": ["CustomError"], "Next": "Custom"},
                    {"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Other"},
                ]
            ),
            Custom=passed(),
            Other={"Type": "Fail"},
        ),
    ),
    (
        "docs, concepts-error-handling: a Catch that leads back",
        machine(A=task(Next="B"), B=task(Catch=[{"ErrorEquals": ["E"], "Next": "A"}])),
    ),
    (
        "docs, state-parallel: a Catch of the whole",
        machine(
            Both=parallel(machine(A=task()), Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Undo"}]),
            Undo=task(Next="Failed"),
            Failed={"Type": "Fail"},
        ),
    ),
    ("docs, state-map-inline: a map", machine(All=each(machine(One=task()), ItemsPath="$.patients", MaxConcurrency=5))),
    (
        "docs, state-map-inline: the old name, Iterator",
        machine(All={"Type": "Map", "Iterator": machine(A=task()), "End": True}),
    ),
    (
        "docs, state-map-distributed: a map over a CSV file",
        machine(All=each(distributed(One=task()), ItemReader=LOAD | {"Parameters": {"Bucket": "b", "Key": "k.csv"}})),
    ),
    (
        "docs, tutorial-map-distributed: a map in a map",
        machine(Wards=each(distributed(Ward=each(machine(Patient=task()))))),
    ),
    (
        "docs, state-map: a map in a branch",
        machine(Both=parallel(machine(A=each(distributed(One=task()))), machine(B=passed()))),
    ),
    (
        "docs, state-wait: until a time of day",
        machine(Rest={"Type": "Wait", "Timestamp": "2030-01-01T00:00:00Z", "Next": "A"}, A=passed()),
    ),
    (
        "docs, state-fail: a Fail with paths",
        machine(F={"Type": "Fail", "ErrorPath": "$.error", "CausePath": "$.cause"}),
    ),
    ("docs, state-succeed: nothing but an end", machine(Done={"Type": "Succeed"})),
    (
        "docs, transforming-data: JSONata for the whole machine",
        {"QueryLanguage": "JSONata"}
        | machine(
            Pick={
                "Type": "Choice",
                "Choices": [{"Condition": "{% $states.input.age >= 18 %}", "Next": "A"}],
                "Default": "B",
            },
            A=passed(Output={"adult": True}),
            B=passed(Output="{% $states.input %}"),
        ),
    ),
    (
        "docs, workflow-variables: Assign",
        machine(A=passed(Assign={"date.$": "$.date"}, Next="B"), B=passed(Parameters={"d.$": "$date"})),
    ),
    (
        "docs, connect-to-resource: a callback",
        machine(
            Ask=task(
                Resource=f"{SERVICE}sqs:sendMessage.waitForTaskToken",
                Parameters={"QueueUrl": "u", "MessageBody": {"token.$": "$$.Task.Token"}},
                HeartbeatSeconds=600,
            )
        ),
    ),
    (
        "docs, connect-ecs: a job, whose retries are the machine's own",
        machine(
            Run=task(
                Resource=f"{SERVICE}ecs:runTask.sync",
                Parameters={"TaskDefinition": "t"},
                Retry=[{"ErrorEquals": ["States.ALL"], "MaxAttempts": 2}],
            )
        ),
    ),
    (
        "docs, concepts-amazon-states-language: Version, Comment, TimeoutSeconds",
        {"Version": "1.0", "Comment": "c", "TimeoutSeconds": 60} | machine(A=passed()),
    ),
    ("spec: the first state need not be written first", machine(start="B", A=passed(), B=passed(Next="A"))),
    (
        "docs, state names: 80 characters, with spaces and marks",
        machine(**{"Is it done? (yes/no) ".ljust(80, "x"): passed()}),
    ),
    (
        "docs, concepts-cross-account: a role for one state",
        machine(A=task(Credentials={"RoleArn": "arn:aws:iam::210987654321:role/r"})),
    ),
]

REFUSED: list[tuple[str, Any, str]] = [
    ("localstack#11978: a missing target", machine(A=passed(Next="C")), "Next goes on at 'C'"),
    ("asl-validator#17: a state that nothing leads to", machine(A=passed(), B=passed()), "nothing leads to it"),
    (
        "cdk-github-runners#434: a choice without Choices",
        machine(A={"Type": "Choice", "Default": "B"}, B=passed()),
        "no Choices",
    ),
    ("serverless-step-functions#120: StartsAt", {"StartsAt": "A", "States": {"A": passed()}}, "starts at None"),
    (
        "serverless-step-functions#36: a Resource that is a name",
        machine(A=task(Resource="createToken")),
        "'createToken'",
    ),
    (
        "docs, concepts-sam-sfn: a placeholder that nobody filled",
        machine(A=task(Resource="${EchoFunctionArn}")),
        "placeholder",
    ),
    ("spec: StartAt is none of the states", machine(start="Z", A=passed()), "starts at 'Z'"),
    ("spec: StartAt is text", machine(start=["A"], A=passed()), "starts at"),
    ("spec: no states", {"StartAt": "A", "States": {}}, "no States"),
    ("spec: States is an object", {"StartAt": "A", "States": [passed()]}, "no States"),
    ("spec: a state is an object", machine(A="Pass"), "no object"),
    ("spec: a Type", machine(A={"End": True}), "its Type is None"),
    ("spec: an unknown Type", machine(A={"Type": "Lambda", "End": True}), "'Lambda'"),
    ("spec: neither Next nor End", machine(A={"Type": "Pass"}), "neither Next nor End"),
    ("spec: both Next and End", machine(A=passed(Next="B", End=True), B=passed()), "both Next and End"),
    ("spec: End is true or absent", machine(A=passed(End=False)), "neither Next nor End"),
    ("spec: a Succeed state goes on", machine(A={"Type": "Succeed", "Next": "B"}, B=passed()), "no Next"),
    ("spec: a Fail state ends by itself", machine(A={"Type": "Fail", "End": True}), "no End"),
    ("spec: a Choice has no Next", machine(A=choice("B", Next="B"), B=passed()), "no Next"),
    ("spec: a rule's target", machine(A=choice("B", "C"), B=passed()), "Choices[1] goes on at 'C'"),
    (
        "spec: a rule without a target",
        machine(A={"Type": "Choice", "Choices": [{"Variable": "$.k", "IsNull": True}], "Default": "B"}, B=passed()),
        "goes on at None",
    ),
    ("spec: Default's target", machine(A=choice("B", Default="C"), B=passed()), "Default goes on at 'C'"),
    (
        "spec: a catcher's target",
        machine(A=task(Catch=[{"ErrorEquals": ["E"], "Next": "B"}])),
        "Catch[0] goes on at 'B'",
    ),
    ("spec: no Catch of a Pass", machine(A=passed(Catch=[{"ErrorEquals": ["E"], "Next": "A"}])), "no Catch"),
    (
        "spec: a branch cannot be left",
        machine(A=parallel(machine(B=passed(Next="C")), Next="C", End=False), C=passed()),
        "goes on at 'C'",
    ),
    (
        "spec: a branch cannot be entered",
        machine(A=choice("B", "P"), P=parallel(machine(B=passed()))),
        "Choices[0] goes on at 'B'",
    ),
    ("spec: a map cannot be left", machine(A=each(machine(B=passed(Next="A")))), "goes on at 'A'"),
    ("spec: no Branches", machine(A={"Type": "Parallel", "End": True}), "no Branches"),
    ("spec: a branch without a start", machine(A=parallel({"States": {"B": passed()}})), "Branches[0] starts at None"),
    ("spec: a map without a processor", machine(A={"Type": "Map", "End": True}), "no ItemProcessor"),
    ("spec: a processor without states", machine(A=each({"StartAt": "B"})), "ItemProcessor has no States"),
    (
        "docs, state names: one name in two branches",
        machine(A=parallel(machine(B=passed()), machine(B=passed()))),
        "2 states have this name",
    ),
    (
        "docs, state names: one name inside a map and outside",
        machine(A=each(distributed(A=passed()))),
        "2 states have this name",
    ),
    ("docs, limits: a name of 81 characters", machine(**{"x" * 81: passed()}), "81 characters"),
    ("statelint: a circle without an end", machine(A=passed(Next="B"), B=passed(Next="A")), "never ends"),
    (
        "statelint: a branch without an end",
        machine(A=parallel(machine(B={"Type": "Wait", "Seconds": 1, "Next": "B"}))),
        "never ends",
    ),
    ("docs, limits: a number that JSON readers round", machine(A=passed(Result=2**60)), "2^53"),
    ("docs, accounts: nine digits", machine(A=task(Resource=FUNCTION.replace("123456789012", "123456789"))), "has 9"),
    (
        "docs, regions: a function of another region",
        machine(A=task(Resource=FUNCTION.replace("us-east-1", "eu-west-1"))),
        "eu-west-1",
    ),
    (
        "docs, regions: a partition deep inside",
        machine(A=parallel(machine(B=each(machine(C=task(Resource=FUNCTION.replace("aws", "aws-cn", 1))))))),
        "aws-cn",
    ),
]

# Nothing of the structure: what AWS asks beside it, the emulator does not.
_BESIDE = (
    "docs, accounts",
    "docs, regions",
    "docs, limits: a number",
    "serverless-step-functions#36",
    "docs, concepts-sam",
)


def of(definition: Any) -> StepFunctionsPipeline:
    return StepFunctionsPipeline(name="p", role_arn=ROLE, region="us-east-1", own_definition=definition)


@pytest.mark.parametrize(("source", "definition"), ACCEPTED, ids=[source for source, _ in ACCEPTED])
def test_what_aws_takes_is_taken(source: str, definition: Definition, aws: Emulator) -> None:
    assert source
    assert of(definition).check() == []
    assert json.loads(of(definition).definition_json()) == definition
    assert str(of(definition).visualize()).startswith("digraph")
    assert refusal(aws, definition) == ""


@pytest.mark.parametrize(("source", "definition", "named"), REFUSED, ids=[source for source, *_ in REFUSED])
def test_what_aws_refuses_is_named(source: str, definition: Any, named: str, aws: Emulator) -> None:
    found = of(definition).check()
    assert len(found) == 1, found
    assert named in found[0]
    with pytest.raises(InvalidPipelineError) as caught:
        of(definition).deploy()
    assert caught.value.problems == found
    if not source.startswith(_BESIDE):
        assert refusal(aws, definition) == "InvalidDefinition"


def refusal(aws: Emulator, definition: Definition) -> str:
    """The error with which the emulator refuses a definition; empty, it does not."""
    client = aws.client("stepfunctions")
    text = json.dumps(definition)
    try:
        made = client.create_state_machine(name=f"of-{abs(hash(text))}", definition=text, roleArn=aws.role_arn)
    except client.exceptions.ClientError as error:
        return str(error.response["Error"]["Code"])
    client.delete_state_machine(stateMachineArn=made["stateMachineArn"])
    return ""
