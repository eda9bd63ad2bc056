"""Blobs of an Azure container."""

import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from azure.core import MatchConditions
from azure.storage.blob import BlobBlock, BlobProperties, ContainerClient, ContentSettings

from clinops_prefect.errors import InvalidArtifactNameError
from clinops_prefect.storage.azure.errors import ADDRESS, AUTHORITY, EXISTS, SERVICE, code_of, translated
from clinops_prefect.storage.backend import Can, ObjectInfo, Writing
from clinops_prefect.storage.ranges import ByteRange
from clinops_prefect.storage.service import Fetched, NothingThereError, ServiceBackend

_COPY_POLL_SECONDS = 0.5


class AzureBackend(ServiceBackend[tuple[str, str]]):
    """Blobs of one container.

    Args:
        container: The container.
        client: Returns the container's client. Called for each request, so that a backend can be pickled and kept.
        encryption_scope: An encryption scope of the account. If empty, the container's default is used.
    """

    service = SERVICE
    authority = AUTHORITY
    address = ADDRESS
    can = frozenset({Can.KEEP_VERSIONS, Can.UPLOAD_IN_PARTS, Can.COMPLETE_CONDITIONALLY})
    removed_at_once = 256
    # When another upload of the same name commits first, Azure drops the blocks of this one.
    not_written = frozenset({*EXISTS, "InvalidBlockList", "InvalidBlobOrBlock"})
    changed = frozenset({"ConditionNotMet", "SourceConditionNotMet", "BlobNotFound"})
    beyond_end = frozenset({"InvalidRange"})
    # Azure allows fifty thousand blocks.
    double_every = 10_000
    # The service copies an object of any size itself, in steps.
    copy_bytes = sys.maxsize

    def __init__(self, container: str, client: Callable[[], ContainerClient], *, encryption_scope: str = "") -> None:
        self._container = container
        self._client = client
        self._encryption: dict[str, Any] = {"encryption_scope": encryption_scope} if encryption_scope else {}

    def uri(self, key: str) -> str:
        return f"az://{self._container}/{key}"

    def browser_url(self, key: str) -> str:
        # The query is left out, because it may be a signature.
        return str(self._blob(key).url).partition("?")[0]

    def _blob(self, key: str) -> Any:
        if "\\" in key:
            # Azure treats a backslash as a slash, so two names would mean the same object.
            raise InvalidArtifactNameError(
                f"{self.uri(key)}: Azure takes the backslash in a name for a slash; use a slash", uri=self.uri(key)
            )
        return self._client().get_blob_client(key)

    def _what(self, writing: Writing) -> dict[str, Any]:
        condition = {} if writing.overwrite else {"match_condition": MatchConditions.IfMissing}
        texts = {_encoded(name): value for name, value in writing.metadata.items()}
        content = ContentSettings(content_type=writing.content_type)
        return {"metadata": texts, "content_settings": content, **self._encryption, **condition}

    def _put(self, key: str, data: bytes, writing: Writing) -> None:
        options = {"overwrite": writing.overwrite, **self._what(writing)}
        # validate_content sends a checksum, which the service compares with the bytes that arrive.
        answer = self._blob(key).upload_blob(data, validate_content=True, **options)
        # A server that is not Blob Storage may answer 201 although it stored nothing. The missing ETag shows that.
        self._said(answer.get("etag"), "ETag", key)

    def _begin(self, key: str, _writing: Writing) -> tuple[str, str]:
        return key, uuid.uuid4().hex

    def _put_part(self, upload: tuple[str, str], number: int, data: bytes) -> str:
        # The ids of all unfinished blocks of a name must have one length. Azure's own clients have 48 characters, so an
        # upload of such a client that was killed does not stop ours.
        block = f"{upload[1]}{number:016d}"
        self._blob(upload[0]).stage_block(block, data, validate_content=True, **self._encryption)
        return block

    def _complete(self, upload: tuple[str, str], receipts: list[str], writing: Writing) -> None:
        blocks = [BlobBlock(block) for block in receipts]
        answer = self._blob(upload[0]).commit_block_list(blocks, **self._what(writing))
        self._said(answer.get("etag"), "ETag", upload[0])

    def _abort(self, upload: tuple[str, str]) -> None:
        """Do nothing: Azure has no such request and drops uncommitted blocks after a week."""

    def _get(self, key: str, wanted: ByteRange, version: str, pin: str) -> Fetched:
        options: dict[str, Any] = {"etag": pin, "match_condition": MatchConditions.IfNotModified} if pin else {}
        body = self._blob(key).download_blob(wanted.start, wanted.length, version_id=version or None, **options)
        data = body.readall()
        # The client reports the number of requested bytes as the blob's size, so the size is read from the header. The
        # client itself refuses an answer without this header.
        where = str(body.properties.content_range)
        start, size = map(int, re.findall(r"bytes (\d+)-\d+/(\d+)", where)[0])
        return Fetched(data, start, replace(self._info(key, body.properties), size=size))

    def _stat(self, key: str, version: str) -> ObjectInfo:
        return self._info(key, self._blob(key).get_blob_properties(version_id=version or None))

    def _info(self, key: str, found: BlobProperties) -> ObjectInfo:
        size, tag = self._said(found.size, "Content-Length", key), self._said(found.etag, "ETag", key)
        texts = {_decoded(name): value for name, value in (found.metadata or {}).items()}
        content_type = found.content_settings.content_type or "application/octet-stream"
        # A listing gives the ETag without the quotes that a condition needs.
        pin, version = '"' + tag.strip('"') + '"', str(found.version_id or "")
        return ObjectInfo(size, found.last_modified, version, pin, texts, content_type)

    def _list(self, prefix: str) -> Iterator[str]:
        yield from self._client().list_blob_names(name_starts_with=prefix)

    def _versions(self, key: str) -> Iterator[ObjectInfo]:
        found = self._client().list_blobs(name_starts_with=key, include=["versions"])
        kept = [self._info(key, blob) for blob in found if blob.name == key]
        # A version id is the time of the write, so this sorts by time.
        yield from sorted(kept, key=lambda info: info.version, reverse=True)

    def _remove(self, key: str) -> None:
        with suppress(NothingThereError), self._understood(frozenset(), frozenset({"BlobNotFound"})):
            self._blob(key).delete_blob(delete_snapshots="include")

    def _remove_together(self, keys: Sequence[str]) -> Sequence[str]:
        options: dict[str, Any] = {"delete_snapshots": "include", "raise_on_any_failure": False}
        answers = self._client().delete_blobs(*keys, **options)
        return [key for key, answer in zip(keys, answers, strict=True) if answer.status_code != 202]

    def _copy_whole(self, source: str, found: ObjectInfo, target: str) -> None:
        if self._encryption:
            # A copy by the service would use the container's default key.
            return self._copy_through_here(source, found, target)
        blob = self._blob(target)
        options = {"source_etag": found.pin, "source_match_condition": MatchConditions.IfNotModified}
        copy = blob.start_copy_from_url(self._blob(source).url, **options)
        while copy.get("copy_status") == "pending":
            time.sleep(_COPY_POLL_SECONDS)
            copy = {"copy_status": blob.get_blob_properties().copy.status}
        self._said(copy.get("copy_status") == "success" or None, "a copy that is finished", target)
        return None

    def _code(self, error: Exception) -> str:
        return code_of(error)

    def _translate(self, error: Exception, uri: str) -> Exception | None:
        return translated(error, uri, self._container)


def _encoded(name: str) -> str:
    """A metadata name as the C# identifier that Azure demands: `write-id` becomes `write_2did`."""
    return re.sub(r"[^a-z0-9]|^[0-9]", lambda found: f"_{ord(found[0]):02x}", name)


def _decoded(name: str) -> str:
    return re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), name.lower())
