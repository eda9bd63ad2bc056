"""The servers that the benchmarks talk to: a fast S3 stub where its source is given, else moto's; a Cloud Storage stub.

A packaged S3 server is the bottleneck of anything that moves much. The stub is built from one C++ file,
`make bench NULL_S3=path/to/null_s3.cpp`; its `/__ctl` tells what it has moved and sets latency and bandwidth.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.meter import CONTROL
from tests.emulators import free_port, moto_server, running

BUCKET = "bench"


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        url: Its endpoint.
        name: In the tables.
        environment: What a contestant needs to reach it.
        control: The URL of its counters and of its network; empty where it has none.
    """

    url: str
    name: str
    environment: dict[str, str]
    control: str = ""

    def network(self, latency_ms: int = 0, mb_per_s: int = 0) -> None:
        """Make it as slow as a network: so long before each answer, and so much a connection."""
        self._ask(f"lat={latency_ms}&mbps={mb_per_s}")

    def clear(self) -> None:
        """Remove every object."""
        self._ask("clear=1")

    def _ask(self, query: str) -> None:
        if not self.control:
            raise RuntimeError(f"{self.name} has no control; give NULL_S3")
        with urllib.request.urlopen(f"{self.control}?{query}") as answer:
            json.load(answer)


@contextmanager
def s3_server(null_s3: str, scratch: Path) -> Iterator[Server]:
    """An S3 with the bucket: the stub built from `null_s3`, or moto's server where that is empty."""
    environment = {
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if not null_s3:
        with moto_server() as url:
            urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
            yield Server(url, "moto's server", environment)
        return
    program, port = scratch / "null_s3", free_port()
    subprocess.run(["g++", "-O2", "-std=c++17", "-pthread", "-o", str(program), null_s3], check=True)
    url = f"http://127.0.0.1:{port}"
    control = f"{url}/__ctl"
    with running([str(program), str(port)], control):
        yield Server(url, "an in-memory S3 stub", {**environment, CONTROL: control}, control)


@contextmanager
def gcs_server() -> Iterator[Server]:
    """A Cloud Storage that has every bucket: see `null_gcs`."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    control = f"{url}/__ctl"
    with running([sys.executable, "-m", "tests.benchmarks.null_gcs", str(port)], control):
        environment = {"STORAGE_EMULATOR_HOST": url, "GOOGLE_CLOUD_PROJECT": "p", CONTROL: control}
        yield Server(url, "an in-memory Cloud Storage stub", environment, control)
