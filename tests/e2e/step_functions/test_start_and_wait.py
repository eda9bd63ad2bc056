"""Starting and waiting as two tasks, on a real server: one flow waits for many executions that others started."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, unmapped
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.states import Cancelling

from clinops_prefect.errors import ExecutionFailedError, ExecutionTimeoutError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import PipelineStep
from clinops_prefect.tasks import (
    astart_step_functions_pipeline,
    await_for_step_functions_execution,
    run_step_functions_pipeline,
    start_step_functions_pipeline,
    wait_for_step_functions_execution,
)
from tests.e2e.step_functions.conftest import eventually
from tests.e2e.step_functions.test_task import function, pipeline, this_run

__all__ = ["pipeline"]


@flow(persist_result=False)
def starts(pipeline: Any, inputs: list[Any]) -> tuple[str, list[str]]:
    return this_run(), start_step_functions_pipeline.map(unmapped(pipeline), inputs).result()


@flow(persist_result=False)
def waits(pipeline: Any, arns: list[str]) -> tuple[str, list[Any]]:
    return this_run(), wait_for_step_functions_execution.map(unmapped(pipeline), arns).result()


def test_one_flow_starts_another_waits_for_all(
    pipeline: StepFunctionsPipeline,
    prefect: SyncPrefectClient,
    machine: str,
    executions: Callable[[str], dict[str, str]],
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.save(machine)
    saved = f"step-functions-pipeline/{machine}"
    run, arns = starts(saved, [{"k": k} for k in range(3)])
    assert [arn.rpartition(":")[2] for arn in arns] == [f"{machine}-{run}-{call}" for call in range(3)]
    waiting, outputs = waits(saved, arns)
    assert outputs == [{"k": k, "n": 1} for k in range(3)]
    assert list(executions(machine).values()) == ["SUCCEEDED"] * 3
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[waiting]))  # type: ignore[list-item]
    shown = prefect.read_artifacts(artifact_filter=wanted)
    assert sorted(artifact.type for artifact in shown if artifact.type) == ["link"] * 3 + ["progress"] * 3
    assert [artifact.data for artifact in shown if artifact.type == "progress"] == [100] * 3


def test_a_repeated_run_finds_its_execution_and_redrives_one_that_failed(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))
    errors: list[ExecutionFailedError] = []

    @flow(retries=1, persist_result=False)
    def twice() -> Any:
        run_step_functions_pipeline(pipeline, {"k": 0, "gate": __file__})
        arn = start_step_functions_pipeline(pipeline, {"k": 1})
        try:
            # A wait does not count as a call, so the next call that starts something is the third.
            output = wait_for_step_functions_execution(pipeline, arn)
        except ExecutionFailedError as error:
            errors.append(error)
            gate.touch()
            raise
        return this_run(), output, start_step_functions_pipeline(pipeline, {"k": 2})

    run, output, third = twice()
    assert output == {"k": 1, "gate": str(gate), "passed": True}
    assert errors[0].failed_state == "Gate"
    assert third.endswith(f":{machine}-{run}-2")
    assert set(executions(machine)) == {f"{machine}-{run}-{call}" for call in range(3)}


def test_cancelling_the_waiting_run_stops_the_executions_that_it_waits_for(
    pipeline: StepFunctionsPipeline,
    prefect: SyncPrefectClient,
    machine: str,
    executions: Callable[[str], dict[str, str]],
    let_go: Path,
) -> None:
    pipeline.add_step(PipelineStep("Sleep", function("sleep")))
    runs: list[Any] = []

    @flow(persist_result=False)
    def waits_long() -> None:
        runs.append(this_run())
        wait_for_step_functions_execution(
            pipeline, start_step_functions_pipeline(pipeline, {"seconds": 850, "until": str(let_go / machine)})
        )

    def cancel() -> None:
        eventually(lambda: "RUNNING" in executions(machine).values())
        prefect.set_flow_run_state(runs[0], Cancelling())

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(ExecutionFailedError) as caught:
        waits_long()
    other.join()
    assert caught.value.status == "ABORTED"


def test_async_flows_can_wait_for_more_executions_than_asyncio_has_threads(
    pipeline: StepFunctionsPipeline, prefect: SyncPrefectClient, machine: str, let_go: Path
) -> None:
    pipeline.add_step(PipelineStep("A", function("sleep")))
    pipeline.deploy()

    @flow(persist_result=False)
    async def starts_and_waits() -> Any:
        # asyncio's thread pool has two threads, as in a small container on a machine with one core.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        arns = [await astart_step_functions_pipeline(pipeline, {"k": k, "seconds": 0}, deploy=False) for k in range(8)]
        never = pipeline.execute({"k": "never", "seconds": 850, "until": str(let_go / machine)}, "never")
        blocked = [asyncio.create_task(pipeline.await_(never)) for _ in range(3)]
        # In asyncio's two threads, these waits would queue behind the three that wait for `never`.
        outputs = await asyncio.gather(*[await_for_step_functions_execution(pipeline, arn) for arn in arns])
        waiting = [not one.done() for one in blocked]
        with pytest.raises(ExecutionTimeoutError):
            await pipeline.await_(never, timeout=2)
        (let_go / machine).touch()
        return outputs, waiting, await asyncio.gather(*blocked)

    outputs, waiting, late = asyncio.run(starts_and_waits())  # type: ignore[arg-type]
    assert [output["k"] for output in outputs] == list(range(8))
    assert waiting == [True] * 3, "the waits queued behind those that never end"
    assert [output["k"] for output in late] == ["never"] * 3


def test_the_command_prints_the_policies_of_a_saved_pipeline(
    pipeline: StepFunctionsPipeline, environment: dict[str, str], machine: str
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.save(machine)
    module = [sys.executable, "-m", "clinops_prefect.step_functions", "policy"]
    given = [*module, f"step-functions-pipeline/{machine}", "--only", "role"]
    done = subprocess.run(given, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Statement"][0]["Resource"] == [function("count")]
