"""A Cloud Storage that only receives, checksums (CRC32C) and sends, so that it takes little of anyone's time.

    python -m tests.benchmarks.null_gcs PORT

It has the JSON API's single and resumable uploads, downloads with ranges, metadata, listings and removals. Every bucket
exists. It checks no condition and no login, and is no test of Cloud Storage's behaviour. `/__ctl` answers bytes in and
out and requests so far; `?lat=25` sets a latency in milliseconds, `?clear=1` removes all objects.

An object is the list of the blocks that `recv` gave: they are checksummed, kept and sent again without a copy. A
thread serves a connection; `recv` and `send` wait without Python's lock.
"""

import base64
import itertools
import json
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

_BLOCK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_OBJECTS = re.compile(r"(?:/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?")
_WHEN = "2026-01-01T00:00:00Z"


@dataclass
class _Object:
    """Blocks of bytes, and what is told of them."""

    described: dict[str, Any] = field(default_factory=dict)
    blocks: list[bytes] = field(default_factory=list)
    size: int = 0
    crc: int = 0
    generation: int = 0

    def add(self, block: bytes) -> None:
        """Add a block at the end."""
        self.blocks.append(block)
        self.size += len(block)
        self.crc = google_crc32c.extend(self.crc, block)

    def between(self, begin: int, end: int) -> Iterator[memoryview]:
        """The bytes of a range, block by block."""
        offset = 0
        for block in self.blocks:
            if offset < end and offset + len(block) > begin:
                yield memoryview(block)[max(0, begin - offset) : end - offset]
            offset += len(block)

    @property
    def hash(self) -> str:
        """The checksum as Cloud Storage writes it."""
        return base64.b64encode(self.crc.to_bytes(4, "big")).decode()

    def document(self) -> dict[str, Any]:
        """The metadata."""
        numbers = {"generation": str(self.generation), "metageneration": "1", "size": str(self.size)}
        times = {"timeCreated": _WHEN, "updated": _WHEN}
        return {**self.described, "kind": "storage#object", **numbers, **times, "crc32c": self.hash, "etag": self.hash}


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.objects: dict[str, _Object] = {}
        self.sessions: dict[str, _Object] = {}
        self.numbers = itertools.count(1)
        self.counted = {"in": 0, "out": 0, "req": 0}
        self.latency = 0.0
        self._lock = threading.Lock()

    def count(self, **more: int) -> None:
        """Add to the counters."""
        with self._lock:
            for key, value in more.items():
                self.counted[key] += value

    def keep(self, finished: _Object) -> bytes:
        """Put an object under its name; its metadata."""
        finished.generation = next(self.numbers)
        self.objects[finished.described["name"]] = finished
        return json.dumps(finished.document()).encode()


