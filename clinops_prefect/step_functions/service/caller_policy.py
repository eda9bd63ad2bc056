"""The IAM policy for the user who deploys and runs a state machine. Tests compare it with the calls made."""

from typing import Any

from clinops_prefect.step_functions.service.policies import Grant, Place, key_grant


def caller_grants(
    place: Place,
    *,
    role_arn: str,
    express: bool,
    tags: bool,
    alias: bool,
    removes_versions: bool,
    maps: bool,
    key: str,
    delete: bool,
) -> list[Grant]:
    """The grants needed to deploy, run, follow, stop, redrive, validate and test a state machine.

    Args:
        place: The place of the machine: its ARN, region and account.
        role_arn: The role that the machine assumes.
        express: Whether it is an Express machine, which cannot be followed.
        tags: Whether the pipeline sets tags.
        alias: Whether the pipeline has an alias.
        removes_versions: Whether old versions are deleted.
        maps: Whether the pipeline has a Distributed Map.
        key: The KMS key that encrypts the machine. Empty if there is none.
        delete: Whether the user may also delete the machine.
    """
    machine = (place.machine_arn, f"{place.machine_arn}:*")
    executions = tuple(place.arn(f"states:execution:{place.name}{rest}") for rest in (":*", *(["/*"] if maps else [])))
    deploying = [
        *("CreateStateMachine", "DescribeStateMachine", "UpdateStateMachine", "PublishStateMachineVersion"),
        *(("ListTagsForResource", "TagResource") if tags else ()),
        *(("ListStateMachineVersions", "DeleteStateMachineVersion") if removes_versions else ()),
        *(("DescribeStateMachineAlias", "CreateStateMachineAlias", "UpdateStateMachineAlias") if alias else ()),
    ]
    following = ["DescribeExecution", "DescribeStateMachineForExecution", "GetExecutionHistory"]
    following += ["StopExecution", "RedriveExecution", *(["ListMapRuns"] if maps else [])]
    starting = ["StartExecution"] if express else ["StartExecution", "ListExecutions"]
    grants = [
        Grant("KeepTheMachineUpToDate", _states(deploying), machine),
        Grant("StartItsExecutions", _states(starting), machine),
    ]
    if not express:
        grants.append(Grant("FollowStopAndRedriveThem", _states(following), executions))
    if maps and not express:
        grants.append(
            Grant("FindFailedItems", _states(["ListExecutions"]), (place.arn(f"states:mapRun:{place.name}/*"),))
        )
    # IAM has no narrower resource for these two actions.
    grants.append(Grant("ValidateAndTest", _states(["ValidateStateMachineDefinition", "TestState"]), ("*",)))
    if delete:
        grants.append(Grant("DeleteTheMachine", _states(["DeleteStateMachine"]), (place.machine_arn,)))
    passed: dict[str, Any] = {"StringEquals": {"iam:PassedToService": "states.amazonaws.com"}}
    grants.append(Grant("HandOverTheMachinesRole", ("iam:PassRole",), (role_arn,), passed))
    if key:
        through = {"StringEquals": {"kms:ViaService": f"states.{place.region}.amazonaws.com"}}
        grants.append(key_grant(place, key, ("kms:DescribeKey", "kms:Decrypt", "kms:GenerateDataKey"), through))
    return grants


def _states(actions: list[str]) -> tuple[str, ...]:
    return tuple(f"states:{action}" for action in actions)
