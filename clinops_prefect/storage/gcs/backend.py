"""Objects of a Google Cloud Storage bucket."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage import exceptions as storage_errors
from google.cloud.storage.retry import DEFAULT_RETRY

from clinops_prefect.network import failures
from clinops_prefect.storage.backend import Can, ObjectInfo, PinnedObject, Writing
from clinops_prefect.storage.gcs.errors import ADDRESS, AUTHORITY, SERVICE, code_of, may_pass, no_bucket, translated
from clinops_prefect.storage.gcs.upload import upload_parts
from clinops_prefect.storage.ranges import ByteRange
from clinops_prefect.storage.service import ConditionFailedError, Fetched, ServiceBackend

_CONSOLE = "https://console.cloud.google.com/storage/browser/_details"
# Retries end after 25 seconds. The client's default of two minutes is too long for a task that Prefect retries anyway.
_RETRY = DEFAULT_RETRY.with_timeout(25.0).with_delay(initial=0.5, multiplier=2.0, maximum=8.0).with_predicate(may_pass)
# The time-outs to connect and to read, in seconds. After a time-out, `_RETRY` leaves time for another try.
_TIMEOUT = (5.0, 20.0)


class GCSBackend(ServiceBackend[None]):
    """Objects of one bucket.

    Args:
        bucket: The bucket.
        client: Returns the process's client. Called for each request, so that a backend can be pickled and kept.
        user_project: The project that pays for the requests. If empty, the bucket's own project pays.
        kms_key_name: A Cloud KMS key to encrypt with. If empty, the bucket's default is used.
        endpoint_url: An endpoint other than Google's own, at which a browser finds the objects.
    """

    service = SERVICE
    authority = AUTHORITY
    address = ADDRESS
    can = frozenset(Can) - {Can.MAKE_BUCKETS}
    removed_at_once = 100
    # 410: the service has dropped the resumable upload, so all of it must be sent again.
    not_written = frozenset({"410", "412"})
    changed = frozenset({"412"})
    beyond_end = frozenset({"416"})
    # A resumable upload waits for the server's answer after each part, so fewer and larger parts wait less.
    part_bytes = 16 << 20
    # The service copies an object of any size itself, in steps.
    copy_bytes = sys.maxsize

    def __init__(
        self,
        bucket: str,
        client: Callable[[], storage.Client],
        *,
        user_project: str = "",
        kms_key_name: str = "",
        endpoint_url: str = "",
    ) -> None:
        self._name = bucket
        self._client = client
        self._user_project = user_project or None
        self._kms_key_name = kms_key_name or None
        self._endpoint_url = endpoint_url

    @property
    def client(self) -> storage.Client:
        """The process's client for this configuration."""
        return self._client()

    @property
    def _bucket(self) -> storage.Bucket:
        return self.client.bucket(self._name, user_project=self._user_project)

    def uri(self, key: str) -> str:
        return f"gs://{self._name}/{key}"

    def browser_url(self, key: str) -> str:
        # The endpoint is not read from the client, because making a client needs credentials.
        endpoint = self._endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        return f"{endpoint.rstrip('/') or _CONSOLE}/{quote(f'{self._name}/{key}')}"

    def _blob(self, key: str, **options: Any) -> storage.Blob:
        return self._bucket.blob(key, **options)

    def _put(self, key: str, data: bytes, writing: Writing) -> None:
        self._upload(key, writing, lambda blob, options: blob.upload_from_string(data, **options))

    def _put_parts(self, key: str, parts: Iterator[bytes], writing: Writing) -> None:
        # A resumable upload is one session of consecutive requests. An unfinished session need not be aborted.
        self._upload(key, writing, lambda blob, options: upload_parts(blob, parts, **options))

    def _upload(self, key: str, writing: Writing, send: Callable[[storage.Blob, dict[str, Any]], None]) -> None:
        blob = self._blob(key, chunk_size=self.part_bytes, kms_key_name=self._kms_key_name)
        blob.metadata = writing.metadata
        condition = {} if writing.overwrite else {"if_generation_match": 0}
        options = {"content_type": writing.content_type, "retry": _RETRY, "timeout": _TIMEOUT}
        send(blob, options | condition)
        # A server that is not Cloud Storage may answer 200 but store nothing. The missing generation shows that.
        self._said(blob.generation, "generation", key)

    def _open(self, key: str, wanted: ByteRange, version: str) -> tuple[bytes, ObjectInfo | PinnedObject]:
        is_at_end = wanted.is_suffix or not wanted.start
        if wanted.length and is_at_end and (opened := self._open_small(key, wanted, wanted.length, version)):
            return opened
        return self._open_by_head(key, wanted, version)

    def _open_small(
        self, key: str, wanted: ByteRange, size: int, version: str
    ) -> tuple[bytes, ObjectInfo | PinnedObject] | None:
        """Read the first or last `size` bytes, in one request for a small object. None if `_open_by_head` is needed."""
        if version and not version.isdigit():
            return None
        blob = self._blob(key, generation=int(version)) if version else self._blob(key)
        try:
            data = self._download(blob, -size if wanted.is_suffix else 0, None if wanted.is_suffix else size)
        except (api.NotFound, api.RequestRangeNotSatisfiable):
            return None  # the object is missing or empty; `_head` tells which
        # The answer to a range names the generation, but not the size of the whole object.
        pin = str(blob.generation or "")
        if pin and len(data) < size:
            return data, PinnedObject(len(data), pin, pin)
        info = self._head(key, version)
        return (data, info) if info.pin == pin and len(data) == min(size, info.size) else None

    def _get(self, key: str, wanted: ByteRange, version: str, pin: str) -> Fetched:
        # Read by generation: an overwritten object is then missing, or still readable if the bucket keeps versions.
        blob = self._blob(key, generation=int(pin))
        start, length = wanted.start, wanted.length or 0
        try:
            data = self._download(blob, start, start + length)
        except storage_errors.DataCorruption as error:
            raise ConditionFailedError from error
        except api.NotFound as error:
            # The object was removed or overwritten since it was opened, unless `_head` finds the bucket missing.
            self._head(key, version)
            raise ConditionFailedError from error
        # The answer does not give the size of the whole object.
        generation = str(blob.generation or pin)
        return Fetched(data, start, ObjectInfo(start + length, None, generation, generation))

    @staticmethod
    def _download(blob: storage.Blob, start: int, end: int | None) -> bytes:
        # Without raw_download, the server decompresses gzip objects, and the range would select other bytes.
        return blob.download_as_bytes(  # type: ignore[no-any-return]
            start=start,
            end=None if end is None else end - 1,
            raw_download=True,
            # Otherwise the client reads 8 KiB at a time, and sixteen threads contend for the GIL.
            single_shot_download=True,
            checksum=None,
            retry=_RETRY,
            timeout=_TIMEOUT,
        )

    def _stat(self, key: str, version: str) -> ObjectInfo:
        if version and not version.isdigit():
            raise self._absent(key, version)
        blob = self._blob(key, generation=int(version)) if version else self._blob(key)
        try:
            blob.reload(retry=_RETRY, timeout=_TIMEOUT)
        except api.NotFound as error:
            raise self._absent(key, version) from error
        return self._info(blob)

    def _info(self, blob: storage.Blob) -> ObjectInfo:
        generation = str(self._said(blob.generation, "generation", blob.name))
        size = self._said(blob.size, "size", blob.name)
        metadata, content_type = dict(blob.metadata or {}), blob.content_type or "application/octet-stream"
        return ObjectInfo(size, blob.time_created, generation, generation, metadata, content_type)

    def _list(self, prefix: str) -> Iterator[str]:
        for key, _ in self._list_pinned(prefix):
            yield key

    def _list_pinned(self, prefix: str) -> Iterator[tuple[str, PinnedObject | None]]:
        fields = "items(name,size,generation),nextPageToken"
        blobs = self.client.list_blobs(
            self._bucket, prefix=prefix, fields=fields, page_size=1000, retry=_RETRY, timeout=_TIMEOUT
        )
        for blob in blobs:
            is_known = blob.size is not None and blob.generation is not None
            yield blob.name, PinnedObject(int(blob.size), str(blob.generation), "") if is_known else None

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        blobs = self.client.list_blobs(self._bucket, prefix=key, versions=True, retry=_RETRY, timeout=_TIMEOUT)
        kept = [self._info(blob) for blob in blobs if blob.name == key]
        yield from sorted(kept, key=lambda info: int(info.version), reverse=True)

    def _remove(self, key: str) -> None:
        try:
            self._blob(key).delete(retry=_RETRY, timeout=_TIMEOUT)
        except api.NotFound:
            self._check_bucket()

    def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
        try:
            with self.client.batch():
                for key in keys:
                    self._blob(key).delete(retry=None, timeout=_TIMEOUT)
        except (api.GoogleAPICallError, ValueError):
            # The client does not say which removal failed, and does not retry.
            return keys
        return ()

    def _copy_whole(self, source: str, found: ObjectInfo, target: str) -> None:
        copy = self._blob(target, kms_key_name=self._kms_key_name)
        if self._kms_key_name:
            # The client sends the key in the body, and a copy has the source's metadata only if the body is empty
            # (https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite).
            copy.metadata, copy.content_type = found.metadata, found.content_type
        options = {"if_source_generation_match": int(found.pin), "retry": _RETRY, "timeout": _TIMEOUT}
        token = None
        while True:
            try:
                token, copied, size = copy.rewrite(self._blob(source), token=token, **options)
            except api.NotFound as error:
                # The source was removed meanwhile, unless `_head` finds the bucket missing.
                self._head(source, "")
                raise ConditionFailedError from error
            if token is None:
                if copied != size:
                    raise failures.missing(self.uri(target), SERVICE, "the token to go on copying with", ADDRESS)
                return

    def _check_bucket(self) -> None:
        try:
            # `bucket.exists()` needs a permission that roles for reading and writing objects often lack.
            next(iter(self.client.list_blobs(self._bucket, max_results=1, retry=_RETRY, timeout=_TIMEOUT)), None)
        except api.NotFound as error:
            raise no_bucket(self._name) from error
        except api.Forbidden:
            pass  # without the permission to look, we assume that the bucket exists

    def _code(self, error: Exception) -> str:
        return code_of(error)

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return translated(error, uri, self._name)
