"""A Prefect server that other processes can also reach, and a source that takes some time to compute."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from flows.synthetic.tables import generate
from tests.prefect.server import PrefectServer, prefect_server

ROOT = Path(__file__).parents[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test wrote: they end with the test, and another run may not fail."""
    report = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and folder is not None:
        report.sections += [(f"Log {log.name}", log.read_text()[-20_000:]) for log in sorted(folder.glob("*.log"))]
    return report


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
