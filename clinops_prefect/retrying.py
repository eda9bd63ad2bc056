"""The retry condition of tasks."""

from typing import Any

from prefect import State, Task
from prefect.client.schemas.objects import TaskRun

from clinops_prefect.errors import ServiceUnavailableError


def worth_retrying(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a task failed for a temporary reason, so that a retry may help. For `retry_condition_fn`."""
    error = state.result(raise_on_failure=False, _sync=True)  # type: ignore[call-overload]
    return isinstance(error, ServiceUnavailableError)
