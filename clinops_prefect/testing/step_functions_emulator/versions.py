"""Corrections of moto's state machines and versions, where they differ from AWS.

A name has one definition, and each update gives a new revision id. A version belongs to one revision. A machine has at
most 1,000 versions, which can be listed, and deleted if no alias routes to them. Executions can start through aliases,
and without names.
"""

import threading
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from moto.core.exceptions import AWSError
from moto.core.responses import ActionResult, EmptyResult
from moto.stepfunctions import models
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

VERSIONS_AT_MOST = 1000
# AWS makes one change of a state machine after another. moto's server has a thread for each request, hence the lock.
_changes = threading.RLock()


class StateMachineAlreadyExists(AWSError):
    TYPE = "StateMachineAlreadyExists"
    STATUS = 400


class ConflictException(AWSError):
    TYPE = "ConflictException"
    STATUS = 400


class ServiceQuotaExceededException(AWSError):
    TYPE = "ServiceQuotaExceededException"
    STATUS = 400


class UnknownOperationException(AWSError):
    TYPE = "UnknownOperationException"
    STATUS = 400


def install() -> None:
    """Correct moto in this process."""
    _share_executions_with_versions()
    _refuse_second_definition()
    _start_through_aliases()
    for name in ("validate_state_machine_definition", "test_state"):
        setattr(StepFunctionResponse, name, _refuse_unknown_operation)
    models.StateMachine.publish = _publish
    for name in ("create_state_machine", "update_state_machine"):
        setattr(StepFunctionResponse, name, _with_revision(getattr(StepFunctionResponse, name)))
    StepFunctionResponse.publish_state_machine_version = _one_at_a_time(_publish_version)
    StepFunctionResponse.list_state_machine_versions = _one_at_a_time(_list_versions)
    StepFunctionResponse.delete_state_machine_version = _one_at_a_time(_delete_version)
    StepFunctionResponse._describe_state_machine = _describe_with_revision(StepFunctionResponse._describe_state_machine)


def _one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    def alone(*args: Any, **kwargs: Any) -> Any:
        with _changes:
            return function(*args, **kwargs)

    return alone


def _machine(response: StepFunctionResponse, parameter: str = "stateMachineArn") -> Any:
    return response.stepfunction_backend.describe_state_machine(response._get_param(parameter))


def _revision(machine: Any) -> str:
    return getattr(machine, "revision", "INITIAL")


def _with_revision(change: Callable[..., Any]) -> Callable[..., Any]:
    """`change`, with a new revision id for an update of definition or role, which its answer contains."""

    def changed(response: StepFunctionResponse) -> Any:
        with _changes:
            arn = response._get_param("stateMachineArn")
            machine: Any = _machine(response) if arn else None
            before: Any = (machine.definition, machine.roleArn) if machine else None
            publish = response._get_param("publish")
            if machine:
                definition, role = response._get_param("definition"), response._get_param("roleArn")
                if (definition or before[0], role or before[1]) != before:
                    # Set the revision before moto publishes: the new version must have it.
                    machine.revision = uuid4().hex
            answer = change(response)
            if machine:
                answer._result["revisionId"] = _revision(machine)
            elif publish:
                created: Any = response.stepfunction_backend.describe_state_machine(answer._result["stateMachineArn"])
                answer._result["stateMachineVersionArn"] = created.latest_version.arn
            return answer

    return changed


def _describe_with_revision(describe: Callable[..., Any]) -> Callable[..., Any]:
    def described(response: StepFunctionResponse, arn: str) -> Any:
        with _changes:
            answer = describe(response, arn)
            answer._result["revisionId"] = _revision(response.stepfunction_backend.describe_state_machine(arn))
            return answer

    return described


