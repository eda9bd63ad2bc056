"""Creates or updates the state machine of a pipeline at AWS, and changes nothing if it is already up to date."""

import json
import logging
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from clinops_prefect.aws.errors import code_of
from clinops_prefect.errors import (
    AccessDeniedError,
    InvalidExecutionError,
    InvalidPipelineError,
    OperationNotSupportedError,
    ServiceUnavailableError,
    StateMachineNotFoundError,
)
from clinops_prefect.step_functions.service.errors import translated
from clinops_prefect.step_functions.service.versions import (
    CONFLICT,
    ROUNDS,
    VersionQuotaError,
    pause,
    remove_old_versions,
    within_quota,
)

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

T = TypeVar("T")

logger = logging.getLogger(__name__)

# IAM and CloudWatch Logs are eventually consistent: a new role works only after some seconds.
_PROPAGATES_IN, _ASKED_EVERY = 30.0, 3.0
# AWS's messages about a role or a log group that it does not know yet. If the user lacks a permission (iam:PassRole),
# the message is different, and waiting would not help.
_NOT_YET = re.compile(
    r"assume the provided role|log destination|managed[- ]rule|log group does not exist", re.IGNORECASE
)


def deploy(
    client: "SFNClient",
    arn: str,
    *,
    definition: dict[str, Any],
    role_arn: str,
    kind: str,
    tags: dict[str, str],
    configurations: dict[str, dict[str, Any]],
    publish: bool,
    keep_versions: int = 0,
) -> str:
    """Create the state machine, update it, or leave it alone.

    Tags and configurations that are not given do not change.

    Args:
        client: The client to ask.
        arn: The machine's ARN.
        definition: The machine in the Amazon States Language.
        role_arn: The role that it assumes.
        kind: `STANDARD` or `EXPRESS`.
        tags: Tags to add or to change.
        configurations: Logging, tracing and encryption, by their names in CreateStateMachine.
        publish: Whether to publish a version.
        keep_versions: How many of the newest versions stay. 0 means all.

    Returns:
        The machine's ARN. With `publish`, the ARN of the version with exactly this definition.

    Raises:
        ServiceUnavailableError: The machine is being deleted, or other processes kept changing it.
        OperationNotSupportedError: AWS keeps no more versions of the machine, and no old one may be deleted.
    """
    wanted = {"definition": json.dumps(definition, ensure_ascii=False), "roleArn": role_arn, **configurations}
    for number in range(ROUNDS):
        pause(number)
        found = _describe(client, arn)
        if found is None:
            if version := _create(client, arn, wanted, kind=kind, tags=tags, publish=publish):
                return version
            continue
        if found.get("status") == "DELETING":
            raise ServiceUnavailableError(f"{arn} is being deleted: deploy again when AWS has removed it", uri=arn)
        if found["type"] != kind:
            raise InvalidPipelineError(
                f"{arn} is {found['type']}, and AWS cannot make it {kind}: delete it, or choose another name",
                problems=["the type of a state machine cannot be changed"],
                uri=arn,
            )
        _tag(client, arn, tags)
        unchanged = _equal(found, wanted)
        if unchanged and not publish:
            return arn
        try:
            if unchanged:
                if version := _publish(client, arn, found.get("revisionId") or "INITIAL"):
                    return version
                continue
            version = _update(client, arn, wanted, publish=publish)
        except VersionQuotaError as error:
            if not remove_old_versions(client, arn, keep_versions):
                raise OperationNotSupportedError(str(error), uri=arn) from error
            continue
        if not version:
            continue
        if not publish:
            return arn
        if int(version.rpartition(":")[2]) > keep_versions:
            remove_old_versions(client, arn, keep_versions)
        # Another process may have updated the machine before AWS made the version.
        if _is_exactly(client, version, wanted):
            return version
    raise ServiceUnavailableError(
        f"{arn} is changed by others all the time, so that no version of this definition could be published", uri=arn
    )


def delete(client: "SFNClient", arn: str, *, missing_ok: bool, force: bool) -> None:
    """Delete a state machine with its versions and aliases.

    Raises:
        StateMachineNotFoundError: There is no such machine, and `missing_ok` is False.
        InvalidExecutionError: Executions of the machine run, and `force` is False.
    """
    found = _describe(client, arn)
    if found is None:
        if missing_ok:
            return
        raise StateMachineNotFoundError(f"there is no state machine {arn}, so nothing was deleted", uri=arn)
    # AWS does not list the executions of an Express machine.
    if not force and found["type"] == "STANDARD" and (running := _running(client, arn)):
        raise InvalidExecutionError(
            f"{arn} was not deleted: AWS would terminate its {running}. Wait for them or stop them, or pass force=True",
            uri=arn,
        )
    with translated(arn):
        client.delete_state_machine(stateMachineArn=arn)
    logger.info("deleted the state machine %s", arn)


