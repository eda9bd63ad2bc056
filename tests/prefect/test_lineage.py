"""What the ICU flow shows in Prefect: a lineage from raw tables to features, and artifacts of counts and URIs only."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clinops_prefect import PipelineStore
from flows.icu_features import icu_features
from flows.running.artifacts import key as artifact_key
from tests.doors import LocalDoor
from tests.prefect.conftest import Saved, save
from tests.prefect.server import PrefectServer
from tests.prefect.test_tasks import assets

SHARDS = 2
# cohort, outcomes, and events and features of each shard.
MADE = 2 + 2 * SHARDS


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mimic")
    command = [sys.executable, "-m", "flows.synthetic", "--out", str(folder), "--stays", "40"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def target(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save(LocalDoor(tmp_path_factory.mktemp("artifacts")))


@pytest.fixture(scope="module")
def run(source: Path, target: Saved) -> str:
    """The id of a run."""
    date = dt.date(2024, 1, 1)
    state = icu_features(str(source), target.reference, date, shards=SHARDS, return_state=True)
    assert state.is_completed()
    return str(state.state_details.flow_run_id)


@pytest.fixture(scope="module")
def made_from(run: str, server: PrefectServer) -> dict[str, set[str]]:
    """Of each artifact's URI, the URIs that it was made from, as the server's events say."""
    return {
        event["resource"]["prefect.resource.id"]: {
            each["prefect.resource.id"] for each in event["related"] if each["prefect.resource.role"] == "asset"
        }
        for event in assets(server, run, "materialization.succeeded", MADE)
    }


def test_raw_tables_become_cohort_and_events_and_these_become_features(
    made_from: dict[str, set[str]], source: Path, target: Saved
) -> None:
    def uri(name: str) -> str:
        return target.store.uri(f"icu/2024-01-01/{name}")

    names = ["icu/icustays", "icu/chartevents", "hosp/labevents", "hosp/patients", "hosp/admissions"]
    tables = {next(source.glob(f"{name}.*")).as_uri() for name in names}
    assert made_from.pop(uri("cohort")) == tables
    assert made_from.pop(uri("outcomes")) == {*tables, uri("cohort")}
    for shard in range(SHARDS):
        assert made_from.pop(uri(f"events/shard-{shard:03d}")) == {*tables, uri("cohort")}
        assert made_from.pop(uri(f"features/shard-{shard:03d}")) == {uri(f"events/shard-{shard:03d}"), uri("cohort")}
    assert not made_from


def test_each_asset_says_its_rows_bytes_and_columns(run: str, server: PrefectServer, target: Saved) -> None:
    for event in assets(server, run, "materialization.succeeded", MADE):
        name = event["payload"]["uri"].split("results/here/")[1].removesuffix(".parquet")
        info = target.store.stat(name)
        assert (event["payload"]["rows"], event["payload"]["bytes"]) == (info.rows, info.bytes)
        assert event["payload"]["columns"] == list(info.schema)[:200]


def artifacts(server: PrefectServer, run: str) -> dict[str, Any]:
    found = server.post("artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}})
    return {artifact["key"]: artifact for artifact in found}


def test_the_run_leaves_progress_quality_and_what_it_wrote(run: str, server: PrefectServer, target: Saved) -> None:
    found = artifacts(server, run)
    progress, quality, written = (
        artifact_key(f"icu-{name}", target.store) for name in ("progress", "quality", "artifacts")
    )
    assert {key: artifact["type"] for key, artifact in found.items()} == {
        progress: "progress",
        quality: "markdown",
        written: "table",
    }
    assert found[progress]["data"] == 100
    rows = json.loads(found[written]["data"])
    assert len(rows) == MADE
    for row in rows:
        info = target.store.stat(row["name"])
        assert (row["uri"], row["rows"], row["bytes"]) == (info.uri, f"{info.rows:,}", f"{info.bytes:,}")
    assert target.store.uri("icu/2024-01-01/quality")[:-8] in found[quality]["data"]
    assert "## chartevents" in found[quality]["data"]


def test_artifacts_name_no_subject_and_no_stay(run: str, server: PrefectServer, target: Saved) -> None:
    store: PipelineStore = target.store
    cohort = store.download("icu/2024-01-01/cohort")
    people = {str(number) for column in ("subject_id", "stay_id", "hadm_id") for number in cohort[column].dropna()}
    assert len(people) > 40
    for artifact in artifacts(server, run).values():
        words = set(pd.Series([f"{artifact['data']}"]).str.findall(r"\d+").explode())
        assert not people & words, artifact["key"]
