"""Makes moto's Lambda run the uploaded code. Without Docker, moto's own Lambda only returns its input.

Each function has warm processes, as in AWS. A handler may be in the uploaded zip or in an installed package.
"""

import atexit
import hashlib
import io
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from moto.awslambda_simple.models import LambdaSimpleBackend

WORKER = Path(__file__).with_name("lambda_worker.py")
AT_ONCE = threading.BoundedSemaphore(4)

_code = tempfile.TemporaryDirectory(prefix="emulated-lambda-")
_idle: dict[str, list[subprocess.Popen[str]]] = defaultdict(list)
_lock = threading.Lock()


def install() -> None:
    """Make moto's Lambda run the uploaded code, in this process."""
    LambdaSimpleBackend.invoke = _invoke
    atexit.register(_stop_all)


def _invoke(
    backend: LambdaSimpleBackend,
    function_name: str,
    qualifier: str | None,
    body: Any,
    headers: Any,  # noqa: ARG001 - moto's signature
    response_headers: Any,
) -> bytes | None:
    function = backend.get_function(function_name, qualifier)
    payload = body.decode() if isinstance(body, bytes) else body or "{}"
    digest = hashlib.sha256(function.code_bytes).hexdigest()[:16]
    directory = Path(_code.name) / digest
    with _lock:
        if not directory.exists():
            zipfile.ZipFile(io.BytesIO(function.code_bytes)).extractall(directory)
    environment = os.environ | {str(key): str(value) for key, value in (function.environment_vars or {}).items()}
    key = f"{directory}:{function.handler}:{sorted(environment.items())}"
    with AT_ONCE:
        with _lock:
            worker = _idle[key].pop() if _idle[key] else None
        worker = worker or subprocess.Popen(
            [sys.executable, str(WORKER), str(directory), str(function.handler)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        answer = _ask(worker, json.dumps(json.loads(payload)), float(function.timeout or 3))
    if answer is None:
        response_headers["x-amz-function-error"] = "Unhandled"
        return b'{"errorType": "Sandbox.Timedout", "errorMessage": "Task timed out"}'
    with _lock:
        _idle[key].append(worker)
    if answer.get("failed"):
        response_headers["x-amz-function-error"] = "Unhandled"
    return str(answer["payload"]).encode()


def _ask(worker: subprocess.Popen[str], line: str, timeout: float) -> dict[str, Any] | None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        if not selector.select(timeout):
            worker.kill()
            return None
    answer = worker.stdout.readline()
    return json.loads(answer) if answer else {"failed": True, "payload": '{"errorType": "Runtime.ExitError"}'}


def _stop_all() -> None:
    for worker in (worker for workers in _idle.values() for worker in workers):
        worker.kill()
