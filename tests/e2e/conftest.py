"""A Prefect server that other processes reach, too, and a source that takes a while to compute."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows.synthetic import generate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[str]:
    """Started once; workers and command lines find it, and these flows, in the environment."""
    with prefect_test_harness(server_startup_timeout=120):
        url = PREFECT_API_URL.value()
        before = dict(os.environ)
        os.environ |= {"PREFECT_API_URL": url, "PYTHONPATH": str(ROOT)}
        yield url
        os.environ.clear()
        os.environ |= before


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Large enough that a shard takes a noticeable time."""
    path = tmp_path_factory.mktemp("source")
    generate(path, 1500, rows=600_000, seed=11, catalogue_share=0.8)
    return path
