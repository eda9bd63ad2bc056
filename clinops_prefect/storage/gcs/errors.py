"""Translates errors of Google's clients into errors of the package."""

from contextlib import suppress
from typing import Any

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage import exceptions as storage_errors

from clinops_prefect.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ClinopsPrefectError,
    InvalidStoreError,
    ServiceUnavailableError,
)
from clinops_prefect.network import failures
from clinops_prefect.network.failures import Problem

SERVICE = "Cloud Storage"
AUTHORITY = "for a private authority set REQUESTS_CA_BUNDLE to its certificate"
ADDRESS = "endpoint_url"
# Reasons of https://cloud.google.com/storage/docs/json_api/v1/status-codes whose HTTP status alone would mislead.
_BUSY_REASONS = {
    "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded", "backendError",
    "internalError", "concurrentLimitExceeded", "variableTermLimitExceeded", "servingLimitExceeded",
}  # fmt: skip
_PROJECT_REASONS = {
    "userProjectMissing", "userProjectInvalid", "userProjectInconsistent", "userProjectAccessDenied",
    "userProjectAccountProblem",
}  # fmt: skip
_REASON_HINTS = {
    "retentionPolicyNotMet": "the bucket's retention policy still protects the object",
    "objectUnderActiveHold": "release the hold on the object",
    "accountDisabled": "the project's billing is disabled",
}
# The service has dropped the resumable upload, so the whole upload must start again.
_EXPIRED_UPLOAD = 410
_BAD_SETTINGS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
    requests.exceptions.URLRequired,
    requests.exceptions.UnrewindableBodyError,
)


def translated(error: Exception, uri: str, bucket: str) -> Exception | None:
    """The package's error for an error of Google's clients; None for any other error."""
    if isinstance(error, api.RetryError) and isinstance(error.cause, Exception):
        # The error of the last try says more than the error that all tries failed.
        return translated(error.cause, uri, bucket) or failures.unexpected(
            uri, SERVICE, error.cause, AUTHORITY, ADDRESS
        )
    if isinstance(error, storage_errors.InvalidResponse | api.GoogleAPICallError) and (status := _status(error)):
        return _answered(status, _reason(error), uri, bucket)
    if isinstance(error, auth.TransportError):
        return failures.unreached(uri, SERVICE, error, AUTHORITY, ADDRESS)
    if isinstance(error, auth.GoogleAuthError):
        return AccessDeniedError(
            f"{uri}: no usable Google credentials ({type(error).__name__}); set credentials=, credentials_path= or "
            "application default credentials",
            uri=uri,
        )
    if isinstance(error, _BAD_SETTINGS):
        return InvalidStoreError(
            f"{uri}: the endpoint or a setting of the client is not valid ({type(error).__name__}); check endpoint_url",
            uri=uri,
        )
    if isinstance(error, api.RetryError | requests.RequestException | storage_errors.DataCorruption):
        return failures.unreached(uri, SERVICE, error, AUTHORITY, ADDRESS)
    # Some errors of Google's clients share no base class.
    if type(error).__module__.startswith("google."):
        return ClinopsPrefectError(f"{uri}: Cloud Storage refused the request ({type(error).__name__})", uri=uri)
    return None


def code_of(error: Exception) -> str:
    """The HTTP status of the service's answer; empty if the error is not from the service."""
    is_answer = isinstance(error, storage_errors.InvalidResponse | api.GoogleAPICallError)
    return str(_status(error)) if is_answer else ""


def may_pass(error: Exception) -> bool:
    """Whether Google's client should retry the request.

    The client's own predicate does not retry a 403 that means "too fast", and retries a refused certificate for 25
    seconds, in vain.
    """
    ours = translated(error, "", "")
    if ours is None:
        return failures.is_network(error) and not failures.is_settled(error)
    return isinstance(ours, ServiceUnavailableError) and _status(error) != _EXPIRED_UPLOAD


def no_bucket(bucket: str) -> BucketNotFoundError:
    """The error for a missing bucket."""
    uri = f"gs://{bucket}"
    return BucketNotFoundError(f"there is no bucket {uri}; check bucket, project and endpoint_url", uri=uri)


def _answered(status: int, reason: str, uri: str, bucket: str) -> ClinopsPrefectError:
    if status == 404:
        # For a read, `_head` tells a missing object from a missing bucket. For a write or a listing, it is the bucket.
        return no_bucket(bucket)
    code, problem = f"{status} {reason}".strip(), failures.problem_of(status)
    if reason in _BUSY_REASONS or status == _EXPIRED_UPLOAD:
        problem = Problem.BUSY
    if reason in _PROJECT_REASONS:
        return InvalidStoreError(
            f"{uri}: the bucket needs a project to bill that you may use ({code}); set user_project", uri=uri
        )
    return failures.answered(problem, uri, SERVICE, code, hint=_REASON_HINTS.get(reason, ""))


def _status(error: Any) -> int:
    response = getattr(error, "response", None)
    is_raw = isinstance(error, storage_errors.InvalidResponse)
    status = int((getattr(response, "status_code", 0) if is_raw else getattr(error, "code", 0)) or 0)
    # A request with the id of an upload finds the bucket, so 404 means that the service no longer knows the upload.
    is_later = "upload_id=" in str(getattr(getattr(response, "request", None), "url", ""))
    return _EXPIRED_UPLOAD if status == 404 and is_later else status


def _reason(error: Any) -> str:
    """The reason in the service's answer, such as `rateLimitExceeded`; empty if it gives none."""
    # For a download, the client drops the reason from its error, but the response still has it.
    with suppress(AttributeError, LookupError, TypeError, ValueError, RecursionError, requests.RequestException):
        return _known(error.response.json()["error"]["errors"][0]["reason"])
    return ""


def _known(reason: object) -> str:
    # The reason goes into a message, so only a plain word is accepted, even from a server that is not Google's.
    return reason if isinstance(reason, str) and reason.isalnum() and reason.isascii() and len(reason) < 50 else ""
