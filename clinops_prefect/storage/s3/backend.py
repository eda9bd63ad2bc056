"""Objects of an S3 bucket, on AWS, MinIO and other services with S3's interface."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from botocore import exceptions as boto

from clinops_prefect.aws.errors import ADDRESS, AUTHORITY, code_of, problem_of, status_of
from clinops_prefect.network import failures
from clinops_prefect.network.failures import Problem
from clinops_prefect.storage.backend import Can, ObjectInfo, PinnedObject, Writing
from clinops_prefect.storage.ranges import ByteRange
from clinops_prefect.storage.s3.errors import NO_BUCKET, SERVICE, no_bucket, translated
from clinops_prefect.storage.service import Fetched, ObjectCutError, ServiceBackend

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Domain of the service -> host of its web console.
_CONSOLES = {
    "amazonaws.com.cn": "console.amazonaws.cn",
    "amazonaws.com": "console.aws.amazon.com",
}
_GOVERNMENT_CONSOLE = "console.amazonaws-us-gov.com"
# The request arguments that identify a multipart upload.
Upload = dict[str, Any]
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_CUT = (boto.HTTPClientError, boto.IncompleteReadError, boto.FlexibleChecksumError)


class S3Backend(ServiceBackend[Upload]):
    """Objects of one bucket.

    Args:
        bucket: The bucket, or the ARN of an access point.
        client: Returns the process's client. Called for each request, so that a backend can be pickled and kept.
        request_payer: Whether the caller pays for the requests.
        kms_key_id: A KMS key to encrypt with. If empty, the bucket's default is used.
    """

    service = SERVICE
    authority = AUTHORITY
    address = ADDRESS
    unversioned = "null"
    can = frozenset(Can) - {Can.MAKE_BUCKETS}
    removed_at_once = 1000
    # 409: of two simultaneous conditional writes, S3 refuses the later one while the first one is not yet visible.
    not_written = frozenset({"PreconditionFailed", "NoSuchUpload", "ConditionalRequestConflict", "OperationAborted"})
    changed = frozenset({"PreconditionFailed"})
    beyond_end = frozenset({"InvalidRange"})
    # S3 allows ten thousand parts. If the parts did not grow, an object could have at most 80 GB.
    double_every = 1000

    def __init__(
        self, bucket: str, client: "Callable[[], S3Client]", *, request_payer: bool = False, kms_key_id: str = ""
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._kms_key_id = kms_key_id
        # Arguments of every request. A Requester Pays bucket refuses requests without the payer.
        self._to: dict[str, Any] = {"Bucket": bucket}
        if request_payer:
            self._to["RequestPayer"] = "requester"

    @property
    def client(self) -> "S3Client":
        """The process's client for this configuration."""
        return self._client()

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def browser_url(self, key: str) -> str:
        meta = self.client.meta
        host = urlsplit(meta.endpoint_url).hostname or ""
        domain = next((domain for domain in _CONSOLES if host.endswith(f".{domain}")), "")
        if not domain:
            return f"{meta.endpoint_url.rstrip('/')}/{quote(f'{self._bucket}/{key}')}"
        region = "" if meta.region_name in (None, "aws-global") else meta.region_name
        console = f"{region}.{_CONSOLES[domain]}" if region else _CONSOLES[domain]
        if region.startswith("us-gov-"):
            console = _GOVERNMENT_CONSOLE
        query = urlencode({"region": region, "prefix": key} if region else {"prefix": key})
        return f"https://{console}/s3/object/{quote(self._bucket, safe=':')}?{query}"

    def _put(self, key: str, data: bytes, writing: Writing) -> None:
        answer = self.client.put_object(
            Body=data, **self._to, Key=key, **self._what(writing), **self._condition(writing)
        )
        # A server that is not S3 may answer 200 although it stored nothing. The missing ETag shows that.
        self._said(answer.get("ETag"), "ETag", key)

    def _begin(self, key: str, writing: Writing) -> Upload:
        where = {**self._to, "Key": key}
        answer = self.client.create_multipart_upload(**where, **self._what(writing))
        return {**where, "UploadId": self._said(answer.get("UploadId"), "UploadId", key)}

    def _put_part(self, upload: Upload, number: int, data: bytes) -> str:
        answer = self.client.upload_part(**upload, PartNumber=number, Body=data)
        return self._said(answer.get("ETag"), "ETag", upload["Key"])

    def _complete(self, upload: Upload, receipts: list[str], writing: Writing) -> None:
        parts: Any = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(receipts, start=1)]}
        answer = self.client.complete_multipart_upload(**upload, MultipartUpload=parts, **self._condition(writing))
        self._said(answer.get("ETag"), "ETag", upload["Key"])

    def _abort(self, upload: Upload) -> None:
        try:
            self.client.abort_multipart_upload(**upload)
        except boto.ClientError as error:
            if code_of(error) != "NoSuchUpload":  # the upload was completed or aborted before
                raise

    @staticmethod
    def _condition(writing: Writing) -> dict[str, Any]:
        return {} if writing.overwrite else {"IfNoneMatch": "*"}

    def _what(self, writing: Writing) -> dict[str, Any]:
        return {"ContentType": writing.content_type, "Metadata": writing.metadata, **self._encryption()}

    def _get(self, key: str, wanted: ByteRange, version: str, pin: str) -> Fetched:
        options: dict[str, Any] = {"IfMatch": pin} if pin else {}
        try:
            answer = self.client.get_object(**self._to, Key=key, Range=wanted.header, **options, **_version(version))
        except boto.ClientError as error:
            self._check_version(error, key, version)
            raise
        try:
            data = answer["Body"].read()
        except _CUT as error:
            raise ObjectCutError from error
        if answer["ResponseMetadata"]["HTTPStatusCode"] == 200:
            return Fetched(data, 0, self._info(key, answer, len(data), version))
        where = _CONTENT_RANGE.fullmatch(self._said(answer.get("ContentRange"), "ContentRange", key))
        if where is None:
            raise failures.missing(self.uri(key), SERVICE, "a Content-Range that can be read", ADDRESS)
        return Fetched(data, int(where[1]), self._info(key, answer, int(where[2]), version))

    def _stat(self, key: str, version: str) -> ObjectInfo:
        try:
            answer = self.client.head_object(**self._to, Key=key, **_version(version))
        except boto.ClientError as error:
            self._check_version(error, key, version)
            raise
        return self._info(key, answer, self._said(answer.get("ContentLength"), "ContentLength", key), version)

    def _check_version(self, error: boto.ClientError, key: str, version: str) -> None:
        # S3 answers 405 if the version is a delete marker, and 400 if the version id is malformed.
        if version and (status_of(error) == 405 or code_of(error) == "400"):
            raise self._absent(key, version) from error

    def _info(self, key: str, answer: Any, size: int, asked: str) -> ObjectInfo:
        version, pin = answer.get("VersionId", ""), self._said(answer.get("ETag"), "ETag", key)
        metadata, content_type = dict(answer.get("Metadata") or {}), answer.get("ContentType", "binary/octet-stream")
        created = answer.get("LastModified")
        if version in ("", "null"):
            # A caller that asked for "null" may not mean the current version, which an empty id would read.
            version = asked if asked == "null" else ""
        return ObjectInfo(size, created, version, pin, metadata, content_type)

    def _list(self, prefix: str) -> Iterator[str]:
        for key, _ in self._list_pinned(prefix):
            yield key

    def _list_pinned(self, prefix: str) -> Iterator[tuple[str, PinnedObject | None]]:
        for page in self._pages("list_objects_v2", prefix, "NextContinuationToken"):
            for entry in page.get("Contents", ()):
                size, pin = entry.get("Size"), entry.get("ETag")
                known = PinnedObject(size, pin, "") if pin and size is not None else None
                yield self._said(entry.get("Key"), "Key", prefix), known

    def _pages(self, operation: Literal["list_objects_v2", "list_object_versions"], prefix: str, next_page: str) -> Any:
        paginator: Any = self.client.get_paginator(operation)
        for page in paginator.paginate(**self._to, Prefix=prefix):
            # A server that is not S3 and answers 200 would otherwise look like an empty bucket.
            self._said(page.get("Name"), "Name", prefix)
            yield page
            if page.get("IsTruncated"):
                # Without the token, the paginator takes this page for the last one.
                self._said(page.get(next_page), next_page, prefix)

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        for page in self._pages("list_object_versions", key, "NextKeyMarker"):
            for entry in page.get("Versions", ()):
                if self._said(entry.get("Key"), "Key", key) == key:
                    # A bucket without versioning calls an object's only version "null".
                    version = entry.get("VersionId") or "null"
                    version = "" if version == "null" and entry.get("IsLatest", True) else version
                    size, pin = self._said(entry.get("Size"), "Size", key), self._said(entry.get("ETag"), "ETag", key)
                    yield ObjectInfo(size, entry.get("LastModified"), version, pin)
            # The listing is sorted by key. All that follows belongs to other artifacts, which may be many.
            if page.get("KeyMarker", "") > key:
                return

    def _remove(self, key: str) -> None:
        self.client.delete_object(**self._to, Key=key)

    def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
        answer = self.client.delete_objects(**self._to, Delete={"Objects": [{"Key": key} for key in keys]})
        removed = {entry.get("Key") for entry in answer.get("Deleted", ())}
        return [key for key in keys if key not in removed]

    def _copy_whole(self, source: str, found: ObjectInfo, target: str) -> None:
        answer = self.client.copy_object(**self._to, Key=target, **self._origin(source, found), **self._encryption())
        self._said(answer.get("CopyObjectResult", {}).get("ETag"), "ETag", target)

    def _copy_part(self, upload: Upload, number: int, source: str, found: ObjectInfo, wanted: ByteRange) -> str:
        options = {**upload, **self._origin(source, found)}
        answer = self.client.upload_part_copy(**options, PartNumber=number, CopySourceRange=wanted.header)
        return self._said(answer.get("CopyPartResult", {}).get("ETag"), "ETag", upload["Key"])

    def _origin(self, source: str, found: ObjectInfo) -> dict[str, Any]:
        return {"CopySource": {"Bucket": self._bucket, "Key": source}, "CopySourceIfMatch": found.pin}

    def _encryption(self) -> dict[str, Any]:
        key = self._kms_key_id
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}

    def _check_bucket(self) -> None:
        try:
            self.client.head_bucket(Bucket=self._bucket)
        except boto.ClientError as error:
            if code_of(error) in NO_BUCKET or problem_of(error) is Problem.ABSENT:
                raise no_bucket(self._bucket) from error
            # Without the permission to look, we assume that the bucket exists.

    def _code(self, error: Exception) -> str:
        if not isinstance(error, boto.ClientError):
            return ""
        return "InvalidRange" if status_of(error) == 416 else code_of(error)

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return translated(error, uri, self._bucket)


def _version(version: str) -> dict[str, Any]:
    return {"VersionId": version} if version else {}
