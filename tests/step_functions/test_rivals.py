"""Three processes deploy three definitions of one machine, over and over: each runs what it was given."""

import json
import os
import subprocess
import sys

import pytest

from clinops_prefect.testing.step_functions_emulator import Emulator

# 100 in `make e2e-full`. Each round is a deployment, and every fifth a run.
ROUNDS = int(os.environ.get("CLINOPS_RIVAL_ROUNDS", "6"))

RIVAL = """
import json, sys
from clinops_prefect import PipelineStep, StepFunctionsPipeline

me, machine, role, function, rounds = sys.argv[1:]
versions, outputs = [], []
for number in range(int(rounds)):
    pipeline = StepFunctionsPipeline(machine, role)
    pipeline.add_step(PipelineStep("A", function, {"who": me}))
    if number % 5 == 0:
        outputs.append(pipeline.run({"round": number}))
    else:
        versions.append(pipeline.deploy(publish=True))
print(json.dumps({"definition": pipeline.definition(), "versions": versions, "outputs": outputs}))
"""


@pytest.mark.timeout(3600)
def test_each_process_gets_versions_and_outputs_of_its_own(aws: Emulator, name: str) -> None:
    function = f"arn:aws:lambda:{aws.region}:{aws.account}:function:count"
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", RIVAL, me, name, aws.role_arn, function, str(ROUNDS)],
            env=os.environ | aws.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in ("Ann", "Ben", "Cem")
    ]
    reports = [json.loads(rival.communicate()[0]) for rival in rivals]
    client = aws.client("stepfunctions")
    for me, report in zip(("Ann", "Ben", "Cem"), reports, strict=True):
        published = {
            json.dumps(json.loads(client.describe_state_machine(stateMachineArn=version)["definition"]))
            for version in set(report["versions"])
        }
        assert published == {json.dumps(report["definition"])}
        assert len(report["versions"]) + len(report["outputs"]) == ROUNDS
        assert {output["who"] for output in report["outputs"]} == {me}
