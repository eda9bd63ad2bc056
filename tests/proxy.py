"""An HTTP proxy in front of an emulator, which records every request and injects faults of networks and services.

    with Proxy(upstream) as proxy:
        store = door.store(endpoint_url=proxy.url)
        proxy.answers = deny            # 403 to everything
        proxy.seen                      # the requests, and how many bytes were answered

An answer is a function from a request to an `Outcome` or a `Reply`. `first(2, busy)` injects two faults and then stops.
`proxy.edit` changes the emulator's answers, like a service that leaves something out. We need our own proxy because the
faults are of HTTP, not of TCP: which request, before or after it was carried out, which bit of which body.
"""

import base64
import http.client
import itertools
import random
import select
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


class Outcome(Enum):
    """What the proxy does with a request."""

    FORWARD = auto()
    DENY = auto()  # 403, with the messages of both clouds
    BUSY = auto()  # 503, without a body
    SLOW_DOWN = auto()  # 503, with the messages of both clouds
    ERROR = auto()  # 500
    EXPIRED = auto()  # the token has just expired
    CUT = auto()  # the answer breaks off in the middle of its body
    SHORT = auto()  # half of the answer's body, as if it were complete
    FLIP = auto()  # one bit of the answer's body is changed
    FLIP_SENT = auto()  # one bit of the request's body is changed
    GONE = auto()  # 404, as S3 may answer to a second completion of an upload
    SLOW = auto()  # both bodies take some seconds
    HANG = auto()  # the request is read, and never answered
    LOSE = auto()  # the request is carried out, and the answer is lost
    TOKEN = auto()  # an OAuth token, as from Google's token server
    REFUSE = auto()  # the connection is reset before the body is read
    BREAK = auto()  # the connection is reset in the middle of the request's body


class Seen:
    """One request and its answer. The body is read only when a test looks at it."""

    def __init__(self, method: str, path: str, headers: dict[str, str], read: Callable[[], bytes]) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.query = parse_qs(urlsplit(path).query)
        # The length that the headers say, before the body is read.
        self.length = int(headers.get("x-amz-decoded-content-length", headers.get("content-length", 0)))
        self.status = 0
        self.answered = 0
        self._read = read

    @cached_property
    def body(self) -> bytes:
        """The bytes of the request's body."""
        return self._read()


