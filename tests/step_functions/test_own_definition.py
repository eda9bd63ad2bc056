"""Any definition of the Amazon States Language: checked, deployed, run, followed, attached to and redriven."""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinops_prefect import PipelineStep, StepFunctionsPipeline
from clinops_prefect.errors import ExecutionFailedError, InvalidPipelineError
from clinops_prefect.testing.step_functions_emulator import Emulator

Function = Callable[[str], str]
Make = Callable[[dict[str, Any]], StepFunctionsPipeline]
DATE = "{% $date %}"
ROLE = "arn:aws:iam::123456789012:role/r"


@pytest.fixture
def make(aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch) -> Make:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    return lambda definition: StepFunctionsPipeline.from_definition(definition, name=name, role_arn=aws.role_arn)


def triage(function: Function) -> dict[str, Any]:
    """A choice, branches, an inline map and a distributed one in a branch, a wait, a catch, and two ends."""
    ward = {
        "Type": "Map",
        "ItemsPath": "$.patients",
        "ItemProcessor": {
            "StartAt": "Score",
            "States": {"Score": {"Type": "Task", "Resource": function("count"), "End": True}},
        },
        "End": True,
    }
    cohort = copy.deepcopy(ward)
    cohort["ItemProcessor"] = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "Child",
        "States": {"Child": {"Type": "Task", "Resource": function("echo"), "End": True}},
    }
    return {
        "StartAt": "How many",
        "States": {
            "How many": {
                "Type": "Choice",
                "Choices": [
                    {"Variable": "$.patients[0]", "IsPresent": False, "Next": "Nobody"},
                    {"Variable": "$.where", "StringEquals": "nowhere", "Next": "Look"},
                ],
                "Default": "Both",
            },
            "Nobody": {"Type": "Fail", "Error": "NoPatients", "Cause": "the list is empty"},
            "Both": {
                "Type": "Parallel",
                "Branches": [
                    {"StartAt": "Ward", "States": {"Ward": ward}},
                    {"StartAt": "Cohort", "States": {"Cohort": cohort}},
                ],
                "ResultPath": "$.results",
                "Next": "Rest",
            },
            "Rest": {"Type": "Wait", "Seconds": 1, "Next": "Done"},
            "Look": {
                "Type": "Task",
                "Resource": function("fail"),
                "Catch": [{"ErrorEquals": ["ValueError"], "ResultPath": "$.error", "Next": "Note"}],
                "Next": "Done",
            },
            "Note": {"Type": "Pass", "Parameters": {"error.$": "$.error.Error"}, "Next": "Done"},
            "Done": {"Type": "Succeed"},
        },
    }


def test_every_kind_of_state_runs(make: Make, function: Function) -> None:
    pipeline = make(triage(function))
    assert pipeline.check() == []
    assert pipeline.definition() == triage(function)
    patients = [{"id": 1}, {"id": 2}]
    output = pipeline.run({"patients": patients, "where": "ward"})
    assert output["results"] == [[{"id": 1, "n": 1}, {"id": 2, "n": 1}], patients]
    assert pipeline.run({"patients": patients, "where": "nowhere"}) == {"error": "ValueError"}
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.run({"patients": [], "where": "ward"})
    assert (caught.value.error, caught.value.failed_state) == ("NoPatients", "Nobody")
    # Nothing has changed since.
    before = pipeline.client().list_state_machine_versions(stateMachineArn=pipeline.state_machine_arn)
    pipeline.deploy(publish=True)
    after = pipeline.client().list_state_machine_versions(stateMachineArn=pipeline.state_machine_arn)
    assert after["stateMachineVersions"] == before["stateMachineVersions"]


