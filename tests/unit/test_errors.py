"""The error tree, and that every vendor's error has its place in it."""

import builtins
import copy
import inspect
import json
import pickle
import re
from contextlib import suppress

import azure.core.exceptions
import botocore.exceptions
import google.api_core.exceptions
import google.auth.exceptions
import google.cloud.storage.exceptions
import pytest
import requests

from clinops_prefect import AzurePipelineStore, GCSPipelineStore, S3PipelineStore, errors
from clinops_prefect.errors import (
    AccessDeniedError,
    ArtifactArchivedError,
    ArtifactDecodeError,
    ArtifactNotFoundError,
    BucketNotFoundError,
    ClinopsPrefectError,
    ExecutionFailedError,
    InvalidArtifactNameError,
    InvalidMetadataError,
    InvalidPipelineError,
    InvalidStoreError,
    OperationNotSupportedError,
    ServiceUnavailableError,
)

ALL = [getattr(errors, name) for name in errors.__all__]
# As design.md draws them.
BUILTINS = {
    "InvalidStoreError": ValueError, "InvalidArtifactNameError": ValueError, "InvalidMetadataError": ValueError,
    "ArtifactNotFoundError": FileNotFoundError, "BucketNotFoundError": FileNotFoundError,
    "ArtifactExistsError": FileExistsError, "ArtifactArchivedError": OSError,
    "OperationNotSupportedError": NotImplementedError,
    "ArtifactDecodeError": ValueError, "ArtifactColumnError": KeyError,
    "UnsupportedFrameError": ValueError, "UntrustedResultError": PermissionError, "AccessDeniedError": PermissionError,
    "ServiceUnavailableError": ConnectionError, "InvalidPipelineError": ValueError, "InvalidExecutionError": ValueError,
    "StateMachineNotFoundError": (LookupError, RuntimeError), "ExecutionNotFoundError": LookupError,
    "ExecutionFailedError": RuntimeError, "ExecutionTimeoutError": TimeoutError, "ClinopsPrefectError": Exception,
    "UnsupportedResultError": TypeError, "StoredFailureError": RuntimeError,
}  # fmt: skip


def test_the_tree_is_the_one_that_is_drawn() -> None:
    assert {error.__name__ for error in ALL} == set(BUILTINS)
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))
    assert drawn == set(BUILTINS) - {"ClinopsPrefectError"}


@pytest.mark.parametrize("error", ALL)
def test_each_error_is_ours_and_the_builtin_one_would_catch(error: type[ClinopsPrefectError]) -> None:
    wanted = BUILTINS[error.__name__]
    for builtin in wanted if isinstance(wanted, tuple) else (wanted,):
        assert issubclass(error, builtin)
    assert issubclass(error, ClinopsPrefectError)
    assert not hasattr(builtins, error.__name__)
    # Two errors of ours are never caught by one another's name.
    assert [other for other in ALL if issubclass(error, other) and other is not error] in ([ClinopsPrefectError], [])


