"""Bringing a state machine at AWS to what a pipeline says, and touching nothing when it is that already."""

import json
import logging
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from clinops_prefect.errors import InvalidPipelineError, StateMachineNotFoundError
from clinops_prefect.step_functions.service.errors import code_of, translated

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

logger = logging.getLogger(__name__)

# How often two deploys may cross before one gives up: each round, one of them has won.
_ROUNDS = 5


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
) -> str:
    """Create the state machine, update it, or leave it alone.

    Tags and configurations that are not given are left as they are.

    Returns:
        The machine's ARN; with `publish`, that of the version that is exactly this definition.
    """
    wanted = {"definition": json.dumps(definition, ensure_ascii=False), "roleArn": role_arn, **configurations}
    for _ in range(_ROUNDS):
        found = _describe(client, arn)
        if found is None:
            if version := _create(client, arn, wanted, kind=kind, tags=tags, publish=publish):
                return version
            continue
        if found["type"] != kind:
            raise InvalidPipelineError(
                f"{arn} is {found['type']}, and AWS cannot make it {kind}: delete it, or choose another name",
                problems=["the type of a state machine cannot be changed"],
                uri=arn,
            )
        _tag(client, arn, tags)
        if _equal(found, wanted):
            return _version(client, arn) if publish else arn
        with translated(arn):
            response = client.update_state_machine(stateMachineArn=arn, publish=publish, **wanted)  # type: ignore[arg-type]
        logger.info("updated the state machine %s", arn)
        return response["stateMachineVersionArn"] if publish else arn
    raise StateMachineNotFoundError(f"{arn} is created and deleted over and over by somebody else", uri=arn)


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
    with translated(arn):
        try:
            created = client.create_state_machine(name=name, type=kind, tags=listed, publish=publish, **wanted)
        except ClientError as error:
            # Somebody else created it between the look and the leap; look again.
            if code_of(error) == "StateMachineAlreadyExists":
                return ""
            raise
    logger.info("created the state machine %s", arn)
    return created["stateMachineVersionArn"] if publish else created["stateMachineArn"]


def _equal(found: Any, wanted: dict[str, Any]) -> bool:
    same = json.loads(found["definition"]) == json.loads(wanted["definition"]) and found["roleArn"] == wanted["roleArn"]
    given = {key: value for key, value in wanted.items() if key.endswith("Configuration")}
    return same and all(_covers(found.get(key), value) for key, value in given.items())


def _covers(found: Any, wanted: Any) -> bool:
    """Whether `found` has everything that `wanted` has; AWS adds its defaults to what it was given."""
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


def _version(client: "SFNClient", arn: str) -> str:
    with translated(arn):
        # Idempotent: AWS makes no second version of one revision.
        return client.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
