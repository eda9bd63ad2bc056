"""Starts executions, and never a second one for the same name."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
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
from clinops_prefect.step_functions.language.aws_limits import data_problems
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

_FAILED = ("FAILED", "TIMED_OUT", "ABORTED")
_TOO_MANY_FAILED = "States.ExceedToleratedFailureThreshold"
_EXECUTION = re.compile(r"arn:aws[a-z-]*:states:[a-z0-9-]+:\d+:execution:[^:\s]+:[^:\s]+")

# DescribeExecution may show the effect of StartExecution or RedriveExecution only after some seconds.
_SETTLES_IN = 15.0


def execution_arn(machine_arn: str, name: str) -> str:
    """The ARN of the execution `name`. The ARN of a version or an alias is reduced to that of the machine."""
    parts = machine_arn.split(":")
    return ":".join([*parts[:5], "execution", parts[6], name])


def encode_input(input_data: Any, what: str = "input_data") -> str:
    """An execution's input as JSON text. Equal inputs give equal texts.

    Raises:
        InvalidExecutionError: The input is not JSON, or longer than 262,144 bytes.
    """
    value = {} if input_data is None else input_data
    if problems := data_problems(value, what):
        raise InvalidExecutionError("; ".join(problems))
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def check_arn(arn: str) -> None:
    """Raise unless `arn` looks like the ARN of an execution.

    Raises:
        InvalidExecutionError: It is something else, such as an execution's name.
        TypeError: It is not a string.
    """
    if not isinstance(arn, str):
        raise TypeError(f"the ARN of an execution is text, such as execute() returns, not {type(arn).__name__}")
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
    # The default name is random: names made from the time would collide when two executions start in one second.
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
                # The name is random, so this execution is ours: the first answer was lost, and boto3's retry found it.
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
    """The execution for `name`: it is started, found running, found finished, or redriven.

    A failed execution is run again under `name-2`, `name-3` and so on. All of these attempts are examined first. If one
    succeeded or is running, it is the result. Otherwise the newest attempt is redriven that AWS can redrive, that has
    the machine's present definition, and that no Fail state ended. If there is none, the next name is started.

    Returns:
        The execution's ARN. If it has succeeded, also its description, so that no further request is needed.

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
            if found["status"] not in _FAILED:
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
        # Another process took the name between our look and our start, so look again.


def _started(client: "SFNClient", machine_arn: str, name: str, text: str) -> str:
    """The ARN of the execution that was started, or already runs with this name and input. Empty if it is taken."""
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
            # The first attempt exists, so `settled` waits until AWS knows it.
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
    """Continue a failed execution at the state that failed, with the definition with which it was started.

    Raises:
        InvalidExecutionError: AWS cannot redrive it: it succeeded, is older than 14 days, or has too many events.
    """
    redriven_at = None
    with translated(arn):
        try:
            # With the token, AWS takes boto3's retries for one redrive.
            redriven_at = client.redrive_execution(executionArn=arn, clientToken=uuid4().hex).get("redriveDate")
        except ClientError as error:
            if code_of(error) != "ExecutionNotRedrivable":
                raise
            # If another process has just redriven the execution, it runs as intended, and there is no error.
            if _once_redriven(client, arn, None)["status"] not in ("RUNNING", "PENDING_REDRIVE"):
                raise InvalidExecutionError(f"{arn} cannot be redriven", uri=arn) from error
    if redriven_at:
        # A wait that began earlier could still see the old failure, and would take it for the end.
        _once_redriven(client, arn, redriven_at)
    logger.info("redriven %s", arn)


def _once_redriven(client: "SFNClient", arn: str, redriven_at: datetime | None) -> Any:
    """The execution's description, asked for again for up to 15 s while it is older than the redrive.

    Args:
        client: The client to ask.
        arn: The execution.
        redriven_at: When AWS redrove it. If None, another process did, after which AWS refuses another redrive.
    """
    deadline = time.monotonic() + _SETTLES_IN
    while True:
        found = describe(client, arn)
        if redriven_at is None:
            is_old = found.get("redriveStatus") == "REDRIVABLE"
        else:
            is_old = found["status"] in _FAILED and found.get("stopDate", redriven_at) < redriven_at
        if not is_old or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _same_definition(client: "SFNClient", machine_arn: str, arn: str) -> bool:
    """Whether the execution has the machine's present definition. A redrive runs the definition of the start."""
    with translated(arn):
        old = client.describe_state_machine_for_execution(executionArn=arn)["definition"]
        new = client.describe_state_machine(stateMachineArn=what_runs(client, machine_arn))["definition"]
    return bool(json.loads(old) == json.loads(new))


def settled(ask: Callable[[], T]) -> T:
    """The result of `ask`, called again for up to 15 s while AWS does not know the machine or execution yet."""
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
        ArtifactDecodeError: The output is not JSON.
        ExecutionFailedError: The execution did not succeed. The error has the cause as an attribute, and in the message
            only with `show_cause`.
    """
    status, arn = description["status"], description["executionArn"]
    if status == "SUCCEEDED":
        return _parsed(description.get("output", "null"), "output", arn)
    # No state failed in an execution that somebody stopped.
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
    """The name of the state that failed. Empty if AWS does not say.

    An error of this request is not raised. It would hide that the execution has failed, and the task would be retried.
    """
    try:
        return failed_state(client, arn)
    except ClinopsPrefectError as error:
        logger.warning("the state that failed is not known: %s", error)
        return ""


def _parsed(text: str, what: str, arn: str) -> Any:
    """The value of JSON text from AWS. The text is invalid only if the endpoint is not Step Functions."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # `from None`: the original error contains the whole text.
        raise ArtifactDecodeError(
            f"the {what} of {arn} cannot be read as JSON ({type(error).__name__}): damaged, or nested too deeply",
            uri=arn,
        ) from None


def stop(client: "SFNClient", arn: str, *, error: str = "", cause: str = "") -> None:
    """Stop an execution. An execution that has ended does not change."""
    reason = {key: value for key, value in (("error", error), ("cause", cause)) if value}
    with translated(arn):
        client.stop_execution(executionArn=arn, **reason)
