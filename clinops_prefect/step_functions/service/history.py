"""The history of an execution, at the level of states. Never its data: inputs and outputs are not even asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from clinops_prefect.step_functions.language.states_language import fail_state_name
from clinops_prefect.step_functions.service.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_FAILURES = {"ExecutionFailed": "FAILED", "ExecutionTimedOut": "TIMED_OUT", "ExecutionAborted": "ABORTED"}
_FAIL_STATE = "FailStateEntered"
_ENDS = ("ExecutionSucceeded", "ExecutionFailed", "ExecutionTimedOut", "ExecutionAborted")


@dataclass(frozen=True)
class StateEvent:
    """Something that happened to a state, or, with an empty `state`, to the execution.

    Attributes:
        id: The event's number in the history; it grows.
        time: When it happened.
        state: The state's name.
        event: `entered`, `exited`, or `failed` (one attempt, which may be retried or caught); of an execution
            `started`, `redriven` or `ended`.
        error: The error's name, of a failure.
        cause: What the failed task said. It is the user's own text, may name a patient, and is never logged.
    """

    id: int
    time: datetime
    state: str
    event: Literal["entered", "exited", "failed", "started", "redriven", "ended"]
    error: str = ""
    cause: str = field(default="", repr=False)


def read(client: "SFNClient", execution_arn: str) -> Iterator[StateEvent]:
    """All events so far, oldest first."""
    states: dict[int, str] = {}
    token: dict[str, Any] = {}
    while True:
        with translated(execution_arn):
            page = client.get_execution_history(
                executionArn=execution_arn, maxResults=1000, includeExecutionData=False, **token
            )
            events = page["events"]
        for raw in events:
            if event := _event(raw, states):
                yield event
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


@dataclass
class Newest:
    """Reads what has been added to a history since the last look, with one call where a hundred events suffice."""

    client: "SFNClient"
    execution_arn: str
    seen: int = 0
    last: str = ""
    end: StateEvent | None = None
    states: dict[int, str] = field(default_factory=dict)

    def look(self) -> tuple[list[StateEvent], bool]:
        """The new events, oldest first, and whether one of them, or the newest of all, ends the execution."""
        new: list[Any] = []
        token: dict[str, Any] = {}
        while True:
            with translated(self.execution_arn):
                page = self.client.get_execution_history(
                    executionArn=self.execution_arn,
                    # The first look may be at an execution that has run for long.
                    maxResults=100 if self.seen else 1000,
                    reverseOrder=True,
                    includeExecutionData=False,
                    **token,
                )
                new += [raw for raw in page["events"] if raw["id"] > self.seen]
            if not page.get("nextToken") or not page["events"] or page["events"][-1]["id"] <= self.seen + 1:
                break
            token = {"nextToken": page["nextToken"]}
        events = []
        for raw in reversed(new):
            if event := _event(raw, self.states):
                self.end = event if event.event == "ended" else None
                events.append(event)
        if new:
            self.seen, self.last = new[0]["id"], new[0]["type"]
        # Whether it has ended is for DescribeExecution to say: a redrive goes on after an end.
        return events, self.last in _ENDS or any(raw["type"] in _ENDS for raw in new)

    def failure(self) -> dict[str, str] | None:
        """The description of an execution that the history says has failed; None when it does not say so.

        It stands in for DescribeExecution's when that is not answered. An output is not in the history that we read.
        """
        status = _FAILURES.get(self.last)
        if not status or not self.end:
            return None
        return {
            "executionArn": self.execution_arn,
            "status": status,
            "error": self.end.error,
            "cause": self.end.cause,
        }


def failed_state(client: "SFNClient", execution_arn: str) -> str:
    """The state that failed, or ran when the time was up; empty when none did.

    After a handler of a pipeline, that is the state whose failure led to the handler.
    """
    entered = _entered_before_end(client, execution_arn)
    last = next(entered, None)
    if last is None:
        return ""
    if last["type"] == _FAIL_STATE:
        handler, failed = next(entered, None), next(entered, None)
        if handler and failed and fail_state_name(_name_in(handler)) == _name_in(last):
            return _name_in(failed)
    return _name_in(last)


def ends_in_fail_state(client: "SFNClient", execution_arn: str) -> bool:
    """Whether an execution failed because it came to a Fail state, where a redrive would only fail again."""
    last = next(_entered_before_end(client, execution_arn), None)
    return last is not None and last["type"] == _FAIL_STATE


def _name_in(entered: Any) -> str:
    return str(entered["stateEnteredEventDetails"]["name"])


def _entered_before_end(client: "SFNClient", execution_arn: str) -> Iterator[Any]:
    """The events of states that were entered, on the way to the end, last first; none when no state was open then.

    The way is that of `previousEventId`, since branches run at the same time. AWS gives none for a time-out or a stop:
    then it begins at the last state that was entered and not left.
    """
    events = _backwards(client, execution_arn)
    end = next((raw for raw in events if raw["type"] in _ENDS), None)
    cause = end.get("previousEventId", 0) if end else 0
    left: set[str] = set()
    began = False
    for raw in events:
        if cause and raw["id"] != cause:
            continue
        if cause and raw["type"] == "ParallelStateFailed" and not began:
            # It follows whichever branch came last, and not the one that failed.
            raw = _failure_in_branch(events, _details(end).get("error"))
        entered, exited = raw.get("stateEnteredEventDetails"), raw.get("stateExitedEventDetails")
        if exited and not began:
            if cause:
                return  # between two states
            left.add(exited["name"])
        if entered and (cause or entered["name"] not in left):
            began = True
            yield raw
        if cause or began:
            cause = raw.get("previousEventId", 0)
            if not cause:
                return


def _failure_in_branch(older: Iterator[Any], error: Any) -> Any:
    """The event by which a branch failed with `error`, or that of the Parallel state when no event says so."""
    for raw in older:
        failed = raw["type"].endswith(("Failed", "TimedOut")) and _details(raw).get("error") == error
        if failed or raw["type"] in (_FAIL_STATE, "ParallelStateEntered"):
            break
    return raw


def _details(raw: Any) -> Any:
    return next((value for key, value in raw.items() if key.endswith("EventDetails")), {})


def _backwards(client: "SFNClient", execution_arn: str) -> Iterator[Any]:
    token: dict[str, Any] = {}
    while True:
        with translated(execution_arn):
            page = client.get_execution_history(
                executionArn=execution_arn, reverseOrder=True, includeExecutionData=False, **token
            )
        yield from page["events"]
        if not page.get("nextToken"):
            return
        token = {"nextToken": page["nextToken"]}


def _event(raw: Any, states: dict[int, str]) -> StateEvent | None:
    """What an event says; `states` has the state that each event so far belongs to, and gets this one's."""
    entered = raw.get("stateEnteredEventDetails")
    # By the event's cause: branches run at the same time, and the state entered last may be another's.
    where = entered["name"] if entered else states.get(raw.get("previousEventId", 0), "")
    states[raw["id"]] = where
    kind = raw["type"]
    if entered:
        return StateEvent(raw["id"], raw["timestamp"], entered["name"], "entered")
    if exited := raw.get("stateExitedEventDetails"):
        return StateEvent(raw["id"], raw["timestamp"], exited["name"], "exited")
    details = _details(raw)
    error, cause = details.get("error", ""), details.get("cause", "")
    if kind in _ENDS:
        return StateEvent(raw["id"], raw["timestamp"], "", "ended", error, cause)
    if kind == "ExecutionStarted":
        return StateEvent(raw["id"], raw["timestamp"], "", "started")
    if kind == "ExecutionRedriven":
        return StateEvent(raw["id"], raw["timestamp"], "", "redriven")
    if kind.endswith(("Failed", "TimedOut")):
        return StateEvent(raw["id"], raw["timestamp"], details.get("state", where), "failed", error, cause)
    return None
