"""The `Retry` fields of states: which errors are retried, how often, and with which pauses.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
"""

from collections.abc import Sequence
from typing import Any

from clinops_prefect.step_functions.language.steps import PipelineStep, Retry

# Lambda's own errors (https://docs.aws.amazon.com/lambda/latest/dg/lambda-invocation.html). AWS recommends to retry the
# first four (https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html). The fifth is throttling.
THROTTLED = "Lambda.TooManyRequestsException"
LAMBDA_ERRORS = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    THROTTLED,
)
ALL = "States.ALL"
# A map can start thousands of functions, and the account may run only some at once. A throttled call has not run, so
# retrying it is safe. With jitter, these attempts last about an hour and a half.
_PATIENT = Retry([THROTTLED], attempts=180, interval=2, max_delay=60)


def task_retriers(step: PipelineStep, *, runs_lambda: bool, in_map: bool) -> list[dict[str, Any]]:
    """The `Retry` field of a task: the step's own retries, then the defaults, then the one for `States.ALL`."""
    usual = list(LAMBDA_ERRORS) if runs_lambda else []
    named = [error for error in step.retry_on if error != ALL] if step.retry_on else ["States.TaskFailed"]
    defaults = [_PATIENT] if runs_lambda and in_map else []
    if runs_lambda and in_map:
        usual.remove(THROTTLED)
    if usual or named:
        defaults.append(Retry([*usual, *named], attempts=step.retry_attempts))
    if ALL in step.retry_on:
        defaults.append(Retry([ALL], attempts=step.retry_attempts))
    return retriers([*step.retry, *defaults])


def retriers(retries: Sequence[Retry]) -> list[dict[str, Any]]:
    """`retries` in the Amazon States Language. The first one for `States.ALL` comes last, further ones are dropped."""
    everything = [retry for retry in retries if ALL in retry.errors][:1]
    return [_retrier(retry) for retry in [*(one for one in retries if ALL not in one.errors), *everything]]


def _retrier(retry: Retry) -> dict[str, Any]:
    retrier: dict[str, Any] = {
        "ErrorEquals": retry.errors,
        "IntervalSeconds": retry.interval,
        "MaxAttempts": retry.attempts,
        "BackoffRate": retry.backoff,
    }
    if retry.max_delay:
        retrier["MaxDelaySeconds"] = retry.max_delay
    if retry.jitter:
        retrier["JitterStrategy"] = "FULL"
    return retrier
