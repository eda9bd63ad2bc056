"""The errors of Google's clients -> the errors of the tree."""

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage import exceptions as storage_errors

from clinops_prefect.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ClinopsPrefectError,
    ServiceUnavailableError,
)


def translated(error: Exception, uri: str, bucket: str) -> Exception | None:
    """The error of the tree for one of Google's clients; None for what is not theirs."""
    if isinstance(error, storage_errors.InvalidResponse):
        status = getattr(error.response, "status_code", 0)
        error = api.from_http_status(status, "") if status else error  # type: ignore[no-untyped-call]
    if isinstance(error, api.NotFound):
        # What was read is told apart in `_head`; a write or a listing misses only the bucket.
        return no_bucket(bucket)
    if isinstance(error, api.Forbidden | api.Unauthorized):
        return AccessDeniedError(f"{uri}: access denied ({error.code}); check the credentials and their roles", uri=uri)
    if isinstance(error, auth.TransportError):
        return _unavailable(uri, error)
    if isinstance(error, auth.GoogleAuthError):
        return AccessDeniedError(
            f"{uri}: no usable Google credentials ({type(error).__name__}); set credentials=, credentials_path= or "
            "application default credentials",
            uri=uri,
        )
    if isinstance(error, api.ServerError | api.TooManyRequests | api.RetryError | requests.RequestException):
        return _unavailable(uri, error)
    if isinstance(error, storage_errors.DataCorruption | ConnectionError | TimeoutError):
        return _unavailable(uri, error)
    # Some errors of Google's clients have no base in common.
    if type(error).__module__.startswith("google."):
        code = getattr(error, "code", "") or type(error).__name__
        if getattr(code, "value", code) in (408, 429):
            return _unavailable(uri, error)
        return ClinopsPrefectError(f"{uri}: Cloud Storage refused the request ({code})", uri=uri)
    return None


def no_bucket(bucket: str) -> BucketNotFoundError:
    """The error of a bucket that is not there."""
    uri = f"gs://{bucket}"
    return BucketNotFoundError(f"there is no bucket {uri}; check bucket, project and endpoint_url", uri=uri)


def _unavailable(uri: str, error: Exception) -> ServiceUnavailableError:
    name = type(error).__name__
    return ServiceUnavailableError(
        f"{uri}: Cloud Storage cannot be reached or is overloaded ({name}); check the network and endpoint_url",
        uri=uri,
    )
