"""Starting executions, and never a second one for the same purpose."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from botocore.exceptions import ClientError

from clinops_prefect.aws.errors import code_of
from clinops_prefect.errors import (
    ArtifactDecodeError,
    ClinopsPrefectError,
    ExecutionFailedError,
    ExecutionNotFoundError,
    FailedItem,
    InvalidExecutionError,
    StateMachineNotFoundError,
)
from clinops_prefect.step_functions.language.data import data_problems
from clinops_prefect.step_functions.language.execution_names import attempt_name, check_name, default_name
from clinops_prefect.step_functions.service.errors import translated
from clinops_prefect.step_functions.service.history import ends_in_fail_state, failed_state
from clinops_prefect.step_functions.service.map_runs import ITEMS_AT_MOST, failed_items
from clinops_prefect.step_functions.service.polling import describe
from clinops_prefect.step_functions.service.versions import what_runs

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TOO_MANY_FAILED = "States.ExceedToleratedFailureThreshold"
_EXECUTION = re.compile(r"arn:aws[a-z-]*:states:[a-z0-9-]+:\d+:execution:[^:\s]+:[^:\s]+")

# A description may lag behind StartExecution's or RedriveExecution's answer by seconds.
_SETTLES_IN = 15.0


def execution_arn(machine_arn: str, name: str) -> str:
    """The ARN of the execution `name`; a version's or an alias's executions are the machine's."""
    parts = machine_arn.split(":")
    return ":".join([*parts[:5], "execution", parts[6], name])


def encode_input(input_data: Any, what: str = "input_data") -> str:
    """An execution's input as Step Functions takes it; equal inputs are equal texts.

    Raises:
        InvalidExecutionError: It is not JSON, or longer than 262,144 bytes.
    """
    value = {} if input_data is None else input_data
    if problems := data_problems(value, what):
        raise InvalidExecutionError("; ".join(problems))
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def check_arn(arn: str) -> None:
    """Raise unless `arn` may be an execution's.

    Raises:
        InvalidExecutionError: It is something else, such as an execution's name.
        TypeError: It is no text.
    """
    if not isinstance(arn, str):
        raise TypeError(f"the ARN of an execution is text, such as execute() returns, and no {type(arn).__name__}")
    if not _EXECUTION.fullmatch(arn):
        raise InvalidExecutionError(
            f"{arn[:200]!r} is not the ARN of an execution: pass what execute() returned, such as "
            "arn:aws:states:us-east-1:123456789012:execution:machine:name"
        )


def start(client: "SFNClient", machine_arn: str, name: str, text: str) -> str:
    """Start an execution, or find the running one of the same name and input.

    Raises:
        InvalidExecutionError: The name is taken by an execution that has ended or has another input.
    """
    # Random by default: names made of the clock collide when two start in one second.
    chosen = name or default_name(machine_arn.split(":")[6], str(uuid4()))
    check_name(chosen)
    with translated(machine_arn):
        try:
            return client.start_execution(stateMachineArn=machine_arn, name=chosen, input=text)["executionArn"]
        except ClientError as error:
            if code_of(error) != "ExecutionAlreadyExists":
                raise
            arn = execution_arn(machine_arn, chosen)
            if not name:
                # Nobody else draws this name: the client's own retry met the execution whose answer was lost.
                return arn
            raise InvalidExecutionError(
                f"the name {name!r} is taken for 90 days by an execution that has ended or has another input", uri=arn
            ) from error


def exists(client: "SFNClient", arn: str) -> bool:
    """Whether there is, or was, an execution of this ARN."""
    try:
        describe(client, arn)
    except ExecutionNotFoundError:
        return False
    return True


def ensure(client: "SFNClient", machine_arn: str, name: str, text: str) -> tuple[str, Any]:
    """The execution that does what `name` stands for: started, attached to, finished, or redriven.

    One that failed is run again under `name-2`, `name-3` and so on. Before anything is done about a failure, all of
    these are looked at: if one of them succeeded or is running, it is the one. Otherwise the newest that AWS can
    redrive, that has the machine's present definition, and that no Fail state ended, is redriven; or else the next name
    is started.

    Returns:
        The execution's ARN, and its description when it has succeeded: nothing more need be asked then.

    Raises:
        InvalidExecutionError: The name was used with another input.
    """
    check_name(name)
    while True:
        if arn := _started(client, machine_arn, name, text):
            return arn, None
        failed: list[Any] = []
        for found in _attempts(client, machine_arn, name, text):
            if found["status"] == "SUCCEEDED":
                return found["executionArn"], found
            if found["status"] not in ("FAILED", "TIMED_OUT", "ABORTED"):
                logger.info("attaching to %s, which is %s", found["executionArn"], found["status"])
                return found["executionArn"], None
            failed.append(found)
        for found in reversed(failed):
            arn = found["executionArn"]
            redrivable = found.get("redriveStatus") == "REDRIVABLE" and _same_definition(client, machine_arn, arn)
            if redrivable and not ends_in_fail_state(client, arn):
                redrive(client, arn)
                return arn, None
        if arn := _started(client, machine_arn, attempt_name(name, len(failed) + 1), text):
            return arn, None
        # Another process took that name between our look and our start; look again.


