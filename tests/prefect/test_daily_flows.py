"""A chain of tasks that is retried runs each of them once: what was read back is the input that it was before."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from prefect import flow, task
from prefect.cache_policies import DEFAULT, TASK_SOURCE

from clinops_prefect import DataFrameSerializer, FrameInputs
from tests.prefect.conftest import Saved


def _say(journal: str, name: str) -> None:
    with Path(journal).open("a") as lines:
        lines.write(f"{name}\n")


@task
def ingest(rows: int, journal: str) -> pd.DataFrame:
    _say(journal, "ingest")
    random = np.random.default_rng(rows)
    return pd.DataFrame(
        {
            "hr": np.where(random.random(rows) < 0.3, np.nan, random.normal(80, 9, rows)),
            "stay_id": np.arange(rows) // 4,
            "sbp": random.normal(120, 9, rows),
            "alive": random.random(rows) < 0.9,
            "at": pd.date_range("2110-01-01", periods=rows, freq="min"),
        }
    )


@task
def clean(frame: pd.DataFrame, journal: str) -> pd.DataFrame:
    _say(journal, "clean")
    frame.loc[frame["hr"].isna(), "hr"] = 80.0  # in place: a frame that comes from the cache is as good as a new one
    return frame.sort_values(["sbp", "at"], ignore_index=True)


@task
def derive(frame: pd.DataFrame, journal: str) -> pd.DataFrame:
    _say(journal, "derive")
    return frame.assign(shock=frame["hr"] / frame["sbp"], late=frame["at"] + pd.Timedelta("6h"))


@task
def join(frame: pd.DataFrame, journal: str) -> pd.DataFrame:
    _say(journal, "join")
    means = frame.groupby("stay_id", as_index=False)["shock"].mean()
    return frame.merge(means, on="stay_id", suffixes=("", "_mean"))


@task
def widen(frame: pd.DataFrame, journal: str) -> pd.DataFrame:
    _say(journal, "widen")
    return frame.assign(n=frame.groupby("stay_id").cumcount()).pivot(index="stay_id", columns="n", values="shock")


@task
def label(frame: pd.DataFrame, journal: str) -> pd.DataFrame:
    _say(journal, "label")
    sides = np.where(frame["sbp"] > 120, "high", "low")
    return frame.assign(
        side=pd.Categorical(sides),
        text=pd.Series(sides, dtype="str"),
        code=pd.Series(sides, dtype=object),
        n=pd.array(np.arange(len(frame)), dtype="Int64"),
        seen=frame["at"].dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"),
    ).set_index(["stay_id", "at"])


@task
def some(frame: pd.DataFrame, journal: str) -> pd.DataFrame:
    _say(journal, "some")
    return frame.iloc[5:-5:2]


NUMBERS: list[Any] = [ingest, clean, derive, join, widen]


def _retried(steps: list[Any], rows: int, saved: Saved, journal: Path, policy: Any) -> tuple[pd.DataFrame, list[str]]:
    """What a chain gives that fails twice after its last task, and which tasks ran."""
    options: dict[str, Any] = {
        "persist_result": True,
        "result_storage": saved.reference,
        "result_serializer": DataFrameSerializer(),
        "cache_policy": policy,
    }
    tasks = [step.with_options(**options) for step in steps]
    attempts: list[int] = []

    @flow(retries=2)
    def chain() -> dict[str, pd.DataFrame]:
        frame = tasks[0](rows, str(journal))
        for each in tasks[1:]:
            frame = each(frame, str(journal))
        attempts.append(1)
        if len(attempts) < 3:
            raise RuntimeError("the last step fails")
        return {"frame": frame}

    found = chain()["frame"]
    assert len(attempts) == 3
    return found, journal.read_text().split()


@pytest.mark.parametrize("rows", [4_000])
def test_of_numbers_by_the_default_policy(saved: Saved, tmp_path: Path, rows: int) -> None:
    found, ran = _retried(NUMBERS, rows, saved, tmp_path / "journal", DEFAULT)
    assert ran == ["ingest", "clean", "derive", "join", "widen"]
    assert_frame_equal(found, _made(NUMBERS, rows, tmp_path))


@pytest.mark.parametrize("rows", [4_000])
def test_of_any_frames_by_frame_inputs(saved: Saved, tmp_path: Path, rows: int) -> None:
    steps = [ingest, clean, label, some]
    found, ran = _retried(steps, rows, saved, tmp_path / "journal", FrameInputs() + TASK_SOURCE)
    assert ran == ["ingest", "clean", "label", "some"]
    assert_frame_equal(found, _made(steps, rows, tmp_path))
    # Another flow run finds them too, and one of other inputs does not.
    keyed = (FrameInputs() - "journal") + TASK_SOURCE
    for _ in range(2):
        _, ran = _retried(NUMBERS, rows, saved, tmp_path / "keyed", keyed)
    assert ran == ["ingest", "clean", "derive", "join", "widen"]
    _, ran = _retried(NUMBERS, rows + 4, saved, tmp_path / "keyed", keyed)
    assert len(ran) == 10


@pytest.mark.parametrize("policy", [DEFAULT, FrameInputs() + TASK_SOURCE], ids=["default", "frame inputs"])
def test_of_large_frames(local: Saved, tmp_path: Path, policy: Any) -> None:
    found, ran = _retried(NUMBERS, 400_000, local, tmp_path / "journal", policy)
    assert ran == ["ingest", "clean", "derive", "join", "widen"]
    assert_frame_equal(found, _made(NUMBERS, 400_000, tmp_path))


def _made(steps: list[Any], rows: int, tmp_path: Path) -> pd.DataFrame:
    journal = str(tmp_path / "expected")
    frame = steps[0].fn(rows, journal)
    for step in steps[1:]:
        frame = step.fn(frame, journal)
    return frame