@pytest.mark.parametrize("error", ALL)
def test_each_error_says_its_message_and_survives_a_process_border(error: type[ClinopsPrefectError]) -> None:
    made = error("no gs://b/x: 'quoted' {braces}")
    made.uri = "gs://b/x"
    for twin in (made, pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert type(twin) is error
        assert str(twin) == "no gs://b/x: 'quoted' {braces}"
        assert twin.uri == "gs://b/x"
        assert twin.args == ("no gs://b/x: 'quoted' {braces}",)


def test_details_survive_a_process_border() -> None:
    failed = ExecutionFailedError("m", status="ABORTED", error="E", cause="C", execution_arn="arn:x", failed_state="S")
    twin = pickle.loads(pickle.dumps(failed))
    assert (twin.status, twin.error, twin.cause, twin.execution_arn, twin.failed_state, twin.uri) == (
        "ABORTED", "E", "C", "arn:x", "S", "arn:x",
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(InvalidPipelineError("m", problems=["a", "b"]))).problems == ["a", "b"]


def _classes(module: object) -> list[type[Exception]]:
    return [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == module.__name__  # type: ignore[attr-defined]
    ]


def _boto(kind: type[Exception]) -> Exception:
    """An instance of any of botocore's classes, whatever its format wants."""
    if issubclass(kind, botocore.exceptions.ClientError):
        return kind({"Error": {"Code": "Whatever"}}, "PutObject")  # type: ignore[call-arg]
    words = re.findall(r"{(\w+)", getattr(kind, "fmt", ""))
    for arguments in (dict.fromkeys(words, "x"), {"name": "x", "reason": "y", "last_response": {}}):
        with suppress(TypeError):
            return kind(**arguments)
    return kind("x")


@pytest.mark.parametrize(
    "kind", [kind for kind in _classes(botocore.exceptions) if not issubclass(kind, Warning)], ids=lambda k: k.__name__
)
def test_every_error_of_botocore_is_translated(kind: type[Exception]) -> None:
    translated = S3PipelineStore("b")._backend()._translate(_boto(kind), "s3://b/x")
    assert isinstance(translated, ClinopsPrefectError)
    assert translated.uri.startswith("s3://b")
    # What the client itself finds damaged is said in our words.
    named = kind.__name__ in str(translated) or "Whatever" in str(translated)
    assert named or isinstance(translated, ArtifactDecodeError)


def _google(kind: type[Exception]) -> Exception:
    for arguments in (("x",), ("x", ValueError("y")), (requests.Response(), "x"), ("x", "y", 0)):
        try:
            return kind(*arguments)
        except (TypeError, AttributeError):
            continue
    raise AssertionError(f"cannot make a {kind}")


_GOOGLE = [
    *_classes(google.api_core.exceptions),
    *_classes(google.auth.exceptions),
    *_classes(google.cloud.storage.exceptions),
    *_classes(requests.exceptions),
]


@pytest.mark.parametrize(
    "kind", [kind for kind in _GOOGLE if not issubclass(kind, Warning)], ids=lambda k: f"{k.__module__}.{k.__name__}"
)
def test_every_error_of_googles_clients_is_translated(kind: type[Exception]) -> None:
    translated = GCSPipelineStore("b")._backend()._translate(_google(kind), "gs://b/x")
    assert isinstance(translated, ClinopsPrefectError)
    assert translated.uri.startswith("gs://b")


@pytest.mark.parametrize(
    ("code", "status", "ours"),
    [
        ("NoSuchBucket", 404, BucketNotFoundError), ("NoSuchKey", 404, ArtifactNotFoundError),
        ("AccessDenied", 403, AccessDeniedError), ("ExpiredToken", 400, AccessDeniedError),
        ("InvalidAccessKeyId", 403, AccessDeniedError), ("SignatureDoesNotMatch", 403, AccessDeniedError),
        ("SomethingNew", 403, AccessDeniedError), ("SomethingNew", 401, AccessDeniedError),
        ("SlowDown", 503, ServiceUnavailableError), ("InternalError", 500, ServiceUnavailableError),
        ("SomethingNew", 502, ServiceUnavailableError), ("SomethingNew", 429, ServiceUnavailableError),
        ("RequestTimeout", 400, ServiceUnavailableError), ("SomethingNew", 400, ClinopsPrefectError),
        ("PermanentRedirect", 301, BucketNotFoundError), ("KMS.DisabledException", 400, AccessDeniedError),
        ("EntityTooLarge", 400, ClinopsPrefectError),
        ("InvalidObjectState", 403, ArtifactArchivedError), ("ObjectNotInActiveTierError", 403, ArtifactArchivedError),
        ("RestoreAlreadyInProgress", 409, ArtifactArchivedError), ("NotImplemented", 501, OperationNotSupportedError),
        ("501", 501, OperationNotSupportedError), ("SomethingNew", 501, OperationNotSupportedError),
        ("MethodNotAllowed", 405, OperationNotSupportedError), ("UnsupportedArgument", 400, OperationNotSupportedError),
        ("NoSuchAccessPoint", 404, BucketNotFoundError), ("NoSuchOutpost", 404, BucketNotFoundError),
        ("AccountProblem", 403, AccessDeniedError), ("NotSignedUp", 403, AccessDeniedError),
        ("InvalidPayer", 403, AccessDeniedError), ("TokenRefreshRequired", 400, AccessDeniedError),
        ("InvalidClientTokenId", 403, AccessDeniedError), ("MissingSecurityHeader", 400, AccessDeniedError),
        ("RequestTimeTooSkewed", 403, AccessDeniedError), ("KMS.KMSInvalidStateException", 400, AccessDeniedError),
        ("KMS.InvalidKeyUsageException", 400, InvalidStoreError),
        ("KMS.ThrottlingException", 400, ServiceUnavailableError),
        ("AuthorizationHeaderMalformed", 400, InvalidStoreError), ("InvalidRegion", 403, InvalidStoreError),
        ("IncorrectEndpoint", 400, InvalidStoreError), ("InvalidAccessPoint", 400, InvalidStoreError),
        ("InvalidEncryptionAlgorithmError", 400, InvalidStoreError), ("KeyTooLongError", 400, InvalidArtifactNameError),
        ("XMinioInvalidObjectName", 400, InvalidArtifactNameError), ("InvalidURI", 400, InvalidArtifactNameError),
        ("MetadataTooLarge", 400, InvalidMetadataError), ("RequestHeaderSectionTooLarge", 400, InvalidMetadataError),
        ("QuotaExceeded", 403, ServiceUnavailableError), ("XMinioStorageFull", 507, ServiceUnavailableError),
        ("BadDigest", 400, ServiceUnavailableError), ("XAmzContentSHA256Mismatch", 400, ServiceUnavailableError),
        ("ConditionalRequestConflict", 409, ServiceUnavailableError),
        ("OperationAborted", 409, ServiceUnavailableError),
        ("TemporaryRedirect", 307, ServiceUnavailableError), ("SomethingNew", 408, ServiceUnavailableError),
        ("TooManyRequests", 429, ServiceUnavailableError), ("ResponseInterrupted", 400, ServiceUnavailableError),
        ("InvalidArgument", 400, ClinopsPrefectError), ("MalformedXML", 400, ClinopsPrefectError),
        ("InvalidPart", 400, ClinopsPrefectError), ("", 0, ClinopsPrefectError),
    ],
)  # fmt: skip
def test_s3s_codes_have_their_places(code: str, status: int, ours: type[ClinopsPrefectError]) -> None:
    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = botocore.exceptions.ClientError(answer, "PutObject")  # type: ignore[arg-type]
    assert type(S3PipelineStore("b")._backend()._translate(error, "s3://b/x")) is ours


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        (400, ClinopsPrefectError), (401, AccessDeniedError), (403, AccessDeniedError), (404, BucketNotFoundError),
        (408, ServiceUnavailableError), (409, ClinopsPrefectError), (429, ServiceUnavailableError),
        (500, ServiceUnavailableError), (502, ServiceUnavailableError), (503, ServiceUnavailableError),
        (504, ServiceUnavailableError), (405, OperationNotSupportedError), (501, OperationNotSupportedError),
        (410, ServiceUnavailableError), (413, ClinopsPrefectError), (507, ServiceUnavailableError),
        (431, InvalidMetadataError),
    ],
)  # fmt: skip
def test_cloud_storages_statuses_have_their_places(status: int, ours: type[ClinopsPrefectError]) -> None:
    backend = GCSPipelineStore("b")._backend()
    response = requests.Response()
    response.status_code = status
    for error in (
        google.api_core.exceptions.from_http_status(status, "m"),  # type: ignore[no-untyped-call]
        google.cloud.storage.exceptions.InvalidResponse(response, "m"),
    ):
        assert type(backend._translate(error, "gs://b/x")) is ours


