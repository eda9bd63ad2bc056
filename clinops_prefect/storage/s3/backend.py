"""Objects of an S3 bucket: AWS, MinIO, and whatever speaks S3."""

import logging
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from botocore import exceptions as boto

from clinops_prefect.errors import (
    ArtifactNotFoundError,
    ServiceUnavailableError,
)
from clinops_prefect.names import RESERVED
from clinops_prefect.network import failures
from clinops_prefect.storage.backend import Backend, ObjectChangedError, ObjectExistsError, ObjectInfo
from clinops_prefect.storage.s3.errors import (
    AUTHORITY,
    NO_BUCKET,
    NOT_FOUND,
    SERVICE,
    UNSUPPORTED,
    code_of,
    no_bucket,
    status_of,
    translated,
)
from clinops_prefect.storage.transfer import PART_BYTES, each_in_flight, together, whole_or_parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Prefect's logger of that name, whose lines are on a run's page; Prefect is not imported for it.
_logger = logging.getLogger("prefect.clinops_prefect")
# Says whose the object is, for a conditional write whose answer was lost and whose retry finds it there.
_WRITE_ID = f"{RESERVED}write-id"
# CopyObject takes no more; a larger object is copied in parts.
_COPY_BYTES = 5 << 30
_COPY_PART_BYTES = 512 << 20
# Domain of the service -> where its console is.
_CONSOLES = {
    "amazonaws.com.cn": "console.amazonaws.cn",
    "amazonaws.com": "console.aws.amazon.com",
}
_GOVERNMENT_CONSOLE = "console.amazonaws-us-gov.com"
# Reading a body is not covered by the client's own retries.
_BODY_TRIES = 3
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class S3Backend(Backend):
    """Objects of one bucket.

    Args:
        bucket: The bucket, or the ARN of an access point.
        client: Gives the process's client. Asked for each request, so that a backend can be pickled and kept.
        request_payer: Whether the caller pays for the requests.
        kms_key_id: A KMS key to encrypt with; empty, the bucket's default.
    """

    service = SERVICE
    authority = AUTHORITY
    unversioned = "null"

    def __init__(
        self, bucket: str, client: "Callable[[], S3Client]", *, request_payer: bool = False, kms_key_id: str = ""
    ) -> None:
        self._bucket = bucket
        self._client = client
        self._kms_key_id = kms_key_id
        # Of every request: without the payer, a Requester Pays bucket refuses it.
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

    def _write(
        self, key: str, chunks: Iterator[bytes], content_type: str, metadata: dict[str, str], overwrite: bool
    ) -> None:
        write_id = uuid.uuid4().hex
        where = {**self._to, "Key": key}
        what: dict[str, Any] = {
            "ContentType": content_type,
            "Metadata": {**metadata, _WRITE_ID: write_id},
            **self._encryption(),
        }
        condition: dict[str, Any] = {} if overwrite else {"IfNoneMatch": "*"}
        # At most ten thousand of them, which would end at 80 GB if they did not grow.
        body = whole_or_parts(chunks, PART_BYTES, double_every=1000)
        try:
            if isinstance(body, bytes):
                # Whatever is no S3 service and says 200 has stored nothing, but it gives no ETag.
                self._said(self.client.put_object(Body=body, **where, **what, **condition), "ETag", key)
            else:
                self._write_parts(body, where, what, condition)
        except boto.ClientError as error:
            if (code := code_of(error)) not in ("PreconditionFailed", "NoSuchUpload"):
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
        key = where["Key"]
        upload = {**where, "UploadId": self._said(client.create_multipart_upload(**where, **what), "UploadId", key)}

        def put(number: int, part: bytes) -> dict[str, Any]:
            answer = client.upload_part(**upload, PartNumber=number, Body=part)
            return {"PartNumber": number, "ETag": self._said(answer, "ETag", key)}

        try:
            done: Any = {"Parts": each_in_flight(put, parts)}
            answer = client.complete_multipart_upload(**upload, MultipartUpload=done, **condition)
            self._said(answer, "ETag", key)
        except BaseException:
            self._abort(upload)
            raise

    def _open(self, key: str, start: int, end: int | None, version: str) -> tuple[bytes, ObjectInfo]:
        try:
            return self._get(key, start, end, _version(version))
        except boto.ClientError as error:
            if self._is_no_version(error, version):
                raise ArtifactNotFoundError(f"{self.uri(key)} has no version {version!r}", uri=self.uri(key)) from error
            if code_of(error) != "InvalidRange" and status_of(error) != 416:
                raise
            # An empty object has no range.
            return b"", self._head(key, version)

    def _read(self, key: str, start: int, end: int, version: str, pin: str) -> bytes:
        try:
            data, info = self._get(key, start, end, {"IfMatch": pin, **_version(version)})
        except boto.ClientError as error:
            if code_of(error) in ("PreconditionFailed", "InvalidRange"):
                raise ObjectChangedError from None
            raise
        if info.pin != pin:
            # A service that ignores the condition.
            raise ObjectChangedError
        return data

    def _get(self, key: str, start: int, end: int | None, options: dict[str, Any]) -> tuple[bytes, ObjectInfo]:
        span = f"bytes={start}-{'' if end is None else end - 1}" if start >= 0 else f"bytes={start}"
        for is_last_try in (*[False] * (_BODY_TRIES - 1), True):
            answer = self.client.get_object(**self._to, Key=key, Range=span, **options)
            try:
                data = answer["Body"].read()
            except (boto.HTTPClientError, boto.IncompleteReadError, boto.FlexibleChecksumError):
                if is_last_try:
                    raise
                continue
            if answer["ResponseMetadata"]["HTTPStatusCode"] == 200:
                # All of the object, though a part of it was asked for.
                return data[start:end], self._info(key, answer, len(data))
            where = _CONTENT_RANGE.fullmatch(self._said(answer, "ContentRange", key))
            if where is None:
                raise failures.missing(self.uri(key), SERVICE, "a Content-Range that can be read")
            first, last, total = map(int, where.groups())
            # A proxy that passes on a part as if it were all, or another part, is not noticed by the client.
            if len(data) == last - first + 1 and first == (start if start >= 0 else max(0, total + start)):
                return data, self._info(key, answer, total)
        raise ServiceUnavailableError(f"{self.uri(key)}: S3 answered with other bytes than it said", uri=self.uri(key))

    def _head(self, key: str, version: str) -> ObjectInfo:
        try:
            answer = self.client.head_object(**self._to, Key=key, **_version(version))
        except boto.ClientError as error:
            # The answer to HEAD has no body, so it does not say what is missing. A malformed version is a 400.
            if code_of(error) in NOT_FOUND or (version and code_of(error) == "400"):
                self._check_bucket()
                raise ArtifactNotFoundError(f"there is no {self.uri(key)}", uri=self.uri(key)) from error
            if self._is_no_version(error, version):
                raise ArtifactNotFoundError(f"{self.uri(key)} has no version {version!r}", uri=self.uri(key)) from error
            raise
        return self._info(key, answer, self._said(answer, "ContentLength", key))

    @staticmethod
    def _is_no_version(error: boto.ClientError, version: str) -> bool:
        # So S3 answers where the version is the mark of a removal.
        return bool(version) and code_of(error) in UNSUPPORTED and status_of(error) == 405

    def _info(self, key: str, answer: Any, size: int) -> ObjectInfo:
        version, pin = answer.get("VersionId", ""), self._said(answer, "ETag", key)
        metadata = dict(answer.get("Metadata") or {})
        return ObjectInfo(size, answer.get("LastModified"), "" if version == "null" else version, pin, metadata)

    def _list(self, prefix: str) -> Iterator[str]:
        for page in self._pages("list_objects_v2", prefix, "NextContinuationToken"):
            for entry in page.get("Contents", ()):
                yield self._said(entry, "Key", prefix)

    def _pages(self, operation: Literal["list_objects_v2", "list_object_versions"], prefix: str, next_page: str) -> Any:
        paginator: Any = self.client.get_paginator(operation)
        for page in paginator.paginate(**self._to, Prefix=prefix):
            # What is no S3 service and says 200 would otherwise be an empty bucket.
            self._said(page, "Name", prefix)
            yield page
            if page.get("IsTruncated"):
                # Without it, the paginator takes this page for the last one.
                self._said(page, next_page, prefix)

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        for page in self._pages("list_object_versions", key, "NextKeyMarker"):
            for entry in page.get("Versions", ()):
                if self._said(entry, "Key", key) == key:
                    # "null" is what a bucket without versions calls the only one.
                    version = entry.get("VersionId") or "null"
                    version = "" if version == "null" and entry.get("IsLatest", True) else version
                    size, pin = self._said(entry, "Size", key), self._said(entry, "ETag", key)
                    yield ObjectInfo(size, entry.get("LastModified"), version, pin)
            # Sorted by key: what follows are other artifacts, which may be many.
            if page.get("KeyMarker", "") > key:
                return

    def _remove(self, key: str) -> None:
        self.client.delete_object(**self._to, Key=key)

    def _copy(self, source: str, target: str) -> None:
        found = self._head(source, "")
        origin: Any = {"Bucket": self._bucket, "Key": source}
        where = {**self._to, "Key": target}
        same = {"CopySource": origin, "CopySourceIfMatch": found.pin}
        try:
            if found.size <= _COPY_BYTES:
                answer = self.client.copy_object(**where, **same, **self._encryption())
                self._said(answer.get("CopyObjectResult", {}), "ETag", target)
            else:
                self._copy_parts(found, where, same)
        except boto.ClientError as error:
            if code_of(error) != "PreconditionFailed":
                raise
            raise ObjectChangedError from None

    def _copy_parts(self, found: ObjectInfo, where: dict[str, Any], same: dict[str, Any]) -> None:
        size, target = found.size, where["Key"]
        content_type = self.client.head_object(**self._to, Key=same["CopySource"]["Key"]).get(
            "ContentType", "binary/octet-stream"
        )
        what = {"ContentType": content_type, "Metadata": found.metadata, **self._encryption()}
        answer = self.client.create_multipart_upload(**where, **what)
        upload = {**where, "UploadId": self._said(answer, "UploadId", target)}
        try:
            etags: dict[int, str] = {}

            def copy(number: int) -> None:
                begin = (number - 1) * _COPY_PART_BYTES
                span = f"bytes={begin}-{min(begin + _COPY_PART_BYTES, size) - 1}"
                answer = self.client.upload_part_copy(**upload, **same, PartNumber=number, CopySourceRange=span)
                etags[number] = self._said(answer.get("CopyPartResult", {}), "ETag", target)

            together(copy, range(1, -(-size // _COPY_PART_BYTES) + 1))
            parts: Any = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
            self._said(
                self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}), "ETag", target
            )
        except BaseException:
            self._abort(upload)
            raise

    def _abort(self, upload: dict[str, Any]) -> None:
        # Parts of an upload that was not finished cost money and hold patient data until somebody removes them.
        try:
            self.client.abort_multipart_upload(**upload)
        except (boto.BotoCoreError, boto.ClientError) as error:
            if isinstance(error, boto.ClientError) and code_of(error) == "NoSuchUpload":
                return  # it was completed or aborted before
            _logger.warning(
                "%s: the upload %s failed and could not be aborted (%s); its parts stay until it is, or until a "
                "lifecycle rule with AbortIncompleteMultipartUpload removes them",
                self.uri(upload["Key"]), upload["UploadId"], type(error).__name__,
            )  # fmt: skip

    def _encryption(self) -> dict[str, Any]:
        key = self._kms_key_id
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}

    def _check_bucket(self) -> None:
        try:
            self.client.head_bucket(Bucket=self._bucket)
        except boto.ClientError as error:
            if code_of(error) in NOT_FOUND | NO_BUCKET:
                raise no_bucket(self._bucket) from error
            # Not permitted to look: the bucket is there, then.

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return translated(error, uri, self._bucket)


def _version(version: str) -> dict[str, Any]:
    return {"VersionId": version} if version else {}
