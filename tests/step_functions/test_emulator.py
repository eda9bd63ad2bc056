"""The emulator runs what an example needs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinops_prefect import InvalidPipelineError, PipelineStep, StepFunctionsPipeline
from clinops_prefect.testing.step_functions_emulator import Emulator


def test_a_handler_of_an_installed_module_runs(aws: Emulator) -> None:
    aws.function("installed", "", handler="copy.deepcopy")
    response = aws.client("lambda").invoke(FunctionName="installed", Payload=json.dumps({"k": 1}))
    assert json.load(response["Payload"]) == {"k": 1}


def test_a_handler_sees_its_environment_and_may_print(aws: Emulator) -> None:
    source = "import os\n\ndef handler(event, context):\n    print('noise')\n    return os.environ['MARK']\n"
    aws.function("marked", source, MARK="x")
    assert json.load(aws.client("lambda").invoke(FunctionName="marked")["Payload"]) == "x"


def test_a_function_can_be_replaced_as_a_notebooks_cell_does(aws: Emulator) -> None:
    source = "import os\n\ndef handler(event, context):\n    return [{}, os.environ.get('A'), os.environ.get('B')]\n"

    def called() -> object:
        return json.load(aws.client("lambda").invoke(FunctionName="again")["Payload"])

    arn = aws.function("again", source.format(1), A="x")
    assert called() == [1, "x", None]
    assert aws.function("again", source.format(2), B="y") == arn
    assert called() == [2, None, "y"]
    assert aws.function("again", "", handler="copy.deepcopy") == arn
    assert called() == {}
    aws.function("again", "import time\n\ndef handler(event, context):\n    time.sleep(600)\n", timeout=1)
    assert aws.client("lambda").invoke(FunctionName="again")["FunctionError"] == "Unhandled"


def test_a_result_that_is_no_json_fails_as_on_aws(aws: Emulator) -> None:
    """Python's own JSON has NaN, which Step Functions refuses."""
    source = "import datetime, decimal\n\ndef handler(event, context):\n    return {}\n"

    def called(result: str) -> tuple[object, str]:
        aws.function("result", source.format("{'n': " + result + "}"))
        response = aws.client("lambda").invoke(FunctionName="result")
        return json.load(response["Payload"]), response.get("FunctionError", "")

    assert called("decimal.Decimal('1.5')") == ({"n": 1.5}, "")
    for result in ("float('nan')", "decimal.Decimal('NaN')", "float('-inf')", "datetime.date.today()"):
        payload, failed = called(result)
        assert isinstance(payload, dict)
        assert (payload["errorType"], failed) == ("Runtime.MarshalError", "Unhandled")


def test_a_handler_that_takes_too_long_fails(aws: Emulator) -> None:
    aws.function("late", "import time\n\ndef handler(event, context):\n    time.sleep(600)\n", timeout=1)
    response = aws.client("lambda").invoke(FunctionName="late")
    assert response["FunctionError"] == "Unhandled"
    assert json.load(response["Payload"])["errorType"] == "Sandbox.Timedout"


