"""Emulators and stores, as fixtures."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators import AZURE_ACCOUNT, AZURE_KEY

# Remove these before boto3, Prefect or Google's client is imported: no test may reach a real account or server.
for _name in [name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "PREFECT_"))]:
    del os.environ[_name]
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Every Azurite has this account, which its documentation gives.
    "AZURE_STORAGE_ACCOUNT": AZURE_ACCOUNT,
    "AZURE_STORAGE_KEY": AZURE_KEY,
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # By default a temporary server has twenty seconds to start, and an answer of a server one minute.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "600",
    "PREFECT_API_REQUEST_TIMEOUT": "300",
    # By default Dask's connections have thirty seconds.
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "600s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "600s",
    "DO_NOT_TRACK": "1",
}

from hypothesis import HealthCheck, settings  # noqa: E402

from tests.doors import AzureDoor, Door, GCSDoor, LocalDoor, S3Door, SeaweedFSDoor  # noqa: E402
from tests.emulators import azurite, fake_gcs_server, moto_server, seaweedfs  # noqa: E402

# The S3 server of these tests. `make seaweedfs` runs the contract on SeaweedFS.
S3_SERVERS = {"moto": S3Door, "seaweedfs": SeaweedFSDoor}
S3_SERVER = os.environ.get("CLINOPS_S3_SERVER", "moto")
# `make azure` adds Azure. Azurite needs Node, and `make test` must need only Python.
STORES = os.environ.get("CLINOPS_STORES", "local s3 gcs").split()

# No deadline, since the machine may be busy. Examples may share a store's fixture, since each uploads again.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=50, derandomize=bool(os.environ.get("CI")), **_COMMON)
settings.register_profile("long", max_examples=5_000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    if S3_SERVER == "seaweedfs":
        with seaweedfs() as server:
            yield server.url
    else:
        with moto_server() as url:
            yield url


@pytest.fixture(scope="session")
def gcs_endpoint() -> Iterator[str]:
    with fake_gcs_server() as url:
        yield url


@pytest.fixture(scope="session")
def azure_endpoint() -> Iterator[str]:
    with azurite() as url:
        yield url


@pytest.fixture(params=STORES)
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    """Each store under test, empty."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    if request.param == "s3":
        return S3_SERVERS[S3_SERVER](request.getfixturevalue("s3_endpoint"), name)
    if request.param == "gcs":
        return GCSDoor(request.getfixturevalue("gcs_endpoint"), name)
    if request.param == "azure":
        return AzureDoor(request.getfixturevalue("azure_endpoint"), name)
    return LocalDoor(tmp_path / "artifacts")