def _publish(machine: Any, description: str | None) -> None:
    # AWS never makes two versions of one revision.
    if machine.latest_version is not None and _revision(machine.latest_version) == _revision(machine):
        return
    if len(machine.versions) >= VERSIONS_AT_MOST:
        raise ServiceQuotaExceededException(f"State machine version quota of {VERSIONS_AT_MOST} exceeded.")
    number = machine.latest_version_number + 1
    make: Any = models.StateMachineVersion
    version = make(source=machine, version=number, description=description)
    version.revision = _revision(machine)
    machine.versions[number] = machine.latest_version = version
    machine.latest_version_number = number


def _publish_version(response: StepFunctionResponse) -> ActionResult:
    machine = _machine(response)
    wanted = response._get_param("revisionId")
    if wanted and wanted != _revision(machine):
        raise ConflictException(
            f"Failed to publish the State Machine version for revision {wanted}. "
            f"The current State Machine revision is {_revision(machine)}."
        )
    machine.publish(description=None)
    version = machine.latest_version
    return ActionResult({"creationDate": version.creation_date, "stateMachineVersionArn": version.arn})


def _list_versions(response: StepFunctionResponse) -> ActionResult:
    # AWS lists the newest version first.
    versions = sorted(_machine(response).versions.values(), key=lambda version: -version.version)
    start, size = int(response._get_param("nextToken") or 0), int(response._get_param("maxResults") or 100)
    page: dict[str, Any] = {
        "stateMachineVersions": [
            {"stateMachineVersionArn": version.arn, "creationDate": version.creation_date}
            for version in versions[start : start + size]
        ]
    }
    if start + size < len(versions):
        page["nextToken"] = str(start + size)
    return ActionResult(page)


def _delete_version(response: StepFunctionResponse) -> EmptyResult:
    arn = str(response._get_param("stateMachineVersionArn"))
    machine_arn, _, number = arn.rpartition(":")
    machine: Any = response.stepfunction_backend.describe_state_machine(machine_arn)
    for alias in machine.aliases.values():
        if arn in [route["stateMachineVersionArn"] for route in alias.routing_configuration]:
            raise ConflictException(f"Version to be deleted must not be referenced by an alias. Current list: {arn}")
    machine.versions.pop(int(number), None)
    return EmptyResult()


def _share_executions_with_versions() -> None:
    make = models.StateMachineVersion.__init__

    def make_sharing(self: Any, **options: Any) -> None:
        make(self, **options)
        self.executions, self.backend = options["source"].executions, options["source"].backend

    models.StateMachineVersion.__init__ = make_sharing
    models.StateMachineVersion._handle_name_input_idempotency = models.StateMachine._handle_name_input_idempotency


def _refuse_second_definition() -> None:
    create = StepFunctionsParserBackend.create_state_machine

    def create_once(backend: Any, name: str, definition: str, roleArn: str, **options: Any) -> Any:
        for machine in backend.state_machines:
            if machine.name == name and (machine.definition, machine.roleArn) != (definition, roleArn):
                raise StateMachineAlreadyExists(f"State Machine Already Exists: '{machine.arn}'")
        return create(backend, name, definition, roleArn, **options)

    StepFunctionsParserBackend.create_state_machine = create_once


def _start_through_aliases() -> None:
    start = StepFunctionsParserBackend.start_execution

    def start_routed(backend: Any, state_machine_arn: str, name: str | None = None, *args: Any, **options: Any) -> Any:
        qualifier = state_machine_arn.split(":")[7:]
        if qualifier and not qualifier[0].isdecimal():
            alias = backend.describe_state_machine_alias(state_machine_arn)
            state_machine_arn = alias.routing_configuration[0]["stateMachineVersionArn"]
        # As AWS does. moto would take all executions without a name for one.
        return start(backend, state_machine_arn, name or str(uuid4()), *args, **options)

    StepFunctionsParserBackend.start_execution = start_routed


def _refuse_unknown_operation(response: StepFunctionResponse) -> ActionResult:
    raise UnknownOperationException(f"no emulator knows {response._get_action()}")
