"""Artifacts in an S3 bucket: AWS, MinIO, and whatever speaks S3."""

import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from prefect.logging import get_logger
from pydantic import Field

from clinops_prefect.aws import AwsLogin, aws_client
from clinops_prefect.backend import Backend, ObjectChangedError, ObjectExistsError, ObjectInfo
from clinops_prefect.errors import (
    AccessDeniedError,
    ArtifactDecodeError,
    ArtifactNotFoundError,
    BucketNotFoundError,
    ClinopsPrefectError,
    ServiceUnavailableError,
)
from clinops_prefect.metadata import RESERVED
from clinops_prefect.stores.cloud import CloudPipelineStore
from clinops_prefect.transfer import PART_BYTES, each_in_flight, in_parts, together

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# A service that accepts and never answers costs five times twenty seconds; S3 itself keeps a long completion or copy
# alive by sending white space.
_CLIENT = {
    "retries": {"mode": "standard", "total_max_attempts": 5},
    "connect_timeout": 5,
    "read_timeout": 20,
    "max_pool_connections": 64,
}
# Says whose the object is, for a conditional write whose answer was lost and whose retry finds it there.
_WRITE_ID = f"{RESERVED}write-id"
# CopyObject takes no more; a larger object is copied in parts.
_COPY_BYTES = 5 << 30
_COPY_PART_BYTES = 512 << 20
# Reading a body is not covered by the client's own retries.
_BODY_TRIES = 3
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

_DENIED = {
    "AccessDenied", "403", "Forbidden", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "UnauthorizedAccess", "AccountProblem",
    "InvalidSecurity", "401",
    "KMS.AccessDeniedException", "KMS.DisabledException", "KMS.NotFoundException", "InvalidObjectState",
}  # fmt: skip
_NOT_FOUND = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_NO_BUCKET = {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "301", "IllegalLocationConstraintException"}
_BUSY = {
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "ThrottlingException",
    "RequestLimitExceeded", "BandwidthLimitExceeded", "ConditionalRequestConflict", "OperationAborted",
    "RequestTimeTooSkewed", "BadDigest", "IncompleteBody",
}  # fmt: skip


