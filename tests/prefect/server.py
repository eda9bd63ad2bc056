"""A real Prefect server: a process of its own on a free port, with a database of its own, that can be restarted."""

import inspect
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from prefect.utilities.asyncutils import run_coro_as_sync

from tests.emulators import free_port, wait_for


def ask(api_url: str, method: str, path: str, body: object = None) -> httpx.Response:
    """Call the API and, as Prefect's own client does, again where SQLite was locked: the server says 503 then."""
    for pause in (0.5, 1, 2, 4, 8, 16, 32, None):
        answer = httpx.request(method, f"{api_url}/{path}", json=body, timeout=600)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or pause is None:
            break
        time.sleep(pause)
    return answer


@dataclass
class PrefectServer:
    """`prefect server start`, and what reaches it."""

    home: Path
    with_ui: bool = False
    port: int = field(default_factory=free_port)

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"

    @property
    def ui_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to use the server."""
        return {
            **os.environ,
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api_url,
            # Where the UI, in the browser, looks for the API: by default it is port 4200.
            "PREFECT_UI_API_URL": self.api_url,
            "PREFECT_UI_ENABLED": str(self.with_ui),
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        # Below `prefect server start` is the process that serves: a session of its own lets both be ended.
        self._process = subprocess.Popen(
            command,
            env=self.environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._process, f"{self.api_url}/health", seconds=600)

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """What the API answers, past Prefect's own client."""
        return ask(self.api_url, method, path, body)

    def post(self, path: str, **body: object) -> Any:
        return self.ask("POST", path, body).raise_for_status().json()

    def eventually(self, path: str, count: int, *, key: str = "", seconds: float = 600, **body: object) -> list[dict]:
        """What the API answers as soon as there are so many: events and task runs arrive by and by."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.post(path, **body)
            found = answer[key] if key else answer
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count, found
                return found
            time.sleep(0.2)

    def logged(self, *texts: str, level: int = logging.ERROR, seconds: float = 600) -> bool:
        """Whether a run's log comes to have a line with all the texts: Prefect sends lines by and by."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines = self.post("logs/filter", logs={"level": {"ge_": level}}, sort="TIMESTAMP_DESC", limit=200)
            if any(all(text in f"{line}" for text in texts) for line in lines):
                return True
            time.sleep(0.3)
        return False


async def _drain() -> None:
    """Send what waits to be sent: at exit Prefect would try for a minute and a half to reach a server that is gone."""
    for waiting in (APILogWorker.instance().drain(), EventsWorker.drain_all()):
        if inspect.isawaitable(waiting):
            await waiting


@contextmanager
def prefect_server(home: Path, *, with_ui: bool = False) -> Iterator[PrefectServer]:
    """A running server, which this process uses for as long as the `with` lasts."""
    server = PrefectServer(home, with_ui)
    server.start()
    names = {"PREFECT_API_URL": server.api_url, "PREFECT_HOME": str(home)}
    before = {name: os.environ.get(name) for name in names}
    os.environ |= names
    # Threads that begin without a context of their own take the settings that Prefect read when it was imported:
    # without the refresh they would start a server of their own.
    refresh_global_settings_context()
    try:
        with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_HOME: home}):
            try:
                yield server
            finally:
                run_coro_as_sync(_drain())
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        refresh_global_settings_context()
        server.stop()


@contextmanager
def harness() -> Iterator[None]:
    """Prefect's own test harness, on a port of ours, and begun again where its server says nothing for five seconds."""
    with pytest.MonkeyPatch.context() as patched, ExitStack() as stack:
        patched.setattr("prefect.testing.utilities._find_available_port", free_port)
        for tries_left in reversed(range(5)):
            try:
                stack.enter_context(prefect_test_harness(server_startup_timeout=600))
                break
            except httpx.TransportError:
                if not tries_left:
                    raise
        yield
