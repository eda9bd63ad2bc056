"""Checks that clouds make and their emulators do not, for a proxy in front of an emulator.

    proxy.around = Strict(door)

Cloud Storage checks the condition of a resumable upload when the upload ends. S3 and Cloud Storage check the requested
version of a copy's source. moto and fake-gcs-server do not, and moto fails if the upload that is to end was aborted.
A cloud checks and writes in one step, but moto in two, so here one request is carried out after another.
"""

import json
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.proxy import Answered, Forward, Seen

_S3 = b'<?xml version="1.0"?><Error><Code>PreconditionFailed</Code><Message>A condition did not hold.</Message></Error>'
_NO_UPLOAD = _S3.replace(b"PreconditionFailed", b"NoSuchUpload")
_GCS = {"error": {"code": 412, "message": "no", "errors": [{"reason": "conditionNotMet"}]}}


class Strict:
    """Carries out conditional requests one at a time, and refuses requests whose condition does not hold.

    Args:
        door: Direct access to the emulator's objects, without the proxy.
    """

    def __init__(self, door: Any) -> None:
        self._door = door
        self._turn = threading.Lock()
        # For resumable uploads that must not replace an object: from the URL of the parts to the object's name.
        self._sessions: dict[str, str] = {}

    def __call__(self, seen: Seen, forward: Forward) -> Answered:
        """The answer that the cloud would give."""
        if not (completes(seen) or copies(seen) or begins_in_parts(seen)):
            return forward()
        with self._turn:
            # If the source is gone, the emulator says so.
            if "x-amz-copy-source-if-match" in seen.headers and not self._is_source(seen):
                return 412, [("Content-Type", "application/xml")], _S3
            if "uploadId" in seen.query and completes(seen) and not self._is_begun(seen.query["uploadId"][0]):
                return 404, [("Content-Type", "application/xml")], _NO_UPLOAD
            generation = seen.query.get("ifSourceGenerationMatch")
            if generation and self._generation(seen) not in ("", generation[0]):
                return 412, [("Content-Type", "application/json")], json.dumps(_GCS).encode()
            if completes(seen) and self._sessions.get(seen.path) in self._door.keys():
                return 412, [("Content-Type", "application/json")], json.dumps(_GCS).encode()
            answer = forward()
            if seen.query.get("uploadType") == ["resumable"] and seen.query.get("ifGenerationMatch") == ["0"]:
                where = urlsplit(dict(answer[1])["Location"])
                self._sessions[f"{where.path}?{where.query}"] = json.loads(seen.body)["name"]
            return answer

    def _is_begun(self, upload: str) -> bool:
        found = self._door.client.list_multipart_uploads(Bucket=self._door.bucket).get("Uploads", ())
        return any(one["UploadId"] == upload for one in found)

    def _is_source(self, seen: Seen) -> bool:
        bucket, _, key = unquote(seen.headers["x-amz-copy-source"]).lstrip("/").partition("/")
        if key not in self._door.keys():
            return True
        found = self._door.client.head_object(Bucket=bucket, Key=key)
        return found["ETag"].strip('"') == seen.headers["x-amz-copy-source-if-match"].strip('"')

    def _generation(self, seen: Seen) -> str:
        key = unquote(seen.path.partition("/o/")[2].partition("/rewriteTo/")[0])
        found = self._door.client.bucket(self._door.bucket).get_blob(key)
        return str(found.generation) if found else ""


def begins_in_parts(seen: Seen) -> bool:
    """Whether the request begins an upload in parts. On Azure, which has no such request, whether it sends a part."""
    is_s3 = seen.method == "POST" and "uploads" in seen.path.partition("?")[2]
    is_azure = seen.method == "PUT" and seen.query.get("comp") == ["block"]
    return is_s3 or is_azure or (seen.method == "POST" and seen.query.get("uploadType") == ["resumable"])


def completes(seen: Seen) -> bool:
    """Whether the request completes an upload in parts."""
    is_s3 = seen.method == "POST" and "uploadId" in seen.query
    is_azure = seen.method == "PUT" and seen.query.get("comp") == ["blocklist"]
    return is_s3 or is_azure or (seen.method == "PUT" and not seen.headers.get("content-range", "*").endswith("*"))


def copies(seen: Seen) -> bool:
    """Whether the request copies an object or a part of an object."""
    return not {"x-amz-copy-source", "x-ms-copy-source"}.isdisjoint(seen.headers) or "/rewriteTo/" in seen.path