def _started(client: "SFNClient", machine_arn: str, name: str, text: str) -> str:
    """The ARN of the execution that was started, or runs with this name and input; empty when the name is used up."""
    with translated(machine_arn):
        try:
            return client.start_execution(stateMachineArn=machine_arn, name=name, input=text)["executionArn"]
        except ClientError as error:
            if code_of(error) != "ExecutionAlreadyExists":
                raise
    return ""


def _attempts(client: "SFNClient", machine_arn: str, name: str, text: str) -> Iterator[Any]:
    """The descriptions of the executions that were started for `name`, oldest first."""
    for attempt in count(1):
        arn = execution_arn(machine_arn, attempt_name(name, attempt))
        try:
            # The first is known to exist.
            found = settled(lambda arn=arn: describe(client, arn)) if attempt == 1 else describe(client, arn)  # type: ignore[misc]
        except ExecutionNotFoundError:
            if attempt == 1:
                raise
            return
        if _parsed(found.get("input", "null"), "input", arn) != json.loads(text):
            raise InvalidExecutionError(
                f"{arn} was started with another input. A flow run that is run again must pass the same input, and its "
                "calls must come in the same order; or give each call its own execution_name",
                uri=arn,
            )
        yield found


def redrive(client: "SFNClient", arn: str) -> None:
    """Let a failed execution go on at the state that failed, with the definition it was started with.

    Raises:
        InvalidExecutionError: AWS cannot redrive it: it runs, succeeded, is older than 14 days, or has too many events.
    """
    with translated(arn):
        try:
            # The token makes the client's own retries one redrive.
            client.redrive_execution(executionArn=arn, clientToken=uuid4().hex)
        except ClientError as error:
            if code_of(error) != "ExecutionNotRedrivable":
                raise
            # Another process may have redriven it just now: then it runs, which is what was wanted.
            if describe(client, arn)["status"] not in ("RUNNING", "PENDING_REDRIVE"):
                raise InvalidExecutionError(f"{arn} cannot be redriven", uri=arn) from error
    logger.info("redriven %s", arn)


def _same_definition(client: "SFNClient", machine_arn: str, arn: str) -> bool:
    """Whether the execution was started with what the machine is now: a redrive would run the old definition."""
    with translated(arn):
        old = client.describe_state_machine_for_execution(executionArn=arn)["definition"]
        new = client.describe_state_machine(stateMachineArn=what_runs(client, machine_arn))["definition"]
    return bool(json.loads(old) == json.loads(new))


def settled(ask: Callable[[], T]) -> T:
    """`ask`, once more and again while the machine or the execution that must exist is not known yet."""
    deadline = time.monotonic() + _SETTLES_IN
    while True:
        try:
            return ask()
        except (ExecutionNotFoundError, StateMachineNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def outcome(client: "SFNClient", description: Any, *, show_cause: bool) -> Any:
    """The output of an execution that succeeded.

    Raises:
        ArtifactDecodeError: It is no JSON.
        ExecutionFailedError: It did not. The cause is an attribute, and in the message only when `show_cause`.
    """
    status, arn = description["status"], description["executionArn"]
    if status == "SUCCEEDED":
        return _parsed(description.get("output", "null"), "output", arn)
    # Nobody's state failed when somebody stopped it.
    state = "" if status == "ABORTED" else _failed_state(client, arn)
    error, cause = description.get("error", ""), description.get("cause", "")
    items = failed_items(client, arn) if error == _TOO_MANY_FAILED else []
    words = [
        f"{arn} {status.lower().replace('_', ' ')}",
        f"in state {state!r}" if state else "",
        f"with {error}" if error else "",
        f"({_counted(items)}: see the error's failed_items)" if items else "",
    ]
    told = cause if show_cause else ("the cause is in the execution's history" if cause else "")
    raise ExecutionFailedError(
        " ".join(word for word in words if word) + (f": {told}" if told else ""),
        status=status,
        error=error,
        cause=cause,
        execution_arn=arn,
        failed_state=state,
        failed_items=items,
    )


def _counted(items: list[FailedItem]) -> str:
    return f"{'at least ' * (len(items) >= ITEMS_AT_MOST)}{len(items)} item{'s' * (len(items) != 1)} failed"


def _failed_state(client: "SFNClient", arn: str) -> str:
    """The state that failed; empty when AWS does not tell.

    The end of the execution is known already. An error about this question would hide it, and the task would take the
    execution for one worth running again.
    """
    try:
        return failed_state(client, arn)
    except ClinopsPrefectError as error:
        logger.warning("the state that failed is not known: %s", error)
        return ""


def _parsed(text: str, what: str, arn: str) -> Any:
    """What a task wrote, or somebody passed: JSON, unless whoever answers is not Step Functions."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # `from None`: the error holds the whole text.
        raise ArtifactDecodeError(
            f"the {what} of {arn} cannot be read as JSON ({type(error).__name__}): damaged, or nested too deeply",
            uri=arn,
        ) from None


def stop(client: "SFNClient", arn: str, *, error: str = "", cause: str = "") -> None:
    """Stop an execution; one that has ended stays as it is."""
    reason = {key: value for key, value in (("error", error), ("cause", cause)) if value}
    with translated(arn):
        client.stop_execution(executionArn=arn, **reason)