@dataclass(frozen=True)
class Reply:
    """An answer of the proxy itself, without a request to the emulator."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


Headers = list[tuple[str, str]]
Answer = Callable[[Seen], Outcome | Reply]
Answered = tuple[int, Headers, bytes]
Forward = Callable[[], Answered]
Edit = Callable[[Seen, int, Headers, bytes], Answered]


def forward(_: Seen) -> Outcome:
    return Outcome.FORWARD


def deny(_: Seen) -> Outcome:
    return Outcome.DENY


def busy(_: Seen) -> Outcome:
    return Outcome.BUSY


def cut(_: Seen) -> Outcome:
    return Outcome.CUT


def lose(_: Seen) -> Outcome:
    return Outcome.LOSE


def first(times: int, answer: Answer, *, method: str = "") -> Answer:
    """`answer` to the first `times` requests, of `method` if it is given. All others are forwarded."""
    count = itertools.count()

    def answering(seen: Seen) -> Outcome | Reply:
        if method and seen.method != method:
            return Outcome.FORWARD
        return answer(seen) if next(count) < times else Outcome.FORWARD

    return answering


_DENIED = (
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
    b'{"error": {"code": 403, "message": "forbidden", "errors": [{"reason": "forbidden"}]}}',
)
_SLOW_DOWN = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>',
    b'{"error": {"code": 503, "message": "slow down", "errors": [{"reason": "backendError"}]}}',
)
_ERROR = (
    b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>We encountered an error.</Message></Error>',
    b'{"error": {"code": 500, "message": "internal", "errors": [{"reason": "internalError"}]}}',
)
_EXPIRED = (
    b'<?xml version="1.0"?><Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>',
    b'{"error": {"code": 401, "message": "Invalid Credentials", "errors": [{"reason": "authError"}]}}',
)
_GONE = (
    b'<?xml version="1.0"?><Error><Code>NoSuchUpload</Code><Message>The upload does not exist.</Message></Error>',
    b'{"error": {"code": 404, "message": "not found", "errors": [{"reason": "notFound"}]}}',
)
_BAD_DIGEST = (
    b'<?xml version="1.0"?><Error><Code>BadDigest</Code><Message>The checksum did not match.</Message></Error>'
)
# Answers of the proxy itself: the status on S3 and on Cloud Storage, and the body on each.
_OWN_ANSWERS = {
    Outcome.DENY: ((403, 403), _DENIED),
    Outcome.BUSY: ((503, 503), (b"", b"")),
    Outcome.SLOW_DOWN: ((503, 503), _SLOW_DOWN),
    Outcome.ERROR: ((500, 500), _ERROR),
    Outcome.EXPIRED: ((400, 401), _EXPIRED),
    Outcome.GONE: ((404, 404), _GONE),
}
_SLOW_CHUNKS, _SLOW_PAUSE_SECONDS = 32, 0.3
_TOKEN = b'{"access_token": "from-the-proxy", "expires_in": 3600, "token_type": "Bearer"}'
_DROPPED_HEADERS = {"transfer-encoding", "connection", "content-length", "date", "server"}


class Proxy:
    """A reverse proxy on a free port, which runs within the `with` block."""

    def __init__(self, upstream: str, *, checks_bodies: bool = True) -> None:
        self.upstream = urlsplit(upstream)
        self.answers: Answer = forward
        self.rewrite: Callable[[str], str] = lambda path: path
        self.host = ""  # the Host header for the emulator; if empty, the client's
        self.edit: Edit = lambda _seen, status, headers, body: (status, headers, body)
        # Asks the emulator, or answers instead of it; see tests/strict.py.
        self.around: Callable[[Seen, Forward], Answered] = lambda _seen, ask: ask()
        self.seen: list[Seen] = []
        self.chance = random.Random(0)  # for the bits
        self.checks_bodies = checks_bodies  # for an emulator that does not check them
        # The answer to each chunk of a resumable upload. Cloud Storage ignores a chunk that is sent again, but the
        # emulator would append it.
        self.chunk_answers: dict[tuple[str, str], tuple[int, list[tuple[str, str]], bytes]] = {}
        self.closed = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.netloc}"

    def speak_tls(self, certificate: Path, key: Path) -> None:
        """Answer to https only. Call this before the `with` block."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.netloc = self.netloc.replace("127.0.0.1", "localhost")
        self.url = f"https://{self.netloc}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Forget the requests seen so far."""
        self.seen.clear()

    @property
    def connections(self) -> int:
        """The connections of clients so far, also those whose TLS handshake failed."""
        return self._server.connections

    @property
    def answered(self) -> int:
        """The bytes of all answers' bodies."""
        return sum(seen.answered for seen in self.seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    # The end of a test must not wait for connections that clients keep open.
    block_on_close = False
    connections = 0

    def get_request(self) -> tuple[socket.socket, Any]:
        # Counted before the TLS handshake, which may fail.
        self.connections += 1
        return super().get_request()

    def server_bind(self) -> None:
        # A small buffer, so that the sender notices slow reads. The loopback's buffers would hide them.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        super().server_bind()

    def handle_error(self, *_: object) -> None:
        """Ignore errors: in some tests the client closes the connection."""


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        upstream: http.client.HTTPConnection | None = None

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

        def _serve(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, lambda: b"".join(self._body()))
            proxy.seen.append(seen)
            outcome = proxy.answers(seen)
            if outcome in (Outcome.REFUSE, Outcome.BREAK):
                if outcome is Outcome.BREAK and "body" not in vars(seen):
                    next(self._body(), b"")
                seen.__dict__.setdefault("body", b"")
                self._reset()
                return
            if outcome is Outcome.SLOW and "body" not in vars(seen):
                seen.__dict__["body"] = b"".join(self._body(_SLOW_PAUSE_SECONDS))
            is_json = self.path.startswith(("/storage", "/upload", "/download", "/b/", "/resumable"))
            sent = seen.body  # read all of it, or the rest would be taken for the next request
            if isinstance(outcome, Reply):
                self._answer(seen, outcome.status, list(outcome.headers), outcome.body)
            elif outcome in _OWN_ANSWERS:
                statuses, words = _OWN_ANSWERS[outcome]
                self._answer(seen, statuses[is_json], [], words[is_json])
            elif outcome is Outcome.TOKEN:
                self._answer(seen, 200, [("Content-Type", "application/json")], _TOKEN)
            elif outcome is Outcome.HANG:
                # Wait until the client gives up.
                while not (proxy.closed.wait(0.2) or self._is_left()):
                    pass
                self.close_connection = True
            else:
                if outcome is Outcome.FLIP_SENT:
                    sent = _flipped(sent, proxy.chance)
                    if proxy.checks_bodies and not _is_intact(seen, sent):
                        self._answer(seen, 400, [], _BAD_DIGEST)
                        return
                status, answered, data = proxy.edit(seen, *proxy.around(seen, partial(self._forward, seen, sent)))
                if outcome is Outcome.LOSE:
                    self._reset()
                    return
                if outcome is Outcome.FLIP:
                    data = _flipped(data, proxy.chance)
                if outcome is Outcome.SHORT:
                    data = data[: len(data) // 2]
                self._answer(seen, status, answered, data, outcome)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _serve

        def _body(self, pause: float = 0.0) -> Iterator[bytes]:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return
            length = int(self.headers.get("Content-Length", 0))
            chunk = max(1, -(-length // _SLOW_CHUNKS))
            for start in range(0, length, chunk):
                yield self.rfile.read(min(chunk, length - start))
                proxy.closed.wait(pause)

        def _forward(self, seen: Seen, sent: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            chunk = (seen.path, seen.headers.get("content-range", ""))
            if chunk in proxy.chunk_answers:
                return proxy.chunk_answers[chunk]
            # Each client connection has its own connection to the emulator, since both are kept alive.
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection(proxy.upstream.netloc, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
            if proxy.host:
                headers["Host"] = proxy.host
            if sent or seen.method in ("PUT", "POST"):
                headers["Content-Length"] = str(len(sent))
            # Google's client writes True, which Cloud Storage accepts but the emulator does not.
            path = proxy.rewrite(seen.path.replace("versions=True", "versions=true"))
            self.upstream.request(seen.method, path, body=sent or None, headers=headers)
            answer = self.upstream.getresponse()
            data = answer.read()
            # The answer says where a resumable upload continues, which must be this proxy.
            passed_on = [
                (name, value.replace(proxy.upstream.netloc, proxy.netloc)) for name, value in answer.getheaders()
            ]
            if seen.method == "PUT" and chunk[1]:
                proxy.chunk_answers[chunk] = (answer.status, passed_on, data)
            return answer.status, passed_on, data

        def _answer(
            self,
            seen: Seen,
            status: int,
            headers: list[tuple[str, str]],
            data: bytes,
            outcome: Outcome = Outcome.FORWARD,
        ) -> None:
            seen.status, seen.answered = status, len(data)
            length = next((value for name, value in headers if name.lower() == "content-length"), "")
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in _DROPPED_HEADERS:
                    self.send_header(name, value)
            if self.command != "HEAD":
                length = "" if status == 204 else str(len(data))
            if length:
                self.send_header("Content-Length", length)
            self.end_headers()
            if self.command == "HEAD":
                return
            if outcome is Outcome.SLOW:
                chunk = max(1, -(-len(data) // _SLOW_CHUNKS))
                for start in range(0, len(data), chunk):
                    self.wfile.write(data[start : start + chunk])
                    proxy.closed.wait(_SLOW_PAUSE_SECONDS)
            elif outcome is Outcome.CUT:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                self._reset()
            else:
                self.wfile.write(data)

        def _is_left(self) -> bool:
            readable = select.select([self.connection], [], [], 0)[0]
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

        def _reset(self) -> None:
            self.close_connection = True
            # With linger 0 the kernel sends a reset: "connection reset by peer".
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    return Handler


def _flipped(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    damaged = bytearray(data)
    damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _is_intact(seen: Seen, sent: bytes) -> bool:
    """Whether the body has the request's checksum. S3 checks this, but the emulator does not."""
    expected = seen.headers.get("x-amz-checksum-crc32")
    return expected is None or base64.b64decode(expected) == zlib.crc32(sent).to_bytes(4, "big")