@pytest.mark.parametrize(
    ("status", "reason", "ours"),
    [
        (403, "rateLimitExceeded", ServiceUnavailableError), (403, "userRateLimitExceeded", ServiceUnavailableError),
        (403, "quotaExceeded", ServiceUnavailableError), (403, "insufficientPermissions", AccessDeniedError),
        (403, "accountDisabled", AccessDeniedError), (403, "objectUnderActiveHold", AccessDeniedError),
        (400, "userProjectMissing", InvalidStoreError), (403, "userProjectAccessDenied", InvalidStoreError),
        (400, "invalid", ClinopsPrefectError), (400, 7, ClinopsPrefectError),
        (403, "with <b>spaces", AccessDeniedError),
    ],
)  # fmt: skip
def test_cloud_storages_reasons_have_their_places(status: int, reason: object, ours: type[ClinopsPrefectError]) -> None:
    backend = GCSPipelineStore("b")._backend()
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps({"error": {"message": "m", "errors": [{"reason": reason}]}}).encode()
    response.request = requests.Request("GET", "https://storage").prepare()
    for error in (
        google.api_core.exceptions.from_http_response(response),  # type: ignore[no-untyped-call]
        google.cloud.storage.exceptions.InvalidResponse(response, "m"),
    ):
        translated = backend._translate(error, "gs://b/x")
        assert type(translated) is ours
        assert "<b>" not in str(translated)


