"""The versions of a state machine, and the aliases that route to them."""

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from clinops_prefect.aws.errors import code_of
from clinops_prefect.errors import ClinopsPrefectError, ServiceUnavailableError, StateMachineNotFoundError
from clinops_prefect.step_functions.service.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

logger = logging.getLogger(__name__)

# AWS answers so to all but one of the requests that change a machine's versions or aliases at the same moment.
CONFLICT = "ConflictException"
# How often other processes may change the machine between two of our requests before we give up. In each round, one of
# the processes succeeds.
ROUNDS = 30
_QUOTA = "ServiceQuotaExceededException"


class VersionQuotaError(Exception):
    """AWS keeps no more versions of this machine."""


def pause(number: int) -> None:
    """Wait before round `number`, for a random time, so that two processes in a race do not collide again."""
    time.sleep(random.uniform(0, min(2.0, 0.1 * number)))  # noqa: S311 - not for secrets


def remove_old_versions(client: "SFNClient", arn: str, keep: int) -> int:
    """Delete all versions except the newest `keep` and those to which an alias routes.

    If a version cannot be deleted, a warning is logged and nothing is raised, since the deployment itself succeeded.

    Returns:
        The number of deleted versions.
    """
    if not keep:
        return 0
    removed = 0
    try:
        for version in _versions(client, arn)[keep:]:
            removed += _remove(client, version)
    except ClinopsPrefectError as error:
        logger.warning("old versions of %s stay, and AWS takes no more than 1,000: %s", arn, error)
    if removed:
        logger.info("deleted %s old versions of %s; the newest %s and those with an alias stay", removed, arn, keep)
    return removed


def _versions(client: "SFNClient", arn: str) -> list[str]:
    """The ARNs of all versions, newest first."""
    found: list[str] = []
    token: dict[str, Any] = {}
    while True:
        with translated(arn):
            page = client.list_state_machine_versions(stateMachineArn=arn, maxResults=1000, **token)
            found += [version["stateMachineVersionArn"] for version in page["stateMachineVersions"]]
        if not page.get("nextToken"):
            return sorted(found, key=lambda version: -int(version.rpartition(":")[2]))
        token = {"nextToken": page["nextToken"]}


def _remove(client: "SFNClient", version_arn: str) -> bool:
    with translated(version_arn):
        try:
            client.delete_state_machine_version(stateMachineVersionArn=version_arn)
        except ClientError as error:
            # An alias routes to the version, or another process deletes it too.
            if code_of(error) == CONFLICT:
                return False
            raise
    return True


def within_quota(ask: Callable[[], Any], arn: str) -> Any:
    try:
        return ask()
    except ClientError as error:
        if code_of(error) != _QUOTA:
            raise
        raise VersionQuotaError(
            f"AWS keeps no more versions of {arn} ({_QUOTA}): delete some of them, lower keep_versions, or allow "
            "states:ListStateMachineVersions and states:DeleteStateMachineVersion"
        ) from error


def point_alias(client: "SFNClient", machine_arn: str, alias: str, version_arn: str) -> str:
    """Let an alias route to one version only: create the alias, move it, or leave it unchanged.

    Returns:
        The alias's ARN.
    """
    arn = f"{machine_arn}:{alias}"
    routes: Any = [{"stateMachineVersionArn": version_arn, "weight": 100}]
    for number in range(ROUNDS):
        pause(number)
        found = _routes(client, arn)
        if found == routes:
            return arn
        if _route(client, arn, routes, exists=found is not None):
            logger.info("%s the alias %s to %s", "created" if found is None else "moved", arn, version_arn)
            return arn
    raise ServiceUnavailableError(f"{arn} is changed by others all the time, so that it could not be moved", uri=arn)


def what_runs(client: "SFNClient", machine_arn: str) -> str:
    """The ARN that an execution of `machine_arn` runs. For an alias, this is the version with the highest weight."""
    qualifier = machine_arn.split(":")[7:]
    if not qualifier or qualifier[0].isdecimal():
        return machine_arn
    routes = _routes(client, machine_arn) or []
    return max(routes, key=lambda route: route["weight"])["stateMachineVersionArn"] if routes else machine_arn


def _routes(client: "SFNClient", alias_arn: str) -> list[Any] | None:
    """The routes of an alias. None if there is no such alias."""
    try:
        with translated(alias_arn):
            found: Any = client.describe_state_machine_alias(stateMachineAliasArn=alias_arn)["routingConfiguration"]
    except StateMachineNotFoundError:
        return None
    return list(found)


def _route(client: "SFNClient", alias_arn: str, routes: Any, *, exists: bool) -> bool:
    """Whether this call created or moved the alias. False if another process created or changed it since we looked."""
    with translated(alias_arn):
        try:
            if exists:
                client.update_state_machine_alias(stateMachineAliasArn=alias_arn, routingConfiguration=routes)
            else:
                client.create_state_machine_alias(name=alias_arn.rpartition(":")[2], routingConfiguration=routes)
        except ClientError as error:
            if code_of(error) == CONFLICT:
                return False
            raise
    return True
