"""The only place that translates errors of AWS Step Functions to ours."""

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

# Quotas that stay exhausted until somebody deletes something. The quotas of requests and of running executions recover
# by themselves, so `aws.errors` treats them as a busy service.
_USED_UP = {"ServiceQuotaExceededException", "StateMachineLimitExceeded"}
_REFUSED = {
    *("InvalidArn", "InvalidDefinition", "InvalidEncryptionConfiguration", "InvalidExecutionInput"),
    *("InvalidLoggingConfiguration", "InvalidName", "InvalidTracingConfiguration", "MissingRequiredParameter"),
    *("StateMachineTypeNotSupported", "TooManyTags", "ValidationException"),
}
# botocore's two ways to name the field that it refuses.
_FIELD = re.compile(r"parameter ([\w.\[\]]+)|in input: \"?(\w+)")
# A proxy may answer with a long page of its own, so messages are cut to this many characters.
_SAID_AT_MOST = 500
_ABOUT_MACHINES = {
    *("CreateStateMachine", "CreateStateMachineAlias", "PublishStateMachineVersion", "TagResource"),
    *("UpdateStateMachine", "UpdateStateMachineAlias", "ValidateStateMachineDefinition"),
}
# These requests have only the machine's ARN. For a wrong one, AWS answers InvalidArn, and some emulators say that the
# machine does not exist.
_OF_ONE_MACHINE = {
    *("DeleteStateMachine", "DescribeStateMachine", "DescribeStateMachineAlias", "ListExecutions"),
    *("ListStateMachineVersions", "StartExecution"),
}


@contextmanager
def translated(arn: str) -> Iterator[None]:
    """Translate an AWS error in the block of code to our error about `arn`."""
    try:
        yield
    except ClientError as error:
        raise _translate(error, arn) from error
    except ParamValidationError as error:
        # botocore's own check failed. Its message may quote the input, so our message does not contain it.
        fields = ", ".join(sorted({first or second for first, second in _FIELD.findall(str(error))}))
        message = f"the request about {arn} is not one that AWS takes{f' ({fields})' if fields else ''}"
        raise InvalidExecutionError(f"{message}: pass text where text is expected", uri=arn) from None
    except BotoCoreError as error:
        ours = client_failure(error, arn, uri=arn, invalid=InvalidPipelineError)
        if ours is None:
            raise
        # `from None`: the original error may contain the output of a credential process, and so a key.
        raise ours from None
    except (ResponseParserError, RecursionError, KeyError) as error:
        # botocore takes a proxy's page for an answer without fields. `from None`: the error quotes the page.
        raise ServiceUnavailableError(
            f"what answers for {arn} is not Step Functions ({type(error).__name__}); check endpoint_url",
            uri=arn,
        ) from None


def _translate(error: ClientError, arn: str) -> ClinopsPrefectError:
    code, problem = code_of(error), problem_of(error)
    if problem is Problem.DENIED:
        # The message names users, roles and log groups, but never data of an execution.
        said = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:_SAID_AT_MOST]
        words = f": {said}" if said else ""
        return AccessDeniedError(f"{error.operation_name} on {arn} was refused ({code}){words}", uri=arn)
    is_invalid = code == "InvalidArn" and error.operation_name in _OF_ONE_MACHINE
    if is_invalid or code in ("ResourceNotFound", "StateMachineDoesNotExist"):
        return StateMachineNotFoundError(f"there is no state machine {arn}: call deploy() first", uri=arn)
    if code == "ExecutionDoesNotExist":
        return ExecutionNotFoundError(f"there is no execution {arn}", uri=arn)
    if code in _REFUSED and (error.operation_name in _ABOUT_MACHINES or code == "InvalidDefinition"):
        # The message may quote the definition, but never data of an execution.
        message = str(error.response.get("Error", {}).get("Message", ""))
        return InvalidPipelineError(f"AWS refuses {arn} ({code}): {message}", problems=[message], uri=arn)
    if code in _REFUSED:
        # AWS's message may quote the input, so our message does not contain it.
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
