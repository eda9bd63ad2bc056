"""The error tree, and the translation of every vendor's error into it."""

import builtins
import copy
import pickle
import re
from pathlib import Path

import azure.core.exceptions
import botocore.exceptions
import google.api_core.exceptions
import google.auth.exceptions
import google.cloud.storage.exceptions
import pytest
import requests
from azure.storage.blob import StorageErrorCode

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
from clinops_prefect.storage.azure.errors import code_of
from clinops_prefect.storage.gcs.errors import may_pass
from tests.provider_errors import (
    answer_of_aws,
    answer_of_azure,
    answers_of_google,
    errors_of,
    of_azure,
    of_botocore,
    of_google,
    refused_certificate,
)

ALL = [getattr(errors, name) for name in errors.__all__]
# The documented tree: each class and the builtin class that it also is.
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


def test_the_tree_is_the_documented_one() -> None:
    assert {error.__name__ for error in ALL} == set(BUILTINS)
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))
    assert drawn == set(BUILTINS) - {"ClinopsPrefectError"}


def test_no_other_module_adds_a_type_to_the_tree() -> None:
    """Callers would not know such a type, and a stored result could not be restored to it."""
    found = set()
    for module in Path(errors.__file__).parent.rglob("*.py"):
        for line in re.findall(r"(?m)^class (\w+\(.*)\):", module.read_text(encoding="utf-8")):
            name, _, bases = line.partition("(")
            if set(re.findall(r"\w+", bases)) & set(errors.__all__) and module != Path(errors.__file__):
                found.add(name)
    # A store retries the write, and finally raises a ServiceUnavailableError (tests/contract/test_races.py).
    assert found == {"UploadDroppedError"}


@pytest.mark.parametrize("error", ALL)
def test_each_error_is_ours_and_the_builtin_error_that_users_would_catch(error: type[ClinopsPrefectError]) -> None:
    wanted = BUILTINS[error.__name__]
    for builtin in wanted if isinstance(wanted, tuple) else (wanted,):
        assert issubclass(error, builtin)
    assert issubclass(error, ClinopsPrefectError)
    assert not hasattr(builtins, error.__name__)
    # No error of ours is caught by the name of another one.
    assert [other for other in ALL if issubclass(error, other) and other is not error] in ([ClinopsPrefectError], [])


