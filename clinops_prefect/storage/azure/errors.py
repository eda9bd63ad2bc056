"""Translates errors of Azure's clients into errors of the package."""

from azure.core import exceptions as azure

from clinops_prefect.errors import BucketNotFoundError, ClinopsPrefectError
from clinops_prefect.network import failures
from clinops_prefect.network.failures import Problem

SERVICE = "Blob Storage"
AUTHORITY = "for a private authority set REQUESTS_CA_BUNDLE to its certificate"
ADDRESS = "account_url and endpoint_url"
# The codes of https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
EXISTS = {"BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet", "UnauthorizedBlobOverwrite"}
_NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "AccountIsDisabled"}
# Error code -> its meaning, if the HTTP status does not tell it, and a hint what to do.
_CODES = {
    "MetadataTooLarge": (Problem.METADATA, ""), "InvalidMetadata": (Problem.METADATA, ""),
    "InvalidResourceName": (Problem.NAME, ""), "OutOfRangeInput": (Problem.NAME, ""),
    "BlobArchived": (Problem.ARCHIVED, ""), "BlobBeingRehydrated": (Problem.ARCHIVED, ""),
    "InvalidQueryParameterValue": (Problem.ABSENT, ""),  # a version id that does not exist
    "BlobImmutableDueToPolicy": (Problem.DENIED, "an immutability policy protects the blob"),
    "EncryptionScopeNotFound": (Problem.SETTING, "encryption_scope"),
}  # fmt: skip


def translated(error: Exception, uri: str, container: str) -> Exception | None:
    """The package's error for an error of Azure's clients; None for any other error."""
    if isinstance(error, azure.ClientAuthenticationError) and error.response is None:
        return failures.denied(uri, type(error).__name__, "set credentials, or see what `az login` says")
    if isinstance(error, azure.HttpResponseError) and error.response is not None:
        return _answered(code_of(error), error.status_code or 0, uri, container)
    if isinstance(error, azure.ServiceRequestError | azure.ServiceResponseError | azure.IncompleteReadError):
        return failures.unreached(uri, SERVICE, error, AUTHORITY, ADDRESS)
    # A few of Azure's errors share no base class.
    if type(error).__module__.startswith("azure."):
        return ClinopsPrefectError(f"{uri}: the Azure client refused the request ({type(error).__name__})", uri=uri)
    return None


def code_of(error: Exception) -> str:
    """The service's error code, or else its HTTP status; empty if the error is not from the service."""
    if not isinstance(error, azure.HttpResponseError):
        return ""
    # The code goes into a message, so only a plain word is accepted, even from a server that is not Azure's.
    said = getattr(error, "error_code", "")
    code = str(getattr(said, "value", said) or "")
    return code if code.isalnum() and len(code) < 60 else str(error.status_code)


def _answered(code: str, status: int, uri: str, container: str) -> ClinopsPrefectError:
    if code in _NO_CONTAINER:
        where = f"az://{container}"
        return BucketNotFoundError(f"there is no container {where}; check container and account_url", uri=where)
    problem, hint = _CODES.get(code, (failures.problem_of(status), ""))
    if problem is Problem.DENIED:
        hint = hint or "check the credentials, and the role Storage Blob Data Contributor"
    return failures.answered(problem, uri, SERVICE, code, hint=hint)
