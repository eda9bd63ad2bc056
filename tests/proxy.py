"""An HTTP proxy in front of an emulator: sees every request, and misbehaves as a network does.

    with Proxy(upstream) as proxy:
        store = door.store(endpoint_url=proxy.url)
        proxy.answers = deny            # 403 to everything
        proxy.seen                      # what was asked, and how many bytes were answered

An answer is a function from a request to an `Outcome`; `first(2, busy)` misbehaves twice and then no more.
"""

import http.client
import itertools
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit


class Outcome(Enum):
    """What becomes of a request."""

    FORWARD = auto()
    DENY = auto()  # 403, in the words of both clouds
    BUSY = auto()  # 503
    CUT = auto()  # the answer breaks off in the middle of its body
    LOSE = auto()  # carried out, and the answer never comes
    TOKEN = auto()  # an OAuth token, as Google's token server gives one
    REFUSE = auto()  # the connection is reset before anything is read


@dataclass
class Seen:
    """One request and its answer."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int = 0
    answered: int = 0
    query: dict[str, list[str]] = field(default_factory=dict)


Answer = Callable[[Seen], Outcome]


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
    """`answer` to so many requests, of that method if one is given; the others are forwarded."""
    count = itertools.count()

    def answering(seen: Seen) -> Outcome:
        if method and seen.method != method:
            return Outcome.FORWARD
        return answer(seen) if next(count) < times else Outcome.FORWARD

    return answering


_DENIED = (
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>',
    b'{"error": {"code": 403, "message": "forbidden", "errors": [{"reason": "forbidden"}]}}',
)
_TOKEN = b'{"access_token": "from-the-proxy", "expires_in": 3600, "token_type": "Bearer"}'
_DROPPED_HEADERS = {"transfer-encoding", "connection", "content-length", "date", "server"}


class Proxy:
    """A reverse proxy on a free port, as long as the `with` lasts."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.answers: Answer = forward
        self.seen: list[Seen] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.netloc = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.netloc}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Forget what was seen."""
        self.seen.clear()

    @property
    def answered(self) -> int:
        """Bytes of bodies that were answered."""
        return sum(seen.answered for seen in self.seen)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    # Ending a test must not wait for the connections that clients keep open.
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        upstream: http.client.HTTPConnection | None = None

        def log_message(self, *_: Any) -> None:
            """Quiet."""

        def _serve(self) -> None:
            seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, self._body())
            seen.query = parse_qs(urlsplit(self.path).query)
            proxy.seen.append(seen)
            outcome = proxy.answers(seen)
            if outcome is Outcome.REFUSE:
                self._reset()
            elif outcome is Outcome.DENY:
                is_json = self.path.startswith(("/storage", "/upload", "/download", "/b/"))
                self._answer(seen, 403, [], _DENIED[is_json])
            elif outcome is Outcome.TOKEN:
                self._answer(seen, 200, [("Content-Type", "application/json")], _TOKEN)
            elif outcome is Outcome.BUSY:
                self._answer(seen, 503, [], b"")
            else:
                status, headers, data = self._forward(seen)
                if outcome is Outcome.LOSE:
                    self._reset()
                else:
                    self._answer(seen, status, headers, data, cut=outcome is Outcome.CUT)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _serve

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                data = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _forward(self, seen: Seen) -> tuple[int, list[tuple[str, str]], bytes]:
            # A connection of its own for each of ours: both are kept alive.
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection(proxy.upstream.netloc, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
            if seen.body or seen.method in ("PUT", "POST"):
                headers["Content-Length"] = str(len(seen.body))
            # Google's client writes True, which Cloud Storage takes and the emulator does not.
            path = seen.path.replace("versions=True", "versions=true")
            self.upstream.request(seen.method, path, body=seen.body or None, headers=headers)
            answer = self.upstream.getresponse()
            data = answer.read()
            # A resumable upload is told where to go on: through here.
            return (
                answer.status,
                [(name, value.replace(proxy.upstream.netloc, proxy.netloc)) for name, value in answer.getheaders()],
                data,
            )

        def _answer(
            self, seen: Seen, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False
        ) -> None:
            seen.status, seen.answered = status, len(data)
            length = next((value for name, value in headers if name.lower() == "content-length"), str(len(data)))
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in _DROPPED_HEADERS:
                    self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.wfile.flush()
                self._reset()

        def _reset(self) -> None:
            self.close_connection = True
            # With linger 0 the kernel sends a reset: "connection reset by peer".
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()

    return Handler
