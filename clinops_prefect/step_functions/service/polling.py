"""Waits for executions to end, with a delay of seconds and few requests, even for a thousand executions at once.

Step Functions has no request that waits. For a single execution, we read the newest page of its history, which also
shows the states' events. When several threads wait on one machine, they share a list of its running executions, and ask
only about an execution that is no longer in the list.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from clinops_prefect.errors import (
    ClinopsPrefectError,
    ExecutionNotFoundError,
    ExecutionTimeoutError,
    ServiceUnavailableError,
)
from clinops_prefect.forks import in_child
from clinops_prefect.step_functions.service.errors import translated
from clinops_prefect.step_functions.service.history import Newest, StateEvent

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

logger = logging.getLogger(__name__)

# Together these are less than 10 requests a second, the lowest quota that AWS has published for DescribeExecution in an
# account. Lists have a rate of their own: otherwise they would queue behind the questions that they replace.
_SECONDS_A_QUESTION, _SECONDS_A_LIST = 1 / 7.5, 1.0
_SHORTEST_GAP, _LONGEST_GAP = 2.5, 30.0
# The gap between two looks is a tenth of the waiting time at the second: t' - t = t' / 10.
_GROWTH = 9
_CROWD = 5
_LISTED_AT_MOST = 10_000
_CHECK_EVERY = 1.0
# The history may lag, so every tenth look asks DescribeExecution instead. A list does not need this.
_DESCRIBED_EVERY = 10
# Seconds for which AWS may not know an execution: Step Functions is eventually consistent.
_UNKNOWN_FOR = 30.0
_UNREACHABLE_FOR = 900.0

_ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}
_GOING = {"RUNNING", "PENDING_REDRIVE"}


class _Pacer:
    """Limits the rate of requests of all threads of the process: `seconds` lie between two of them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        with self._lock:
            moment = max(time.monotonic(), self._next)
            self._next = moment + self._seconds
        time.sleep(max(0.0, moment - time.monotonic()))

    @property
    def queue(self) -> float:
        """The seconds that a new request would have to wait."""
        return max(0.0, self._next - time.monotonic())


class _Machine:
    """The list of a state machine's running executions, shared by all threads that wait on the machine."""

    def __init__(self, client: "SFNClient", arn: str) -> None:
        self.client, self.arn = client, arn
        self.waiting = 0
        self._lock = threading.Lock()
        self._listed_at = float("-inf")
        self._running: set[str] = set()
        self._whole = True

    def is_running(self, execution_arn: str, max_age: float) -> bool | None:
        """Whether a list at most `max_age` seconds old has the execution. None if the list was too long to be read."""
        with self._lock:
            if time.monotonic() - self._listed_at > max_age:
                self._list()
            return True if execution_arn in self._running else (False if self._whole else None)

    def _list(self) -> None:
        began = 0.0
        running: set[str] = set()
        token: dict[str, Any] = {}
        while True:
            _lists.wait()
            # The list is as old as its first page. The wait for that page does not count: otherwise the list could be
            # too old when it arrives.
            began = began or time.monotonic()
            with translated(self.arn):
                page = self.client.list_executions(
                    stateMachineArn=self.arn, statusFilter="RUNNING", maxResults=1000, **token
                )
                running.update(execution["executionArn"] for execution in page["executions"])
            self._whole = not page.get("nextToken")
            if self._whole or len(running) >= _LISTED_AT_MOST:
                break
            token = {"nextToken": page["nextToken"]}
        self._running, self._listed_at = running, began


_questions, _lists = _Pacer(_SECONDS_A_QUESTION), _Pacer(_SECONDS_A_LIST)
_machines: dict[tuple[int, str], _Machine] = {}
_machines_lock = threading.Lock()


def _forget() -> None:
    # A forked child has none of the parent's threads, so a lock that they hold would never be released.
    global _questions, _lists, _machines_lock
    _questions, _lists, _machines_lock = _Pacer(_SECONDS_A_QUESTION), _Pacer(_SECONDS_A_LIST), threading.Lock()
    _machines.clear()


in_child(_forget)


@contextmanager
def _waiting(client: "SFNClient", execution_arn: str) -> Iterator[_Machine]:
    parts = execution_arn.split(":")
    arn = ":".join([*parts[:5], "stateMachine", parts[6]])
    key = (id(client), arn)
    with _machines_lock:
        machine = _machines.setdefault(key, _Machine(client, arn))
        machine.waiting += 1
    try:
        yield machine
    finally:
        with _machines_lock:
            machine.waiting -= 1
            if not machine.waiting:
                _machines.pop(key, None)


