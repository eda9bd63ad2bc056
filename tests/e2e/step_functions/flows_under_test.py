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
    """A pipeline with one state, which sleeps for as long as its input says."""
    pipeline = StepFunctionsPipeline(machine, "arn:aws:iam::123456789012:role/StepFunctionsRole")
    return pipeline.add_step(PipelineStep("Sleep", "arn:aws:lambda:us-east-1:123456789012:function:sleep"))


@flow(persist_result=False)
def direct(machine: str, seconds: float) -> None:
    run_step_functions_pipeline(pipeline_named(machine), {"seconds": seconds})


@flow(persist_result=False)
async def awaited(machine: str, seconds: float) -> None:
    await arun_step_functions_pipeline(pipeline_named(machine), {"seconds": seconds})


@flow(persist_result=False, on_cancellation=[stop_executions_on_cancellation])
def unwatched(machine: str, seconds: float) -> None:
    """Start an execution and do not wait for it, so that only the hook can stop it."""
    pipeline = pipeline_named(machine)
    pipeline.deploy()
    pipeline.execute({"seconds": seconds})
    time.sleep(seconds)


@flow(persist_result=False)
def submitted(machine: str, seconds: float) -> None:
    run_step_functions_pipeline.submit(pipeline_named(machine), {"seconds": seconds}).result()


@flow(persist_result=False, on_cancellation=[stop_executions_on_cancellation])
def nested(machine: str, seconds: float) -> None:
    direct(machine, seconds)


@flow(persist_result=False)
def then_waits(machine: str, seconds: float, report: str) -> None:
    """Run the pipeline, write its output to a file, and wait until the file is removed."""
    output: Any = run_step_functions_pipeline(pipeline_named(machine), {"seconds": seconds})
    path = Path(report)
    with path.open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), "output": output}) + "\n")
    while not path.with_suffix(".go").exists():
        time.sleep(0.1)