class S3Backend(Backend):
    """Objects of one bucket."""

    def __init__(self, store: "S3PipelineStore") -> None:
        self._store = store
        self._bucket = store.bucket

    @property
    def client(self) -> "S3Client":
        """The process's client for this configuration."""
        store = self._store
        return aws_client(
            "s3",
            region=store.region,
            profile=store.profile,
            credentials=store.credentials,
            endpoint_url=store.endpoint_url,
            allow_http=store.allow_http,
            config=_CLIENT,
        )

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def _write(
        self, key: str, chunks: Iterator[bytes], content_type: str, metadata: dict[str, str], overwrite: bool
    ) -> None:
        write_id = uuid.uuid4().hex
        where: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        what: dict[str, Any] = {
            "ContentType": content_type,
            "Metadata": {**metadata, _WRITE_ID: write_id},
            **self._encryption(),
        }
        condition: dict[str, Any] = {} if overwrite else {"IfNoneMatch": "*"}
        parts = in_parts(chunks)
        # A list, to be emptied: nobody may keep the first part for as long as the upload lasts.
        first = [next(parts, b"")]
        try:
            if len(first[0]) < PART_BYTES:
                self.client.put_object(Body=first.pop(), **where, **what, **condition)
            else:
                self._write_parts(_chained(first, parts), where, what, condition)
        except boto.ClientError as error:
            if (code := _code(error)) not in ("PreconditionFailed", "NoSuchUpload"):
                raise
            # A retry may have found what the first try had written before its answer was lost.
            if not self._is_written(key, write_id):
                if code == "NoSuchUpload":
                    raise
                raise ObjectExistsError from None

    def _is_written(self, key: str, write_id: str) -> bool:
        with suppress(ArtifactNotFoundError):
            return self._head(key, "").metadata.get(_WRITE_ID) == write_id
        return False

    def _write_parts(
        self, parts: Iterator[bytes], where: dict[str, Any], what: dict[str, Any], condition: dict[str, Any]
    ) -> None:
        client = self.client
        upload = {**where, "UploadId": client.create_multipart_upload(**where, **what)["UploadId"]}

        def put(number: int, part: bytes) -> dict[str, Any]:
            return {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}

        try:
            done = {"Parts": each_in_flight(put, parts)}
            client.complete_multipart_upload(**upload, MultipartUpload=done, **condition)  # type: ignore[arg-type]
        except BaseException:
            self._abort(upload)
            raise

    def _open(self, key: str, start: int, end: int | None, version: str) -> tuple[bytes, ObjectInfo]:
        span = f"bytes={start}-{'' if end is None else end - 1}" if start >= 0 else f"bytes={start}"
        try:
            return self._get(key, span, _version(version))
        except boto.ClientError as error:
            if _code(error) != "InvalidRange":
                raise
            # An empty object has no range.
            return b"", self._head(key, version)

    def _read(self, key: str, start: int, end: int, version: str, pin: str) -> bytes:
        try:
            return self._get(key, f"bytes={start}-{end - 1}", {"IfMatch": pin, **_version(version)})[0]
        except boto.ClientError as error:
            if _code(error) in ("PreconditionFailed", "InvalidRange"):
                raise ObjectChangedError from None
            raise

    def _get(self, key: str, span: str, options: dict[str, Any]) -> tuple[bytes, ObjectInfo]:
        for last in (*[False] * (_BODY_TRIES - 1), True):
            answer = self.client.get_object(Bucket=self._bucket, Key=key, Range=span, **options)
            try:
                data = answer["Body"].read()
            except (boto.HTTPClientError, boto.IncompleteReadError, boto.FlexibleChecksumError):
                if last:
                    raise
                continue
            where = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
            if where is None:
                return data, _info(answer, answer["ContentLength"])
            begin, end, total = map(int, where.groups())
            # A proxy that passes on a part as if it were all is not noticed by the client.
            if len(data) == end - begin + 1:
                return data, _info(answer, total)
        raise ServiceUnavailableError(f"{self.uri(key)}: S3 answered with fewer bytes than it said", uri=self.uri(key))

    def _head(self, key: str, version: str) -> ObjectInfo:
        try:
            answer = self.client.head_object(Bucket=self._bucket, Key=key, **_version(version))
        except boto.ClientError as error:
            # The answer to HEAD has no body, so it does not say what is missing. A malformed version is a 400.
            if _code(error) in _NOT_FOUND or (version and _code(error) == "400"):
                self._check_bucket()
                raise ArtifactNotFoundError(f"there is no {self.uri(key)}", uri=self.uri(key)) from error
            raise
        return _info(answer, answer["ContentLength"])

    def _list(self, prefix: str) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key)
        for page in pages:
            for entry in page.get("Versions", ()):
                if entry["Key"] == key:
                    # "null" is what a bucket without versions calls the only one.
                    version = "" if entry["VersionId"] == "null" and entry["IsLatest"] else entry["VersionId"]
                    yield ObjectInfo(entry["Size"], entry["LastModified"], version, entry["ETag"])
            # Sorted by key: what follows are other artifacts, which may be many.
            if page.get("KeyMarker", "") > key:
                return

    def _remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self._bucket, Key=key)

    def _copy(self, source: str, target: str) -> None:
        found = self._head(source, "")
        origin: Any = {"Bucket": self._bucket, "Key": source}
        where: dict[str, Any] = {"Bucket": self._bucket, "Key": target}
        same = {"CopySource": origin, "CopySourceIfMatch": found.pin}
        if (size := found.size) <= _COPY_BYTES:
            self.client.copy_object(**where, **same, **self._encryption())
            return
        content_type = self.client.head_object(Bucket=self._bucket, Key=source)["ContentType"]
        what = {"ContentType": content_type, "Metadata": found.metadata, **self._encryption()}
        upload = {**where, "UploadId": self.client.create_multipart_upload(**where, **what)["UploadId"]}
        try:
            etags: dict[int, str] = {}

            def copy(number: int) -> None:
                begin = (number - 1) * _COPY_PART_BYTES
                span = f"bytes={begin}-{min(begin + _COPY_PART_BYTES, size) - 1}"
                answer = self.client.upload_part_copy(**upload, **same, PartNumber=number, CopySourceRange=span)
                etags[number] = answer["CopyPartResult"]["ETag"]

            together(copy, range(1, -(-size // _COPY_PART_BYTES) + 1))
            parts: Any = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
            self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._abort(upload)
            raise

    def _abort(self, upload: dict[str, Any]) -> None:
        # Parts of an upload that was not finished cost money and hold patient data until somebody removes them.
        try:
            self.client.abort_multipart_upload(**upload)
        except (boto.BotoCoreError, boto.ClientError) as error:
            if isinstance(error, boto.ClientError) and _code(error) == "NoSuchUpload":
                return  # it was completed or aborted before
            get_logger("clinops_prefect").warning(
                "%s: the upload %s failed and could not be aborted (%s); its parts stay until it is, or until a "
                "lifecycle rule with AbortIncompleteMultipartUpload removes them",
                self.uri(upload["Key"]), upload["UploadId"], type(error).__name__,
            )  # fmt: skip

    def _encryption(self) -> dict[str, Any]:
        key = self._store.kms_key_id
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}

    def _check_bucket(self) -> None:
        try:
            self.client.head_bucket(Bucket=self._bucket)
        except boto.ClientError as error:
            if _code(error) in _NOT_FOUND | _NO_BUCKET:
                raise self._no_bucket() from error
            # Not permitted to look: the bucket is there, then.

    def _no_bucket(self) -> BucketNotFoundError:
        uri = f"s3://{self._bucket}"
        return BucketNotFoundError(
            f"there is no bucket {uri}, or it is in another region; check bucket, region and endpoint_url",
            uri=uri,
        )

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        if isinstance(error, boto.ClientError):
            code = _code(error)
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _NO_BUCKET:
                return self._no_bucket()
            if code in _NOT_FOUND:
                return ArtifactNotFoundError(f"there is no {uri}", uri=uri)
            if code in _DENIED or status in (401, 403):
                return AccessDeniedError(
                    f"{uri}: access denied ({code}); check the credentials and the policy", uri=uri
                )
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
        if isinstance(
            error, boto.HTTPClientError | boto.IncompleteReadError | boto.ConnectionError | ResponseParserError
        ):
            return ServiceUnavailableError(
                f"{uri}: cannot reach S3 ({type(error).__name__}); check the network and endpoint_url", uri=uri
            )
        if isinstance(error, boto.ParamValidationError):
            return self._no_bucket() if "bucket name" in str(error).lower() else _refused(uri, error)
        # A few of botocore's errors have no base in common.
        return _refused(uri, error) if type(error).__module__.startswith("botocore.") else None


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


def _refused(uri: str, error: Exception) -> ClinopsPrefectError:
    return ClinopsPrefectError(f"{uri}: the AWS client refused the request ({type(error).__name__})", uri=uri)


def _code(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _version(version: str) -> dict[str, Any]:
    return {"VersionId": version} if version else {}


def _info(answer: Any, size: int) -> ObjectInfo:
    version = answer.get("VersionId", "")
    return ObjectInfo(
        size, answer["LastModified"], "" if version == "null" else version, answer["ETag"], answer["Metadata"]
    )


def _chained(first: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first.pop()
    yield from rest


class S3PipelineStore(CloudPipelineStore):
    """Hand DataFrames from step to step through an S3 bucket.

    Attributes:
        bucket: The bucket.
        prefix: The path below which the store keeps everything it writes.
        format: Parquet, or CSV.
        region: The region; empty, as the credentials, the profile or the environment says.
        profile: A named profile; empty, the default credential chain.
        credentials: An `AwsCredentials` or `MinIOCredentials` block, instead of `profile`.
        endpoint_url: Another endpoint than AWS's own.
        kms_key_id: A KMS key to encrypt every object with.
        allow_http: Whether a plain http endpoint on a network is acceptable.
        allow_pickle: Whether Prefect results may be read with a serializer that can run code.

    Example:
        Load a saved store and pass a frame on:
        ```python
        from clinops_prefect import S3PipelineStore

        store = S3PipelineStore.load("BLOCK_NAME")
        uri = store.upload(windows_df, "features/windows_2024_01")
        windows_df = store.download("features/windows_2024_01")
        ```
    """

    _block_type_name = "S3 Pipeline Store"
    _block_type_slug = "s3-pipeline-store"

    region: str = Field(
        default="",
        description="An AWS region, such as us-east-1. Empty: as the credentials or the environment says.",
        json_schema_extra={"position": 3},
    )
    profile: str = Field(
        default="",
        description="A named AWS profile. Empty: the default credential chain.",
        json_schema_extra={"position": 4},
    )
    credentials: AwsLogin | None = Field(
        default=None,
        repr=False,  # AwsCredentials shows its session token
        description="An AWS or MinIO credentials block. Empty: the profile, or the default credential chain.",
        json_schema_extra={"position": 5},
    )
    kms_key_id: str = Field(
        default="",
        title="KMS key",
        description="A KMS key (id, ARN or alias) to encrypt every object with. Empty: the bucket's default.",
        json_schema_extra={"position": 8},
    )

    @classmethod
    def _backend_type(cls) -> type[Backend]:
        return S3Backend

    def _backend(self) -> S3Backend:
        return S3Backend(self)
