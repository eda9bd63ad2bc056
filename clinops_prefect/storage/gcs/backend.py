"""Objects of a Google Cloud Storage bucket."""

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from google.api_core import exceptions as api
from google.cloud import storage
from google.cloud.storage import exceptions as storage_errors
from google.cloud.storage.retry import DEFAULT_RETRY

from clinops_prefect.errors import (
    ArtifactNotFoundError,
    ServiceUnavailableError,
)
from clinops_prefect.names import RESERVED
from clinops_prefect.network import failures
from clinops_prefect.storage.backend import Backend, ObjectChangedError, ObjectExistsError, ObjectInfo, PinnedObject
from clinops_prefect.storage.gcs.errors import AUTHORITY, SERVICE, may_pass, no_bucket, translated
from clinops_prefect.storage.gcs.upload import upload_parts
from clinops_prefect.storage.transfer import whole_or_parts

_CONSOLE = "https://console.cloud.google.com/storage/browser/_details"
_WRITE_ID = f"{RESERVED}write-id"
# Retried for this long in all, with back-off; the client's default of two minutes is long for a task that is retried.
_RETRY = DEFAULT_RETRY.with_timeout(25.0).with_delay(initial=0.5, multiplier=2.0, maximum=8.0).with_predicate(may_pass)
# Short enough that one answer that never comes leaves time for another try.
_TIMEOUT = (5.0, 20.0)
# A read takes two requests, between which the object may be overwritten.
_OPEN_TRIES = 5
_BODY_TRIES = 3
# A resumable upload waits for the server's answer after each part: few and large ones wait less.
_PART_BYTES = 16 << 20


