"""Waiting for executions to end: soon noticed, few calls, and the same few for a thousand at once.

Step Functions has no call that waits. A single execution is watched by the newest page of its history, which says what
its states do as well. Where several wait on one machine, one list of its running executions serves them all, and only
an execution that is no longer on it is asked about.
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

# Together less than 10 calls a second: the oldest published quota of DescribeExecution refills so many, for the whole
# account. The lists have a share of their own, or they would queue behind the questions that they are to save.
_SECONDS_A_QUESTION, _SECONDS_A_LIST = 1 / 7.5, 1.0
_SHORTEST_GAP, _LONGEST_GAP = 2.5, 30.0
# Each look at a tenth of the time it will then have taken: t' - t = t' / 10.
_GROWTH = 9
_CROWD = 5
_LISTED_AT_MOST = 10_000
_CHECK_EVERY = 1.0
# A history may lag, so now and then the execution itself is asked, in its place. A list says who is still running.
_DESCRIBED_EVERY = 10
# How long an execution may stay unknown: Step Functions is eventually consistent.
_UNKNOWN_FOR = 30.0
_UNREACHABLE_FOR = 900.0

_ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}
_GOING = {"RUNNING", "PENDING_REDRIVE"}


class _Pacer:
    """Hands out moments, never two nearer than so many seconds, to all threads of the process."""

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
        """For how many seconds the moments are already taken."""
        return max(0.0, self._next - time.monotonic())


class _Machine:
    """What the threads that wait on one state machine share: the list of its running executions."""

    def __init__(self, client: "SFNClient", arn: str) -> None:
        self.client, self.arn = client, arn
        self.waiting = 0
        self._lock = threading.Lock()
        self._listed_at = float("-inf")
        self._running: set[str] = set()
        self._whole = True

    def is_running(self, execution_arn: str, max_age: float) -> bool | None:
        """Whether it is on a list no older than `max_age`; None, when the list got too long to be read whole."""
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
            # As old as its first page; the wait before it does not count, or it would be too old when it comes.
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
    # The parent's threads do not exist in the child, and their locks would never be released.
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
    """DescribeExecution, in its turn."""
    _questions.wait()
    with translated(execution_arn):
        description = client.describe_execution(executionArn=execution_arn)
        _ = description["status"]  # whoever answers without is not Step Functions
    return description


def gap_after(elapsed: float) -> float:
    """How long to look away after `elapsed` seconds of waiting."""
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
        timeout: Seconds to wait at most; None, as long as it takes.
        on_events: Is given the states' events as they are seen.
        check: Is called every few seconds; what it raises ends the wait.

    Raises:
        ExecutionTimeoutError: The timeout passed. The execution goes on.
        ExecutionNotFoundError: It stayed unknown for half a minute.
        AccessDeniedError: At once; polling on would never help.
        ServiceUnavailableError: Nothing was reached for a quarter of an hour. The execution goes on.
    """
    began = time.monotonic()
    deadline = None if timeout is None else began + timeout
    newest = Newest(client, execution_arn)
    looks = 0
    troubled_since: float | None = None
    # The first look comes soon, and at a moment of its own, so that those who began together spread out.
    gap = random.uniform(0.3, 1.0)  # noqa: S311 - not for secrets
    with _waiting(client, execution_arn) as machine:
        while True:
            crowded = machine.waiting >= _CROWD
            # In a crowd the list may be a third of the gap old, so it is looked at after two thirds.
            _sleep(gap * 2 / 3 if crowded else gap, deadline, check)
            try:
                looks += 1
                # When the history is not answered, the execution itself may be.
                by_itself = looks % _DESCRIBED_EVERY == 0 or (troubled_since is not None and looks % 2 == 0)
                if not crowded and by_itself:
                    description = _ended(client, execution_arn)
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
        # What its states did is told at the end, and only while nobody queues for a call.
        if description is not None and on_events and _questions.queue == 0:
            try:
                on_events(_paced_look(newest)[0])
            except ClinopsPrefectError as error:
                # The end is known, and must not be lost for the sake of log lines.
                logger.warning("what the states did is not shown: %s", error)
        return description
    events, ended = _paced_look(newest)
    if events and on_events:
        on_events(events)
    return _ended(machine.client, newest.execution_arn) if ended else None


def _paced_look(newest: Newest) -> tuple[list[StateEvent], bool]:
    _questions.wait()
    return newest.look()


def _ended(client: "SFNClient", execution_arn: str) -> Any:
    description = describe(client, execution_arn)
    status = description["status"]
    if status not in _ENDED | _GOING:
        logger.warning("%s has the status %s, which is not known here: waiting on", execution_arn, status)
    return description if status in _ENDED else None
