"""botocore's errors -> the errors of the tree."""

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from clinops_prefect.errors import (
    AccessDeniedError,
    ArtifactDecodeError,
    ArtifactNotFoundError,
    BucketNotFoundError,
    ClinopsPrefectError,
    ServiceUnavailableError,
)

_DENIED = {
    "AccessDenied", "403", "Forbidden", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "UnauthorizedAccess", "AccountProblem",
    "InvalidSecurity", "401",
    "KMS.AccessDeniedException", "KMS.DisabledException", "KMS.NotFoundException", "InvalidObjectState",
}  # fmt: skip
NOT_FOUND = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
NO_BUCKET = {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "301", "IllegalLocationConstraintException"}
_BUSY = {
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException",
    "RequestLimitExceeded", "BandwidthLimitExceeded", "ConditionalRequestConflict", "OperationAborted",
    "RequestTimeTooSkewed", "BadDigest", "IncompleteBody",
}  # fmt: skip
_CREDENTIAL_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.MetadataRetrievalError,
    boto.RefreshWithMFAUnsupportedError,
    boto.UnauthorizedSSOTokenError,
    boto.NoAuthTokenError,
    boto.ConfigNotFound,
)


def translated(error: Exception, uri: str, bucket: str) -> Exception | None:
    """The error of the tree for one of botocore's; None for what is not botocore's."""
    if isinstance(error, boto.ClientError):
        code = code_of(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in NO_BUCKET:
            return no_bucket(bucket)
        if code in NOT_FOUND:
            return ArtifactNotFoundError(f"there is no {uri}", uri=uri)
        if code in _DENIED or status in (401, 403):
            return AccessDeniedError(f"{uri}: access denied ({code}); check the credentials and the policy", uri=uri)
        if code in _BUSY or status >= 500 or status == 429:
            return ServiceUnavailableError(f"{uri}: S3 answered {code} after retries; try again later", uri=uri)
        return ClinopsPrefectError(f"{uri}: S3 refused {error.operation_name} ({code})", uri=uri)
    if isinstance(error, _CREDENTIAL_ERRORS):
        return AccessDeniedError(
            f"{uri}: no usable AWS credentials ({type(error).__name__}); set credentials= or profile=",
            uri=uri,
        )
    if isinstance(error, boto.FlexibleChecksumError):
        return ArtifactDecodeError(f"{uri} is damaged: its checksum differs from the one that S3 keeps", uri=uri)
    if isinstance(error, boto.HTTPClientError | boto.IncompleteReadError | boto.ConnectionError | ResponseParserError):
        return ServiceUnavailableError(
            f"{uri}: cannot reach S3 ({type(error).__name__}); check the network and endpoint_url", uri=uri
        )
    if isinstance(error, boto.ParamValidationError):
        return no_bucket(bucket) if "bucket name" in str(error).lower() else _refused(uri, error)
    # A few of botocore's errors have no base in common.
    return _refused(uri, error) if type(error).__module__.startswith("botocore.") else None


def no_bucket(bucket: str) -> BucketNotFoundError:
    """The error of a bucket that is not there."""
    uri = f"s3://{bucket}"
    return BucketNotFoundError(
        f"there is no bucket {uri}, or it is in another region; check bucket, region and endpoint_url", uri=uri
    )


def code_of(error: boto.ClientError) -> str:
    """What the service calls the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _refused(uri: str, error: Exception) -> ClinopsPrefectError:
    return ClinopsPrefectError(f"{uri}: the AWS client refused the request ({type(error).__name__})", uri=uri)
