"""The task in flow runs of this process, on a real server: names of executions, artifacts, log lines, retries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task, unmapped
from prefect.artifacts import Artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.context import FlowRunContext

from clinops_prefect.errors import ExecutionFailedError, InvalidExecutionError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep, S3Items
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
    assert set(executions(machine)) == {f"{machine}-{run}-{call}" for call in range(6)}
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
    arn = f"arn:aws:states:us-east-1:123456789012:execution:{machine}:{machine}-{run}-0"
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


def test_a_subflow_that_a_retried_caller_runs_again_finds_its_execution(
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
        # The subflow is completed, but Prefect stores no result of it, so the retry runs it again.
        done = inner(1)
        if len(inner_runs) == 1:
            gate.unlink()
        return this_run(), [done, middle(2)]

    run, outputs = outer()
    assert [output["k"] for output in outputs] == [1, 2]
    assert all(output["n"] == 1 for output in outputs)
    # The inner flow ran four times but made two executions: one succeeded at once, one failed and was redriven.
    assert len(set(inner_runs)) == 4
    assert list(executions(machine).values()) == ["SUCCEEDED", "SUCCEEDED"]
    assert all(name.startswith(f"{machine}-{run}-") for name in executions(machine))


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
    # A task that is retried would call another subflow, which would start another execution.
    with pytest.raises(InvalidExecutionError, match="execution_name"):
        by_task()
    assert len(executions(machine)) == 3


def test_a_retried_run_with_another_input_is_refused(
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


def test_a_repeated_run_finds_an_execution_that_an_earlier_version_started(
    pipeline: StepFunctionsPipeline, machine: str, executions: Callable[[str], dict[str, str]]
) -> None:
    pipeline.add_step(PipelineStep("A", function("count")))
    pipeline.deploy()
    attempts: list[int] = []

    @flow(retries=1, persist_result=False)
    def repeated() -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            # The execution has the name that an earlier version would have given it.
            pipeline.execute({"k": 1}, f"prefect-{this_run()}-0")
            raise RuntimeError("evicted")
        return run_step_functions_pipeline(pipeline, {"k": 1})

    assert repeated() == {"k": 1, "n": 1}
    assert [name.split("-")[0] for name in executions(machine)] == ["prefect"]


def test_a_long_name_of_a_machine_leaves_room_for_the_unique_part_of_an_executions_name(
    prefect: SyncPrefectClient, aws: Emulator, machine: str, executions: Callable[[str], dict[str, str]]
) -> None:
    assert prefect
    long = machine.ljust(80, "x")
    pipeline = StepFunctionsPipeline(long, aws.role_arn).add_step(PipelineStep("A", function("count")))

    @flow(persist_result=False)
    def inner() -> Any:
        return run_step_functions_pipeline(pipeline, {})

    @flow(persist_result=False)
    def outer() -> str:
        inner()
        inner()
        pipeline.run({})
        return this_run()

    run = outer()
    names = list(executions(long))
    assert len(set(names)) == 3
    assert all(len(name) == 80 and name.startswith(machine) for name in names)
    assert sum(run in name for name in names) == 2


def test_a_saved_definition_is_run_by_its_name_and_runs_all_of_its_states(
    prefect: SyncPrefectClient, aws: Emulator, machine: str
) -> None:
    definition = {
        "StartAt": "Pick",
        "States": {
            "Pick": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.k", "NumericEquals": 1, "Next": "Both"}],
                "Default": "Other",
            },
            "Both": {
                "Type": "Parallel",
                "Branches": [
                    {"StartAt": "A", "States": {"A": {"Type": "Task", "Resource": function("count"), "End": True}}},
                    {"StartAt": "B", "States": {"B": {"Type": "Wait", "Seconds": 1, "End": True}}},
                ],
                "End": True,
            },
            "Other": {"Type": "Fail", "Error": "Other"},
        },
    }
    made = StepFunctionsPipeline.from_definition(definition, name=machine, role_arn=aws.role_arn)
    made.save(machine)
    loaded = StepFunctionsPipeline.load(machine)
    assert loaded.definition() == definition
    assert loaded.check() == []

    @flow(persist_result=False)
    def by_name() -> tuple[str, Any]:
        return this_run(), run_step_functions_pipeline(f"step-functions-pipeline/{machine}", {"k": 1})

    run, output = by_name()
    assert output == [{"k": 1, "n": 1}, {"k": 1}]
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))  # type: ignore[list-item]
    progress = [each for each in prefect.read_artifacts(artifact_filter=wanted) if each.type == "progress"]
    assert progress[0].data == 100


def test_an_identifier_in_a_failed_execution_is_in_no_log_state_or_artifact(
    pipeline: StepFunctionsPipeline, prefect: SyncPrefectClient, aws: Emulator, machine: str
) -> None:
    source = (
        "def handler(event, context):\n    if event['id'] == 'p-617':\n"
        "        raise ValueError('Jane of bed ' + event['bed'])\n    return event\n"
    )
    each = PipelineStep("Each", aws.function(machine, source), {"date": "x"}, retry_attempts=0)
    patients = [{"id": f"p-{number}", "bed": f"bed-{number}-x"} for number in range(1000)]
    rows = "".join(f"{patient['id']},{patient['bed']}\n" for patient in patients)
    aws.client("s3").create_bucket(Bucket=machine)
    aws.client("s3").put_object(Bucket=machine, Key="patients.csv", Body="id,bed\n" + rows)
    pipeline.add_step(MapStep("All", [each], S3Items(machine, "patients.csv"), max_concurrency=40))
    found: list[Any] = []
    runs: list[Any] = []

    @flow
    def one_fails() -> None:
        runs.append(this_run())
        try:
            run_step_functions_pipeline(pipeline, {"date": "2024-01-15"})
        except ExecutionFailedError as error:
            found.extend(error.failed_items)
            raise

    with pytest.raises(ExecutionFailedError):
        one_fails()
    assert [item.item for item in found] == [patients[617]]
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=runs))
    shown = [artifact.model_dump_json() for artifact in prefect.read_artifacts(artifact_filter=wanted)]
    of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=runs))
    eventually(lambda: any("'All' failed" in log.message for log in prefect.read_logs(of_run)))
    logged = [log.message for log in prefect.read_logs(of_run)]
    tasks = prefect.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=runs)))
    states = [prefect.read_flow_run(runs[0]).model_dump_json(), *(run.model_dump_json() for run in tasks)]
    assert len(tasks) == 1
    assert shown
    stored = [str(run.state.result(raise_on_failure=False)) for run in tasks if run.state]
    for text in (*shown, *logged, *states, *stored):
        assert not any(secret in text for secret in ("Jane", "p-617", "bed-617-x"))


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
