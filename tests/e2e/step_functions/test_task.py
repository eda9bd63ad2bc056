"""The task in flow runs of this process, on a real server: names, artifacts, log lines, retries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.artifacts import Artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.context import FlowRunContext

from clinops_prefect.errors import ExecutionFailedError, InvalidExecutionError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import PipelineStep
from clinops_prefect.step_functions.runs.tasks import run_step_functions_pipeline
from clinops_prefect.testing.step_functions_emulator import Emulator
from tests.e2e.step_functions.conftest import eventually

assert Artifact


@pytest.fixture
def pipeline(prefect: SyncPrefectClient, aws: Emulator, machine: str) -> StepFunctionsPipeline:
    return StepFunctionsPipeline(machine, aws.role_arn)


def function(name: str) -> str:
    return f"arn:aws:lambda:us-east-1:123456789012:function:{name}"


def this_run() -> str:
    context = FlowRunContext.get()
    assert context
    assert context.flow_run
    return str(context.flow_run.id)


def test_each_call_of_a_flow_run_is_one_execution(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))

    @flow
    def calls() -> tuple[str, list[Any]]:
        first = run_step_functions_pipeline(pipeline, {"k": 0})
        futures = [run_step_functions_pipeline.submit(pipeline, {"k": 1}) for _ in range(2)]
        mapped = run_step_functions_pipeline.map(unmapped(pipeline), [{"k": 2}, {"k": 3}])
        own = pipeline.as_task(name="own").with_options(name="renamed")({"k": 4})
        return this_run(), [first, *[future.result() for future in futures], *mapped.result(), own]

    run, outputs = calls()
    assert outputs == [{"k": k, "n": 1} for k in (0, 1, 1, 2, 3, 4)]
    assert set(executions(machine)) == {f"prefect-{run}-{call}" for call in range(6)}
    another, _ = calls()
    assert another != run
    assert len(executions(machine)) == 12


def test_the_run_shows_states_progress_and_the_console(
    pipeline: StepFunctionsPipeline, prefect: SyncPrefectClient, machine: str
) -> None:
    pipeline.add_step(PipelineStep("First", function("count")))
    pipeline.add_step(PipelineStep("Second", function("count")))

    @flow
    def shown() -> str:
        run_step_functions_pipeline(pipeline, {"name": "Jane"})
        return this_run()

    run: Any = shown()
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    artifacts = {artifact.type: artifact for artifact in prefect.read_artifacts(artifact_filter=wanted)}
    assert artifacts["progress"].data == 100
    arn = f"arn:aws:states:us-east-1:123456789012:execution:{machine}:prefect-{run}-0"
    assert f"https://us-east-1.console.aws.amazon.com/states/home?region=us-east-1#/v2/executions/details/{arn}" in str(
        artifacts["link"].data
    )

    def lines() -> list[str]:
        return [log.message for log in prefect.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])))]

    eventually(lambda: any("'Second' exited" in line for line in lines()))
    assert any("'First' entered" in line for line in lines())
    assert not any("Jane" in line for line in lines())


def test_a_failed_execution_is_redriven_by_the_flow_runs_retry(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pipeline.add_step(PipelineStep("Once", function("count")))
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))
    errors: list[ExecutionFailedError] = []

    @flow(retries=1)
    def twice() -> Any:
        try:
            return run_step_functions_pipeline(pipeline, {"k": 1})
        except ExecutionFailedError as error:
            errors.append(error)
            gate.touch()
            raise

    assert twice() == {"k": 1, "n": 1, "gate": str(gate), "passed": True}
    assert errors[0].failed_state == "Gate"
    assert list(executions(machine).values()) == ["SUCCEEDED"]


def test_a_subflow_that_a_retried_caller_runs_anew_finds_its_execution(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pipeline.add_step(PipelineStep("Once", function("count")))
    pipeline.add_step(PipelineStep("Gate", function("gate"), {"gate": str(gate)}, retry_attempts=0))
    inner_runs: list[str] = []

    @flow(persist_result=False)
    def inner(k: int) -> Any:
        inner_runs.append(this_run())
        return run_step_functions_pipeline(pipeline, {"k": k})

    @flow(persist_result=False)
    def middle(k: int) -> Any:
        return inner(k)

    @flow(retries=1)
    def outer() -> Any:
        gate.touch()
        # Completed, but Prefect keeps no result of it: the retry runs it anew.
        done = inner(1)
        if len(inner_runs) == 1:
            gate.unlink()
        return this_run(), [done, middle(2)]

    run, outputs = outer()
    assert [output["k"] for output in outputs] == [1, 2]
    assert all(output["n"] == 1 for output in outputs)
    # Four runs of the inner flow, two executions: one succeeded at once, one failed and was redriven.
    assert len(set(inner_runs)) == 4
    assert list(executions(machine).values()) == ["SUCCEEDED", "SUCCEEDED"]
    assert all(name.startswith(f"prefect-{run}-") for name in executions(machine))


def test_each_call_of_a_subflow_has_an_execution(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))

    @flow(persist_result=False)
    def inner() -> Any:
        return run_step_functions_pipeline(pipeline, {})

    @flow(persist_result=False)
    def outer() -> None:
        inner()
        inner()
        run_step_functions_pipeline(pipeline, {})

    @task
    def caller() -> Any:
        return inner()

    @flow(persist_result=False)
    def by_task() -> None:
        caller()

    outer()
    assert len(executions(machine)) == 3
    # A task that is tried again would call another subflow, and that start another execution.
    with pytest.raises(InvalidExecutionError, match="execution_name"):
        by_task()
    assert len(executions(machine)) == 3


def test_a_run_that_comes_back_with_another_input_is_refused(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    attempts: list[int] = []

    @flow(retries=1)
    def clock() -> Any:
        attempts.append(1)
        run_step_functions_pipeline(pipeline, {"now": len(attempts)})
        raise RuntimeError("later")

    with pytest.raises(InvalidExecutionError, match="another input"):
        clock()
    assert len(executions(machine)) == 1


def test_a_call_from_another_task_needs_a_name(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))

    @task
    def inner(name: str) -> Any:
        return run_step_functions_pipeline(pipeline, {}, name)

    @flow
    def outer(name: str) -> Any:
        return inner(name)

    with pytest.raises(InvalidExecutionError, match="execution_name"):
        outer("")
    assert outer("given") == {"n": 1}
    assert list(executions(machine)) == ["given"]


def test_a_saved_pipeline_is_run_by_its_name(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count"), {"nested": {"x": [1]}}))
    pipeline.save(machine)

    @flow
    def by_name() -> Any:
        return run_step_functions_pipeline(f"step-functions-pipeline/{machine}", {"k": 1})

    assert by_name() == {"k": 1, "nested": {"x": [1]}, "n": 1}
    assert list(executions(machine).values()) == ["SUCCEEDED"]
