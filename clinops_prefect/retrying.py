"""Which failures of a task are worth another try."""

from typing import Any

from prefect import State, Task
from prefect.client.schemas.objects import TaskRun

from clinops_prefect.errors import ServiceUnavailableError


def worth_retrying(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a task failed for a reason that may pass: for `retry_condition_fn`."""
    error = state.result(raise_on_failure=False, _sync=True)  # type: ignore[call-overload]
    return isinstance(error, ServiceUnavailableError)
