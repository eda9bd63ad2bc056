"""The emulator runs what an example needs."""

import json

from clinops_prefect.testing.step_functions_emulator import Emulator


def test_a_handler_of_an_installed_module_runs(aws: Emulator) -> None:
    aws.function("installed", "", handler="copy.deepcopy")
    response = aws.client("lambda").invoke(FunctionName="installed", Payload=json.dumps({"k": 1}))
    assert json.load(response["Payload"]) == {"k": 1}


def test_a_handler_sees_its_environment_and_may_print(aws: Emulator) -> None:
    source = "import os\n\ndef handler(event, context):\n    print('noise')\n    return os.environ['MARK']\n"
    aws.function("marked", source, MARK="x")
    assert json.load(aws.client("lambda").invoke(FunctionName="marked")["Payload"]) == "x"


def test_a_handler_that_takes_too_long_fails(aws: Emulator) -> None:
    aws.function("late", "import time\n\ndef handler(event, context):\n    time.sleep(5)\n", timeout=1)
    response = aws.client("lambda").invoke(FunctionName="late")
    assert response["FunctionError"] == "Unhandled"
    assert json.load(response["Payload"])["errorType"] == "Sandbox.Timedout"
