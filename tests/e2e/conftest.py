"""A Prefect server that other processes can also reach, and a source that takes some time to compute."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.synthetic.tables import generate
from tests.prefect.server import PrefectServer, prefect_server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """The server, started once. Workers and command lines find the server and the flows through the environment."""
    before = dict(os.environ)
    with prefect_server(tmp_path_factory.mktemp("prefect")) as running:
        os.environ |= {**running.environment, "PYTHONPATH": str(ROOT)}
        yield running
    os.environ.clear()
    os.environ |= before


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source so large that a shard takes a noticeable time."""
    path = tmp_path_factory.mktemp("source")
    generate(path, 1500, rows=600_000, seed=11, catalogue_share=0.8)
    return path
