"""The emulator's server: `python -m clinops_prefect.testing.step_functions_emulator --port 5005`.

Port 0 picks a free port. The first line of the output has the port.
"""

import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.core.config import default_user_config
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from clinops_prefect.command_line import Parser
from clinops_prefect.testing.step_functions_emulator import (
    Emulator,
    definitions,
    executions,
    lambdas,
    maps,
    versions,
)

ECHO = "def handler(event, context):\n    return event\n"


class Watched:
    """moto's application with two more URLs, to read which calls were made and to inject faults.

    `GET /_emulator/calls` has the number of calls of each Step Functions action, the number in the busiest second, and
    the requests to other services. `POST /_emulator/faults` takes `{"action": …, "times": …, "error": …, "message":
    …}`. The error is the name of an AWS error, or `cut` to drop the connection.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application
        self.calls: list[tuple[float, str]] = []
        self.others: list[str] = []
        self.faults: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/_emulator/"):
            return self._door(path.removeprefix("/_emulator/"), environ, start_response)
        service, _, action = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if service != "AWSStepFunctions":
            query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
            with self.lock:
                self.others.append(f"{environ['REQUEST_METHOD']} {path}{query}")
            return self.application(environ, start_response)
        with self.lock:
            self.calls.append((time.monotonic(), action))
            fault = next((fault for fault in self.faults if fault["action"] == action and fault["times"]), None)
            if fault:
                fault["times"] -= 1
        if not fault:
            return self.application(environ, start_response)
        if fault["error"] == "cut":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return []
        body = json.dumps({"__type": fault["error"], "message": fault["message"]}).encode()
        start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.0")])
        return [body]

    def _door(self, name: str, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self.lock:
            if name == "faults":
                size = int(environ["CONTENT_LENGTH"])
                self.faults.append(json.loads(environ["wsgi.input"].read(size)))
                answer: Any = {}
            else:
                seconds = Counter(int(moment) for moment, _ in self.calls)
                answer = {
                    "calls": Counter(action for _, action in self.calls),
                    "busiest": max(seconds.values(), default=0),
                    "others": self.others,
                }
            if environ["REQUEST_METHOD"] == "DELETE":
                self.calls.clear()
                self.others.clear()
                self.faults.clear()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


def main() -> None:
    """Serve until the process is stopped."""
    text = "Step Functions, Lambda and S3 on this machine."
    parser = Parser("clinops_prefect.testing.step_functions_emulator", text, "--port 5005 --function ingest=ingest.py")
    parser.add_argument("--port", type=int, default=5005, help="the port; 0, a free one")
    parser.add_argument(
        "--function",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a Lambda function: a file with handler(event, context); without =FILE, one that returns its event",
    )
    arguments = parser.parse_args()
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    default_user_config["lambda"] = {"use_docker": False}
    # moto's Lambda runs no function whose role does not exist.
    iam_backends["123456789012"]["aws"].create_role("StepFunctionsRole", "{}", "/", None, "", [], None)
    for part in (lambdas, executions, versions, definitions, maps):
        part.install()
    application = Watched(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", arguments.port, application, threaded=True, request_handler=MotoRequestHandler)
    # moto's state machines call Lambda and S3 at this port.
    os.environ["MOTO_PORT"] = str(server.port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    aws = Emulator(f"http://127.0.0.1:{server.port}")
    for given in arguments.function:
        name, _, file = given.partition("=")
        aws.function(name, Path(file).read_text() if file else ECHO)
    sys.stdout.write(json.dumps({"port": server.port}) + "\n")
    sys.stdout.flush()
    hint = " ".join(f"{name}={value}" for name, value in aws.environment.items())
    sys.stderr.write(f"{', '.join(arguments.function) or 'no function'}, role {aws.role_arn}\nexport {hint}\n")
    threading.Event().wait()


if __name__ == "__main__":
    main()
