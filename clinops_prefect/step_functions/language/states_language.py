"""Translates steps to the Amazon States Language (https://states-language.net/spec.html)."""

import re
from collections.abc import Sequence
from typing import Any

from clinops_prefect.step_functions.language.map_states import map_state, values_of_run
from clinops_prefect.step_functions.language.merge import (
    EXECUTION_INPUT,
    inert,
    kept_input,
    merged_input,
    merged_output,
    nested_output,
)
from clinops_prefect.step_functions.language.paths import keys_of, paths
from clinops_prefect.step_functions.language.retries import task_retriers
from clinops_prefect.step_functions.language.steps import Handler, MapStep, PipelineStep, Step

# The variable with the error that led to a handler, and the state that ends the execution with this error.
_CAUGHT = "caught"
_FAIL = {
    "Type": "Fail",
    "QueryLanguage": "JSONata",
    "Error": f"{{% ${_CAUGHT}.Error %}}",
    "Cause": f"{{% $exists(${_CAUGHT}.Cause) ? ${_CAUGHT}.Cause : '' %}}",
}

_KINDS = {
    "lambda": re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]*:\d*:function:[\w.-]+(:[\w$-]+)?"),
    "activity": re.compile(r"arn:aws[a-z-]*:states:[a-z0-9-]+:\d+:activity:[^:]+"),
    "integration": re.compile(
        r"arn:aws[a-z-]*:states:::[a-z0-9-]+(:[A-Za-z0-9]+){1,2}(\.(sync(:2)?|waitForTaskToken))?"
    ),
}


def kind_of(resource: str) -> str:
    """The kind of a resource: `lambda`, `activity` or `integration`. Empty if no Task state can run `resource`."""
    return next((kind for kind, arn in _KINDS.items() if arn.fullmatch(resource)), "")


def action_of(resource: str) -> str:
    """The action of a service integration: `ecs:runTask.sync` for `arn:aws:states:::ecs:runTask.sync`."""
    return resource.partition(":states:::")[2]


def states_language(
    steps: Sequence[Step], comment: str, timeout_seconds: int, partition: str, handlers: Sequence[Handler] = ()
) -> dict[str, Any]:
    """The definition of the state machine that runs `steps` one after the other.

    Args:
        steps: At least one step.
        comment: The machine's comment.
        timeout_seconds: The time limit of an execution, in seconds. 0 means no limit.
        partition: The AWS partition of the integrations that a `MapStep` uses, such as `aws` or `aws-cn`.
        handlers: Steps outside the chain, which run when a catcher leads to them.
    """
    limit = {"TimeoutSeconds": timeout_seconds} if timeout_seconds else {}
    failing = frozenset(handler.step.name for handler in handlers if handler.fails)
    chain = _chain(steps, partition, failing=failing)
    for handler in handlers:
        name, (state,) = handler.step.name, _chain([handler.step], partition, failing=failing)["States"].values()
        if handler.fails:
            del state["End"]
            state["Next"] = fail_state_of(handler)
            chain["States"][fail_state_of(handler)] = _FAIL
        chain["States"][name] = state
    return {"Comment": comment, **chain, **limit}


def fail_state_of(handler: Handler) -> str:
    """The name of the Fail state that ends an execution after `handler`."""
    return fail_state_name(handler.step.name)


def fail_state_name(handler: str) -> str:
    """The name of the Fail state that ends an execution after the handler of this name."""
    return f"{handler[:70]}: fails"


