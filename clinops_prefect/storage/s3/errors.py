"""botocore's errors -> the errors of the tree."""

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from clinops_prefect.aws.errors import CREDENTIAL_ERRORS, client_failure
from clinops_prefect.errors import (
    ArtifactDecodeError,
    ArtifactNotFoundError,
    BucketNotFoundError,
    ClinopsPrefectError,
    InvalidArtifactNameError,
    InvalidMetadataError,
    InvalidStoreError,
    ServiceUnavailableError,
)
from clinops_prefect.network import failures

SERVICE = "S3"
AUTHORITY = (
    "for a private authority set AWS_CA_BUNDLE, or verify_cert_path and verify=True in the credentials block (without "
    "verify=True prefect-aws does not save the path)"
)
# The codes of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, of STS and KMS, which S3 passes on,
# and those that MinIO and Ceph have of their own. A number is the status of an answer without a body, as to HEAD.
_DENIED = {
    "AccessDenied", "AccessDeniedException", "AccountProblem", "AllAccessDisabled", "AuthorizationQueryParametersError",
    "CredentialsNotSupported", "ExpiredToken", "ExpiredTokenException", "Forbidden", "InvalidAccessKeyId",
    "InvalidClientTokenId", "InvalidPayer", "InvalidSecurity", "InvalidSessionException", "InvalidSignature",
    "InvalidToken", "MissingAuthenticationToken", "MissingSecurityElement", "MissingSecurityHeader",
    "NotDeviceOwnerError", "NotSignedUp", "SignatureDoesNotMatch", "TokenCodeInvalidError", "TokenRefreshRequired",
    "UnauthorizedAccess", "UnauthorizedAccessError", "UnexpectedIPError", "UnrecognizedClientException", "401", "403",
    "KMS.AccessDeniedException", "KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException",
}  # fmt: skip
NOT_FOUND = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
NO_BUCKET = {
    "NoSuchBucket", "NoSuchAccessPoint", "NoSuchMultiRegionAccessPoint", "NoSuchOutpost", "InvalidBucketName",
    "PermanentRedirect", "301", "IllegalLocationConstraintException",
}  # fmt: skip
_BUSY = {
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeoutException", "Throttling",
    "ThrottlingException", "ThrottledException", "RequestThrottled", "RequestThrottledException",
    "RequestLimitExceeded", "BandwidthLimitExceeded", "TooManyRequests", "TooManyRequestsException",
    "ConditionalRequestConflict", "OperationAborted", "PriorRequestNotComplete", "BadDigest", "IncompleteBody",
    "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "ConnectionClosedByRequester",
    "ResponseInterrupted", "TemporaryRedirect", "Redirect", "KMS.ThrottlingException", "KMS.KMSInternalException",
    "KMS.DependencyTimeoutException",
}  # fmt: skip
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
_ARCHIVED = {"InvalidObjectState", "ObjectNotInActiveTierError", "RestoreAlreadyInProgress"}
UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "UnsupportedArgument", "UnsupportedOperation", "501", "405"}
_NAMES = {"KeyTooLongError", "InvalidURI", "InvalidObjectName", "XMinioInvalidObjectName", "XMinioParentIsObject"}
_METADATA = {"MetadataTooLarge", "RequestHeaderSectionTooLarge"}
# Code -> the fields to look at.
_SETTINGS = {
    "AuthorizationHeaderMalformed": "region and endpoint_url", "InvalidRegion": "region",
    "IncorrectEndpoint": "region and endpoint_url", "EndpointNotFound": "region and endpoint_url",
    "InvalidHostHeader": "endpoint_url", "InvalidAddressingHeader": "endpoint_url",
    "InvalidAccessPoint": "bucket", "InvalidAccessPointAliasError": "bucket",
    "InvalidEncryptionAlgorithmError": "kms_key_id", "UserKeyMustBeSpecified": "kms_key_id",
}  # fmt: skip
_SETTING_ERRORS = (
    boto.BaseEndpointResolverError,
    boto.ConfigParseError,
    boto.EndpointProviderError,
    boto.InvalidChecksumConfigError,
    boto.InvalidConfigError,
    boto.InvalidDefaultsMode,
    boto.InvalidDNSNameError,
    boto.InvalidEndpointConfigurationError,
    boto.InvalidHostLabelError,
    boto.InvalidIMDSEndpointError,
    boto.InvalidIMDSEndpointModeError,
    boto.InvalidProxiesConfigError,
    boto.InvalidRegionError,
    boto.InvalidRetryConfigurationError,
    boto.InvalidS3AddressingStyleError,
    boto.MissingDependencyException,
    boto.UnknownCredentialError,
    boto.UnknownRegionError,
    boto.UnknownSignatureVersionError,
    boto.UnsupportedOutpostResourceError,
    boto.UnsupportedS3AccesspointConfigurationError,
    boto.UnsupportedS3ArnError,
    boto.UnsupportedS3ConfigurationError,
    boto.UnsupportedSignatureVersionError,
)


