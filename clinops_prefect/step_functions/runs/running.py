"""Running a pipeline to its end: deploy, announce, start or attach, wait."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from clinops_prefect.step_functions.runs.cancellation import announce
from clinops_prefect.step_functions.runs.progress import Interrupted, observed
from clinops_prefect.step_functions.runs.runnable import RunnablePipeline
from clinops_prefect.step_functions.service import executions, polling


def run(
    pipeline: RunnablePipeline,
    input_data: Any,
    execution_name: str,
    *,
    deploy: bool,
    timeout: float | None,
    interrupt: threading.Event | None = None,
) -> Any:
    """`StepFunctionsPipeline.run`, until `interrupt` is set."""
    pipeline.refuse_express()
    text = executions.encode_input(input_data)
    name = execution_name or str(uuid4())
    executions.check_name(name)
    machine = pipeline.deploy(publish=True) if deploy else pipeline.state_machine_arn
    # Before it starts, so that a process that is killed in between leaves no execution that nobody knows of.
    announce(pipeline, executions.execution_arn(machine, name))

    def ensure() -> tuple[str, Any]:
        return executions.ensure(pipeline.client(), machine, name, text)

    # A machine that was deployed a moment ago may not be known yet everywhere.
    execution_arn, succeeded = executions.settled(ensure) if deploy else ensure()
    announce(pipeline, execution_arn)
    if succeeded:
        return executions.outcome(pipeline.client(), succeeded, show_cause=pipeline.show_cause)
    return wait(pipeline, execution_arn, timeout, interrupt)


async def interruptible(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """`run` or `wait` in a thread, which ends its wait when the coroutine is cancelled."""
    interrupt = threading.Event()
    try:
        return await asyncio.to_thread(function, *args, interrupt=interrupt, **kwargs)
    finally:
        # Else the thread would wait on, and with it the process that wants to end.
        interrupt.set()


def wait(
    pipeline: RunnablePipeline,
    execution_arn: str,
    timeout: float | None,
    interrupt: threading.Event | None = None,
) -> Any:
    """`StepFunctionsPipeline.wait`, until `interrupt` is set."""
    client = pipeline.client()

    def stop() -> None:
        pipeline.stop(execution_arn, error="Cancelled", cause="The Prefect flow run was cancelled.")

    with observed(execution_arn, steps=len(pipeline.steps), stop=stop) as seen_by:

        def check() -> None:
            if interrupt and interrupt.is_set():
                raise Interrupted
            if seen_by:
                seen_by.check()

        see = seen_by.see if seen_by else None
        description = polling.wait_for_end(client, execution_arn, timeout=timeout, on_events=see, check=check)
    return executions.outcome(client, description, show_cause=pipeline.show_cause)
