"""Objects of an S3 bucket: AWS, MinIO, and whatever speaks S3."""

import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from botocore import exceptions as boto
from prefect.logging import get_logger

from clinops_prefect.aws import aws_client
from clinops_prefect.backend import Backend, ObjectChangedError, ObjectExistsError, ObjectInfo
from clinops_prefect.errors import (
    ArtifactNotFoundError,
    ServiceUnavailableError,
)
from clinops_prefect.metadata import RESERVED
from clinops_prefect.stores.s3_errors import NO_BUCKET, NOT_FOUND, code_of, no_bucket, translated
from clinops_prefect.transfer import PART_BYTES, each_in_flight, together, whole_or_parts

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from clinops_prefect.stores.s3 import S3PipelineStore

# A service that accepts and never answers costs five times twenty seconds; S3 itself keeps a long completion or copy
# alive by sending white space. "legacy" counts the tries of each request by itself. The other modes share one quota
# among all requests of a client, which lives as long as the process: outages use the quota up, and nothing is retried.
_CLIENT = {
    "retries": {"mode": "legacy", "total_max_attempts": 5},
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
        # At most ten thousand of them, which would end at 80 GB if they did not grow.
        body = whole_or_parts(chunks, PART_BYTES, double_every=1000)
        try:
            if isinstance(body, bytes):
                self.client.put_object(Body=body, **where, **what, **condition)
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
            if code_of(error) != "InvalidRange":
                raise
            # An empty object has no range.
            return b"", self._head(key, version)

    def _read(self, key: str, start: int, end: int, version: str, pin: str) -> bytes:
        try:
            return self._get(key, f"bytes={start}-{end - 1}", {"IfMatch": pin, **_version(version)})[0]
        except boto.ClientError as error:
            if code_of(error) in ("PreconditionFailed", "InvalidRange"):
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
            if code_of(error) in NOT_FOUND or (version and code_of(error) == "400"):
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
            if isinstance(error, boto.ClientError) and code_of(error) == "NoSuchUpload":
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
            if code_of(error) in NOT_FOUND | NO_BUCKET:
                raise no_bucket(self._bucket) from error
            # Not permitted to look: the bucket is there, then.

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return translated(error, uri, self._bucket)


def _version(version: str) -> dict[str, Any]:
    return {"VersionId": version} if version else {}


def _info(answer: Any, size: int) -> ObjectInfo:
    version = answer.get("VersionId", "")
    return ObjectInfo(
        size, answer["LastModified"], "" if version == "null" else version, answer["ETag"], answer["Metadata"]
    )
