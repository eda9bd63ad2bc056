"""AWS Step Functions, Lambda and S3 on your own machine: moto's server in its own process, made as strict as AWS.

Lambda code really runs, and JSONata, redrives, versions and Distributed Maps work. To start it from a shell:

    python -m clinops_prefect.testing.step_functions_emulator --function clinops-ingest=ingest.py --function echo

To use it in a test:

```python
from clinops_prefect import PipelineStep, StepFunctionsPipeline
from clinops_prefect.testing.step_functions_emulator import emulator

with emulator() as aws:
    arn = aws.function("double", "def handler(event, context): return {'n': 2 * event['n']}")
    pipeline = StepFunctionsPipeline(name="p", role_arn=aws.role_arn, region=aws.region, endpoint_url=aws.url)
    pipeline.add_step(PipelineStep("Double", arn))
    assert pipeline.run({"n": 21}) == {"n": 42}
```
"""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3

if missing := [name for name in ("jsonata", "moto", "werkzeug") if find_spec(name) is None]:
    raise ImportError(
        f"the emulator needs the packages of the 'emulator' extra ({', '.join(missing)} is missing): "
        "pip install 'clinops-prefect[aws,emulator]'",
        name=missing[0],
    )

MODULE = "clinops_prefect.testing.step_functions_emulator"


@dataclass(frozen=True)
class Emulator:
    """A running emulator, with plain boto3 clients for it, the calls it counted, and faults for its next calls."""

    url: str
    process: subprocess.Popen[str] | None = None
    region: str = "us-east-1"
    account: str = "123456789012"

    @property
    def role_arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role/StepFunctionsRole"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which a process and its Lambda functions use the emulator, and never AWS."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "emulator",
            "AWS_SECRET_ACCESS_KEY": "emulator",
            "AWS_DEFAULT_REGION": self.region,
        }

    def client(self, service: Any) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=self.region,
            aws_access_key_id="emulator",
            aws_secret_access_key="emulator",
        )

    def function(
        self, name: str, source: str, *, handler: str = "function.handler", timeout: int = 60, **variables: str
    ) -> str:
        """Create a Lambda function from one file, or replace the function of this name.

        Args:
            name: The function's name.
            source: The Python code. If empty, `handler` names a function of an installed module.
            handler: The module and the function, as in AWS.
            timeout: The timeout of a call in seconds.
            **variables: The environment variables.

        Returns:
            The function's ARN.
        """
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("function.py" if source else "empty", source)
        client = self.client("lambda")
        settings = {
            "FunctionName": name,
            "Runtime": "python3.11",
            "Role": self.role_arn,
            "Handler": handler,
            "Timeout": timeout,
            "Environment": {"Variables": variables},
        }
        try:
            response = client.create_function(Code={"ZipFile": code.getvalue()}, **settings)
        except client.exceptions.ResourceConflictException:
            # As when a cell of a notebook runs again.
            client.update_function_code(FunctionName=name, ZipFile=code.getvalue())
            response = client.update_function_configuration(**settings)
        return str(response["FunctionArn"])

    def calls(self) -> dict[str, int]:
        """The number of calls of each Step Functions action since `forget_calls`."""
        return dict(self._door("calls")["calls"])

    def other_requests(self) -> list[str]:
        """All requests to Lambda, S3 and other services since `forget_calls`, such as `GET /bucket/key`."""
        return list(self._door("calls")["others"])

    def busiest_second(self) -> int:
        return int(self._door("calls")["busiest"])

    def forget_calls(self) -> None:
        """Reset the counted calls, and cancel the faults that are still to come."""
        self._door("calls", method="DELETE")

    def fail(self, action: str, error: str, times: int = 1, message: str = "as asked for") -> None:
        """Make the next calls of `action` fail. `error` is an AWS error's name, or `cut` to drop the connection."""
        body = {"action": action, "error": error, "times": times, "message": message}
        self._door("faults", method="POST", body=body)

    def _door(self, name: str, method: str = "GET", body: Any = None) -> Any:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(f"{self.url}/_emulator/{name}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)


@contextlib.contextmanager
def emulator() -> Iterator[Emulator]:
    """A running emulator on a free port, which is stopped at the end of the block of code."""
    process = subprocess.Popen(
        [sys.executable, "-m", MODULE, "--port", "0"],
        # Handlers of functions may also be in the working directory.
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first, f"the emulator did not start: run python -m {MODULE} to see why"
        yield Emulator(f"http://127.0.0.1:{json.loads(first)['port']}", process)
    finally:
        # The process has its own session, so that functions that still run are stopped with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