def _chain(
    steps: Sequence[Step],
    partition: str,
    *,
    in_map: bool = False,
    given: str = EXECUTION_INPUT,
    failing: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    states = {}
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        state = _task(step, in_map, given, failing) if isinstance(step, PipelineStep) else _map(step, partition)
        if step.comment:
            state["Comment"] = step.comment
        if step.catch:
            evaluated = "QueryLanguage" in state
            state["Catch"] = [_catcher(catcher, evaluated, failing) for catcher in step.catch]
        states[step.name] = state | ({"Next": following.name} if following else {"End": True})
    return {"StartAt": steps[0].name, "States": states}


def _task(step: PipelineStep, in_map: bool, given: str, failing: frozenset[str]) -> dict[str, Any]:
    state: dict[str, Any] = {"Type": "Task", "Resource": step.resource, "TimeoutSeconds": step.timeout_seconds}
    if step.heartbeat_seconds:
        state["HeartbeatSeconds"] = step.heartbeat_seconds
    if step.assume_role_arn:
        state["Credentials"] = {"RoleArn": step.assume_role_arn}
    runs_lambda = kind_of(step.resource) == "lambda" or action_of(step.resource).startswith("lambda:")
    return state | _data(step, given, failing) | {"Retry": task_retriers(step, runs_lambda=runs_lambda, in_map=in_map)}


def _data(step: PipelineStep, given: str, failing: frozenset[str]) -> dict[str, Any]:
    """The fields that decide a state's input and output: JSONata on this state only, or plain `Parameters`."""
    field, envelope = free_form_field(action_of(step.resource)), envelope_of(step)
    keeps = step.output != "replace" or bool(step.result_key)
    evaluates = any("Output" in catcher or catcher.get("Next") in failing for catcher in step.catch)
    if not has_own_paths(step) and (merges(step) or keeps or evaluates):
        if not merges(step):
            given_as = inert(step.parameters) if step.parameters or not step.pass_input else "{% $states.input %}"
            arguments: Any = given_as
        elif not field:
            arguments = merged_input(step.parameters, given)
        else:
            rest = {name: inert(value) for name, value in step.parameters.items()}
            arguments = rest | {field: merged_input(step.parameters.get(field, {}), given)}
        state = {"QueryLanguage": "JSONata", "Arguments": arguments}
        result = f"$states.result.{envelope}" if envelope else "$states.result"
        if step.output == "merge":
            state["Output"] = merged_output(result)
        elif keeps:
            state["Output"] = kept_input(result, step.result_key)
        elif envelope:
            state["Output"] = f"{{% {result} %}}"
        return state
    verbatim: dict[str, Any] = {"Parameters": step.parameters} if step.parameters or not step.pass_input else {}
    if keeps:
        return verbatim | {"ResultPath": f"$.{step.result_key}" if step.result_key else None}
    return verbatim | ({"OutputPath": f"$.{envelope}"} if envelope else {})


def has_own_paths(step: PipelineStep) -> bool:
    """Whether the step's parameters have JSONPath that the user wrote (a key that ends in `.$`)."""
    return any(True for _ in paths(step.parameters))


def merges(step: PipelineStep) -> bool:
    """Whether the state's input and the execution's input are merged with the step's parameters."""
    if not step.pass_input or not step.parameters or has_own_paths(step):
        return False
    if kind_of(step.resource) in ("lambda", "activity"):
        return True
    field = free_form_field(action_of(step.resource))
    return bool(field) and isinstance(step.parameters.get(field, {}), dict)


def declared_keys(step: PipelineStep) -> list[str]:
    """The keys of the execution's input that the step gets: the keys that its parameters declare."""
    if not merges(step):
        return []
    field = free_form_field(action_of(step.resource))
    return list(step.parameters.get(field, {}) if field else step.parameters)


def free_form_field(action: str) -> str:
    """The parameter of an integration that is the callee's input, and so can be merged. Empty if there is none."""
    operation = action.removesuffix(":2").removesuffix(".sync").removesuffix(".waitForTaskToken")
    return {"lambda:invoke": "Payload", "states:startExecution": "Input"}.get(operation, "")


def envelope_of(step: PipelineStep) -> str:
    """The field of the service's answer with the result of the function or nested execution. Empty if there is none.

    A step's output is this result, whether the resource is the function's ARN or an integration.
    """
    action = action_of(step.resource)
    if action == "states:startExecution.sync:2":
        return "Output"
    waits = step.parameters.get("InvocationType", "RequestResponse") == "RequestResponse"
    return "Payload" if action == "lambda:invoke" and waits else ""


def _catcher(catcher: dict[str, Any], evaluated: bool, failing: frozenset[str]) -> dict[str, Any]:
    """The catcher in JSONata if the state is JSONata: it has `Output` where JSONPath has `ResultPath`.

    If the execution fails after the handler, the catcher also stores the error for the Fail state.
    """
    if catcher.get("Next") in failing:
        kept = {_CAUGHT: "{% $states.errorOutput %}"} if evaluated else {f"{_CAUGHT}.$": "$"}
        catcher = catcher | {"Assign": kept}
    if not evaluated:
        return catcher
    path = catcher.get("ResultPath", "$")
    rest = {name: value for name, value in catcher.items() if name != "ResultPath"}
    if "Output" in catcher or path == "$":
        return rest
    if path is None:
        return rest | {"Output": "{% $states.input %}"}
    return rest | {"Output": nested_output(keys_of(path) or [], "$states.errorOutput")}


def values_for_children(step: MapStep) -> list[str]:
    """The keys of the execution's input that a map passes to its children."""
    return list(dict.fromkeys(key for child in step.steps for key in declared_keys(child)))


def _map(step: MapStep, partition: str) -> dict[str, Any]:
    keys = values_for_children(step)
    chain = _chain(step.steps, partition, in_map=True, given=values_of_run(keys))
    return map_state(step, chain, keys, partition)
