"""The server: `python -m clinops_prefect.testing.step_functions_emulator --port 5005`.

Port 0 picks a free one, and the first line of the output says it.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto.core.config import default_user_config
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from clinops_prefect.testing.step_functions_emulator import executions, lambdas, maps, versions


class Watched:
    """moto's application with a door of its own: what was called, and what shall go wrong next.

    `GET /_emulator/calls` counts the Step Functions calls by name, and tells the busiest second. `POST
    /_emulator/faults` takes `{"action": …, "times": …, "error": …, "message": …}`: an AWS error's name, or `cut`, to
    drop the connection.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self.application = application
        self.calls: list[tuple[float, str]] = []
        self.faults: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/_emulator/"):
            return self._door(path.removeprefix("/_emulator/"), environ, start_response)
        service, _, action = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if service != "AWSStepFunctions":
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
                }
            if environ["REQUEST_METHOD"] == "DELETE":
                self.calls.clear()
                self.faults.clear()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5005)
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    default_user_config["lambda"] = {"use_docker": False}
    # moto's Lambda runs nothing under a role that does not exist.
    iam_backends["123456789012"]["aws"].create_role("StepFunctionsRole", "{}", "/", None, "", [], None)
    lambdas.install()
    executions.install()
    versions.install()
    maps.install()
    application = Watched(DomainDispatcherApplication(create_backend_app))
    server = make_server(
        "127.0.0.1", parser.parse_args().port, application, threaded=True, request_handler=MotoRequestHandler
    )
    # The states of a machine call Lambda and S3 at this port.
    os.environ["MOTO_PORT"] = str(server.port)
    sys.stdout.write(json.dumps({"port": server.port}) + "\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
