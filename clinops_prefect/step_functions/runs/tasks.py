"""Prefect tasks that run, start or follow a pipeline. A call has one execution, even if the flow run is repeated."""

import inspect
import threading
from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFutureList
from prefect.utilities.callables import expand_mapping_parameters, get_call_parameters

from clinops_prefect import registry
from clinops_prefect.asynchronous import asynchronous_function
from clinops_prefect.errors import InvalidExecutionError
from clinops_prefect.retrying import worth_retrying
from clinops_prefect.step_functions.language.execution_names import default_name
from clinops_prefect.step_functions.runs import start_and_wait
from clinops_prefect.step_functions.runs.flow_runs import is_repeated, lasting_name, run_ids
from clinops_prefect.step_functions.runs.pipeline_protocol import SLUG, RunnablePipeline
from clinops_prefect.step_functions.service import executions

_COUNTER = "clinops_prefect.step_functions"
_counter_lock = threading.Lock()


def _next_call() -> int | None:
    """The number of this call in the flow run. None where a repeated run could not count it again, as in a task."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or TaskRunContext.get() is not None:
        return None
    with _counter_lock:
        # Prefect's own counters of calls start again with each attempt of the flow run, as ours must.
        call = int(context.task_run_dynamic_keys.get(_COUNTER, -1)) + 1
        context.task_run_dynamic_keys[_COUNTER] = call
        return call


class PipelineTask(Task[Any, Any]):
    """A task that numbers its calls in the flow run.

    A call is numbered when the flow makes it, since submitted tasks begin in any order. Calls of a task that starts no
    execution are not numbered: such a task has no parameter `call`.
    """

    def _counted(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "call" in inspect.signature(self.fn).parameters:
            kwargs.setdefault("call", _next_call())
        return kwargs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task."""
        return super().__call__(*args, **self._counted(kwargs))

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit the task to the flow's task runner."""
        return super().submit(*args, **self._counted(kwargs))

    def map(self, *args: Any, wait_for: Any = None, return_state: bool = False, **kwargs: Any) -> Any:
        """Submit the task once for each element. Pass a pipeline as `unmapped(pipeline)`, or by its name."""
        parameters = get_call_parameters(self.fn, args, kwargs, apply_defaults=False)
        each = expand_mapping_parameters(self.fn, parameters)
        futures: Any = PrefectFutureList(  # type: ignore[abstract]
            self.submit(wait_for=wait_for, **{name: value for name, value in one.items() if name != "call"})
            for one in each
        )
        if not return_state:
            return futures
        for future in futures:
            future.wait()
        return [future.state for future in futures]

    def with_options(self, **options: Any) -> "PipelineTask":
        """The same task with other options."""
        changed: Any = super().with_options(**options)
        # Prefect returns a plain Task, which would not number its calls.
        changed.__class__ = PipelineTask
        assert isinstance(changed, PipelineTask)
        return changed


def _name(pipeline: RunnablePipeline, execution_name: str, call: int | None) -> str:
    flow_run_id, task_run_id = run_ids()
    if execution_name or task_run_id is None:
        return execution_name
    if flow_run_id is None:
        return default_name(pipeline.name, str(task_run_id))
    if call is None:
        raise InvalidExecutionError(
            "a pipeline that another task calls has no place in the flow run, by which a repeated run would find its "
            "execution: give it an execution_name, such as f'{flow_run.id}-{patient}'"
        )
    unique = f"{lasting_name(flow_run_id)}-{call}"
    # An earlier version of this package, whose names all began like this, may have started the execution.
    former = f"prefect-{unique}"
    if is_repeated(flow_run_id):
        arn = executions.execution_arn(pipeline.started_arn, former)
        if executions.exists(pipeline.client(), arn):
            return former
    return default_name(pipeline.name, unique)


def _loaded(pipeline: RunnablePipeline | str) -> RunnablePipeline:
    if not isinstance(pipeline, str):
        return pipeline
    slug, _, name = pipeline.rpartition("/")
    if slug not in ("", SLUG):
        raise InvalidExecutionError(f"{pipeline!r} is no pipeline: write '{SLUG}/<name>'")
    # This module cannot import the class, which is a layer above. `Block.load` would raise Prefect's own errors.
    kind: Any = registry.load("clinops_prefect.step_functions.pipeline:StepFunctionsPipeline", "aws")
    loaded: RunnablePipeline = kind.load(name, _sync=True)
    return loaded


_OPTIONS: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [10, 60, 300],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_retrying,
    # A pipeline's steps have effects, so a cached result would be wrong. The execution's name already prevents a
    # second execution.
    "cache_policy": NO_CACHE,
}