def test_jsonata_with_variables_runs_in_every_kind_of_state(make: Make, function: Function) -> None:
    definition = {
        "QueryLanguage": "JSONata",
        "StartAt": "Keep",
        "States": {
            "Keep": {"Type": "Pass", "Assign": {"date": "{% $states.input.date %}"}, "Next": "Enough"},
            "Enough": {
                "Type": "Choice",
                "Choices": [{"Condition": "{% $count($states.input.patients) > 1 %}", "Next": "Both"}],
                "Default": "Few",
            },
            "Few": {"Type": "Fail", "Error": "{% 'Few' & $date %}"},
            "Both": {
                "Type": "Parallel",
                "Branches": [
                    {
                        "StartAt": "Each",
                        "States": {
                            "Each": {
                                "Type": "Map",
                                "Items": "{% $states.input.patients %}",
                                "ItemSelector": {
                                    "id": "{% $states.context.Map.Item.Value.id %}",
                                    "date": "{% $date %}",
                                },
                                "ItemProcessor": {
                                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                                    "StartAt": "One",
                                    "States": {
                                        "One": {
                                            "Type": "Task",
                                            "Resource": "arn:aws:states:::lambda:invoke",
                                            "Arguments": {
                                                "FunctionName": function("count"),
                                                "Payload": "{% $states.input %}",
                                            },
                                            "Output": "{% $states.result.Payload %}",
                                            "End": True,
                                        }
                                    },
                                },
                                "End": True,
                            }
                        },
                    },
                    {
                        "StartAt": "Wait",
                        "States": {"Wait": {"Type": "Wait", "Seconds": "{% $states.input.pause %}", "End": True}},
                    },
                ],
                "Output": "{% $states.result[0] %}",
                "End": True,
            },
        },
    }
    pipeline = make(definition)
    assert pipeline.check() == []
    given = {"date": "2024-01-15", "patients": [{"id": 1}, {"id": 2}], "pause": 1}
    assert pipeline.run(given) == [
        {"id": 1, "date": "2024-01-15", "n": 1},
        {"id": 2, "date": "2024-01-15", "n": 1},
    ]
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.run(given | {"patients": [{"id": 1}]})
    assert (caught.value.error, caught.value.failed_state) == ("Few2024-01-15", "Few")


