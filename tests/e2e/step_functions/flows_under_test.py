"""Flows that the tests deploy and run in separate processes."""

import json
import os
import time
from pathlib import Path
from typing import Any

from prefect import flow

from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import PipelineStep
from clinops_prefect.step_functions.runs.cancellation import stop_executions_on_cancellation
from clinops_prefect.step_functions.runs.tasks import arun_step_functions_pipeline, run_step_functions_pipeline


def pipeline_named(machine: str) -> StepFunctionsPipeline:
    """A pipeline with one state, which sleeps as its input says."""
    pipeline = StepFunctionsPipeline(machine, "arn:aws:iam::123456789012:role/StepFunctionsRole")
    return pipeline.add_step(PipelineStep("Sleep", "arn:aws:lambda:us-east-1:123456789012:function:sleep"))


def sleep(machine: str, seconds: float) -> dict[str, Any]:
    """The input with which it sleeps so long, unless the test lets it go before."""
    return {"seconds": seconds, "until": f"{os.environ['CLINOPS_E2E_LET_GO']}/{machine}"}


@flow(persist_result=False)
def direct(machine: str, seconds: float) -> None:
    run_step_functions_pipeline(pipeline_named(machine), sleep(machine, seconds))


@flow(persist_result=False)
async def awaited(machine: str, seconds: float) -> None:
    await arun_step_functions_pipeline(pipeline_named(machine), sleep(machine, seconds))


@flow(persist_result=False, on_cancellation=[stop_executions_on_cancellation])
def unwatched(machine: str, seconds: float) -> None:
    """Start an execution and do not wait for it, so that only the hook can stop it."""
    pipeline = pipeline_named(machine)
    pipeline.deploy()
    pipeline.execute(sleep(machine, seconds))
    time.sleep(seconds)


@flow(persist_result=False)
def submitted(machine: str, seconds: float) -> None:
    run_step_functions_pipeline.submit(pipeline_named(machine), sleep(machine, seconds)).result()


@flow(persist_result=False, on_cancellation=[stop_executions_on_cancellation])
def nested(machine: str, seconds: float) -> None:
    direct(machine, seconds)


@flow(persist_result=False)
def then_waits(machine: str, seconds: float, report: str) -> None:
    """Run the pipeline, write its output to a file, and wait until the file is removed."""
    output: Any = run_step_functions_pipeline(pipeline_named(machine), sleep(machine, seconds))
    path = Path(report)
    with path.open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), "output": output}) + "\n")
    while not path.with_suffix(".go").exists():
        time.sleep(0.1)