class _Connection(socketserver.BaseRequestHandler):
    """A connection that is kept until the client ends it."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffered = b""
        try:
            while head := self._head():
                self._answer(*head)
        except ConnectionError:
            return  # the contestant has ended

    def _head(self) -> tuple[str, str, dict[str, str]] | None:
        """The method, the target and the headers of the next request; None at the end."""
        while b"\r\n\r\n" not in self.buffered:
            if not (block := self.request.recv(_BLOCK_BYTES)):
                return None
            self.buffered += block
        head, _, self.buffered = self.buffered.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "expect" in headers:
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return method, target, headers

    def _body(self, headers: dict[str, str]) -> Iterator[bytes]:
        """The body, as it arrives."""
        left = length = int(headers.get("content-length") or 0)
        self.server.count(**{"in": length})
        if left and self.buffered:
            block, self.buffered = self.buffered[:left], self.buffered[left:]
            left -= len(block)
            yield block
        while left:
            if not (block := self.request.recv(min(left, _BLOCK_BYTES))):
                raise ConnectionResetError
            left -= len(block)
            yield block

    def _answer(self, method: str, target: str, headers: dict[str, str]) -> None:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == "/__ctl":
            self._control(query)
            return
        self.server.count(req=1)
        if self.server.latency:
            time.sleep(self.server.latency)
        found = _OBJECTS.fullmatch(url.path)
        bucket, name = (found[1], unquote(found[2] or "")) if found else ("", "")
        if url.path.startswith("/upload/"):
            self._upload(query, headers, bucket)
            return
        for _ in self._body(headers):
            pass
        if not name:
            self._bucket(url.path, query, bucket)
        elif name not in self.server.objects:
            self._send("404 Not Found", b'{"error": {"code": 404, "message": "no such object"}}')
        elif method == "DELETE":
            del self.server.objects[name]
            self._send("204 No Content", b"")
        elif query.get("alt") == "media":
            self._download(self.server.objects[name], headers)
        else:
            self._send("200 OK", json.dumps(self.server.objects[name].document()).encode())

    def _control(self, query: dict[str, str]) -> None:
        self.server.latency = int(query.get("lat", self.server.latency * 1000)) / 1000
        if "clear" in query:
            self.server.objects.clear()
        self._send("200 OK", json.dumps(self.server.counted).encode(), counted=False)

    def _bucket(self, path: str, query: dict[str, str], bucket: str) -> None:
        document: dict[str, Any] = {"kind": "storage#bucket", "name": bucket, "id": bucket}
        if path.endswith("/o"):
            objects = dict(self.server.objects)
            names = sorted(name for name in objects if name.startswith(query.get("prefix", "")))
            items = [objects[name].document() for name in names]
            document = {"kind": "storage#objects", "items": items[: int(query.get("maxResults", len(items)))]}
        self._send("200 OK", json.dumps(document).encode())

    def _upload(self, query: dict[str, str], headers: dict[str, str], bucket: str) -> None:
        if session := query.get("upload_id"):
            self._part(session, headers)
            return
        body = b"".join(self._body(headers))
        named = {"name": query.get("name", ""), "bucket": bucket}
        if query["uploadType"] == "resumable":
            session = str(next(self.server.numbers))
            self.server.sessions[session] = _Object(named | json.loads(body or b"{}"))
            where = f"http://{headers['host']}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
            self._send("200 OK", b"", f"Location: {where}")
            return
        # multipart/related: a boundary, the metadata, the same boundary, the bytes, and the boundary with two dashes.
        boundary = body[: body.index(b"\r\n")]
        _, described, data = body[: body.rindex(b"\r\n" + boundary)].split(boundary + b"\r\n", 2)
        made = _Object(named | json.loads(described.partition(b"\r\n\r\n")[2]))
        made.add(data.partition(b"\r\n\r\n")[2])
        self._send("200 OK", self.server.keep(made))

    def _part(self, session: str, headers: dict[str, str]) -> None:
        made = self.server.sessions[session]
        for block in self._body(headers):
            made.add(block)
        part = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if part and (part[3] == "*" or int(part[3]) > made.size):
            self._send("308 Resume Incomplete", b"", *[f"Range: bytes=0-{made.size - 1}"] * bool(made.size))
            return
        del self.server.sessions[session]
        self._send("200 OK", self.server.keep(made))

    def _download(self, found: _Object, headers: dict[str, str]) -> None:
        begin, end, lines = 0, found.size, []
        if wanted := _RANGE.fullmatch(headers.get("range", "")):
            if wanted[1]:
                begin, end = int(wanted[1]), min(found.size, int(wanted[2] or found.size) + 1)
            else:
                begin = max(0, found.size - int(wanted[2]))
            if begin >= found.size:
                self._send("416 Range Not Satisfiable", b"")
                return
            lines = [f"Content-Range: bytes {begin}-{end - 1}/{found.size}"]
        lines += [f"X-Goog-Hash: crc32c={found.hash}", f"X-Goog-Generation: {found.generation}"]
        self._first("206 Partial Content" if wanted else "200 OK", end - begin, lines)
        for block in found.between(begin, end):
            self.request.sendall(block)
        self.server.count(out=end - begin)

    def _send(self, status: str, body: bytes, *lines: str, counted: bool = True) -> None:
        self._first(status, len(body), ["Content-Type: application/json", *lines], body)
        self.server.count(out=len(body) * counted)

    def _first(self, status: str, length: int, lines: list[str], body: bytes = b"") -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *lines, "", ""])
        self.request.sendall(head.encode() + body)


if __name__ == "__main__":
    _Server(int(sys.argv[1])).serve_forever()
