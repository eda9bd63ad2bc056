"""A Prefect server with its UI, an S3, and Chromium."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Page, Route, expect, sync_playwright

from tests.doors import S3Door
from tests.prefect.server import PrefectServer, prefect_server

ROOT = Path(__file__).parents[2]
# Milliseconds for which something may not be there yet. By default `expect` waits five seconds.
PATIENCE = 300_000
expect.set_options(timeout=PATIENCE)
SHOTS = Path(__file__).parent / "screenshots"
# What a container needs, and nothing that would ask the network for anything.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with prefect_server(tmp_path_factory.mktemp("prefect"), with_ui=True) as running:
        run(running, "prefect", "block", "register", "-m", "clinops_prefect")
        yield running


@pytest.fixture(scope="session")
def bucket(s3_endpoint: str) -> S3Door:
    return S3Door(s3_endpoint, f"ui-{uuid4().hex[:12]}")


def run(server: PrefectServer, module: str, *arguments: str) -> str:
    """Run a module as a process that uses the server, as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=server.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def save_again(route: Route) -> None:
    """Where SQLite was locked the server says 503, and a user would click again."""
    for pause in (0.5, 1, 2, 4, 8, 16, 0):
        answer = route.fetch(timeout=PATIENCE)
        if answer.status != 503:
            break
        time.sleep(pause)
    route.fulfill(response=answer)


@contextmanager
def opened_page() -> Iterator[Page]:
    """A page of a browser that is ended with the `with`: while it lasts, no other event loop can run in this thread."""
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, timeout=PATIENCE)
        page = browser.new_page(viewport={"width": 1280, "height": 1500})
        page.set_default_timeout(PATIENCE)
        page.route("**/api/block_documents/", save_again)
        yield page
        browser.close()


def shoot(page: Page, name: str) -> None:
    """Keep what the page looks like, for people."""
    SHOTS.mkdir(exist_ok=True)
    page.wait_for_timeout(800)  # a page fades in
    page.screenshot(path=SHOTS / f"{name}.png")
