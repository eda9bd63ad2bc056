"""Translates errors of S3 into errors of the package. `aws.errors` holds what all AWS services share."""

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from clinops_prefect.aws.errors import ADDRESS, AUTHORITY, client_failure, code_of, problem_of
from clinops_prefect.errors import ArtifactDecodeError, BucketNotFoundError, ClinopsPrefectError, InvalidStoreError
from clinops_prefect.network.failures import Problem, answered, unreached

SERVICE = "S3"
NO_BUCKET = {
    "NoSuchBucket", "NoSuchAccessPoint", "NoSuchMultiRegionAccessPoint", "NoSuchOutpost", "InvalidBucketName",
    "PermanentRedirect", "301", "IllegalLocationConstraintException",
}  # fmt: skip
# Error code -> the fields to check.
_SETTINGS = {
    "AuthorizationHeaderMalformed": "region and endpoint_url", "InvalidRegion": "region",
    "IncorrectEndpoint": "region and endpoint_url", "EndpointNotFound": "region and endpoint_url",
    "InvalidHostHeader": "endpoint_url", "InvalidAddressingHeader": "endpoint_url",
    "InvalidAccessPoint": "bucket", "InvalidAccessPointAliasError": "bucket",
    "InvalidEncryptionAlgorithmError": "kms_key_id", "UserKeyMustBeSpecified": "kms_key_id",
}  # fmt: skip


def translated(error: Exception, uri: str, bucket: str) -> Exception | None:
    """The package's error for an error of botocore; None for any other error."""
    if isinstance(error, boto.ClientError):
        return _answered(error, uri, bucket)
    if isinstance(error, boto.FlexibleChecksumError):
        return ArtifactDecodeError(f"{uri} is damaged: its checksum differs from the one that S3 keeps", uri=uri)
    if isinstance(error, boto.HTTPClientError | boto.IncompleteReadError | boto.ConnectionError | ResponseParserError):
        return unreached(uri, SERVICE, error, AUTHORITY, ADDRESS)
    if isinstance(error, boto.ParamValidationError) and "bucket name" in str(error).lower():
        return no_bucket(bucket)
    return client_failure(error, uri, uri=uri)


def no_bucket(bucket: str) -> BucketNotFoundError:
    """The error for a missing bucket."""
    uri = f"s3://{bucket}"
    return BucketNotFoundError(
        f"there is no bucket {uri}, or it is in another region; check bucket, region and endpoint_url", uri=uri
    )


def _answered(error: boto.ClientError, uri: str, bucket: str) -> ClinopsPrefectError:
    code, operation = code_of(error), error.operation_name
    # For S3, a token is a credential. For Step Functions, it is a position in a listing.
    problem = Problem.DENIED if code == "InvalidToken" else problem_of(error)
    if code in NO_BUCKET:
        return no_bucket(bucket)
    if code in _SETTINGS:
        return answered(Problem.SETTING, uri, SERVICE, code, operation=operation, hint=_SETTINGS[code])
    if problem is Problem.REFUSED and code.startswith("KMS."):
        return InvalidStoreError(f"{uri}: the key cannot be used ({code}); check kms_key_id", uri=uri)
    return answered(problem, uri, SERVICE, code, operation=operation, hint=_hint(problem, code, operation))


def _hint(problem: Problem, code: str, operation: str) -> str:
    if code == "RequestTimeTooSkewed":
        return "set the clock of this machine"
    if problem is Problem.UNSUPPORTED and operation in ("PutObject", "UploadPart", "CreateMultipartUpload"):
        return "try checksums='when_required', or leave out kms_key_id"
    return "check the credentials and the policy" if problem is Problem.DENIED else ""
