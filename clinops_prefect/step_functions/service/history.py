"""The history of an execution, as events of its states. Inputs and outputs are never requested."""

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
    """One event of a state, or of the execution itself.

    Attributes:
        id: The event's number in the history. Later events have higher numbers.
        time: The time of the event.
        state: The state's name. Empty for an event of the execution.
        event: Of a state: `entered`, `exited`, or `failed` (one attempt, which may be retried or caught). Of an
            execution: `started`, `redriven` or `ended`.
        error: The error's name, if the event is a failure.
        cause: The failed task's message. It is the user's own text, may name a patient, and is never logged.
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
    """Reads the new events of a history since the last look. One call is enough for up to 100 new events."""

    client: "SFNClient"
    execution_arn: str
    seen: int = 0
    last: str = ""
    end: StateEvent | None = None
    states: dict[int, str] = field(default_factory=dict)

    def look(self) -> tuple[list[StateEvent], bool]:
        """The new events, oldest first, and whether a new event, or the newest of the history, ends the execution."""
        new: list[Any] = []
        token: dict[str, Any] = {}
        while True:
            with translated(self.execution_arn):
                page = self.client.get_execution_history(
                    executionArn=self.execution_arn,
                    # At the first look, the execution may already have a long history.
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
        # The caller must confirm an end with DescribeExecution, since a redrive continues after an end event.
        return events, self.last in _ENDS or any(raw["type"] in _ENDS for raw in new)

    def failure(self) -> dict[str, str] | None:
        """The description of the failed execution, made from its history. None if the history shows no failure.

        It is used when DescribeExecution does not answer. It cannot describe a success, whose output we do not read.
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
    """The name of the state that failed, or that ran when the execution timed out. Empty if there is none.

    If a pipeline's handler ran, the name is of the state whose failure led to the handler.
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
    """Whether an execution ended in a Fail state. A redrive would fail there again."""
    last = next(_entered_before_end(client, execution_arn), None)
    return last is not None and last["type"] == _FAIL_STATE


def _name_in(entered: Any) -> str:
    return str(entered["stateEnteredEventDetails"]["name"])


def _entered_before_end(client: "SFNClient", execution_arn: str) -> Iterator[Any]:
    """The `entered` events of states on the path to the execution's end, last first. Empty if no state was open then.

    The path follows `previousEventId`, since branches run at the same time. The event of a timeout or a stop has no
    `previousEventId`. Then the path begins at the last state that was entered but not left.
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
            # Its `previousEventId` leads to the last event of any branch, not to the branch that failed.
            raw = _failure_in_branch(events, _details(end).get("error"))
        entered, exited = raw.get("stateEnteredEventDetails"), raw.get("stateExitedEventDetails")
        if exited and not began:
            if cause:
                return  # the execution ended between two states
            left.add(exited["name"])
        if entered and (cause or entered["name"] not in left):
            began = True
            yield raw
        if cause or began:
            cause = raw.get("previousEventId", 0)
            if not cause:
                return


def _failure_in_branch(older: Iterator[Any], error: Any) -> Any:
    """The event with which a branch failed with `error`, or the `entered` event of the Parallel state."""
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
    """The StateEvent of AWS's event `raw`, or None. `states` maps earlier events' ids to states, and is updated."""
    entered = raw.get("stateEnteredEventDetails")
    # Follow `previousEventId`: branches run at the same time, so the last entered state may be of another branch.
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
