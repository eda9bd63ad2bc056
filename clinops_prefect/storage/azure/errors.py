"""The errors of Azure's clients -> the errors of the tree."""

from azure.core import exceptions as azure

from clinops_prefect.errors import BucketNotFoundError, ClinopsPrefectError
from clinops_prefect.network import failures
from clinops_prefect.network.failures import Problem

SERVICE = "Blob Storage"
AUTHORITY = "for a private authority set REQUESTS_CA_BUNDLE to its certificate"
# The codes of https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
EXISTS = {"BlobAlreadyExists", "ConditionNotMet", "TargetConditionNotMet", "UnauthorizedBlobOverwrite"}
_NO_CONTAINER = {"ContainerNotFound", "ContainerBeingDeleted", "AccountIsDisabled"}
# Code -> what it means where the status does not say it, and what to do.
_CODES = {
    "MetadataTooLarge": (Problem.METADATA, ""), "InvalidMetadata": (Problem.METADATA, ""),
    "InvalidResourceName": (Problem.NAME, ""), "OutOfRangeInput": (Problem.NAME, ""),
    "BlobArchived": (Problem.ARCHIVED, ""), "BlobBeingRehydrated": (Problem.ARCHIVED, ""),
    "InvalidQueryParameterValue": (Problem.ABSENT, ""),  # of a version
    "BlobImmutableDueToPolicy": (Problem.DENIED, "an immutability policy protects the blob"),
    "EncryptionScopeNotFound": (Problem.SETTING, "encryption_scope"),
}  # fmt: skip


def translated(error: Exception, uri: str, container: str) -> Exception | None:
    """The error of the tree for one of Azure's clients; None for what is not theirs."""
    if isinstance(error, azure.ClientAuthenticationError) and error.response is None:
        return failures.denied(uri, type(error).__name__, "set credentials, or see what `az login` says")
    if isinstance(error, azure.HttpResponseError) and error.response is not None:
        return _answered(code_of(error), error.status_code or 0, uri, container)
    if isinstance(error, azure.ServiceRequestError | azure.ServiceResponseError | azure.IncompleteReadError):
        return failures.unreached(uri, SERVICE, error, AUTHORITY)
    # A few of Azure's errors have no base in common.
    if type(error).__module__.startswith("azure."):
        return ClinopsPrefectError(f"{uri}: the Azure client refused the request ({type(error).__name__})", uri=uri)
    return None


def code_of(error: Exception) -> str:
    """What the service calls the error, or else its status; empty for an error that is not the service's."""
    if not isinstance(error, azure.HttpResponseError):
        return ""
    # A word, whatever answered: it goes into a message.
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
