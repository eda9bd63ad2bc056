"""What AWS would refuse in a pipeline, found without asking it.

Limits: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html, rules: https://states-language.net and
the service integrations' table, https://docs.aws.amazon.com/step-functions/latest/dg/integrate-services.html.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from clinops_prefect.step_functions.language.paths import is_reference, paths
from clinops_prefect.step_functions.language.states_language import action_of, free_form_field, kind_of
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep, S3Items, Step

NAME_LENGTH = 80
DATA_BYTES = 262_144
DEFINITION_BYTES = 1_048_576
LONGEST_SECONDS = 99_999_999
LARGEST_INTEGER = 2**53

# Of machines and executions. A state's name is held to its length only: AWS's own samples have "Job Complete?".
_BAD_IN_NAME = re.compile(r"[\s<>{}\[\]?*\"#%\\^|~`$&,;:/\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_PATH = re.compile(r"\$(\.[A-Za-z_]\w*)+")

_STATES_ERRORS = {
    *("States.ALL", "States.BranchFailed", "States.DataLimitExceeded", "States.ExceedToleratedFailureThreshold"),
    *("States.HeartbeatTimeout", "States.Http.Socket", "States.IntrinsicFailure", "States.ItemReaderFailed"),
    *("States.NoChoiceMatched", "States.ParameterPathFailure", "States.Permissions", "States.QueryEvaluationError"),
    *("States.ResultPathMatchFailure", "States.ResultWriterFailed", "States.Runtime", "States.TaskFailed"),
    "States.Timeout",
}

_REQUIRED = {
    "lambda:invoke": ("FunctionName",),
    "states:startExecution": ("StateMachineArn",),
    "ecs:runTask": ("TaskDefinition",),
    "batch:submitJob": ("JobName", "JobQueue", "JobDefinition"),
    "glue:startJobRun": ("JobName",),
}
_NO_SYNC = {"lambda", "sns", "sqs", "dynamodb", "events", "apigateway", "http", "aws-sdk"}
_NO_CALLBACK = {
    *("batch", "dynamodb", "glue", "databrew", "sagemaker", "elasticmapreduce", "emr-containers", "emr-serverless"),
    *("codebuild", "athena", "mediaconvert", "http"),
}


def name_problems(name: str, what: str) -> list[str]:
    """Why AWS would refuse the name of a state machine or an execution."""
    problems = []
    if not 1 <= len(name) <= NAME_LENGTH:
        problems.append(f"{what} {_short(name)} has {len(name)} characters, and may have 1 to {NAME_LENGTH}")
    if bad := sorted(set(_BAD_IN_NAME.findall(name))):
        problems.append(f"{what} {_short(name)} may not hold {' '.join(map(repr, bad))}")
    return problems


def data_problems(value: Any, what: str) -> list[str]:
    """Why `value` could not be the input of an execution or a state; values themselves are never named."""
    problems = list(_json_problems(value, what))
    if not problems and (size := len(_encoded(value))) > DATA_BYTES:
        problems.append(f"{what} has {size:,} bytes as JSON, and may have {DATA_BYTES:,}")
    return problems


def definition_problems(steps: Sequence[Step], *, express: bool, timeout_seconds: int) -> list[str]:
    """Why AWS would refuse the state machine of `steps`; every problem names its step."""
    if not steps:
        return ["the pipeline has no steps: call add_step()"]
    problems = []
    inner = [child for step in steps if isinstance(step, MapStep) for child in step.steps]
    # One name space for the whole machine, the states inside a map included.
    counted = Counter(step.name for step in [*steps, *inner])
    problems += [f"step {_short(name)}: {count} steps have this name" for name, count in counted.items() if count > 1]
    if not 0 <= timeout_seconds <= LONGEST_SECONDS:
        problems.append(f"the pipeline's timeout_seconds is {timeout_seconds}, and may be 0 to {LONGEST_SECONDS:,}")
    for step in steps:
        problems += _named(step, _of_step(step, {other.name for other in steps}, express=express))
    return problems


def _named(step: Step, problems: Iterator[str]) -> list[str]:
    return [f"step {_short(step.name)}: {problem}" for problem in problems]


def _short(text: str) -> str:
    return repr(text if len(text) <= NAME_LENGTH else text[:NAME_LENGTH] + "…")


def _of_step(step: Step, scope: set[str], *, express: bool) -> Iterator[str]:
    if not 1 <= len(step.name) <= NAME_LENGTH:
        yield f"its name has {len(step.name)} characters, and may have 1 to {NAME_LENGTH}"
    if isinstance(step, MapStep):
        yield from _of_map(step, express=express)
        return
    yield from _of_resource(step.resource, express=express)
    if not 1 <= step.timeout_seconds <= LONGEST_SECONDS:
        yield f"timeout_seconds is {step.timeout_seconds}, and may be 1 to {LONGEST_SECONDS:,}"
    if step.heartbeat_seconds and not 1 <= step.heartbeat_seconds < step.timeout_seconds:
        yield f"heartbeat_seconds is {step.heartbeat_seconds}, and must be less than timeout_seconds"
    if not 0 <= step.retry_attempts <= LONGEST_SECONDS:
        yield f"retry_attempts is {step.retry_attempts}, and may be 0 to {LONGEST_SECONDS:,}"
    yield from _of_errors(step.retry_on, "retry_on")
    yield from _of_catch(step.catch, scope)
    yield from data_problems(step.parameters, "parameters")
    if kind_of(step.resource) == "integration":
        yield from _of_request(step)


def _of_resource(resource: str, *, express: bool) -> Iterator[str]:
    kind, action = kind_of(resource), action_of(resource)
    if not kind:
        yield (
            f"resource {_short(resource)} is not the ARN of a Lambda function, an activity or a service integration "
            "(such as arn:aws:states:::ecs:runTask.sync)"
        )
    service = action.partition(":")[0]
    if ".sync" in action and service in _NO_SYNC:
        yield f"{service} does not support .sync"
    if action.endswith(".waitForTaskToken") and service in _NO_CALLBACK:
        yield f"{service} does not support .waitForTaskToken"
    if express and (kind == "activity" or ".sync" in action or action.endswith(".waitForTaskToken")):
        yield "an Express execution can neither run an activity nor wait for a job (.sync) or a callback"


def _of_request(step: PipelineStep) -> Iterator[str]:
    action = action_of(step.resource)
    operation = action.partition(".")[0]
    for name in _REQUIRED.get(operation, ()):
        if not {name, f"{name}.$"} & set(step.parameters):
            yield f"{operation} requires the parameter {name}"
    if action.endswith(".waitForTaskToken") and not any(
        "$$.Task.Token" in str(path) for path in paths(step.parameters)
    ):
        yield (
            "no parameter hands on the task token, so nobody could ever answer: add "
            f"'TaskToken.$': '$$.Task.Token' to its {free_form_field(action) or 'parameters'}"
        )


def _of_errors(names: Any, what: str) -> Iterator[str]:
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        yield f"{what} must be a list of error names"
        return
    yield from (f"{what} names {name!r}, which Step Functions does not know" for name in names if _unknown(name))
    if "States.ALL" in names and len(names) > 1:
        yield f"{what} has States.ALL together with other names, and it must stand alone"


def _unknown(name: str) -> bool:
    return name.startswith("States.") and name not in _STATES_ERRORS


def _of_catch(catchers: list[dict[str, Any]], scope: set[str]) -> Iterator[str]:
    for number, catcher in enumerate(catchers, start=1):
        what = f"catch {number}"
        for name in sorted(map(str, set(catcher) - {"ErrorEquals", "Next", "ResultPath", "Comment"})):
            yield f"{what} has {name!r}, and may have ErrorEquals, Next, ResultPath and Comment"
        errors = catcher.get("ErrorEquals")
        yield from _of_errors(errors, f"{what}'s ErrorEquals")
        if not errors:
            yield f"{what} has no ErrorEquals"
        elif "States.ALL" in errors and number < len(catchers):
            yield f"{what} has States.ALL, and must be the last"
        if catcher.get("Next") not in scope:
            yield f"{what} goes on at {catcher.get('Next')!r}, which is no step beside it"
        path = catcher.get("ResultPath", "$")
        if path not in ("$", None) and not (isinstance(path, str) and re.fullmatch(r"\$\.[A-Za-z_]\w*", path)):
            yield f"{what}'s ResultPath may be '$.<key>', '$' or None"


def _of_map(step: MapStep, *, express: bool) -> Iterator[str]:
    if express:
        yield "an Express execution cannot run a Distributed Map"
    if not step.steps:
        yield "the map has no steps"
    if not (math.isfinite(step.tolerated_failure_percentage) and 0 <= step.tolerated_failure_percentage <= 100):
        yield f"tolerated_failure_percentage is {step.tolerated_failure_percentage}, and may be 0 to 100"
    for name in ("max_concurrency", "batch_size"):
        if getattr(step, name) < 0:
            yield f"{name} is {getattr(step, name)}, and may not be negative"
    if isinstance(step.items, S3Items):
        yield from _of_items(step.items)
    elif not is_reference(step.items):
        yield f"items is {_short(step.items)}, and must be an S3Items or a path such as '$.patients'"
    if step.results and not step.results.bucket:
        yield "results has no bucket"
    scope = {child.name for child in step.steps}
    for child in step.steps:
        yield from _named(child, _of_step(child, scope, express=step.execution_type == "EXPRESS"))


def _of_items(items: S3Items) -> Iterator[str]:
    if not items.bucket:
        yield "items has no bucket"
    if bool(items.key) == bool(items.prefix) and items.key:
        yield "items has both a key and a prefix"
    if items.key and not items.format():
        yield "items has an input_type that its key's extension does not tell: set it"
    if items.max_items < 0:
        yield f"items' max_items is {items.max_items}, and may not be negative"
    for value in (items.bucket, items.key, items.prefix):
        if value.startswith("$.") and not _PATH.fullmatch(value):
            yield f"items has {_short(value)}, which is no path"


def _json_problems(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                yield f"{where} has a key of type {type(key).__name__}, and JSON's keys are text"
            else:
                yield from _text_problems(key, f"{where} has a key that")
                yield from _json_problems(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _json_problems(item, f"{where}[{index}]")
    elif isinstance(value, str):
        yield from _text_problems(value, where)
    elif value is None or isinstance(value, bool):
        return
    elif isinstance(value, int):
        # Doubles in between: JSONata, and most readers of JSON, would round it.
        if abs(value) > LARGEST_INTEGER:
            yield f"{where} is an integer beyond 2^53, which would be rounded: pass it as text"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{where} is NaN or infinite, which JSON does not have"
    else:
        yield f"{where} is a {type(value).__name__}, which JSON does not have"


def _text_problems(text: str, where: str) -> Iterator[str]:
    if any("\ud800" <= character <= "\udfff" for character in text):
        yield f"{where} holds half a surrogate pair, which UTF-8 does not have"


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
