"""Checks the request of a service integration against botocore's model of the service. No request is sent."""

import gzip
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import create_loader
from botocore.model import ServiceModel

from clinops_prefect.names import nearest_word
from clinops_prefect.step_functions.language.states_language import action_of
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep, Step

# Services with another name in Step Functions than in botocore.
_NAMES = {"states": "stepfunctions", "elasticmapreduce": "emr", "bedrock": "bedrock-runtime"}
# Services with another name in signatures than in IAM.
_IAM = {"monitoring": "cloudwatch", "email": "ses"}
_SERVICE_ID = re.compile(r'"serviceId"\s*:\s*"([^"]+)"')
# The metadata of a service's model is in its first characters.
_HEAD = 4096


def request_problems(steps: Sequence[Step]) -> list[str]:
    """Why AWS would refuse the requests of the service integrations: unknown actions, wrong and missing fields."""
    problems = []
    for step in steps:
        inner = step.steps if isinstance(step, MapStep) else [step]
        problems += [f"step {child.name!r}: {problem}" for child in inner for problem in _of_step(child)]
    return problems


def iam_prefix(service: str) -> str:
    """The prefix of a service's IAM actions: `elasticmapreduce` for `emr`. For an unknown service, its name itself."""
    name = _NAMES.get(service) or _botocore_name(service)
    try:
        signed = str(_model(name).signing_name) if name else service
    except (UnknownServiceError, DataNotFoundError):
        return service
    return _IAM.get(signed, signed)


def _of_step(step: PipelineStep) -> Iterator[str]:
    operation, is_sdk = action_of(step.resource).partition(".")[0], False
    service, _, action = operation.partition(":")
    if service == "aws-sdk":
        is_sdk = True
        service, _, action = action.partition(":")
        name = _botocore_name(service)
        if not name:
            yield f"aws-sdk has no service {service!r}"
            return
    else:
        name = _NAMES.get(service, service)
    try:
        model = _model(name)
    except (UnknownServiceError, DataNotFoundError):
        return  # such as http:invoke, which is not a service of AWS
    wanted = action[:1].upper() + action[1:]
    if wanted not in model.operation_names:
        # Optimized integrations have actions that the service's API does not have, such as eks:runJob.
        if is_sdk:
            near = nearest_word(wanted, model.operation_names)
            hint = f"; did you mean {near[0].lower() + near[1:]!r}?" if near else ""
            yield f"aws-sdk:{service} has no action {action!r}{hint}"
        return
    shape = model.operation_model(wanted).input_shape
    if step.parameters and shape is not None:
        yield from _of_structure(step.parameters, shape, operation, "", exact=not is_sdk)


@lru_cache(maxsize=1)
def _loader() -> Any:
    # A session's loader would read the AWS configuration, and a mistake in the configuration would make the check fail.
    return create_loader()


@lru_cache(maxsize=64)
def _model(name: str) -> Any:
    return ServiceModel(_loader().load_service_model(name, "service-2"), name)


def _of_structure(given: dict[Any, Any], shape: Any, operation: str, where: str, *, exact: bool) -> Iterator[str]:
    # Step Functions capitalizes the names of fields. In SDK integrations it spells them as Java does: SseKmsKeyId.
    known = {name[:1].upper() + name[1:]: member for name, member in shape.members.items()}
    folded = {name.casefold(): name for name in known}
    names = {str(key).removesuffix(".$") for key in given}
    for name in sorted(names):
        if name in known or (not exact and name.casefold() in folded):
            continue
        near = nearest_word(name, known, likeness=0.5)
        hint = f"; did you mean {where + near!r}?" if near else ""
        yield f"{operation} has no parameter {where + name!r}{hint}"
    # The sender adds an idempotency token, so the parameters need not have it.
    needed = [name for name in shape.required_members if not shape.members[name].metadata.get("idempotencyToken")]
    for name in sorted(name[:1].upper() + name[1:] for name in needed):
        if name.casefold() not in {given_name.casefold() for given_name in names}:
            yield f"{operation} requires the parameter {where + name}"
    for key, value in given.items():
        member = known.get(folded.get(str(key).casefold(), ""))
        if member is not None:
            yield from _of_value(value, member, operation, f"{where}{key}", exact=exact)


def _of_value(value: Any, shape: Any, operation: str, where: str, *, exact: bool) -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, dict):
        # A document type of the API takes any JSON. Its shape has no members to check.
        if shape.members:
            yield from _of_structure(value, shape, operation, f"{where}.", exact=exact)
    elif shape.type_name == "list" and isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _of_value(item, shape.member, operation, f"{where}[{number}]", exact=exact)
    elif shape.type_name == "map" and isinstance(value, dict):
        for name, item in value.items():
            yield from _of_value(item, shape.value, operation, f"{where}.{name}", exact=exact)


def _botocore_name(service: str) -> str:
    """botocore's name of a service, given by the id that SDK integrations use: `stepfunctions` for `sfn`."""
    available = _loader().list_available_services("service-2")
    if service in available:
        return service
    joined = {name.replace("-", ""): name for name in available}
    return joined.get(service) or _by_id().get(service, "")


@lru_cache(maxsize=1)
def _by_id() -> dict[str, str]:
    """The names of all services by their ids. Only the start of each model is read: whole models take many seconds."""
    found = {}
    for folder in _loader().search_paths:
        for path in Path(folder).glob("*/*/service-2.json*"):
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                match = _SERVICE_ID.search(file.read(_HEAD).decode(errors="replace"))
            if match:
                found[match[1].replace(" ", "").lower()] = path.parents[1].name
    return found
