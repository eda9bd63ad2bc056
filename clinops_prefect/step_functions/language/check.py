"""What AWS would refuse in a pipeline, found without calling AWS.

The limits are from https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html. The rules are from
https://states-language.net and https://docs.aws.amazon.com/step-functions/latest/dg/integrate-services.html.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from clinops_prefect.step_functions.language.aws_limits import NAME_LENGTH, data_problems, json_problems, short
from clinops_prefect.step_functions.language.integrations import integration_problems
from clinops_prefect.step_functions.language.map_checks import map_problems
from clinops_prefect.step_functions.language.map_states import input_state_of
from clinops_prefect.step_functions.language.paths import keys_of, path_problems, paths
from clinops_prefect.step_functions.language.states_language import (
    action_of,
    envelope_of,
    fail_state_of,
    free_form_field,
    has_own_paths,
    kind_of,
    values_for_children,
)
from clinops_prefect.step_functions.language.steps import Handler, MapStep, PipelineStep, Retry, Step

DEFINITION_BYTES = 1_048_576
LONGEST_SECONDS = 99_999_999
LONGEST_DELAY = 31_622_400

_HTTP_STATUS = re.compile(r"States\.Http\.StatusCode\.\d{3}")
_KEY = re.compile(r"[A-Za-z_]\w*")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d+:role/.+")

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


def definition_problems(
    steps: Sequence[Step], *, express: bool, timeout_seconds: int, handlers: Sequence[Handler] = ()
) -> list[str]:
    """Why AWS would refuse the state machine of `steps`; every problem names its step."""
    if not steps:
        return ["the pipeline has no steps: call add_step()"]
    problems = []
    inner = [child for step in steps if isinstance(step, MapStep) for child in step.steps]
    # State names are unique in the whole machine, including the states inside a map.
    own = [input_state_of(step) for step in steps if isinstance(step, MapStep) and values_for_children(step)]
    own += [fail_state_of(handler) for handler in handlers if handler.fails]
    off = [handler.step for handler in handlers]
    counted = Counter([*(step.name for step in [*steps, *inner, *off]), *own])
    problems += [f"step {short(name)}: {count} steps have this name" for name, count in counted.items() if count > 1]
    if not 0 <= timeout_seconds <= LONGEST_SECONDS:
        problems.append(f"the pipeline's timeout_seconds is {timeout_seconds}, and may be 0 to {LONGEST_SECONDS:,}")
    scope = {step.name for step in [*steps, *off]}
    for step in [*steps, *off]:
        problems += _named(step, _of_step(step, scope, express=express))
    led_to = {str(catcher.get("Next")) for step in [*steps, *off] for catcher in step.catch}
    problems += [f"step {short(step.name)}: no catch leads to this handler" for step in off if step.name not in led_to]
    return problems


def account_problems(role_arn: str, steps: Sequence[Step]) -> list[str]:
    """Which account ids lack the 12 digits of AWS's, as copied examples do. One problem for each account id."""
    wrong: dict[str, list[str]] = {}
    named = [("role_arn", role_arn), *((f"step {short(step.name)}", step.resource) for step in _tasks(steps))]
    named += [(f"step {short(step.name)}", step.assume_role_arn) for step in _tasks(steps)]
    for what, arn in named:
        account = next(iter(arn.split(":")[4:5]), "")
        if account.isdecimal() and len(account) != 12:
            wrong.setdefault(account, []).append(what)
    return [
        f"an AWS account id has 12 digits, and {account} has {len(account)} ({', '.join(where)}): put your own there"
        for account, where in wrong.items()
    ]


def place_problems(partition: str, region: str, steps: Sequence[Step]) -> list[str]:
    """Which steps are in another region or partition than the machine: Step Functions cannot call them."""
    problems = []
    for step in _tasks(steps):
        parts = step.resource.split(":")
        if not kind_of(step.resource):
            continue
        if step.assume_role_arn and step.assume_role_arn.split(":")[1:2] != [partition]:
            problems.append(f"step {short(step.name)}: its assume_role_arn is not in the partition {partition}")
        if parts[1] != partition:
            problems.append(f"step {short(step.name)}: its resource is in {parts[1]}, and the role in {partition}")
        elif parts[3] and region and parts[3] != region:
            problems.append(f"step {short(step.name)}: its resource is in {parts[3]}, and the machine in {region}")
    return problems


def merge_notes(steps: Sequence[Step]) -> list[str]:
    """Which steps get nothing merged into their parameters, because some of these are JSONPath."""
    return [
        f"step {short(step.name)}: because of its keys that end in '.$', neither what flows in nor the execution's "
        "input is merged into its parameters; pass_input=False says that you mean it"
        for step in _tasks(steps)
        if step.pass_input and has_own_paths(step) and _would_merge(step)
    ]


def _would_merge(step: PipelineStep) -> bool:
    """Whether only the step's own paths prevent the merge. A path for the whole input field is intended: False."""
    field = free_form_field(action_of(step.resource))
    return kind_of(step.resource) in ("lambda", "activity") or bool(field and f"{field}.$" not in step.parameters)


def _tasks(steps: Sequence[Step]) -> list[PipelineStep]:
    return [task for step in steps for task in (step.steps if isinstance(step, MapStep) else [step])]


def _named(step: Step, problems: Iterator[str]) -> list[str]:
    return [f"step {short(step.name)}: {problem}" for problem in problems]