@pytest.mark.parametrize("error", [ValueError("theirs"), KeyError("x"), MemoryError(), AssertionError()])
def test_what_is_no_vendors_error_is_left_alone(error: Exception) -> None:
    assert S3PipelineStore("b")._backend()._translate(error, "s3://b/x") is None
    assert GCSPipelineStore("b")._backend()._translate(error, "gs://b/x") is None


def _azure(code: str, status: int) -> azure.core.exceptions.HttpResponseError:
    response = requests.Response()
    response.status_code = status
    error = azure.core.exceptions.HttpResponseError("m", response=response)  # type: ignore[arg-type]
    error.error_code = code  # type: ignore[attr-defined]
    error.response, error.status_code = response, status  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    ("code", "status", "ours"),
    [
        ("ContainerNotFound", 404, BucketNotFoundError), ("ContainerBeingDeleted", 409, BucketNotFoundError),
        ("BlobNotFound", 404, ArtifactNotFoundError), ("InvalidQueryParameterValue", 400, ArtifactNotFoundError),
        ("BlobArchived", 409, ArtifactArchivedError), ("MetadataTooLarge", 400, InvalidMetadataError),
        ("OutOfRangeInput", 400, InvalidArtifactNameError), ("BlobImmutableDueToPolicy", 409, AccessDeniedError),
        ("EncryptionScopeNotFound", 409, InvalidStoreError), ("AuthenticationFailed", 403, AccessDeniedError),
        ("SomethingNew", 401, AccessDeniedError), ("ServerBusy", 503, ServiceUnavailableError),
        ("SomethingNew", 429, ServiceUnavailableError), ("SomethingNew", 408, ServiceUnavailableError),
        ("SomethingNew", 501, OperationNotSupportedError), ("SomethingNew", 405, OperationNotSupportedError),
        ("<b>", 403, AccessDeniedError), ("SomethingNew", 400, ClinopsPrefectError),
    ],
)  # fmt: skip
def test_azures_codes_have_their_places(code: str, status: int, ours: type[ClinopsPrefectError]) -> None:
    translated = (
        AzurePipelineStore("b-c", account_url="https://a")._backend()._translate(_azure(code, status), "az://b/x")
    )
    assert type(translated) is ours
    assert "<b>" not in str(translated)


@pytest.mark.parametrize(
    # The one that is left out parses a body when it is made, and is an HttpResponseError otherwise.
    "kind",
    [kind for kind in _classes(azure.core.exceptions) if kind.__name__ != "ODataV4Error"],
    ids=lambda kind: kind.__name__,
)
def test_every_error_of_azures_clients_is_translated(kind: type[Exception]) -> None:
    try:
        error = kind("x")
    except (AttributeError, TypeError):
        response = requests.Response()
        response.request = requests.Request("GET", "https://a").prepare()
        error = kind(response)
    translated = AzurePipelineStore("b-c", account_url="https://a")._backend()._translate(error, "az://b-c/x")
    assert isinstance(translated, ClinopsPrefectError)
    assert translated.uri.startswith("az://b-c")
