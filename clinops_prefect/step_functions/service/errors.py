"""AWS's errors become ours here, and nowhere else."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from clinops_prefect.aws.errors import client_failure, code_of, problem_of
from clinops_prefect.errors import (
    AccessDeniedError,
    ClinopsPrefectError,
    ExecutionNotFoundError,
    InvalidExecutionError,
    InvalidPipelineError,
    OperationNotSupportedError,
    ServiceUnavailableError,
    StateMachineNotFoundError,
)
from clinops_prefect.network.failures import Problem

# Quotas that stay used up until somebody makes room. Those of requests and of running executions pass by themselves:
# for `aws.errors`, they are a service that is busy.
_USED_UP = {"ServiceQuotaExceededException", "StateMachineLimitExceeded"}
_REFUSED = {
    *("InvalidArn", "InvalidDefinition", "InvalidEncryptionConfiguration", "InvalidExecutionInput"),
    *("InvalidLoggingConfiguration", "InvalidName", "InvalidTracingConfiguration", "MissingRequiredParameter"),
    *("StateMachineTypeNotSupported", "TooManyTags", "ValidationException"),
}
# How botocore names the field that it refuses.
_FIELD = re.compile(r"parameter ([\w.\[\]]+)|in input: \"?(\w+)")
# A proxy may answer with a page of its own.
_SAID_AT_MOST = 500
_ABOUT_MACHINES = {
    *("CreateStateMachine", "CreateStateMachineAlias", "PublishStateMachineVersion", "TagResource"),
    *("UpdateStateMachine", "UpdateStateMachineAlias", "ValidateStateMachineDefinition"),
}
# Their one ARN is the machine's, which AWS finds malformed, and some emulators unknown.
_OF_ONE_MACHINE = {
    *("DeleteStateMachine", "DescribeStateMachine", "DescribeStateMachineAlias", "ListExecutions"),
    *("ListStateMachineVersions", "StartExecution"),
}


@contextmanager
def translated(arn: str) -> Iterator[None]:
    """Raise our error, about `arn`, for one of AWS's."""
    try:
        yield
    except ClientError as error:
        raise _translate(error, arn) from error
    except ParamValidationError as error:
        # botocore's own check; it may quote the input, so its words stay out of ours.
        fields = ", ".join(sorted({first or second for first, second in _FIELD.findall(str(error))}))
        message = f"the request about {arn} is not one that AWS takes{f' ({fields})' if fields else ''}"
        raise InvalidExecutionError(f"{message}: pass text where text is expected", uri=arn) from None
    except BotoCoreError as error:
        ours = client_failure(error, arn, uri=arn, invalid=InvalidPipelineError)
        if ours is None:
            raise
        # `from None`: what a credential process wrote may be a key.
        raise ours from None
    except (ResponseParserError, RecursionError, KeyError) as error:
        # A proxy's page, which botocore takes for an answer without fields. `from None`, because it quotes the page.
        raise ServiceUnavailableError(
            f"what answers for {arn} is not Step Functions ({type(error).__name__}); check endpoint_url",
            uri=arn,
        ) from None


def _translate(error: ClientError, arn: str) -> ClinopsPrefectError:
    code, problem = code_of(error), problem_of(error)
    if problem is Problem.DENIED:
        # It names users, roles and log groups, never what flows through the machine.
        said = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:_SAID_AT_MOST]
        words = f": {said}" if said else ""
        return AccessDeniedError(f"{error.operation_name} on {arn} was refused ({code}){words}", uri=arn)
    is_invalid = code == "InvalidArn" and error.operation_name in _OF_ONE_MACHINE
    if is_invalid or code in ("ResourceNotFound", "StateMachineDoesNotExist"):
        return StateMachineNotFoundError(f"there is no state machine {arn}: call deploy() first", uri=arn)
    if code == "ExecutionDoesNotExist":
        return ExecutionNotFoundError(f"there is no execution {arn}", uri=arn)
    if code in _REFUSED and (error.operation_name in _ABOUT_MACHINES or code == "InvalidDefinition"):
        # It may quote the definition, never what flows through it.
        message = str(error.response.get("Error", {}).get("Message", ""))
        return InvalidPipelineError(f"AWS refuses {arn} ({code}): {message}", problems=[message], uri=arn)
    if code in _REFUSED:
        # Its message may quote the input, so it stays out of ours.
        return InvalidExecutionError(f"{error.operation_name} on {arn} was refused ({code})", uri=arn)
    if code in _USED_UP:
        return OperationNotSupportedError(
            f"{error.operation_name} on {arn}: an AWS quota is used up ({code}). Delete state machines or versions "
            "that nobody needs, or ask AWS for more",
            uri=arn,
        )
    if problem is Problem.UNSUPPORTED:
        return OperationNotSupportedError(
            f"what answers for {arn} has no {error.operation_name} ({code}): use AWS itself, or do without", uri=arn
        )
    if problem in (Problem.BUSY, Problem.FULL):
        return ServiceUnavailableError(f"Step Functions answers {code} to {error.operation_name} on {arn}", uri=arn)
    return ClinopsPrefectError(f"Step Functions refused {error.operation_name} on {arn} ({code})", uri=arn)