def describe(client: "SFNClient", execution_arn: str) -> Any:
    """The answer of DescribeExecution, within the rate limit."""
    _questions.wait()
    with translated(execution_arn):
        description = client.describe_execution(executionArn=execution_arn)
        _ = description["status"]  # an answer without a status is not from Step Functions
    return description


def gap_after(elapsed: float) -> float:
    """The seconds until the next look, after `elapsed` seconds of waiting."""
    return min(max(elapsed / _GROWTH, _SHORTEST_GAP), _LONGEST_GAP)


def wait_for_end(
    client: "SFNClient",
    execution_arn: str,
    *,
    timeout: float | None = None,
    on_events: Callable[[list[StateEvent]], None] | None = None,
    check: Callable[[], None] | None = None,
) -> Any:
    """Wait until an execution has ended, and return its description.

    Args:
        client: The client to ask.
        execution_arn: The execution.
        timeout: Seconds to wait at most. None means as long as it takes.
        on_events: A function that gets the states' new events.
        check: A function that is called every few seconds. An error that it raises ends the wait.

    Raises:
        ExecutionTimeoutError: The timeout passed. The execution goes on.
        ExecutionNotFoundError: AWS did not know the execution for half a minute.
        AccessDeniedError: The credentials lack a permission. Raised at once, since polling would not help.
        ServiceUnavailableError: AWS could not be reached for a quarter of an hour. The execution goes on.
    """
    began = time.monotonic()
    deadline = None if timeout is None else began + timeout
    newest = Newest(client, execution_arn)
    looks = 0
    troubled_since: float | None = None
    # The first look comes soon, after a random time, so that waits that began together do not ask together.
    gap = random.uniform(0.3, 1.0)  # noqa: S311 - not for secrets
    with _waiting(client, execution_arn) as machine:
        while True:
            crowded = machine.waiting >= _CROWD
            # With many waiters, a list up to a third of the gap old is good enough, so look after two thirds.
            _sleep(gap * 2 / 3 if crowded else gap, deadline, check)
            try:
                looks += 1
                # When GetExecutionHistory fails, DescribeExecution may still answer.
                by_itself = looks % _DESCRIBED_EVERY == 0 or (troubled_since is not None and looks % 2 == 0)
                if not crowded and by_itself:
                    description = _ended(client, execution_arn)
                    if description is not None:
                        _show_last(newest, on_events)
                else:
                    description = _look(machine, newest, gap / 3 if crowded else None, on_events)
                troubled_since = None
            except (ServiceUnavailableError, ExecutionNotFoundError) as error:
                description = None
                now = time.monotonic()
                troubled_since = troubled_since or now
                unknown = isinstance(error, ExecutionNotFoundError)
                if now - troubled_since > (_UNKNOWN_FOR if unknown else _UNREACHABLE_FOR):
                    if failure := newest.failure():
                        return failure
                    raise
                logger.warning("%s; asking again", error)
            if description is not None:
                return description
            if deadline is not None and time.monotonic() >= deadline:
                raise ExecutionTimeoutError(
                    f"{execution_arn} has not ended after {timeout} s; it goes on", uri=execution_arn
                )
            gap = gap_after(time.monotonic() - began)


def _sleep(seconds: float, deadline: float | None, check: Callable[[], None] | None) -> None:
    until = time.monotonic() + seconds
    until = until if deadline is None else min(until, deadline)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _CHECK_EVERY))
        if check:
            check()


def _look(
    machine: _Machine, newest: Newest, max_age: float | None, on_events: Callable[[list[StateEvent]], None] | None
) -> Any:
    """The description of an execution that has ended, or None."""
    if max_age is not None:
        if machine.is_running(newest.execution_arn, max_age):
            return None
        description = _ended(machine.client, newest.execution_arn)
        # The states' events are read only at the end, and only if no other request is waiting.
        if description is not None and _questions.queue == 0:
            _show_last(newest, on_events)
        return description
    events, ended = _paced_look(newest)
    if events and on_events:
        on_events(events)
    return _ended(machine.client, newest.execution_arn) if ended else None


def _show_last(newest: Newest, on_events: Callable[[list[StateEvent]], None] | None) -> None:
    """Show what the states of an ended execution did since the last look."""
    if on_events:
        try:
            on_events(_paced_look(newest)[0])
        except ClinopsPrefectError as error:
            # The execution has ended. An error that concerns only log lines must not hide this.
            logger.warning("what the states did is not shown: %s", error)


def _paced_look(newest: Newest) -> tuple[list[StateEvent], bool]:
    _questions.wait()
    return newest.look()


def _ended(client: "SFNClient", execution_arn: str) -> Any:
    description = describe(client, execution_arn)
    status = description["status"]
    if status not in _ENDED | _GOING:
        logger.warning("%s has the status %s, which is not known here: waiting on", execution_arn, status)
    return description if status in _ENDED else None
