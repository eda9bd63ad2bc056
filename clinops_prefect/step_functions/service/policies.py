"""IAM policies of least privilege, made of grants. No request is sent to AWS."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Place:
    """The partition, region and account of a state machine.

    Attributes:
        machine_arn: The machine's ARN.
    """

    machine_arn: str

    @property
    def partition(self) -> str:
        return self.machine_arn.split(":")[1]

    @property
    def region(self) -> str:
        return self.machine_arn.split(":")[3]

    @property
    def account(self) -> str:
        return self.machine_arn.split(":")[4]

    @property
    def name(self) -> str:
        return self.machine_arn.split(":")[6]

    def arn(self, what: str) -> str:
        """The ARN of something in the machine's region and account, such as `glue:job/nightly`."""
        service, _, rest = what.partition(":")
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{rest}"


@dataclass(frozen=True)
class Grant:
    """A permission for some actions on some resources.

    Attributes:
        sid: The purpose of the actions. Grants with the same purpose become one statement.
        actions: IAM actions.
        resources: ARNs.
        condition: The IAM condition, if any.
    """

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: dict[str, Any] | None = None


def policy(grants: Iterable[Grant]) -> dict[str, Any]:
    """The IAM policy of grants. Grants with the same purpose, actions and condition become one statement."""
    merged: dict[str, list[Grant]] = {}
    for grant in grants:
        merged.setdefault(f"{grant.sid} {grant.actions} {grant.condition}", []).append(grant)
    statements, used = [], set()
    for same in merged.values():
        # IAM demands that each Sid is unique.
        sid = next(name for name in (same[0].sid, *(f"{same[0].sid}{n}" for n in range(2, 100))) if name not in used)
        used.add(sid)
        statement: dict[str, Any] = {
            "Sid": sid,
            "Effect": "Allow",
            "Action": list(same[0].actions),
            "Resource": sorted({resource for grant in same for resource in grant.resources}),
        }
        if statement["Resource"] == ["*"]:
            statement["Resource"] = "*"
        statements.append(statement | ({"Condition": same[0].condition} if same[0].condition else {}))
    return {"Version": "2012-10-17", "Statement": statements}


def key_grant(place: Place, key: str, actions: tuple[str, ...], condition: dict[str, Any]) -> Grant:
    """The grant to use a KMS key, given by its id, its ARN or an alias."""
    if not key.startswith("arn:"):
        key = place.arn(f"kms:{key}" if key.startswith("alias/") else f"kms:key/{key}")
    if ":alias/" not in key:
        return Grant("UseTheKey", actions, (key,), condition)
    # IAM takes no alias's ARN as a key, so the grant is for all keys, with the alias as a condition.
    name = key.split(":", 5)[5]
    aliased = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": name}}
    return Grant("UseTheKey", actions, (":".join([*key.split(":")[:5], "key/*"]),), condition | aliased)


def static(given: Any, field: str) -> str:
    """The constant value of a field in a definition. Empty if a path or an expression computes the value."""
    value = given.get(field, "") if isinstance(given, dict) else ""
    return value if isinstance(value, str) and not value.startswith(("{%", "$", "States.")) else ""
