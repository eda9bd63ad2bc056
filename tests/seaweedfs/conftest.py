"""One SeaweedFS for the folder, that speaks TLS by a certificate of a private authority."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doors import SeaweedFSDoor
from tests.emulators import SeaweedFS, seaweedfs
from tests.seaweedfs.certificates import make_certificates


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the private authority; beside it are `server.pem` and `server.key`."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server(authority: Path) -> Iterator[SeaweedFS]:
    with seaweedfs(authority.with_name("server.pem"), authority.with_name("server.key")) as running:
        yield running


@pytest.fixture
def door(server: SeaweedFS) -> SeaweedFSDoor:
    """An empty bucket."""
    return SeaweedFSDoor(server.url, f"test-{uuid.uuid4().hex[:12]}")