def _running(client: "SFNClient", arn: str) -> str:
    """The number of running executions, in words. Empty if none runs."""
    with translated(arn):
        page = client.list_executions(stateMachineArn=arn, statusFilter="RUNNING", maxResults=1000)
        number = len(page["executions"])
    more = "at least " if page.get("nextToken") else ""
    return f"{more}{number} running execution{'s' * (number != 1)}" if number else ""


def _describe(client: "SFNClient", arn: str) -> Any:
    try:
        with translated(arn):
            return client.describe_state_machine(stateMachineArn=arn)
    except StateMachineNotFoundError:
        return None


def _create(
    client: "SFNClient", arn: str, wanted: dict[str, Any], *, kind: Any, tags: dict[str, str], publish: bool
) -> str:
    name = arn.rpartition(":")[2]
    listed: Any = [{"key": key, "value": value} for key, value in tags.items()]

    def create() -> str:
        with translated(arn):
            try:
                created = client.create_state_machine(name=name, type=kind, tags=listed, publish=publish, **wanted)
            except ClientError as error:
                # Another process created the machine after we had looked, so the caller looks again.
                if code_of(error) in ("StateMachineAlreadyExists", CONFLICT):
                    return ""
                raise
        logger.info("created the state machine %s", arn)
        return created["stateMachineVersionArn"] if publish else created["stateMachineArn"]

    return _once_propagated(create)


def _update(client: "SFNClient", arn: str, wanted: dict[str, Any], *, publish: bool) -> str:
    """The ARN of the new version, or of the machine. Empty if another process changes the machine at this moment."""

    def update() -> str:
        with translated(arn):
            try:
                response = within_quota(
                    lambda: client.update_state_machine(stateMachineArn=arn, publish=publish, **wanted), arn
                )
            except ClientError as error:
                if code_of(error) == CONFLICT:
                    return ""
                raise
        logger.info("updated the state machine %s", arn)
        return str(response["stateMachineVersionArn"]) if publish else arn

    return _once_propagated(update)


def _publish(client: "SFNClient", arn: str, revision_id: str) -> str:
    """The ARN of the version of a revision. Empty if the machine has another revision by now.

    AWS never makes two versions of one revision.
    """
    with translated(arn):
        try:
            response = within_quota(
                lambda: client.publish_state_machine_version(stateMachineArn=arn, revisionId=revision_id), arn
            )
        except ClientError as error:
            if code_of(error) == CONFLICT:
                return ""
            raise
    return str(response["stateMachineVersionArn"])


def _once_propagated(ask: Callable[[], T]) -> T:
    """The result of `ask`, called again for up to 30 s while AWS does not know the role or the log destination yet."""
    deadline = time.monotonic() + _PROPAGATES_IN
    while True:
        try:
            return ask()
        except (AccessDeniedError, InvalidPipelineError) as error:
            if not _NOT_YET.search(str(error)) or time.monotonic() + _ASKED_EVERY > deadline:
                raise
            logger.warning("%s; asking again for %.0f s, in case it was just made", error, deadline - time.monotonic())
            time.sleep(_ASKED_EVERY)


def _is_exactly(client: "SFNClient", version_arn: str, wanted: dict[str, Any]) -> bool:
    found = _describe(client, version_arn)
    # AWS may not know a new version yet. Then the next round looks again.
    return found is not None and _same_program(found, wanted)


def _same_program(found: Any, wanted: dict[str, Any]) -> bool:
    same = json.loads(found["definition"]) == json.loads(wanted["definition"])
    return bool(same and found["roleArn"] == wanted["roleArn"])


def _equal(found: Any, wanted: dict[str, Any]) -> bool:
    given = {key: value for key, value in wanted.items() if key.endswith("Configuration")}
    return _same_program(found, wanted) and all(_covers(found.get(key), value) for key, value in given.items())


def _covers(found: Any, wanted: Any) -> bool:
    """Whether `found` has everything that `wanted` has. AWS adds defaults, so `found` may have more."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_covers(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_covers, found, wanted))
    return bool(found == wanted)


def _tag(client: "SFNClient", arn: str, tags: dict[str, str]) -> None:
    if not tags:
        return
    with translated(arn):
        found = {tag["key"]: tag["value"] for tag in client.list_tags_for_resource(resourceArn=arn)["tags"]}
        missing: Any = [{"key": key, "value": value} for key, value in tags.items() if found.get(key) != value]
        if missing:
            client.tag_resource(resourceArn=arn, tags=missing)
