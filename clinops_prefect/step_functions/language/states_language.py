"""Steps -> Amazon States Language (https://states-language.net/spec.html)."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from clinops_prefect.step_functions.language.merge import inert, merged_input
from clinops_prefect.step_functions.language.steps import MapStep, PipelineStep, S3Items, Step

# https://docs.aws.amazon.com/lambda/latest/dg/lambda-invocation.html; AWS recommends retrying the first four
# (https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html), the fifth is throttling.
LAMBDA_ERRORS = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
)

_KINDS = {
    "lambda": re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]*:\d*:function:[\w.-]+(:[\w$-]+)?"),
    "activity": re.compile(r"arn:aws[a-z-]*:states:[a-z0-9-]+:\d+:activity:[^:]+"),
    "integration": re.compile(
        r"arn:aws[a-z-]*:states:::[a-z0-9-]+(:[A-Za-z0-9]+){1,2}(\.(sync(:2)?|waitForTaskToken))?"
    ),
}


def kind_of(resource: str) -> str:
    """`lambda`, `activity` or `integration`; empty when `resource` is nothing that a Task state can run."""
    return next((kind for kind, arn in _KINDS.items() if arn.fullmatch(resource)), "")


def action_of(resource: str) -> str:
    """`ecs:runTask.sync` of `arn:aws:states:::ecs:runTask.sync`."""
    return resource.partition(":states:::")[2]


def states_language(steps: Sequence[Step], comment: str, timeout_seconds: int, partition: str) -> dict[str, Any]:
    """The state machine that runs `steps` one after the other.

    Args:
        steps: At least one step.
        comment: The machine's comment.
        timeout_seconds: The machine's time limit; 0, none.
        partition: The AWS partition of the integrations that a `MapStep` uses, such as `aws` or `aws-cn`.
    """
    limit = {"TimeoutSeconds": timeout_seconds} if timeout_seconds else {}
    return {"Comment": comment, **_chain(steps, partition), **limit}


def _chain(steps: Sequence[Step], partition: str) -> dict[str, Any]:
    states = {}
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        state = _task(step) if isinstance(step, PipelineStep) else _map(step, partition)
        if step.comment:
            state["Comment"] = step.comment
        states[step.name] = state | ({"Next": following.name} if following else {"End": True})
    return {"StartAt": steps[0].name, "States": states}


def _task(step: PipelineStep) -> dict[str, Any]:
    state: dict[str, Any] = {"Type": "Task", "Resource": step.resource, "TimeoutSeconds": step.timeout_seconds}
    if step.heartbeat_seconds:
        state["HeartbeatSeconds"] = step.heartbeat_seconds
    state |= _input(step)
    runs_lambda = kind_of(step.resource) == "lambda" or action_of(step.resource).startswith("lambda:")
    usual = [*LAMBDA_ERRORS, "States.TaskFailed"] if runs_lambda else ["States.TaskFailed"]
    retrier = {
        "ErrorEquals": step.retry_on or usual,
        "IntervalSeconds": 2,
        "MaxAttempts": step.retry_attempts,
        "BackoffRate": 2.0,
        "MaxDelaySeconds": 300,
        # Many executions that fail together would otherwise come back together.
        "JitterStrategy": "FULL",
    }
    state["Retry"] = [retrier]
    if step.catch:
        state["Catch"] = [_catcher(catcher) for catcher in step.catch] if "QueryLanguage" in state else step.catch
    return state


def _input(step: PipelineStep) -> dict[str, Any]:
    """What decides a state's input: nothing, plain `Parameters`, or JSONata on this state alone."""
    verbatim = {"Parameters": step.parameters} if step.parameters or not step.pass_input else {}
    if not step.pass_input or not step.parameters or any(True for _ in paths(step.parameters)):
        return verbatim
    if kind_of(step.resource) in ("lambda", "activity"):
        return {"QueryLanguage": "JSONata", "Arguments": merged_input(step.parameters)}
    action = action_of(step.resource)
    field = free_form_field(action)
    if not field or not isinstance(step.parameters.get(field, {}), dict):
        return verbatim
    rest = {name: inert(value) for name, value in step.parameters.items()}
    state = {"QueryLanguage": "JSONata", "Arguments": rest | {field: merged_input(step.parameters.get(field, {}))}}
    # The service wraps what the function or the nested execution returned; a step's output is what it returned.
    if action == "lambda:invoke" and step.parameters.get("InvocationType", "RequestResponse") == "RequestResponse":
        state["Output"] = "{% $states.result.Payload %}"
    if action == "states:startExecution.sync:2":
        state["Output"] = "{% $states.result.Output %}"
    return state


def free_form_field(action: str) -> str:
    """The one parameter of an integration that is the callee's input, and so can be merged; empty, none."""
    operation = action.removesuffix(":2").removesuffix(".sync").removesuffix(".waitForTaskToken")
    return {"lambda:invoke": "Payload", "states:startExecution": "Input"}.get(operation, "")


def paths(value: Any) -> Iterator[Any]:
    """The JSONPaths in `value`: whatever stands under a key that ends in `.$`, at any depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(key, str) and key.endswith(".$"):
                yield item
            else:
                yield from paths(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from paths(item)


def _catcher(catcher: dict[str, Any]) -> dict[str, Any]:
    """The same catcher for a JSONata state, which has `Output` where JSONPath has `ResultPath`."""
    path = catcher.get("ResultPath", "$")
    rest = {name: value for name, value in catcher.items() if name != "ResultPath"}
    if path == "$":
        return rest
    if path is None:
        return rest | {"Output": "{% $states.input %}"}
    return rest | {"Output": f'{{% $merge([$states.input, {{"{path[2:]}": $states.errorOutput}}]) %}}'}


def _map(step: MapStep, partition: str) -> dict[str, Any]:
    config = {"Mode": "DISTRIBUTED", "ExecutionType": step.execution_type}
    state: dict[str, Any] = {
        "Type": "Map",
        "ItemProcessor": {"ProcessorConfig": config, **_chain(step.steps, partition)},
        "ToleratedFailurePercentage": float(step.tolerated_failure_percentage),
    }
    if step.max_concurrency:
        state["MaxConcurrency"] = step.max_concurrency
    if step.batch_size:
        state["ItemBatcher"] = {"MaxItemsPerBatch": step.batch_size}
    if isinstance(step.items, str):
        state["ItemsPath"] = step.items
    else:
        state["ItemReader"] = _reader(step.items, partition)
    if step.results:
        where = _dynamic({"Bucket": step.results.bucket, "Prefix": step.results.prefix})
        state["ResultWriter"] = {"Resource": f"arn:{partition}:states:::s3:putObject", "Parameters": where}
    return state


def _reader(items: S3Items, partition: str) -> dict[str, Any]:
    config: dict[str, Any] = {"MaxItems": items.max_items} if items.max_items else {}
    if items.key:
        operation, where = "getObject", {"Bucket": items.bucket, "Key": items.key}
        config["InputType"] = items.format()
        if items.format() == "CSV":
            config["CSVHeaderLocation"] = "FIRST_ROW"
    else:
        operation, where = "listObjectsV2", {"Bucket": items.bucket, "Prefix": items.prefix}
    reader = {"Resource": f"arn:{partition}:states:::s3:{operation}", "Parameters": _dynamic(where)}
    return reader | ({"ReaderConfig": config} if config else {})


def _dynamic(parameters: dict[str, str]) -> dict[str, str]:
    """The parameters that are set, with the key's `.$` where the value is a path."""
    return {f"{key}.$" if value.startswith("$.") else key: value for key, value in parameters.items() if value}
