"""An S3 that holds few files in memory under many names, to read from.

    python -m tests.benchmarks.many_names PORT FOLDER

FOLDER has a folder for each kind of file. The prefix `KIND-COUNT/` of the bucket then has COUNT objects, and object
number n is file number n of the kind, counted round and round. So a dataset may be larger than the machine. The server
answers ListObjectsV2, HEAD and GET with ranges; `/__ctl` counts and sets latency as that of the other stub does.
"""

import json
import re
import socketserver
import sys
import threading
import time
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY
from urllib.parse import parse_qs, unquote, urlsplit

_OBJECT = re.compile(r"(?P<kind>[a-z]+)-(?P<count>\d+)/shard-(?P<number>\d+)\.parquet")
_FOLDER = re.compile(r"(?P<kind>[a-z]+)-(?P<count>\d+)/.*")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_MODIFIED = ("2026-01-01T00:00:00.000Z", "Thu, 01 Jan 2026 00:00:00 GMT")
_PAGE = 1000


class _Objects:
    """The files, and what was asked for them."""

    def __init__(self, folder: Path) -> None:
        self._files = {
            kind.name: [(file, file.stat().st_size) for file in sorted(kind.glob("*.parquet"))]
            for kind in folder.iterdir()
            if kind.is_dir()
        }
        self._lock = threading.Lock()
        self.counted = {"in": 0, "out": 0, "req": 0}
        self.latency = 0.0

    def count(self, **more: int) -> None:
        with self._lock:
            for key, value in more.items():
                self.counted[key] += value

    def find(self, key: str) -> tuple[Path, int] | None:
        """The file of a key, and its size."""
        found = _OBJECT.fullmatch(key)
        if (
            found is None
            or int(found["number"]) >= int(found["count"])
            or not (files := self._files.get(found["kind"]))
        ):
            return None
        return files[int(found["number"]) % len(files)]

    def listing(self, query: dict[str, str]) -> bytes:
        """A page of ListObjectsV2."""
        prefix, found = query.get("prefix", ""), _FOLDER.fullmatch(query.get("prefix", ""))
        files = self._files.get(found["kind"], []) if found else []
        begin = int(query.get("continuation-token", "0"))
        limit, count = int(query.get("max-keys") or _PAGE), int(found["count"]) if found and files else 0
        rows = []
        for number in range(begin, min(count, begin + limit)):
            key = f"{prefix.partition('/')[0]}/shard-{number:05d}.parquet"
            if key.startswith(prefix):
                rows.append(
                    f"<Contents><Key>{key}</Key><LastModified>{_MODIFIED[0]}</LastModified><ETag>{_etag(key)}</ETag>"
                    f"<Size>{files[number % len(files)][1]}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
        is_cut = begin + limit < count
        more = f"<NextContinuationToken>{begin + limit}</NextContinuationToken>" if is_cut else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>bench</Name><Prefix>{prefix}</Prefix><KeyCount>{len(rows)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
            f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{more}{''.join(rows)}</ListBucketResult>"
        ).encode()


def _etag(key: str) -> str:
    return f'"{key.encode().hex()[:64]}"'


class _Connection(socketserver.StreamRequestHandler):
    """A connection that is kept until the client ends it."""

    server: "_Server"

    def handle(self) -> None:
        self.connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        try:
            while line := self.rfile.readline():
                headers: dict[str, str] = {}
                while (header := self.rfile.readline()) not in (b"\r\n", b""):
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name.strip().lower()] = value.strip()
                method, target, _ = line.decode("latin-1").split()
                self._answer(method, target, headers)
        except ConnectionError:
            return  # the contestant has ended

    def _answer(self, method: str, target: str, headers: dict[str, str]) -> None:
        objects, url = self.server.objects, urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == "/__ctl":
            if "lat" in query:
                objects.latency = int(query["lat"]) / 1000
            self._send(200, json.dumps(objects.counted).encode())
            return
        objects.count(req=1)
        time.sleep(objects.latency)
        key = unquote(url.path).strip("/").partition("/")[2]
        if not key:
            self._send(200, objects.listing(query) if method == "GET" else b"", head=method == "HEAD")
        elif (found := objects.find(key)) is None:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", head=method == "HEAD")
        elif headers.get("if-match", _etag(key)) != _etag(key):
            self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>", head=method == "HEAD")
        else:
            self._object(key, *found, headers.get("range", ""), head=method == "HEAD")

    def _object(self, key: str, file: Path, size: int, wanted: str, *, head: bool) -> None:
        begin, end, status = 0, size, 200
        if found := _RANGE.fullmatch(wanted):
            status = 206
            if not found[1]:
                begin = max(0, size - int(found[2]))
            else:
                begin, end = int(found[1]), min(size, int(found[2] or size) + 1)
        more = [f"ETag: {_etag(key)}", f"Last-Modified: {_MODIFIED[1]}", "Accept-Ranges: bytes"]
        more += [f"Content-Range: bytes {begin}-{end - 1}/{size}"] * (status == 206)
        self._head(status, end - begin, more)
        if not head:
            with file.open("rb") as opened:
                self.connection.sendfile(opened, begin, end - begin)
            self.server.objects.count(out=end - begin)

    def _send(self, status: int, body: bytes, *, head: bool = False) -> None:
        self._head(status, len(body), ["Content-Type: application/xml"])
        if not head:
            self.connection.sendall(body)
            self.server.objects.count(out=len(body))

    def _head(self, status: int, length: int, more: list[str]) -> None:
        lines = [f"HTTP/1.1 {status} Answer", f"Content-Length: {length}", *more, "", ""]
        self.connection.sendall("\r\n".join(lines).encode())


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024

    def __init__(self, port: int, objects: _Objects) -> None:
        super().__init__(("127.0.0.1", port), _Connection)
        self.objects = objects


if __name__ == "__main__":
    _Server(int(sys.argv[1]), _Objects(Path(sys.argv[2]))).serve_forever()
