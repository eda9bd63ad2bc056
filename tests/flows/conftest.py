"""A Prefect server for the flows, and a source for them to read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.synthetic.tables import generate
from tests.doors import Door
from tests.prefect.server import harness


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    with harness():
        yield


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small source with all the faults of a real one."""
    path = tmp_path_factory.mktemp("source")
    generate(path, 40, seed=7)
    return path


@pytest.fixture
def reference(door: Door, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty store of each kind, at an endpoint that the environment names."""
    for name, value in door.environment().items():
        monkeypatch.setenv(name, value)
    return f"{door.uri()}/clinops"
