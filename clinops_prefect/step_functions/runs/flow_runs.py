"""The current flow run: a name that stays the same in every attempt, and whether the run is being cancelled.

When a flow is retried, Prefect gives a new run id to each flow that it calls. The id of the calling run stays the same,
and so does the position of the call in it. The name is therefore made of these two.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.context import FlowRunContext, TaskRunContext

from clinops_prefect.errors import InvalidExecutionError

logger = logging.getLogger(__name__)

_LOOK_EVERY = 5.0
_PAGE = 200

_cancelled: dict[UUID, tuple[float, bool]] = {}
_cancelled_lock = threading.Lock()


def run_ids() -> tuple[UUID | None, UUID | None]:
    """The ids of the current flow run and task run."""
    task, flow = TaskRunContext.get(), FlowRunContext.get()
    flow_run_id = flow.flow_run.id if flow and flow.flow_run else None
    return (task.task_run.flow_run_id if task else None) or flow_run_id, task.task_run.id if task else None


def lasting_name(flow_run_id: UUID) -> str:
    """The flow run's name that stays the same in every attempt, of the flow itself or of flows that call it.

    Raises:
        InvalidExecutionError: A task calls the flow. Prefect does not count such calls, so a retry could not find it.
    """
    return _place(flow_run_id)[0]


def is_repeated(flow_run_id: UUID) -> bool:
    """Whether the flow run, or one that calls it, had an earlier attempt when this process first asked."""
    return _place(flow_run_id)[1]


@lru_cache(maxsize=1024)
def _place(flow_run_id: UUID) -> tuple[str, bool]:
    places, root, repeated = [], flow_run_id, False
    with get_client(sync_client=True) as client:
        for run, caller in _callers(client, flow_run_id):
            root, repeated = run.id, repeated or run.run_count > 1
            if caller is not None:
                # Prefect counts the calls that a flow makes, but gives a random key to a call that a task makes.
                if not str(caller.dynamic_key).isdecimal():
                    raise InvalidExecutionError(
                        "a pipeline in a flow that a task calls has no place which a repeated run would find again: "
                        "give it an execution_name, such as f'{date}-{patient}', or call the flow from a flow"
                    )
                places.append(f"{caller.task_key} {caller.dynamic_key}")
    suffix = f"-{hashlib.sha256('/'.join(places).encode()).hexdigest()[:12]}" if places else ""
    return f"{root}{suffix}", repeated


def is_cancelled(flow_run_id: UUID) -> bool:
    """Whether the flow run, or one that calls it, is being cancelled.

    All threads share one answer of the server, which is a few seconds old at most.
    """
    with _cancelled_lock:
        asked, answer = _cancelled.get(flow_run_id, (float("-inf"), False))
        if time.monotonic() - asked > _LOOK_EVERY:
            answer = _ask(flow_run_id)
            _cancelled[flow_run_id] = (time.monotonic(), answer)
        return answer


def forget(flow_run_id: UUID | None) -> None:
    """Drop the stored answer, so that `is_cancelled` asks the server again at once."""
    if flow_run_id:
        _cancelled.pop(flow_run_id, None)


def with_subflows(client: SyncPrefectClient, flow_run_id: UUID) -> list[UUID]:
    """The ids of the flow run and of all flow runs below it: its subflows, their subflows, and so on."""
    found, callers = [flow_run_id], [flow_run_id]
    while callers:
        wanted = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=callers))
        runs: list[FlowRun] = []
        while page := client.read_flow_runs(flow_run_filter=wanted, limit=_PAGE, offset=len(runs)):
            runs += page
        callers = [run.id for run in runs if run.deployment_id is None]
        found += callers
    return found


def _callers(client: SyncPrefectClient, flow_run_id: UUID) -> Iterator[tuple[FlowRun, TaskRun | None]]:
    """The flow run and its callers, from the inside out, each with the task run that represents it in its caller."""
    while True:
        run = client.read_flow_run(flow_run_id)
        # A run of a deployment is independent of the run that started it, and may outlive it.
        if run.parent_task_run_id is None or run.deployment_id is not None:
            yield run, None
            return
        caller = client.read_task_run(run.parent_task_run_id)
        yield run, caller
        if caller.flow_run_id is None:
            return
        flow_run_id = caller.flow_run_id


def _ask(flow_run_id: UUID) -> bool:
    try:
        with get_client(sync_client=True) as client:
            states = [run.state for run, _ in _callers(client, flow_run_id)]
    except Exception as error:
        # Without an answer, the execution goes on, since it may be needed. The cancellation hook can still stop it.
        logger.warning("cannot ask Prefect whether flow run %s is cancelled: %s", flow_run_id, error)
        return False
    return any(state is not None and (state.is_cancelling() or state.is_cancelled()) for state in states)