def _run(
    pipeline: RunnablePipeline | str,
    input_data: Any = None,
    execution_name: str = "",
    *,
    deploy: bool = True,
    timeout: float | None = None,
    call: int | None = None,
) -> Any:
    """Run a pipeline on AWS Step Functions, and return its output.

    In a flow run, the execution's name is made of the pipeline's name, the run's id and the number of the call. If the
    run is retried, or killed and started again, it never starts a second execution. It attaches to a running execution,
    returns the output of one that succeeded, or redrives one that failed. In a subflow, the name uses the id of the
    outer run and the position of the subflow in it, since Prefect gives a subflow a new id when its caller is retried.
    A run that `run_deployment` starts is independent.

    Args:
        pipeline: The pipeline, or the name of a saved one, such as `step-functions-pipeline/prod`.
        input_data: The first step's input.
        execution_name: The execution's name, instead of the name made of the flow run and the number of the call.
        deploy: Update the state machine first, and run exactly that version.
        timeout: Seconds to wait at most. None means as long as it takes.
        call: The number of the call. The task counts it. Do not pass it.

    Raises:
        ClinopsPrefectError: The errors of `StepFunctionsPipeline.run`.
    """
    loaded = _loaded(pipeline)
    name = _name(loaded, execution_name or "", call)
    return start_and_wait.run(loaded, input_data, name, deploy=deploy, timeout=timeout)


def _start(
    pipeline: RunnablePipeline | str,
    input_data: Any = None,
    execution_name: str = "",
    *,
    deploy: bool = True,
    call: int | None = None,
) -> str:
    """Start a pipeline on AWS Step Functions, and return the execution's ARN without waiting.

    To wait for the execution, in this flow or in another, use `wait_for_step_functions_execution`. A repeated run finds
    its execution and never starts a second, as with `run_step_functions_pipeline`.

    Args:
        pipeline: The pipeline, or the name of a saved one, such as `step-functions-pipeline/prod`.
        input_data: The first step's input.
        execution_name: The execution's name, instead of the name made of the flow run and the number of the call.
        deploy: Update the state machine first, and run exactly that version.
        call: The number of the call. The task counts it. Do not pass it.

    Returns:
        The ARN of an execution that was just started, already runs, already succeeded, or failed and was redriven.

    Raises:
        ClinopsPrefectError: The errors of `StepFunctionsPipeline.deploy` and `execute`.
    """
    loaded = _loaded(pipeline)
    name = _name(loaded, execution_name or "", call)
    execution_arn, _ = start_and_wait.start(loaded, input_data, name, deploy=deploy)
    return execution_arn


def _wait(pipeline: RunnablePipeline | str, execution_arn: str, timeout: float | None = None) -> Any:
    """Wait until an execution on AWS Step Functions has ended, and return its output.

    One flow run can wait for hundreds at once: `wait_for_step_functions_execution.map(unmapped(pipeline), arns)`. The
    states are logged, progress is shown, and the executions are stopped when the flow run is cancelled.

    Args:
        pipeline: The pipeline, or the name of a saved one, such as `step-functions-pipeline/prod`.
        execution_arn: The ARN that `start_step_functions_pipeline` returned.
        timeout: Seconds to wait at most. None means as long as it takes.

    Raises:
        ClinopsPrefectError: The errors of `StepFunctionsPipeline.wait`.
    """
    return start_and_wait.wait(_loaded(pipeline), execution_arn, timeout)


def _both(function: Callable[..., Any], name: str) -> tuple[PipelineTask, PipelineTask]:
    """The task of a function for flows, and the task for async flows."""
    awaited = asynchronous_function(function, start_and_wait.interruptibly)
    return PipelineTask(fn=function, name=name, **_OPTIONS), PipelineTask(fn=awaited, name=name, **_OPTIONS)


run_step_functions_pipeline, arun_step_functions_pipeline = _both(_run, "run-step-functions-pipeline")
start_step_functions_pipeline, astart_step_functions_pipeline = _both(_start, "start-step-functions-pipeline")
wait_for_step_functions_execution, await_for_step_functions_execution = _both(
    _wait, "wait-for-step-functions-execution"
)


def task_of(pipeline: RunnablePipeline, **task_options: Any) -> PipelineTask:
    """The task that runs `pipeline`. It is the implementation of `StepFunctionsPipeline.as_task`."""

    def run(input_data: Any = None, execution_name: str = "", *, call: int | None = None) -> Any:
        return _run(pipeline, input_data, execution_name, call=call)

    return PipelineTask(fn=run, **{"name": pipeline.name, "description": _run.__doc__, **_OPTIONS, **task_options})