def translated(error: Exception, uri: str, bucket: str) -> Exception | None:
    """The error of the tree for one of botocore's; None for what is not botocore's."""
    if isinstance(error, boto.ClientError):
        return _answered(error, uri, bucket)
    if isinstance(error, CREDENTIAL_ERRORS):
        return client_failure(error, uri, uri=uri)
    if isinstance(error, boto.FlexibleChecksumError):
        return ArtifactDecodeError(f"{uri} is damaged: its checksum differs from the one that S3 keeps", uri=uri)
    if isinstance(error, _SETTING_ERRORS):
        # A proxy's URL may have a password in it.
        why = "" if isinstance(error, boto.InvalidProxiesConfigError) else f": {error}"
        return InvalidStoreError(
            f"{uri}: the AWS client cannot work with these settings ({type(error).__name__}{why}); check the fields of "
            "the store and the AWS configuration",
            uri=uri,
        )
    if isinstance(error, boto.HTTPClientError | boto.IncompleteReadError | boto.ConnectionError | ResponseParserError):
        return failures.unreached(uri, SERVICE, error, AUTHORITY)
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


def status_of(error: boto.ClientError) -> int:
    """The HTTP status of the answer; 0 where it is not known."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _answered(error: boto.ClientError, uri: str, bucket: str) -> ClinopsPrefectError:
    code, status, operation = code_of(error), status_of(error), error.operation_name
    if code in NO_BUCKET:
        return no_bucket(bucket)
    if code in NOT_FOUND:
        return ArtifactNotFoundError(f"there is no {uri}", uri=uri)
    if code in _ARCHIVED:
        return failures.archived(uri, code)
    if code in UNSUPPORTED or status in (405, 501):
        return failures.not_supported(uri, SERVICE, operation, code, _unsupported_hint(operation))
    if code == "RequestTimeTooSkewed":
        return failures.denied(uri, code, "set the clock of this machine")
    if code in _BUSY:
        return ServiceUnavailableError(f"{uri}: S3 answered {code} after retries; try again later", uri=uri)
    if code in _FULL or status == 507:
        return ServiceUnavailableError(f"{uri}: the service has no room left ({code}); free some space", uri=uri)
    if fields := _SETTINGS.get(code):
        return InvalidStoreError(f"{uri}: S3 refused {operation} ({code}); check {fields}", uri=uri)
    if code in _NAMES:
        return InvalidArtifactNameError(f"{uri}: the service takes no object of this name ({code})", uri=uri)
    if code in _METADATA:
        return InvalidMetadataError(f"{uri}: the service takes less metadata ({code}); leave some out", uri=uri)
    if code in _DENIED or status in (401, 403):
        return failures.denied(uri, code, "check the credentials and the policy")
    if status >= 500 or status in (408, 429):
        return ServiceUnavailableError(f"{uri}: S3 answered {code} after retries; try again later", uri=uri)
    if code.startswith("KMS."):
        return InvalidStoreError(f"{uri}: the key cannot be used ({code}); check kms_key_id", uri=uri)
    return ClinopsPrefectError(f"{uri}: S3 refused {operation} ({code})", uri=uri)


def _unsupported_hint(operation: str) -> str:
    if operation in ("PutObject", "UploadPart", "CreateMultipartUpload"):
        return "try checksums='when_required', or leave out kms_key_id"
    return "use a service that does"


def _refused(uri: str, error: Exception) -> ClinopsPrefectError:
    return ClinopsPrefectError(f"{uri}: the AWS client refused the request ({type(error).__name__})", uri=uri)
