"""The history of an execution, at the level of states. Never its data: inputs and outputs are not even asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from clinops_prefect.step_functions.service.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_FAILURES = {"ExecutionFailed": "FAILED", "ExecutionTimedOut": "TIMED_OUT", "ExecutionAborted": "ABORTED"}
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
    where = ""
    token: dict[str, Any] = {}
    while True:
        with translated(execution_arn):
            page = client.get_execution_history(
                executionArn=execution_arn, maxResults=1000, includeExecutionData=False, **token
            )
            events = page["events"]
        for raw in events:
            if event := _event(raw, where):
                where = event.state if event.event == "entered" else where
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
    state: str = ""
    last: str = ""
    end: StateEvent | None = None

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
            if event := _event(raw, self.state):
                self.state = event.state if event.event == "entered" else self.state
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


def open_state(client: "SFNClient", execution_arn: str) -> str:
    """The state that was entered last and not left: the one that failed, or ran when the time was up."""
    token: dict[str, Any] = {}
    while True:
        with translated(execution_arn):
            page = client.get_execution_history(
                executionArn=execution_arn, reverseOrder=True, includeExecutionData=False, **token
            )
        for raw in page["events"]:
            if "stateEnteredEventDetails" in raw:
                return raw["stateEnteredEventDetails"]["name"]
            if "stateExitedEventDetails" in raw:
                return ""
        if not page.get("nextToken"):
            return ""
        token = {"nextToken": page["nextToken"]}


def _event(raw: Any, where: str) -> StateEvent | None:
    kind = raw["type"]
    if entered := raw.get("stateEnteredEventDetails"):
        return StateEvent(raw["id"], raw["timestamp"], entered["name"], "entered")
    if exited := raw.get("stateExitedEventDetails"):
        return StateEvent(raw["id"], raw["timestamp"], exited["name"], "exited")
    details: Any = next((value for key, value in raw.items() if key.endswith("EventDetails")), {})
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