@pytest.mark.parametrize("error", ALL)
def test_each_error_shows_its_message_and_can_be_sent_to_another_process(error: type[ClinopsPrefectError]) -> None:
    made = error("no gs://b/x: 'quoted' {braces}")
    made.uri = "gs://b/x"
    for twin in (made, pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        assert type(twin) is error
        assert str(twin) == "no gs://b/x: 'quoted' {braces}"
        assert twin.uri == "gs://b/x"
        assert twin.args == ("no gs://b/x: 'quoted' {braces}",)


def test_details_of_an_error_can_be_sent_to_another_process() -> None:
    failed = ExecutionFailedError("m", status="ABORTED", error="E", cause="C", execution_arn="arn:x", failed_state="S")
    twin = pickle.loads(pickle.dumps(failed))
    assert (twin.status, twin.error, twin.cause, twin.execution_arn, twin.failed_state, twin.uri) == (
        "ABORTED", "E", "C", "arn:x", "S", "arn:x",
    )  # fmt: skip
    assert pickle.loads(pickle.dumps(InvalidPipelineError("m", problems=["a", "b"]))).problems == ["a", "b"]


@pytest.mark.parametrize("kind", errors_of(botocore.exceptions), ids=lambda kind: kind.__name__)
def test_every_error_of_botocore_is_translated(kind: type[Exception]) -> None:
    translated = S3PipelineStore("b")._backend()._translate(of_botocore(kind, "PutObject"), "s3://b/x")
    assert isinstance(translated, ClinopsPrefectError)
    assert translated.uri.startswith("s3://b")
    # Damage that the client itself finds is reported in our words.
    named = kind.__name__ in str(translated) or "Whatever" in str(translated)
    assert named or isinstance(translated, ArtifactDecodeError)


_GOOGLE = [
    *errors_of(google.api_core.exceptions),
    *errors_of(google.auth.exceptions),
    *errors_of(google.cloud.storage.exceptions),
    *errors_of(requests.exceptions),
]


@pytest.mark.parametrize("kind", _GOOGLE, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_error_of_googles_clients_is_translated(kind: type[Exception]) -> None:
    translated = GCSPipelineStore("b")._backend()._translate(of_google(kind), "gs://b/x")
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
def test_s3s_codes_become_the_right_errors(code: str, status: int, ours: type[ClinopsPrefectError]) -> None:
    translated = S3PipelineStore("b")._backend()._translate(answer_of_aws(code, status, "PutObject"), "s3://b/x")
    assert type(translated) is ours
    assert translated.uri == ("s3://b" if ours is BucketNotFoundError else "s3://b/x")


@pytest.mark.parametrize(
    ("code", "status", "operation", "said"),
    [
        ("RequestTimeTooSkewed", 403, "PutObject", "denied (RequestTimeTooSkewed); set the clock of this machine"),
        ("AccessDenied", 403, "PutObject", "access denied (AccessDenied); check the credentials and the policy"),
        ("InvalidToken", 400, "GetObject", "access denied (InvalidToken); check the credentials and the policy"),
        *[
            ("NotImplemented", 501, operation, f"{operation} (NotImplemented); try checksums='when_required', or leave")
            for operation in ("PutObject", "UploadPart", "CreateMultipartUpload")
        ],
        ("NotImplemented", 501, "GetObject", "support GetObject (NotImplemented); use a service that does"),
        ("InvalidRegion", 403, "GetObject", "S3 refused GetObject (InvalidRegion); check region"),
        ("IncorrectEndpoint", 400, "GetObject", "(IncorrectEndpoint); check region and endpoint_url"),
        ("InvalidHostHeader", 400, "GetObject", "(InvalidHostHeader); check endpoint_url"),
        ("InvalidAccessPoint", 400, "GetObject", "(InvalidAccessPoint); check bucket"),
        ("UserKeyMustBeSpecified", 400, "PutObject", "(UserKeyMustBeSpecified); check kms_key_id"),
        ("KMS.InvalidKeyUsageException", 400, "PutObject", "(KMS.InvalidKeyUsageException); check kms_key_id"),
        ("SlowDown", 503, "GetObject", "S3 answered SlowDown after retries"),
        ("InvalidArgument", 400, "GetObject", "S3 refused GetObject (InvalidArgument)"),
    ],
)  # fmt: skip
def test_errors_from_s3s_answers_say_what_to_do(code: str, status: int, operation: str, said: str) -> None:
    ours = S3PipelineStore("b")._backend()._translate(answer_of_aws(code, status, operation), "s3://b/x")
    assert said in str(ours)
    assert isinstance(ours, ClinopsPrefectError)
    assert ours.uri == "s3://b/x"
    assert str(ours).startswith("s3://b/x: ")


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
def test_cloud_storages_statuses_become_the_right_errors(status: int, ours: type[ClinopsPrefectError]) -> None:
    backend = GCSPipelineStore("b")._backend()
    response = requests.Response()
    response.status_code = status
    for error in (
        google.api_core.exceptions.from_http_status(status, "m"),  # type: ignore[no-untyped-call]
        google.cloud.storage.exceptions.InvalidResponse(response, "m"),
    ):
        translated = backend._translate(error, "gs://b/x")
        assert type(translated) is ours
        assert translated.uri == ("gs://b" if ours is BucketNotFoundError else "gs://b/x")


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
def test_cloud_storages_reasons_become_the_right_errors(
    status: int, reason: object, ours: type[ClinopsPrefectError]
) -> None:
    backend = GCSPipelineStore("b")._backend()
    for error in answers_of_google(status, reason):
        translated = backend._translate(error, "gs://b/x")
        assert type(translated) is ours
        assert "<b>" not in str(translated)


def _untrusted() -> requests.exceptions.SSLError:
    return requests.exceptions.SSLError(refused_certificate())


# The words of a message about a certificate of a private authority.
_OF_A_CERTIFICATE = "(self-signed certificate); renew it, or for a private authority set REQUESTS_CA_BUNDLE"


@pytest.mark.parametrize(
    ("error", "ours", "said"),
    [
        *[
            (error, ServiceUnavailableError, f"cannot reach Cloud Storage ({type(error).__name__}); check the network")
            for error in (
                google.auth.exceptions.TransportError("x"), requests.exceptions.ConnectTimeout("x"),
                google.cloud.storage.exceptions.DataCorruption(requests.Response(), "x"),
                google.api_core.exceptions.RetryError("x", None),
            )
        ],
        # The error of the last try says more than the number of tries.
        (
            google.api_core.exceptions.RetryError("x", requests.exceptions.ConnectTimeout("y")),
            ServiceUnavailableError, "cannot reach Cloud Storage (ConnectTimeout)",
        ),
        (
            google.api_core.exceptions.RetryError("x", google.api_core.exceptions.Forbidden("y")),
            AccessDeniedError, "gs://b/x: access denied (403)",
        ),
        (
            google.api_core.exceptions.RetryError("x", KeyError("y")),
            ServiceUnavailableError, "what answers is not Cloud Storage, or the answer was damaged",
        ),
        (
            google.api_core.exceptions.RetryError("x", ConnectionResetError("y")),
            ServiceUnavailableError, "cannot reach Cloud Storage (ConnectionResetError)",
        ),
        *[
            (error, InvalidStoreError, _OF_A_CERTIFICATE)
            for error in (_untrusted(), google.auth.exceptions.TransportError(_untrusted()))
        ],
        (
            google.auth.exceptions.DefaultCredentialsError("x"),
            AccessDeniedError, "(DefaultCredentialsError); set credentials=, credentials_path= or",
        ),
        (requests.exceptions.InvalidURL("x"), InvalidStoreError, "(InvalidURL); check endpoint_url"),
        (google.api_core.exceptions.ServiceUnavailable("x"), ServiceUnavailableError, "Cloud Storage answered 503 "),
        (google.api_core.exceptions.NotFound("x"), BucketNotFoundError, "no bucket gs://b; check bucket, project and"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__ if not isinstance(value, str) else "",
)  # fmt: skip
def test_errors_of_googles_clients_become_errors_with_a_remedy(
    error: Exception, ours: type[ClinopsPrefectError], said: str
) -> None:
    translated = GCSPipelineStore("b")._backend()._translate(error, "gs://b/x")
    assert type(translated) is ours
    assert said in str(translated)


@pytest.mark.parametrize(
    ("status", "reason", "said", "again"),
    [
        (403, "retentionPolicyNotMet", "(403 retentionPolicyNotMet); the bucket's retention policy", False),
        (403, "objectUnderActiveHold", "(403 objectUnderActiveHold); release the hold", False),
        (403, "accountDisabled", "(403 accountDisabled); the project's billing is disabled", False),
        (403, "other", "access denied (403 other); check the credentials and what they may do", False),
        (400, "userProjectMissing", "may use (400 userProjectMissing); set user_project", False),
        (403, "rateLimitExceeded", "Cloud Storage answered 403 rateLimitExceeded after retries", True),
        (503, "backendError", "Cloud Storage answered 503 backendError after retries", True),
        # The upload has expired, so no further request of the same upload is accepted.
        (410, "uploadExpired", "Cloud Storage answered 410 uploadExpired after retries", False),
        (400, "n" * 50, "Cloud Storage refused this request (400)", False),
        (400, "n" * 49, f"Cloud Storage refused this request (400 {'n' * 49})", False),
    ],
)  # fmt: skip
def test_errors_from_cloud_storages_reasons_say_what_to_do_and_whether_to_retry(
    status: int, reason: str, said: str, again: bool
) -> None:
    for error in answers_of_google(status, reason):
        assert said in str(GCSPipelineStore("b")._backend()._translate(error, "gs://b/x"))
        assert may_pass(error) is again


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (requests.exceptions.ConnectionError("x"), True), (ConnectionResetError("x"), True), (_untrusted(), False),
        (_untrusted().args[0], False), (ValueError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_permanent_errors_of_cloud_storage_are_not_retried(error: Exception, again: bool) -> None:
    assert may_pass(error) is again


@pytest.mark.parametrize("error", [ValueError("theirs"), KeyError("x"), MemoryError(), AssertionError()])
def test_errors_that_are_no_vendors_are_not_translated(error: Exception) -> None:
    assert S3PipelineStore("b")._backend()._translate(error, "s3://b/x") is None
    assert GCSPipelineStore("b")._backend()._translate(error, "gs://b/x") is None


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
def test_azures_codes_become_the_right_errors(code: str, status: int, ours: type[ClinopsPrefectError]) -> None:
    backend = AzurePipelineStore("b-c", account_url="https://a")._backend()
    translated = backend._translate(answer_of_azure(code, status), "az://b/x")
    assert type(translated) is ours
    assert "<b>" not in str(translated)
    assert translated.uri == ("az://b-c" if ours is BucketNotFoundError else "az://b/x")
    assert translated.uri in str(translated)


def test_a_malformed_connection_string_of_azure_is_an_error_that_does_not_quote_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=c2VjcmV0")
    with pytest.raises(InvalidStoreError, match=r"settings of the Azure client are wrong \(ValueError\)") as caught:
        AzurePipelineStore("b-c")._backend()._client()
    assert "c2VjcmV0" not in str(caught.value)


def test_an_answer_of_azure_without_a_code_is_classified_by_its_status() -> None:
    error = answer_of_azure("", 412)
    del error.error_code  # type: ignore[attr-defined]
    assert code_of(error) == "412"
    # The SDK also uses members of an enumeration.
    assert code_of(answer_of_azure(StorageErrorCode.BLOB_NOT_FOUND, 404)) == "BlobNotFound"
    assert code_of(azure.core.exceptions.ServiceRequestError("x")) == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answer_of_azure("ContainerNotFound", 404), "there is no container az://b-c; check container and account_url"),
        (answer_of_azure("AccountIsDisabled", 403), "there is no container az://b-c"),
        (answer_of_azure("AuthenticationFailed", 403), "the credentials, and the role Storage Blob Data Contributor"),
        (answer_of_azure("BlobImmutableDueToPolicy", 409), "(BlobImmutableDueToPolicy); an immutability policy"),
        (answer_of_azure("EncryptionScopeNotFound", 409), "(EncryptionScopeNotFound); check encryption_scope"),
        (answer_of_azure("ServerBusy", 503), "Blob Storage answered ServerBusy after retries"),
        # A code that is no word, or is too long for a message, is replaced by the status.
        (answer_of_azure("n" * 59, 400), f"Blob Storage refused this request ({'n' * 59})"),
        (answer_of_azure("n" * 60, 400), "Blob Storage refused this request (400)"),
        (answer_of_azure("<b>", 400), "Blob Storage refused this request (400)"),
        (answer_of_azure("", 400), "Blob Storage refused this request (400)"),
        (
            azure.core.exceptions.ClientAuthenticationError("x"),
            "(ClientAuthenticationError); set credentials, or see what `az login` says",
        ),
        *[
            (kind("x"), f"cannot reach Blob Storage ({kind.__name__}); check the network")
            for kind in (azure.core.exceptions.ServiceRequestError, azure.core.exceptions.ServiceResponseError)
        ],
        # The client raises this error without a cause.
        (azure.core.exceptions.ServiceRequestError("x", error=_untrusted()), _OF_A_CERTIFICATE),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_errors_from_azures_answers_say_what_to_do(error: Exception, said: str) -> None:
    translated = AzurePipelineStore("b-c", account_url="https://a")._backend()._translate(error, "az://b-c/x")
    assert said in str(translated)


@pytest.mark.parametrize(
    # The class that is left out parses a body when it is made. Otherwise it behaves as its base HttpResponseError.
    "kind",
    [kind for kind in errors_of(azure.core.exceptions) if kind.__name__ != "ODataV4Error"],
    ids=lambda kind: kind.__name__,
)
def test_every_error_of_azures_clients_is_translated(kind: type[Exception]) -> None:
    translated = AzurePipelineStore("b-c", account_url="https://a")._backend()._translate(of_azure(kind), "az://b-c/x")
    assert isinstance(translated, ClinopsPrefectError)
    assert translated.uri.startswith("az://b-c")
