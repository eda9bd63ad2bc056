"""A part of Step Functions imports only what it needs: a Lambda function has neither Prefect nor boto3."""

import subprocess
import sys

import pytest

BLOCKED = "import sys; [sys.modules.__setitem__(name, None) for name in {!r}]\n"

LANGUAGE = """
from clinops_prefect import MapStep, PipelineStep
from clinops_prefect.step_functions.language.check import definition_problems
from clinops_prefect.step_functions.language.states_language import states_language
step = PipelineStep("A", "arn:aws:lambda:::function:f", {"x": 1})
assert definition_problems([step], express=False, timeout_seconds=0) == []
assert states_language([step], "c", 0, "aws")["StartAt"] == "A"
"""
SERVICE = "from clinops_prefect.step_functions.service import deployment, executions, history, polling"


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        (LANGUAGE, ["prefect", "prefect_aws", "boto3", "botocore", "pandas", "pyarrow"]),
        (SERVICE, ["prefect", "prefect_aws", "pandas", "pyarrow"]),
    ],
    ids=["language", "service"],
)
def test_a_part_is_imported_without_what_it_does_not_need(program: str, absent: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(absent) + program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