def test_it_is_attached_to_and_redriven_by_its_name(make: Make, function: Function, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    branches = [
        {"StartAt": "Gate", "States": {"Gate": {"Type": "Task", "Resource": function("gate"), "End": True}}},
        {"StartAt": "Slow", "States": {"Slow": {"Type": "Wait", "Seconds": 1, "End": True}}},
    ]
    first = {"Type": "Task", "Resource": function("count"), "Next": "Both"}
    both = {"Type": "Parallel", "Branches": branches, "End": True}
    pipeline = make({"StartAt": "First", "States": {"First": first, "Both": both}})
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.run({"gate": str(gate)}, "daily")
    assert caught.value.error == "RuntimeError"
    assert caught.value.failed_state in ("Both", "Gate")
    gate.touch()
    output = pipeline.run({"gate": str(gate)}, "daily")
    # The first state did not run again.
    assert [branch["n"] for branch in output] == [1, 1]
    assert output[0]["passed"]
    assert pipeline.run({"gate": str(gate)}, "daily") == output
    listed = pipeline.client().list_executions(stateMachineArn=pipeline.state_machine_arn)["executions"]
    assert [execution["name"] for execution in listed] == ["daily"]


def test_what_a_fail_state_ended_is_run_again_and_not_redriven_into_it(
    make: Make, function: Function, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    task = {
        "Type": "Task",
        "Resource": function("gate"),
        "Catch": [{"ErrorEquals": ["States.ALL"], "Next": "Closed"}],
        "End": True,
    }
    definition = {"StartAt": "Gate", "States": {"Gate": task, "Closed": {"Type": "Fail", "Error": "Closed"}}}
    pipeline = make(definition)
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.run({"gate": str(gate)}, "daily")
    assert caught.value.failed_state == "Closed"
    gate.touch()
    assert pipeline.run({"gate": str(gate)}, "daily")["passed"]


def test_after_a_handler_the_state_that_failed_is_named(
    aws: Emulator, name: str, function: Function, make: Make
) -> None:
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Notify", "ResultPath": "$.error"}]
    del make
    for parameters in ({}, {"x": 1}):
        pipeline = StepFunctionsPipeline(f"{name}-{len(parameters)}", aws.role_arn)
        pipeline.add_step(PipelineStep("Before", function("count")))
        pipeline.add_step(PipelineStep("Load", function("fail"), parameters, retry_attempts=1, catch=catch))
        pipeline.add_handler(PipelineStep("Notify", function("echo")))
        with pytest.raises(ExecutionFailedError) as caught:
            pipeline.run({})
        assert (caught.value.failed_state, caught.value.error) == ("Load", "ValueError")


def test_a_state_of_another_branch_is_not_blamed(make: Make, function: Function) -> None:
    def branch(state: str, *resources: str) -> dict[str, Any]:
        names = [f"{state}{number}" for number in range(len(resources))]
        states = {
            name: {"Type": "Task", "Resource": function(resource)} | ({"Next": after} if after else {"End": True})
            for name, resource, after in zip(names, resources, [*names[1:], ""], strict=True)
        }
        return {"StartAt": names[0], "States": states}

    both = {"Type": "Parallel", "Branches": [branch("A", "sleep", "fail"), branch("B", "sleep", "sleep")], "End": True}
    pipeline = make({"StartAt": "Both", "States": {"Both": both}})
    pipeline.deploy()
    arn = pipeline.execute({"seconds": 0.3})
    with pytest.raises(ExecutionFailedError) as caught:
        pipeline.wait(arn)
    assert caught.value.failed_state in ("A1", "Both")
    failures = [event.state for event in pipeline.history(arn) if event.event == "failed" and event.error]
    assert failures[0] == "A1"


def test_a_path_is_read_and_what_is_wrong_with_the_file_is_said(tmp_path: Path, function: Function) -> None:
    file = tmp_path / "machine.asl.json"
    file.write_text(json.dumps(triage(function)))
    for path in (file, str(file)):
        made = StepFunctionsPipeline.from_definition(path, name="p", role_arn=ROLE)
        assert made.definition() == triage(function)
    for text, said in [
        ("StartAt: A", "line 1, column 1"),
        ('{"States": {"A": {}, "A": {}}}', "'A' twice"),
        ("[]", "a list"),
        ('{"TimeoutSeconds": NaN}', "NaN"),
    ]:
        file.write_text(text)
        with pytest.raises(InvalidPipelineError, match=said):
            StepFunctionsPipeline.from_definition(file, name="p", role_arn=ROLE)
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path / "none.json", tmp_path):
        with pytest.raises(InvalidPipelineError, match=path.name):
            StepFunctionsPipeline.from_definition(path, name="p", role_arn=ROLE)


def test_steps_and_a_definition_exclude_each_other(function: Function) -> None:
    definition = triage(function)
    made = StepFunctionsPipeline.from_definition(definition, name="p", role_arn=ROLE)
    definition["States"].clear()
    assert made.check() == []
    step = PipelineStep("A", function("echo"))
    for add in (made.add_step, made.add_handler):
        with pytest.raises(InvalidPipelineError, match="a definition of its own"):
            add(step)
    made.steps, made.timeout_seconds = [step], 60
    assert [problem.split(" beside")[0] for problem in made.check()] == [
        "the pipeline has steps",
        "the pipeline has timeout_seconds",
    ]


def test_it_is_drawn_and_its_states_are_counted(function: Function) -> None:
    made = StepFunctionsPipeline.from_definition(triage(function), name="p", role_arn=ROLE)
    drawn = str(made.visualize())
    for edge in ('"How many" -> "Nobody"', '"How many" -> "Both"', '"Look" -> "Note"', '"Done" -> "end"'):
        assert edge in drawn
    assert '"Both" -> "Ward"' in drawn
    # Without the child of the distributed map.
    assert made.state_count == 10


def test_the_emulator_refuses_what_aws_refuses(aws: Emulator, name: str) -> None:
    client = aws.client("stepfunctions")
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Pass", "Next": "B"}}})
    with pytest.raises(client.exceptions.InvalidDefinition):
        client.create_state_machine(name=name, definition=definition, roleArn=aws.role_arn)


def test_waits_are_seen_as_they_happen(make: Make) -> None:
    waits = {name: {"Type": "Wait", "Seconds": 1, "Next": "End"} for name in ("One",)}
    pipeline = make({"StartAt": "One", "States": waits | {"End": {"Type": "Pass", "End": True}}})
    pipeline.deploy()
    began = time.monotonic()
    arn = pipeline.execute({"k": 1})
    assert pipeline.wait(arn) == {"k": 1}
    assert time.monotonic() - began > 0.9
    seen = [(event.state, event.event) for event in pipeline.history(arn) if event.state]
    assert seen == [("One", "entered"), ("One", "exited"), ("End", "entered"), ("End", "exited")]
