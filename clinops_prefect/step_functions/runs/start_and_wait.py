"""Runs a pipeline to its end: deploy, announce, start or attach, wait."""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar
from uuid import uuid4

from clinops_prefect.errors import AccessDeniedError
from clinops_prefect.step_functions.language.execution_names import check_name, default_name
from clinops_prefect.step_functions.runs.cancellation import announce
from clinops_prefect.step_functions.runs.pipeline_protocol import RunnablePipeline
from clinops_prefect.step_functions.runs.progress import Interrupted, observed
from clinops_prefect.step_functions.service import executions, polling
from clinops_prefect.step_functions.service.history import StateEvent

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# Credentials that were read again must work for this many seconds. If AWS refuses them earlier, we give up.
_RENEWED_EVERY = 60.0
# The event of a thread that waits for a coroutine. It is set when the coroutine is cancelled.
_interrupt: ContextVar[threading.Event | None] = ContextVar("interrupt", default=None)


def start(pipeline: RunnablePipeline, input_data: Any, execution_name: str, *, deploy: bool) -> tuple[str, Any]:
    """The execution for `execution_name`: deploy the machine, and start the execution or find it.

    Returns:
        The execution's ARN. If it has already succeeded, also its description, else None.
    """
    pipeline.refuse_express()
    text = executions.encode_input(input_data)
    name = execution_name or default_name(pipeline.name, str(uuid4()))
    check_name(name)
    machine = pipeline.deploy(publish=True) if deploy else pipeline.started_arn
    # Announce before the start: if the process is killed in between, no execution runs that nobody knows of.
    announce(pipeline, executions.execution_arn(machine, name))

    def ensure() -> tuple[str, Any]:
        return executions.ensure(pipeline.client(), machine, name, text)

    # AWS is eventually consistent and may not know a machine yet that was deployed a moment ago.
    execution_arn, succeeded = executions.settled(ensure) if deploy else ensure()
    announce(pipeline, execution_arn)
    return execution_arn, succeeded


def wait(pipeline: RunnablePipeline, execution_arn: str, timeout: float | None = None) -> Any:
    """The implementation of `StepFunctionsPipeline.wait`."""
    _check_timeout(timeout)
    pipeline.refuse_express(execution_arn)
    executions.check_arn(execution_arn)
    announce(pipeline, execution_arn)
    return _followed(pipeline, execution_arn, timeout)


def run(
    pipeline: RunnablePipeline, input_data: Any, execution_name: str, *, deploy: bool, timeout: float | None
) -> Any:
    """The implementation of `StepFunctionsPipeline.run`."""
    _check_timeout(timeout)
    execution_arn, succeeded = start(pipeline, input_data, execution_name, deploy=deploy)
    if succeeded:
        return executions.outcome(pipeline.client(), succeeded, show_cause=pipeline.show_cause)
    return _followed(pipeline, execution_arn, timeout)


def _check_timeout(timeout: Any) -> None:
    if timeout is not None and not isinstance(timeout, int | float):
        raise TypeError(f"timeout takes a number of seconds, or None, not {type(timeout).__name__}")


async def interruptibly(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What `function` returns, called in a thread. When the coroutine is cancelled, a wait in `function` ends."""
    interrupt, context = threading.Event(), copy_context()
    context.run(_interrupt.set, interrupt)
    # Each call has a thread of its own. asyncio's pool has only a few threads more than there are cores, so most of
    # a hundred executions would not be watched.
    pool = ThreadPoolExecutor(1)
    try:
        call = functools.partial(context.run, functools.partial(function, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(pool, call)
    finally:
        # Without this, the thread would go on waiting, and the process could not end.
        interrupt.set()
        pool.shutdown(wait=False)


def _followed(pipeline: RunnablePipeline, execution_arn: str, timeout: float | None) -> Any:
    interrupt = _interrupt.get()

    def stop() -> None:
        pipeline.stop(execution_arn, error="Cancelled", cause="The Prefect flow run was cancelled.")

    with observed(execution_arn, steps=pipeline.state_count, stop=stop) as seen_by:

        def check() -> None:
            if interrupt and interrupt.is_set():
                raise Interrupted
            if seen_by:
                seen_by.check()

        see = seen_by.see if seen_by else None
        description = _end(pipeline, execution_arn, timeout, see=see, check=check)
        if seen_by and description["status"] == "SUCCEEDED":
            seen_by.succeeded()
    return executions.outcome(pipeline.client(), description, show_cause=pipeline.show_cause)


def _end(
    pipeline: RunnablePipeline,
    execution_arn: str,
    timeout: float | None,
    *,
    see: Callable[[list[StateEvent]], None] | None,
    check: Callable[[], None],
) -> Any:
    """The description of the ended execution. If credentials expire during the wait, they are read again."""
    deadline = None if timeout is None else time.monotonic() + timeout
    left, renewed_at = timeout, float("-inf")
    while True:
        client = pipeline.client()
        try:
            return polling.wait_for_end(client, execution_arn, timeout=left, on_events=see, check=check)
        except AccessDeniedError as error:
            # `client()` makes a new client after AWS refused the credentials. If the client is the same, or the new
            # credentials are refused soon after, asking again would not help.
            if pipeline.client() is client or time.monotonic() - renewed_at < _RENEWED_EVERY:
                raise
            renewed_at = time.monotonic()
            left = None if deadline is None else max(0.0, deadline - renewed_at)
            logger.warning("%s; asking again with credentials that are read anew", error)
