"""A Prefect server for the flows, and a source for them to read."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.synthetic import generate
from tests.doors import GCSDoor, S3Door


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small source with all the mess of a real one."""
    path = tmp_path_factory.mktemp("source")
    generate(path, 40, seed=7)
    return path


@pytest.fixture(params=["local", "s3", "gcs"])
def reference(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty store of each kind, at an endpoint that the environment names."""
    if request.param == "s3":
        endpoint = request.getfixturevalue("s3_endpoint")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        return f"s3://{S3Door(endpoint, f'flow-{os.urandom(4).hex()}').bucket}/clinops"
    if request.param == "gcs":
        endpoint = request.getfixturevalue("gcs_endpoint")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        return f"gs://{GCSDoor(endpoint, f'flow-{os.urandom(4).hex()}').bucket}/clinops"
    return str(tmp_path / "store")