def _of_step(step: Step, scope: set[str], *, express: bool) -> Iterator[str]:
    yield from json_problems(step.name, "its name")
    if not 1 <= len(step.name) <= NAME_LENGTH:
        yield f"its name has {len(step.name)} characters, and may have 1 to {NAME_LENGTH}"
    if isinstance(step, MapStep):
        if express:
            yield "an Express execution cannot run a Distributed Map"
        yield from map_problems(step, evaluated=bool(values_for_children(step)))
        children = {child.name for child in step.steps}
        for child in step.steps:
            yield from _named(child, _of_step(child, children, express=step.execution_type == "EXPRESS"))
        yield from _of_retries(step.retry)
        yield from _of_catch(step, scope, evaluated=bool(values_for_children(step)))
        yield from _of_output(step)
        return
    yield from _of_resource(step.resource, express=express)
    if not 1 <= step.timeout_seconds <= LONGEST_SECONDS:
        yield f"timeout_seconds is {step.timeout_seconds}, and may be 1 to {LONGEST_SECONDS:,}"
    if step.heartbeat_seconds and not 1 <= step.heartbeat_seconds < step.timeout_seconds:
        yield f"heartbeat_seconds is {step.heartbeat_seconds}, and must be less than timeout_seconds"
    if step.assume_role_arn and not _ROLE.fullmatch(step.assume_role_arn):
        yield "assume_role_arn is not the ARN of an IAM role, such as arn:aws:iam::123456789012:role/Name"
    if not 0 <= step.retry_attempts <= LONGEST_SECONDS:
        yield f"retry_attempts is {step.retry_attempts}, and may be 0 to {LONGEST_SECONDS:,}"
    yield from _of_errors(step.retry_on, "retry_on")
    yield from _of_retries(step.retry)
    yield from _of_catch(step, scope, evaluated=not has_own_paths(step))
    yield from _of_output(step)
    data = list(data_problems(step.parameters, "parameters"))
    yield from data or path_problems(step.parameters, "parameters")
    if kind_of(step.resource) == "integration":
        yield from _of_request(step)


def _of_resource(resource: str, *, express: bool) -> Iterator[str]:
    kind, action = kind_of(resource), action_of(resource)
    if not kind:
        yield (
            f"resource {short(resource)} is not the ARN of a Lambda function, an activity or a service integration "
            "(such as arn:aws:states:::ecs:runTask.sync)"
        )
    if kind == "integration":
        yield from integration_problems(action)
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
    return name.startswith("States.") and name not in _STATES_ERRORS and not _HTTP_STATUS.fullmatch(name)


def _of_catch(step: Step, scope: set[str], *, evaluated: bool) -> Iterator[str]:
    for number, catcher in enumerate(step.catch, start=1):
        what = f"catch {number}"
        for name in sorted(map(str, set(catcher) - {"ErrorEquals", "Next", "ResultPath", "Output", "Comment"})):
            yield f"{what} has {name!r}, and may have ErrorEquals, Next, ResultPath, Output and Comment"
        errors = catcher.get("ErrorEquals")
        yield from _of_errors(errors, f"{what}'s ErrorEquals")
        if not errors:
            yield f"{what} has no ErrorEquals"
        elif "States.ALL" in errors and number < len(step.catch):
            yield f"{what} has States.ALL, and must be the last"
        following = catcher.get("Next")
        if not isinstance(following, str) or following not in scope:
            yield f"{what} goes on at {following!r}, which is no step beside it"
        path = catcher.get("ResultPath", "$")
        if "Output" in catcher and ("ResultPath" in catcher or not evaluated):
            other = "a ResultPath" if "ResultPath" in catcher else "JSONPath"
            yield f"{what} has an Output, which is JSONata, beside {other}"
        elif path not in ("$", None) and (not isinstance(path, str) or keys_of(path) is None):
            yield f"{what}'s ResultPath may be '$', None, or a path of names such as '$.error' or '$.errors.first'"


def _of_retries(retries: Sequence[Retry]) -> Iterator[str]:
    for number, retry in enumerate(retries, start=1):
        what = f"retry {number}"
        yield from _of_errors(retry.errors, f"{what}'s errors")
        if not retry.errors:
            yield f"{what} has no errors"
        if not 0 <= retry.attempts <= LONGEST_SECONDS:
            yield f"{what}'s attempts is {retry.attempts}, and may be 0 to {LONGEST_SECONDS:,}"
        if not 1 <= retry.interval <= LONGEST_SECONDS:
            yield f"{what}'s interval is {retry.interval}, and may be 1 to {LONGEST_SECONDS:,}"
        if not (math.isfinite(retry.backoff) and retry.backoff >= 1):
            yield f"{what}'s backoff is {retry.backoff}, and must be at least 1"
        if retry.max_delay and not retry.interval < retry.max_delay < LONGEST_DELAY:
            yield f"{what}'s max_delay is {retry.max_delay}, and must be more than its interval, or 0"
    if sum("States.ALL" in retry.errors for retry in retries) > 1:
        yield "two of its retries are for States.ALL"


def _of_output(step: Step) -> Iterator[str]:
    if step.result_key and not _KEY.fullmatch(step.result_key):
        yield f"result_key is {short(step.result_key)}, and may have letters, digits and underscores"
    if step.output == "merge" and step.result_key:
        yield "output='merge' and a result_key exclude each other"
    if isinstance(step, PipelineStep) and has_own_paths(step):
        wrapped = envelope_of(step) and (step.output != "replace" or step.result_key)
        if step.output == "merge" or wrapped:
            yield (
                "its parameters are JSONPath of your own (keys that end in '.$'), beside which AWS cannot keep what "
                "flowed in like this: take the keys without '.$', or the function's ARN as the resource"
            )
