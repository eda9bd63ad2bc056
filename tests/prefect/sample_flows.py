"""Flows and tasks that other processes import too: each says by a line in a file that it was run."""

import os
import threading
from pathlib import Path

import pandas as pd
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

from clinops_prefect import DataFrameSerializer


def frame(rows: int = 3) -> pd.DataFrame:
    """A frame that JSON or CSV would not give back: categories, time zones, nullable integers, an index with a name."""
    return pd.DataFrame(
        {
            "stay": pd.array([1, None, 3] * rows, dtype="Int64")[:rows],
            "sex": pd.Categorical((["F", "M", "F"] * rows)[:rows], categories=["F", "M"]),
            "at": pd.date_range("2024-01-01", periods=rows, freq="h", tz="Europe/Berlin"),
        },
        index=pd.RangeIndex(10, 10 + rows, name="row"),
    )


def say(journal: str) -> None:
    """Leave a line behind: which process and thread ran."""
    with Path(journal).open("a") as lines:
        lines.write(f"{os.getpid()} {threading.get_ident()}\n")


def said(journal: str | Path) -> list[tuple[int, int]]:
    """The lines that were left: (process, thread)."""
    path = Path(journal)
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


@task(result_serializer=DataFrameSerializer(), persist_result=True)
def make(rows: int, journal: str) -> pd.DataFrame:
    say(journal)
    return frame(rows)


@task(result_serializer=DataFrameSerializer(), persist_result=True)
async def amake(rows: int, journal: str) -> pd.DataFrame:
    say(journal)
    return frame(rows)


@task(result_serializer=DataFrameSerializer(), persist_result=True, cache_policy=INPUTS + TASK_SOURCE)
def make_once(rows: int, journal: str) -> pd.DataFrame:
    say(journal)
    return frame(rows)


@flow(result_serializer=DataFrameSerializer(), persist_result=True)
def whole(rows: int) -> pd.DataFrame:
    """A frame as a flow's result."""
    return frame(rows)


@flow(result_serializer=DataFrameSerializer(), persist_result=True)
async def awhole(rows: int) -> pd.DataFrame:
    return frame(rows)
