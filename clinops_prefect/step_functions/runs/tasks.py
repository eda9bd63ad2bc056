"""Prefect tasks that run, start or follow a pipeline: one execution for each call, however often a run is repeated."""

import inspect
import threading
from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFutureList
from prefect.utilities.callables import expand_mapping_parameters, get_call_parameters

from clinops_prefect.errors import InvalidExecutionError
from clinops_prefect.retrying import worth_retrying
from clinops_prefect.step_functions.language.execution_names import default_name
from clinops_prefect.step_functions.runs import running
from clinops_prefect.step_functions.runs.flow_runs import is_repeated, lasting_name, run_ids
from clinops_prefect.step_functions.runs.runnable import SLUG, RunnablePipeline
from clinops_prefect.step_functions.service import executions

_COUNTER = "clinops_prefect.step_functions"
_counter_lock = threading.Lock()


def _next_call() -> int | None:
    """The place of this call among the flow run's; None where it has none that a repeated run would find again."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or TaskRunContext.get() is not None:
        return None
    with _counter_lock:
        # Prefect's own counters of calls, which begin anew with each attempt of the flow run.
        call = int(context.task_run_dynamic_keys.get(_COUNTER, -1)) + 1
        context.task_run_dynamic_keys[_COUNTER] = call
        return call


class PipelineTask(Task[Any, Any]):
    """A task that knows which of its flow run's calls each call is.

    It is counted where the flow makes the call, since submitted tasks begin in any order. A task that starts no
    execution has no parameter `call`, and its calls have no place among the others'.
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
        """Submit the task once for each element; a pipeline is given as `unmapped(pipeline)`, or as its name."""
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
        # Prefect makes a plain Task, whose calls would not be counted.
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
    # An earlier version of this package, which began all names like this, may have started the execution.
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
    loaded: Any = Block.load(f"{SLUG}/{name}", _sync=True)  # type: ignore[call-arg]
    return loaded  # type: ignore[no-any-return]


_OPTIONS: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [10, 60, 300],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_retrying,
    # A pipeline's steps have effects, and the execution's name already keeps them from happening twice.
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

    In a flow run, the execution's name comes from the pipeline's name, the run's id and the place of the call in it. A
    run that is retried, or killed and started again, so attaches to the execution that runs, returns the output of the
    one that succeeded, or redrives the one that failed. It never starts a second. In a flow that another flow calls,
    the outer run's id counts, and the place in it: Prefect gives a subflow a new id when its caller is retried. What
    `run_deployment` starts is a run of its own.

    Args:
        pipeline: The pipeline, or the name of a saved one, such as `step-functions-pipeline/prod`.
        input_data: What the first step gets.
        execution_name: What the execution is for, instead of the flow run and the place of the call.
        deploy: Bring the state machine up to date first, and run exactly that version.
        timeout: Seconds to wait at most; None, as long as it takes.
        call: The place of the call. It is counted, not given.

    Raises:
        ClinopsPrefectError: Whatever `StepFunctionsPipeline.run` raises.
    """
    loaded = _loaded(pipeline)
    name = _name(loaded, execution_name or "", call)
    return running.run(loaded, input_data, name, deploy=deploy, timeout=timeout)


def _start(
    pipeline: RunnablePipeline | str,
    input_data: Any = None,
    execution_name: str = "",
    *,
    deploy: bool = True,
    call: int | None = None,
) -> str:
    """Start a pipeline on AWS Step Functions, and return the execution's ARN without waiting.

    `wait_for_step_functions_execution` waits for it, in this flow or in another. A run that is repeated finds its
    execution, as with `run_step_functions_pipeline`: it never starts a second.

    Args:
        pipeline: The pipeline, or the name of a saved one, such as `step-functions-pipeline/prod`.
        input_data: What the first step gets.
        execution_name: What the execution is for, instead of the flow run and the place of the call.
        deploy: Bring the state machine up to date first, and run exactly that version.
        call: The place of the call. It is counted, not given.

    Returns:
        The ARN of the execution that was started, runs already, has succeeded already, or failed and was redriven.

    Raises:
        ClinopsPrefectError: Whatever `StepFunctionsPipeline.deploy` and `execute` raise.
    """
    loaded = _loaded(pipeline)
    name = _name(loaded, execution_name or "", call)
    execution_arn, _ = running.start(loaded, input_data, name, deploy=deploy)
    return execution_arn


def _wait(pipeline: RunnablePipeline | str, execution_arn: str, timeout: float | None = None) -> Any:
    """Wait until an execution on AWS Step Functions has ended, and return its output.

    One flow run can wait for hundreds at once: `wait_for_step_functions_execution.map(unmapped(pipeline), arns)`. Its
    states are logged, progress is shown, and the executions are stopped when the flow run is cancelled.

    Args:
        pipeline: The pipeline, or the name of a saved one, such as `step-functions-pipeline/prod`.
        execution_arn: What `start_step_functions_pipeline` returned.
        timeout: Seconds to wait at most; None, as long as it takes.

    Raises:
        ClinopsPrefectError: Whatever `StepFunctionsPipeline.wait` raises.
    """
    return running.wait(_loaded(pipeline), execution_arn, timeout)


def _both(function: Callable[..., Any], name: str) -> tuple[PipelineTask, PipelineTask]:
    """The task of a function, and the one for async flows."""
    awaited = running.interruptible(function)
    return PipelineTask(fn=function, name=name, **_OPTIONS), PipelineTask(fn=awaited, name=name, **_OPTIONS)


run_step_functions_pipeline, arun_step_functions_pipeline = _both(_run, "run-step-functions-pipeline")
start_step_functions_pipeline, astart_step_functions_pipeline = _both(_start, "start-step-functions-pipeline")
wait_for_step_functions_execution, await_for_step_functions_execution = _both(
    _wait, "wait-for-step-functions-execution"
)


def task_of(pipeline: RunnablePipeline, **task_options: Any) -> PipelineTask:
    """The task that runs `pipeline`; `StepFunctionsPipeline.as_task` in the class's own words."""

    def run(input_data: Any = None, execution_name: str = "", *, call: int | None = None) -> Any:
        return _run(pipeline, input_data, execution_name, call=call)

    return PipelineTask(fn=run, **{"name": pipeline.name, "description": _run.__doc__, **_OPTIONS, **task_options})
