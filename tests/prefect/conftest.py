"""One Prefect server for the folder, and a saved block for each backend."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clinops_prefect import PipelineStore
from tests.doors import Door
from tests.prefect.server import PrefectServer, prefect_server


@pytest.fixture(scope="session", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as running:
        yield running


@dataclass
class Saved:
    """A store that is saved as a block below a prefix, and the second door to its objects."""

    door: Door
    store: PipelineStore
    reference: str


def save(door: Door, **fields: object) -> Saved:
    store = door.store(**{"prefix": "results/here", **fields})
    name = f"block-{uuid.uuid4().hex[:12]}"
    store.save(name, _sync=True)
    return Saved(door, store, f"{store.get_block_type_slug()}/{name}")


@pytest.fixture
def saved(door: Door) -> Saved:
    """Each backend in turn."""
    return save(door)


@pytest.fixture
def local(tmp_path: Path) -> Saved:
    """A directory: for what is the same whatever the backend."""
    from tests.doors import LocalDoor

    return save(LocalDoor(tmp_path / "artifacts"))
