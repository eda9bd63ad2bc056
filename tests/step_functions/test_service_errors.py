"""Every error that AWS documents for a call made here, and any other answer, is one of ours."""

from itertools import chain

import botocore.exceptions
import botocore.session
import pytest

from clinops_prefect.errors import (
    AccessDeniedError,
    ClinopsPrefectError,
    InvalidExecutionError,
    InvalidPipelineError,
    OperationNotSupportedError,
    ServiceUnavailableError,
    StateMachineNotFoundError,
)
from clinops_prefect.step_functions.service.errors import translated
from tests.provider_errors import answer_of_aws, refused_certificate

CALLS = (
    *("CreateStateMachine", "DescribeExecution", "DescribeStateMachine", "DescribeStateMachineForExecution"),
    *("DeleteStateMachineVersion", "ListStateMachineVersions", "ListMapRuns"),
    *("GetExecutionHistory", "ListExecutions", "ListTagsForResource", "PublishStateMachineVersion"),
    *("RedriveExecution", "StartExecution", "StopExecution", "TagResource", "UpdateStateMachine"),
    *("CreateStateMachineAlias", "DeleteStateMachine", "DescribeStateMachineAlias", "TestState"),
    *("UpdateStateMachineAlias", "ValidateStateMachineDefinition"),
)
# Quotas that only somebody who makes room gives back; and those that time does.
USED_UP = {"ServiceQuotaExceededException", "StateMachineLimitExceeded"}
PASSES = {"ExecutionLimitExceeded", "KmsThrottlingException"}

model = botocore.session.get_session().get_service_model("stepfunctions")
documented = [
    (call, shape.metadata.get("error", {}).get("code") or shape.name)
    for call in CALLS
    for shape in model.operation_model(call).error_shapes
]


@pytest.mark.parametrize(("call", "code"), documented)
def test_every_documented_error_is_ours(call: str, code: str) -> None:
    error = botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "Jane"}}, call)
    with pytest.raises(ClinopsPrefectError) as caught, translated("arn:x"):
        raise error
    assert isinstance(caught.value, OperationNotSupportedError) == (code in USED_UP)
    assert isinstance(caught.value, ServiceUnavailableError) or code not in PASSES
    assert caught.value.uri == "arn:x"
    assert "arn:x" in str(caught.value)
    assert caught.value.__cause__ is error
    if isinstance(caught.value, InvalidPipelineError):
        assert (str(caught.value), caught.value.problems) == (f"AWS refuses arn:x ({code}): Jane", ["Jane"])


@pytest.mark.parametrize(
    ("code", "status", "ours"),
    [
        ("SomethingNew", 400, ClinopsPrefectError), ("SomethingNew", 403, AccessDeniedError),
        ("RequestTimeTooSkewed", 403, AccessDeniedError), ("InvalidAccessKeyId", 403, AccessDeniedError),
        ("SlowDown", 503, ServiceUnavailableError), ("SomethingNew", 408, ServiceUnavailableError),
        ("InvalidToken", 400, ClinopsPrefectError), ("", 0, ClinopsPrefectError),
    ],
)  # fmt: skip
def test_what_no_call_documents_means_what_it_means_in_s3(
    code: str, status: int, ours: type[ClinopsPrefectError]
) -> None:
    with pytest.raises(ClinopsPrefectError) as caught, translated("arn:x"):
        raise answer_of_aws(code, status, "StartExecution")
    assert type(caught.value) is ours


def test_a_certificate_that_is_not_accepted_is_not_worth_asking_for_again() -> None:
    refused = refused_certificate()
    with pytest.raises(InvalidPipelineError, match="AWS_CA_BUNDLE") as caught, translated("arn:x"):
        raise botocore.exceptions.SSLError(endpoint_url="https://h", error=refused)
    assert caught.value.uri == "arn:x"


def test_every_error_of_the_connection_is_ours() -> None:
    bases = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)
    kinds = list(chain.from_iterable(base.__subclasses__() for base in bases))
    assert len(kinds) > 5
    for kind in kinds:
        error = kind.__new__(kind)
        with pytest.raises(ServiceUnavailableError), translated("arn:x"):
            raise error


def test_an_argument_of_another_type_is_named_without_its_value() -> None:
    client = botocore.session.get_session().create_client("stepfunctions", region_name="us-east-1")
    with pytest.raises(InvalidExecutionError, match=r"arn:x .*\(input\): pass text") as caught, translated("arn:x"):
        client.start_execution(stateMachineArn="arn:x", input={"patient": "Jane"})
    assert (caught.value.uri, "Jane" in str(caught.value)) == ("arn:x", False)


@pytest.mark.parametrize("name", ["NoCredentialsError", "UnauthorizedSSOTokenError", "CredentialRetrievalError"])
def test_missing_credentials_are_a_refusal(name: str) -> None:
    kind = getattr(botocore.exceptions, name)
    with pytest.raises(AccessDeniedError), translated("arn:x"):
        raise kind(provider="x", error_msg="y")


@pytest.mark.parametrize(
    "call", ["DescribeStateMachine", "ListExecutions", "StartExecution", "DescribeStateMachineAlias"]
)
def test_an_arn_that_an_emulator_does_not_know_is_a_machine_that_is_not_there(call: str) -> None:
    error = botocore.exceptions.ClientError({"Error": {"Code": "InvalidArn", "Message": "x"}}, call)
    with pytest.raises(StateMachineNotFoundError, match="arn:x"), translated("arn:x"):
        raise error


@pytest.mark.parametrize(("code", "status"), [("UnknownOperationException", 400), ("InternalFailure", 501)])
def test_an_operation_that_a_service_lacks_is_not_worth_asking_for_again(code: str, status: int) -> None:
    with pytest.raises(OperationNotSupportedError, match="TestState"), translated("arn:x"):
        raise answer_of_aws(code, status, "TestState")
