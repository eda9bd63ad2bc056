"""The work of processes that are killed. They are forked from a server that has made the imports once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

# Import the stores by name. Otherwise each forked process would import them, and their clouds' clients, anew.
from clinops_prefect import GCSPipelineStore, LocalPipelineStore, PipelineStore, S3PipelineStore
from clinops_prefect.storage.local import atomic_file
from tests.doors import Door

STORES = (GCSPipelineStore, LocalPipelineStore, S3PipelineStore)


def version(number: int, rows: int) -> pd.DataFrame:
    """A frame whose rows and type show its version."""
    chance = np.random.default_rng(number)
    frame = pd.DataFrame({f"c{i}": chance.random(rows) for i in range(16)})
    frame["version"] = number
    frame["code"] = pd.Series(["007"] * rows, dtype=pd.CategoricalDtype(["007", f"v{number}"]))
    return frame


def halves(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [frame.iloc[: len(frame) // 2], frame.iloc[len(frame) // 2 :].reset_index(drop=True)]


WORK: dict[str, Callable[[PipelineStore, pd.DataFrame], Any]] = {
    "upload": lambda store, frame: store.upload(frame, "x"),
    "upload_batches": lambda store, frame: store.upload_batches(halves(frame), "x"),
}


def write(store: PipelineStore, work: str, frame: pd.DataFrame, begun: Connection) -> None:
    """Make one write, and send the times when it begins and ends."""
    store.exists("x")  # makes the client and its connection before the write
    begun.send(time.monotonic())
    WORK[work](store, frame)
    begun.send(time.monotonic())


def write_named(store: PipelineStore, frame: pd.DataFrame, killed_at: str) -> None:
    """Make one write without nameless files, and end the process before its rename or in the middle of its content."""
    atomic_file._CAN_BE_NAMELESS = False
    if killed_at == "rename":
        Path.replace = lambda *_: _die()
        store.upload(frame, "x")
    else:
        store.upload_batches(_ended_by_death(frame), "x")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _ended_by_death(frame: pd.DataFrame) -> Any:
    yield from [frame] * 20
    _die()


def write_again_and_again(store: PipelineStore, numbers: list[int], told: Connection) -> None:
    """Write these versions in turn, from the first message until after the second."""
    told.recv()
    while not told.poll():
        for number in numbers:
            store.upload(version(number, 2_000), "x")


def wait_until_served(door: Door) -> None:
    """Wait until the door's server has carried out what killed processes have asked of it.

    It keeps its end of a connection open until then, in the state CLOSE_WAIT.
    """
    port = urlsplit(getattr(door, "endpoint", "")).port
    ends = time.monotonic() + 60
    while port and time.monotonic() < ends:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if not any(row[1].endswith(f":{port:04X}") and row[3] == "08" for row in rows):
            return
        time.sleep(0.02)


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start the work in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.victim"])
    process = context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process
