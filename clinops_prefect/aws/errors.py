"""What AWS's client itself finds wrong, before any service answers: the same for S3 and for Step Functions."""

from botocore import exceptions as boto

from clinops_prefect.errors import AccessDeniedError, ClinopsPrefectError, InvalidStoreError, ServiceUnavailableError

_SIGNED_OUT = (boto.SSOError, boto.TokenRetrievalError, boto.LoginError, boto.NoAuthTokenError)
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
CREDENTIAL_ERRORS = (*_SIGNED_OUT, *_CREDENTIALS)
# An answer of AWS's token service, while credentials are made.
_BUSY_STATUSES = {408, 429}


def client_failure(
    error: Exception, about: str, *, uri: str = "", invalid: type[ClinopsPrefectError] = InvalidStoreError
) -> ClinopsPrefectError | None:
    """Our error for one that the client raises itself, with what to do; None for what is not the client's.

    No message of the client's is passed on: that of a failed credential process may be a key.

    Args:
        error: The error.
        about: What was to be done, such as `S3`.
        uri: The URI or ARN that it was to be done with.
        invalid: The error of a setting that cannot work.
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
            f"{about}: the AWS region is missing or is none ({name}); set region=, AWS_DEFAULT_REGION or the profile's "
            "region, such as us-east-1",
            uri=uri,
        )
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return ServiceUnavailableError(
            f"{about}: AWS cannot be reached ({name}); check the network and endpoint_url", uri=uri
        )
    if isinstance(error, boto.ConfigParseError):
        return invalid(f"{about}: the AWS configuration file {details.get('path')} cannot be read; mend it", uri=uri)
    if type(error).__module__.startswith("botocore."):
        return invalid(
            f"{about}: the AWS client refuses its settings ({name}); check the fields and the AWS configuration",
            uri=uri,
        )
    return None


def setup_failure(error: Exception, about: str, invalid: type[ClinopsPrefectError]) -> ClinopsPrefectError | None:
    """The same for what is raised while a client is made, where the client lets other programs' errors through."""
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
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status >= 500 or status in _BUSY_STATUSES:
        return ServiceUnavailableError(
            f"{about}: AWS answered {code} to {error.operation_name}; try again later", uri=uri
        )
    return AccessDeniedError(
        f"{about}: AWS refused {error.operation_name} ({code}); check the credentials, and who may assume the role",
        uri=uri,
    )