class GCSBackend(Backend):
    """Objects of one bucket.

    Args:
        bucket: The bucket.
        client: Gives the process's client. Asked for each request, so that a backend can be pickled and kept.
        user_project: The project that pays for the requests; empty, the bucket's.
        kms_key_name: A Cloud KMS key to encrypt with; empty, the bucket's default.
        endpoint_url: Another endpoint than Google's own, where a browser finds the objects.
    """

    service = SERVICE
    authority = AUTHORITY

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
        # Not the client's: a client needs credentials, and an address does not.
        endpoint = self._endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        return f"{endpoint.rstrip('/') or _CONSOLE}/{quote(f'{self._name}/{key}')}"

    def _blob(self, key: str, **options: Any) -> storage.Blob:
        return self._bucket.blob(key, **options)

    def _write(
        self, key: str, chunks: Iterator[bytes], content_type: str, metadata: dict[str, str], overwrite: bool
    ) -> None:
        blob = self._blob(key, chunk_size=_PART_BYTES, kms_key_name=self._kms_key_name)
        write_id = uuid.uuid4().hex
        blob.metadata = {**metadata, _WRITE_ID: write_id}
        options: dict[str, Any] = {"content_type": content_type, "retry": _RETRY, "timeout": _TIMEOUT}
        if not overwrite:
            options["if_generation_match"] = 0
        body = whole_or_parts(chunks, _PART_BYTES)
        try:
            if isinstance(body, bytes):
                blob.upload_from_string(body, **options)
            else:
                upload_parts(blob, body, **options)
        except api.PreconditionFailed:
            # A retry may have found what the first try had written before its answer was lost.
            if self._head(key, "").metadata.get(_WRITE_ID) != write_id:
                raise ObjectExistsError from None
        else:
            # Whatever is not Cloud Storage and says 200 has stored nothing, but it names no generation.
            self._said({"generation": blob.generation}, "generation", key)

    def _open(self, key: str, start: int, end: int | None, version: str) -> tuple[bytes, ObjectInfo | PinnedObject]:
        whole_if_shorter = end if start == 0 else -start if start < 0 and end is None else None
        if whole_if_shorter and (opened := self._open_small(key, start, whole_if_shorter, version)):
            return opened
        for last_try in (*[False] * (_OPEN_TRIES - 1), True):
            info = self._head(key, version)
            first = max(0, info.size + start) if start < 0 else start
            last = info.size if end is None else min(end, info.size)
            if first >= last:
                return b"", info
            try:
                return self._read(key, first, last, version, info.pin), info
            except ObjectChangedError:
                # Between the two requests; nothing has been handed out yet that this would have to agree with.
                if last_try:
                    raise
        raise AssertionError("unreachable")

    def _open_small(
        self, key: str, start: int, size: int, version: str
    ) -> tuple[bytes, ObjectInfo | PinnedObject] | None:
        """The first or last `size` bytes, in one request where that is all; None where the other way has to tell."""
        if version and not version.isdigit():
            return None
        blob = self._blob(key, generation=int(version)) if version else self._blob(key)
        try:
            data = self._download(blob, start, size if start == 0 else None)
        except (api.NotFound, api.RequestRangeNotSatisfiable):
            return None  # missing, or empty: `_head` tells
        # The answer says which generation it is of, but of a part not how long the whole is.
        pin = str(blob.generation or "")
        if pin and len(data) < size:
            return data, PinnedObject(len(data), pin, pin)
        info = self._head(key, version)
        return (data, info) if info.pin == pin and len(data) == min(size, info.size) else None

    def _read(self, key: str, start: int, end: int, version: str, pin: str) -> bytes:
        # By its generation: what has been overwritten since is missing then, or still there where versions are kept.
        blob = self._blob(key, generation=int(pin))
        try:
            for _ in range(_BODY_TRIES):
                data = self._download(blob, start, end)
                if blob.generation is not None and str(blob.generation) != pin:
                    # A service that ignores the generation.
                    raise ObjectChangedError
                # A proxy that passes on a part as if it were all is not noticed by the client.
                if len(data) == end - start:
                    return data
        except (api.RequestRangeNotSatisfiable, storage_errors.DataCorruption):
            raise ObjectChangedError from None
        except api.NotFound:
            # Removed or overwritten since it was opened: that says nothing about the bucket.
            self._head(key, version)
            raise ObjectChangedError from None
        uri = self.uri(key)
        raise ServiceUnavailableError(f"{uri}: Cloud Storage answered with fewer bytes than were asked for", uri=uri)

    @staticmethod
    def _download(blob: storage.Blob, start: int, end: int | None) -> bytes:
        # Raw: the server would decompress an object that says it is gzip, and the range would be of another text.
        return blob.download_as_bytes(  # type: ignore[no-any-return]
            start=start,
            end=None if end is None else end - 1,
            raw_download=True,
            # Otherwise 8 KiB at a time, for which sixteen threads wait in turn for Python's lock.
            single_shot_download=True,
            checksum=None,
            retry=_RETRY,
            timeout=_TIMEOUT,
        )

    def _head(self, key: str, version: str) -> ObjectInfo:
        if version and not version.isdigit():
            raise ArtifactNotFoundError(f"{self.uri(key)} has no version {version!r}", uri=self.uri(key))
        blob = self._blob(key, generation=int(version)) if version else self._blob(key)
        try:
            blob.reload(retry=_RETRY, timeout=_TIMEOUT)
        except api.NotFound as error:
            self._check_bucket()
            raise ArtifactNotFoundError(f"there is no {self.uri(key)}", uri=self.uri(key)) from error
        return self._info(blob)

    def _info(self, blob: storage.Blob) -> ObjectInfo:
        said = {"generation": blob.generation, "size": blob.size}
        generation = str(self._said(said, "generation", blob.name))
        size = self._said(said, "size", blob.name)
        return ObjectInfo(size, blob.time_created, generation, generation, dict(blob.metadata or {}))

    def _list(self, prefix: str) -> Iterator[str]:
        fields = "items(name),nextPageToken"
        blobs = self.client.list_blobs(
            self._bucket, prefix=prefix, fields=fields, page_size=1000, retry=_RETRY, timeout=_TIMEOUT
        )
        for blob in blobs:
            yield blob.name

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        blobs = self.client.list_blobs(self._bucket, prefix=key, versions=True, retry=_RETRY, timeout=_TIMEOUT)
        kept = [self._info(blob) for blob in blobs if blob.name == key]
        yield from sorted(kept, key=lambda info: int(info.version), reverse=True)

    def _remove(self, key: str) -> None:
        try:
            self._blob(key).delete(retry=_RETRY, timeout=_TIMEOUT)
        except api.NotFound:
            self._check_bucket()

    def _copy(self, source: str, target: str) -> None:
        self._head(source, "")
        copy = self._blob(target, kms_key_name=self._kms_key_name)
        token = None
        while True:
            token, copied, size = copy.rewrite(self._blob(source), token=token, retry=_RETRY, timeout=_TIMEOUT)
            if token is None:
                if copied != size:
                    raise failures.missing(self.uri(target), SERVICE, "the token to go on copying with")
                return

    def _check_bucket(self) -> None:
        try:
            # Not `bucket.exists()`: it takes a permission that who may read and write objects often has not.
            next(iter(self.client.list_blobs(self._bucket, max_results=1, retry=_RETRY, timeout=_TIMEOUT)), None)
        except api.NotFound as error:
            raise no_bucket(self._name) from error
        except api.Forbidden:
            pass  # not permitted to look: the bucket is there, then

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return translated(error, uri, self._name)
