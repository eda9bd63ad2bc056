"""AWS's own checks of a definition and of a single state, before anything is deployed."""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from clinops_prefect.errors import ArtifactDecodeError, InvalidPipelineError, OperationNotSupportedError
from clinops_prefect.step_functions.language.structure import states_of
from clinops_prefect.step_functions.service.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


@dataclass(frozen=True)
class StepTest:
    """The result of the test of one state. Its repr has no output and no cause, since they may name a patient.

    Attributes:
        status: `SUCCEEDED`, `FAILED`, `RETRIABLE` (it failed and would be tried again) or `CAUGHT_ERROR`.
        output: The state's output.
        error: The error's name, if the state failed.
        cause: The failed task's message.
        next_state: The state that would follow. Empty if none would.
    """

    status: str
    output: Any = field(default=None, repr=False)
    error: str = ""
    cause: str = field(default="", repr=False)
    next_state: str = ""


def validate(client: "SFNClient", arn: str, definition: dict[str, Any], kind: Any) -> list[str]:
    """AWS's warnings about a definition, from ValidateStateMachineDefinition.

    Returns:
        The warnings, each with its place in the definition.

    Raises:
        InvalidPipelineError: AWS would refuse the definition. `problems` has AWS's own words.
    """
    text = json.dumps(definition, ensure_ascii=False)
    with translated(arn):
        answer = client.validate_state_machine_definition(definition=text, type=kind, severity="WARNING")
        said: dict[str, list[str]] = {"ERROR": [], "WARNING": []}
        for diagnostic in answer["diagnostics"]:
            place = f"{diagnostic['location']}: " if diagnostic.get("location") else ""
            said.setdefault(diagnostic["severity"], []).append(f"{place}{diagnostic['message']} ({diagnostic['code']})")
        result = answer["result"]
    if result != "OK":
        problems = said["ERROR"] or ["AWS does not say why"]
        more = ["and more, which AWS left out"] if answer.get("truncated") else []
        raise InvalidPipelineError(
            f"AWS would refuse {arn}:\n- " + "\n- ".join(problems + more), problems=problems, uri=arn
        )
    return said["WARNING"]


def state_of(definition: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The state with this name, also in maps and branches. None if there is none."""
    return next((state for found, state in states_of(definition) if found == name), None)


def test(
    client: "SFNClient", arn: str, state: dict[str, Any], *, role_arn: str, text: str, mocked: str | None
) -> StepTest:
    """The result of AWS's TestState for one state.

    Args:
        client: The client to ask.
        arn: The machine's ARN, for errors.
        state: The state, in the Amazon States Language.
        role_arn: The role with which the state runs.
        text: The state's input, as JSON.
        mocked: The task's result, as JSON, which is used instead of running the task. If None, the task runs.

    Raises:
        OperationNotSupportedError: The endpoint is not AWS.
    """
    # boto3 sends the request to a separate host, `sync-states`, which no emulator has.
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    if not host.endswith(_AWS):
        raise OperationNotSupportedError(f"only AWS itself can test a state, and {host} is not AWS", uri=arn)
    mock: Any = {}
    if mocked is not None:
        context = json.dumps({"Execution": {"Input": json.loads(text)}}, ensure_ascii=False)
        mock = {"mock": {"result": mocked}, "context": context}
    with translated(arn):
        answer = client.test_state(
            definition=json.dumps(state, ensure_ascii=False),
            roleArn=role_arn,
            input=text,
            inspectionLevel="INFO",
            # With True, the answer would contain the authorization of an HTTP task.
            revealSecrets=False,
            **mock,
        )
        status = answer["status"]
    return StepTest(
        status,
        _decoded(answer.get("output"), arn),
        answer.get("error", ""),
        answer.get("cause", ""),
        answer.get("nextState", ""),
    )


def _decoded(text: str | None, arn: str) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        # `from None`: the original error contains the whole text.
        raise ArtifactDecodeError(
            f"the output of a state of {arn} cannot be read as JSON ({type(error).__name__})", uri=arn
        ) from None
