"""What a Prefect run shows of an execution: log lines and progress. It also stops the execution on cancellation.

Only the flow run's state decides whether to stop an execution. Signals cannot decide it: an evicted worker gets the
same signal as a cancelled run, and a submitted task gets no signal.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from clinops_prefect.errors import ServiceUnavailableError
from clinops_prefect.step_functions.runs.flow_runs import forget, is_cancelled, run_ids
from clinops_prefect.step_functions.service.history import StateEvent

logger = logging.getLogger(__name__)

# The pauses, in seconds, before each question to the server whether a signal was a cancellation.
_ASKED_AFTER = (0.0, 0.5, 1.0, 2.0)


class Interrupted(BaseException):
    """The coroutine for which this thread waits was cancelled. This error never leaves the package."""


class Observer:
    """Shows one execution in one Prefect run, and stops it when the flow run is cancelled.

    Args:
        execution_arn: The execution.
        steps: The number of states, for the progress.
        stop: A function that stops the execution.
    """

    def __init__(self, execution_arn: str, steps: int, stop: Callable[[], None]) -> None:
        self.arn, self.steps, self.stop = execution_arn, steps, stop
        self.flow_run_id, self.task_run_id = run_ids()
        self.log: Any = get_run_logger()
        self.entered: dict[str, datetime] = {}
        self.exited: set[str] = set()
        self.progress: UUID | None = None
        self.shown = 0.0
        self.stopped = False

    def see(self, events: list[StateEvent]) -> None:
        """Log the states' events, and move the progress bar. The cause of a failure is never logged."""
        for event in events:
            if event.event == "entered":
                self.entered[event.state] = event.time
                self.log.info("state %r entered", event.state)
            elif event.event == "exited":
                began = self.entered.get(event.state)
                took = f" after {(event.time - began).total_seconds():.1f} s" if began else ""
                self.exited.add(event.state)
                self.log.info("state %r exited%s", event.state, took)
            elif event.event == "failed":
                self.log.warning("state %r failed with %s", event.state, event.error or "an error")
            else:
                self.log.info("execution %s", event.event)
        self._show(min(100.0, 100.0 * len(self.exited) / max(1, self.steps)))

    def succeeded(self) -> None:
        """Show a progress of 100 %, even if a choice or a catch skipped states."""
        if self.shown < 100:
            self._show(100.0)

    def check(self) -> None:
        """Stop the execution if the flow run is cancelled. The wait then sees that the execution ended."""
        if not self.stopped and self.flow_run_id and is_cancelled(self.flow_run_id):
            self.log.warning("the flow run is cancelled: stopping %s", self.arn)
            try:
                self.stop()
            except ServiceUnavailableError as error:
                self.log.warning("%s; trying again", error)
            else:
                self.stopped = True

    def interrupted(self, error: BaseException) -> None:
        """Handle an interrupted wait: after a cancellation, stop the execution, else let the execution go on."""
        # The signal may arrive before Prefect has stored the state CANCELLING, so ask the server several times.
        for pause in _ASKED_AFTER if self.flow_run_id else ():
            time.sleep(pause)
            forget(self.flow_run_id)
            self.check()
            if self.stopped:
                return
        self.log.warning("no longer waiting (%s); the execution goes on: %s", type(error).__name__, self.arn)

    def _show(self, done: float) -> None:
        self.shown = done
        machine = self.arn.split(":")[6]
        try:
            with get_client(sync_client=True) as client:
                if self.progress:
                    client.update_artifact(self.progress, ArtifactUpdate(data=done))
                else:
                    shown = artifact(self.arn, "progress", f"States of `{machine}` that are done", done)
                    self.progress = client.create_artifact(shown).id
        except Exception as error:
            logger.warning("cannot show the progress in Prefect: %s", error)


def artifact(
    execution_arn: str, kind: str, description: str, data: Any, metadata: dict[str, str] | None = None
) -> ArtifactCreate:
    """An artifact of the current flow or task run."""
    flow_run_id, task_run_id = run_ids()
    # Prefect allows only lowercase letters, digits and dashes in keys.
    key = re.sub(r"[^a-z0-9]+", "-", f"step-functions-{execution_arn.split(':')[6]}-{kind}".lower()).strip("-")
    return ArtifactCreate(
        key=key,
        type=kind,
        description=description,
        data=data,
        metadata_=metadata,
        flow_run_id=flow_run_id,
        task_run_id=task_run_id,
    )


@contextmanager
def observed(execution_arn: str, *, steps: int, stop: Callable[[], None]) -> Iterator[Observer | None]:
    """An observer of the wait in the block of code, for the current Prefect run. None outside of a run."""
    try:
        observer = Observer(execution_arn, steps, stop)
    except MissingContextError:
        yield None
        return
    try:
        yield observer
    except Exception:
        raise
    except BaseException as error:
        observer.interrupted(error)
        raise
