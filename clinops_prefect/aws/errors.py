"""Translates AWS errors that S3 and Step Functions share: the codes of the services, and the errors of botocore.

`storage.s3` and `step_functions.service` add what the error is about (an object, a state machine) and the remedy.
"""

from botocore import exceptions as boto

from clinops_prefect.errors import AccessDeniedError, ClinopsPrefectError, InvalidStoreError, ServiceUnavailableError
from clinops_prefect.network import failures
from clinops_prefect.network.failures import Problem

AUTHORITY = (
    "for a private authority set AWS_CA_BUNDLE, or verify_cert_path and verify=True in the credentials block (without "
    "verify=True prefect-aws does not save the path)"
)
ADDRESS = "endpoint_url"
# The codes of S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), of Step Functions
# (https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html), of STS and KMS, whose errors both
# pass on, and the own codes of MinIO and Ceph. A number is the HTTP status of an answer without a body, as to HEAD.
_CODES = {
    Problem.ABSENT: ["NoSuchKey", "NoSuchVersion", "404", "NotFound"],
    Problem.ARCHIVED: ["InvalidObjectState", "ObjectNotInActiveTierError", "RestoreAlreadyInProgress"],
    Problem.BUSY: [
        "BadDigest", "BandwidthLimitExceeded", "ConditionalRequestConflict", "ConflictException",
        "ConnectionClosedByRequester", "ExecutionLimitExceeded", "IncompleteBody", "InternalError", "InternalFailure",
        "InternalServerError", "KMS.DependencyTimeoutException", "KMS.KMSInternalException", "KMS.ThrottlingException",
        "KmsThrottlingException", "OperationAborted", "PriorRequestNotComplete", "Redirect", "RequestExpired",
        "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException", "RequestTimeout",
        "RequestTimeoutException", "ResponseInterrupted", "ServiceUnavailable", "ServiceUnavailableException",
        "SlowDown", "StateMachineDeleting", "TemporaryRedirect", "ThrottledException", "Throttling",
        "ThrottlingException", "TooManyRequests", "TooManyRequestsException", "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    ],
    Problem.DENIED: [
        "401", "403", "AccessDenied", "AccessDeniedException", "AccountProblem", "AllAccessDisabled",
        "AuthorizationQueryParametersError", "CredentialsNotSupported", "ExpiredToken", "ExpiredTokenException",
        "Forbidden", "IncompleteSignature", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidPayer",
        "InvalidSecurity", "InvalidSessionException", "InvalidSignature", "InvalidSignatureException",
        "KMS.AccessDeniedException", "KMS.DisabledException", "KMS.KMSInvalidStateException", "KMS.NotFoundException",
        "KmsAccessDeniedException", "KmsInvalidStateException", "MissingAuthenticationToken",
        "MissingAuthenticationTokenException", "MissingSecurityElement", "MissingSecurityHeader", "NotAuthorized",
        "NotDeviceOwnerError", "NotSignedUp", "OptInRequired", "RequestTimeTooSkewed", "SignatureDoesNotMatch",
        "TokenCodeInvalidError", "TokenRefreshRequired", "UnauthorizedAccess", "UnauthorizedAccessError",
        "UnexpectedIPError", "UnrecognizedClientException",
    ],
    Problem.FULL: ["QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"],
    Problem.METADATA: ["MetadataTooLarge", "RequestHeaderSectionTooLarge"],
    Problem.NAME: [
        "InvalidObjectName", "InvalidURI", "KeyTooLongError", "XMinioInvalidObjectName", "XMinioParentIsObject",
    ],
    Problem.UNSUPPORTED: [
        "405", "501", "InvalidAction", "MethodNotAllowed", "NotImplemented", "UnknownOperationException",
        "UnsupportedArgument", "UnsupportedOperation",
    ],
}  # fmt: skip
_PROBLEMS = {code: problem for problem, codes in _CODES.items() for code in codes}

# The oldest botocore that we support does not know `aws login`.
_LOGIN = getattr(boto, "LoginError", boto.SSOError)
_SIGNED_OUT = (boto.SSOError, boto.TokenRetrievalError, _LOGIN, boto.NoAuthTokenError)
_CREDENTIALS = (
    boto.ConfigNotFound,
    boto.CredentialRetrievalError,
    boto.InfiniteLoopConfigError,
    boto.InvalidConfigError,
    boto.MetadataRetrievalError,
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.ProfileNotFound,
    boto.RefreshWithMFAUnsupportedError,
    boto.UnknownCredentialError,
)
# Our message quotes the messages of these errors, which name a setting. Other messages of the client are not quoted:
# the output of a credential process may contain a key, and the URL of a proxy may contain a password.
_SETTINGS = (
    boto.BaseEndpointResolverError,
    boto.EndpointProviderError,
    boto.InvalidChecksumConfigError,
    boto.InvalidDNSNameError,
    boto.InvalidDefaultsMode,
    boto.InvalidEndpointConfigurationError,
    boto.InvalidHostLabelError,
    boto.InvalidIMDSEndpointError,
    boto.InvalidIMDSEndpointModeError,
    boto.InvalidRetryConfigurationError,
    boto.InvalidS3AddressingStyleError,
    boto.MissingDependencyException,
    boto.UnknownSignatureVersionError,
    boto.UnsupportedOutpostResourceError,
    boto.UnsupportedS3AccesspointConfigurationError,
    boto.UnsupportedS3ArnError,
    boto.UnsupportedS3ConfigurationError,
    boto.UnsupportedSignatureVersionError,
)


def code_of(error: boto.ClientError) -> str:
    """The service's error code, such as `ExecutionAlreadyExists`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int:
    """The HTTP status of the answer; 0 if it is unknown."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def problem_of(error: boto.ClientError) -> Problem:
    """The meaning of an error answer, from its code or else from its HTTP status."""
    by_status = failures.problem_of(status_of(error))
    # Some emulators answer "not implemented" with the code of an internal failure, so this status goes first.
    return by_status if by_status is Problem.UNSUPPORTED else _PROBLEMS.get(code_of(error), by_status)


def client_failure(
    error: Exception, about: str, *, uri: str = "", invalid: type[ClinopsPrefectError] = InvalidStoreError
) -> ClinopsPrefectError | None:
    """Return our error for an error of the client itself, with the remedy; None for any other error.

    Args:
        error: The error.
        about: What the message begins with, such as `S3`.
        uri: The URI or ARN of the request.
        invalid: The error class for a setting that cannot work.
    """
    name = type(error).__name__
    details = getattr(error, "kwargs", {})
    if isinstance(error, boto.ClientError):
        return _answered(error, about, uri)
    if isinstance(error, boto.ProfileNotFound):
        return AccessDeniedError(
            f"{about}: there is no AWS profile {details.get('profile')!r} ({name}); set profile= to one of those that "
            "`aws configure list-profiles` shows, or leave it empty for the default credentials",
            uri=uri,
        )
    if isinstance(error, _SIGNED_OUT):
        return AccessDeniedError(f"{about}: the AWS sign-in has expired ({name}); run `aws sso login`", uri=uri)
    if isinstance(error, boto.PartialCredentialsError):
        return AccessDeniedError(
            f"{about}: the AWS credentials are incomplete, without {details.get('cred_var')} ({name}); set all", uri=uri
        )
    if isinstance(error, _CREDENTIALS):
        source = f" from {details['provider']}" if details.get("provider") else ""
        return AccessDeniedError(
            f"{about}: no usable AWS credentials{source} ({name}); set credentials= or profile=, or see what "
            "`aws sts get-caller-identity` says",
            uri=uri,
        )
    if isinstance(error, boto.NoRegionError | boto.InvalidRegionError | boto.UnknownRegionError):
        return invalid(
            f"{about}: the AWS region is missing or unknown ({name}); set region=, AWS_DEFAULT_REGION or the profile's "
            "region, such as us-east-1",
            uri=uri,
        )
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        ours = failures.unreached(about, "AWS", error, AUTHORITY, ADDRESS, invalid)
        ours.uri = uri
        return ours
    if isinstance(error, boto.ConfigParseError):
        return invalid(
            f"{about}: the AWS configuration file {details.get('path')} cannot be read ({name}); correct it", uri=uri
        )
    # A few of botocore's errors share no base class.
    if type(error).__module__.startswith("botocore."):
        why = f": {error}" if isinstance(error, _SETTINGS) else ""
        return invalid(
            f"{about}: the AWS client refuses its settings ({name}{why}); check the fields and the AWS configuration",
            uri=uri,
        )
    return None


def setup_failure(error: Exception, about: str, invalid: type[ClinopsPrefectError]) -> ClinopsPrefectError | None:
    """Like `client_failure`, for errors while a client is made. These include errors of files and other programs."""
    if ours := client_failure(error, about, invalid=invalid):
        return ours
    if isinstance(error, OSError):
        what = f"{error.strerror}: {error.filename}" if error.filename else type(error).__name__
        return invalid(f"{about}: the AWS configuration names a file or a program that cannot be used ({what})")
    if isinstance(error, ValueError | KeyError):
        return invalid(
            f"{about}: a setting of the AWS client is wrong ({type(error).__name__}); check endpoint_url, the AWS_… "
            "variables, and credential_process in the AWS configuration"
        )
    return None


def _answered(error: boto.ClientError, about: str, uri: str) -> ClinopsPrefectError:
    """Our error for an answer of AWS's token service while credentials are made."""
    if problem_of(error) is Problem.BUSY:
        return ServiceUnavailableError(
            f"{about}: AWS answered {code_of(error)} to {error.operation_name}; try again later", uri=uri
        )
    return AccessDeniedError(
        f"{about}: AWS refused {error.operation_name} ({code_of(error)}); check the credentials, and who may assume "
        "the role",
        uri=uri,
    )