def test_the_readmes_example_runs_as_it_stands(tmp_path: Path) -> None:
    """With the emulator's own command, in processes of their own."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    section = readme[readme.index("## Pipelines on AWS Step Functions") :]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example
    count = tmp_path / "count.py"
    count.write_text("def handler(event, context):\n    return event | {'n': event.get('n', 0) + 1}\n")
    module = "clinops_prefect.testing.step_functions_emulator"
    functions = ["--function", "clinops-ingest", "--function", f"clinops-preprocess={count}"]
    command = [sys.executable, "-m", module, "--port", "0", *functions]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout
            assert served.stderr
            assert json.loads(served.stdout.readline())["port"]
            printed = next(line for line in served.stderr if line.startswith("export "))
            environment = dict(pair.split("=", 1) for pair in printed.removeprefix("export ").split())
            done = subprocess.run(
                [sys.executable, "-c", example[1] + "\nprint('OUTPUT', __import__('json').dumps(output))"],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            served.kill()
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout.partition("OUTPUT ")[2])
    assert output == {"source": "mimic-iv", "date": "2024-01-15", "n": 1}


def test_the_end_of_a_stopped_execution_is_in_its_history_while_its_function_still_runs(
    aws: Emulator, name: str, function: Callable[[str], str], gate: Path
) -> None:
    client = aws.client("stepfunctions")
    state = {"Type": "Task", "Resource": function("held"), "End": True}
    machine = client.create_state_machine(
        name=name, definition=json.dumps({"StartAt": "A", "States": {"A": state}}), roleArn=aws.role_arn
    )["stateMachineArn"]
    arn = client.start_execution(stateMachineArn=machine, input=json.dumps({"gate": str(gate)}))["executionArn"]
    client.stop_execution(executionArn=arn, error="Enough", cause="because")
    *_, end = client.get_execution_history(executionArn=arn)["events"]
    assert end["type"] == "ExecutionAborted"
    assert end["executionAbortedEventDetails"] == {"error": "Enough", "cause": "because"}
    assert client.describe_execution(executionArn=arn)["status"] == "ABORTED"


def test_executions_without_a_name_are_different_ones(aws: Emulator, name: str) -> None:
    client = aws.client("stepfunctions")
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    machine = client.create_state_machine(name=name, definition=definition, roleArn=aws.role_arn)["stateMachineArn"]
    assert len({client.start_execution(stateMachineArn=machine)["executionArn"] for _ in range(3)}) == 3


Run = Callable[..., list[dict[str, Any]]]


def test_an_output_is_json_whatever_the_function_returns(aws: Emulator, name: str) -> None:
    """As on AWS. A text without its quotation marks could not be read, or was read as a number."""
    for number, value in enumerate(("s3://b/features", "5", '{"a": 1}', "", None, 5, True, ["5"])):
        returned = aws.function(f"{name}-{number}", f"def handler(event, context):\n    return {value!r}\n")
        pipeline = StepFunctionsPipeline(
            name=f"{name}-{number}", role_arn=aws.role_arn, region=aws.region, endpoint_url=aws.url
        ).add_step(PipelineStep("Only", returned))
        output = pipeline.run({})
        assert (output, type(output)) == (value, type(value))


@pytest.mark.parametrize(
    ("rule", "given", "expected"),
    [
        ({"Variable": "$.n", "NumericGreaterThan": 1}, {"n": 2}, "yes"),
        ({"Variable": "$.n", "NumericGreaterThan": 1}, {"n": "2"}, "no"),
        ({"Variable": "$.n", "NumericGreaterThan": 1}, {}, "States.Runtime"),
        ({"Variable": "$.n.m", "StringEquals": "x"}, {"n": 1}, "States.Runtime"),
        ({"Variable": "$.n", "BooleanEquals": True}, {}, "States.Runtime"),
        ({"Variable": "$.n", "IsPresent": True}, {}, "no"),
        ({"And": [{"Variable": "$.n", "IsPresent": True}, {"Variable": "$.n", "NumericEquals": 1}]}, {}, "no"),
        ({"Not": {"Variable": "$.n", "NumericEquals": 1}}, {}, "States.Runtime"),
    ],
)
def test_a_choice_about_a_value_that_is_not_there_fails(
    run: Run, rule: dict[str, Any], given: dict[str, Any], expected: str
) -> None:
    """As on AWS, so that a flow does not take the default branch here and fail there."""
    states = {
        "Choice": {"Type": "Choice", "Choices": [rule | {"Next": "Yes"}], "Default": "No"},
        "Yes": {"Type": "Pass", "Result": "yes", "End": True},
        "No": {"Type": "Pass", "Result": "no", "End": True},
    }
    (ended,) = run({"StartAt": "Choice", "States": states}, given)
    assert ended.get("error") or json.loads(ended["output"]) == expected
    assert ended.get("error", expected) == expected


def test_what_the_emulator_refuses_has_the_code_of_aws(aws: Emulator, name: str) -> None:
    client = aws.client("stepfunctions")
    wrong = {"StartAt": "A", "States": {"A": {"Type": "Wait", "Seconds": 1, "SecondsPath": "$.s", "End": True}}}
    pipeline = StepFunctionsPipeline.from_definition(
        wrong, name=name, role_arn=aws.role_arn, region=aws.region, endpoint_url=aws.url
    )
    with pytest.raises(InvalidPipelineError, match="InvalidDefinition"):
        pipeline.deploy()
    definition = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    machine = client.create_state_machine(name=name, definition=definition, roleArn=aws.role_arn)["stateMachineArn"]
    with pytest.raises(client.exceptions.InvalidExecutionInput):
        client.start_execution(stateMachineArn=machine, input="{no")
    with pytest.raises(client.exceptions.InvalidDefinition):
        client.update_state_machine(stateMachineArn=machine, definition=json.dumps(wrong))
