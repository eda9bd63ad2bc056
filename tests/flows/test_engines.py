"""Engines: threads and processes compute the same features, from tables and FHIR. Complete steps are not repeated."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from prefect import flow, task
from prefect.context import FlowRunContext
from prefect.filesystems import LocalFileSystem

from clinops_prefect import InvalidArtifactNameError, PipelineStore
from flows.icu_features import icu_features
from flows.running.engines import running, task_runner
from flows.running.partition import Partition
from tests.fhir_source import to_fhir
from tests.flows.expected import DATE, assert_adds_up, expected_features, snapshot, stored_features


def test_processes_give_the_features_through_every_store(source: Path, reference: str) -> None:
    manifest = icu_features(str(source), reference, DATE, shards=3, engine="processes=2")
    store = PipelineStore.from_uri(reference)
    pd.testing.assert_frame_equal(stored_features(store), expected_features(source), check_exact=True)
    assert len(manifest["artifacts"]) == 8  # cohort, outcomes, and two of each shard


def test_a_source_in_fhir_goes_through_the_flow_and_its_rows_add_up(source: Path, tmp_path: Path) -> None:
    to_fhir(source, tmp_path / "fhir", encounters=True)
    icu_features(str(tmp_path / "fhir"), str(tmp_path / "store"), DATE, shards=2)
    (tmp_path / "tables/icu").mkdir(parents=True)
    for name in ("chartevents", "icustays"):
        (tmp_path / f"tables/icu/{name}.csv.gz").symlink_to(source / f"icu/{name}.csv.gz")
    store = PipelineStore.from_uri(tmp_path / "store")
    wanted = expected_features(tmp_path / "tables", tables=["chartevents"], as_fhir=True)
    pd.testing.assert_frame_equal(stored_features(store), wanted, check_exact=True)
    quality = json.loads(store.read_bytes(f"icu/{DATE}/quality.json"))
    account = quality["tables"]["observations"]
    assert_adds_up(account)
    assert {"entered_in_error", "no_result"} < account["dropped"].keys()


def test_a_rerun_with_the_same_input_computes_nothing_and_says_so(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = icu_features(str(source), str(tmp_path), DATE, shards=2)

    def times() -> dict[Path, int]:
        # Except the folder in which the run's claim is made and removed.
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path != tmp_path / "icu"}

    before = times()
    caplog.clear()
    assert icu_features(str(source), str(tmp_path), DATE, shards=2, engine="processes") == manifest
    assert times() == before
    assert "is complete, of the same inputs by the same code; nothing to do" in caplog.text


@pytest.mark.parametrize("change", ["missing", "cut short", "no page", "refresh", "parameter"])
def test_incomplete_or_changed_steps_are_computed(change: str, source: Path, tmp_path: Path) -> None:
    first = icu_features(str(source), str(tmp_path), DATE, shards=2)
    before = snapshot(tmp_path)
    shard = tmp_path / f"icu/{DATE}/features/shard-001.parquet"
    hours = 6
    if change == "missing":
        shard.unlink()
    elif change == "cut short":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif change == "no page":
        (tmp_path / f"icu/{DATE}/quality.html").unlink()
    elif change == "parameter":
        hours = 12
    again = icu_features(str(source), str(tmp_path), DATE, 2, hours, refresh=change == "refresh")
    assert again["flow_run"] != first["flow_run"]
    after = snapshot(tmp_path)
    assert set(after) == set(before)
    # The manifest and the report differ, because they name the run and the time.
    told = [name for name in after if "manifest" in name or "quality." in name]
    same = all(after[name] == before[name] for name in after if name not in told)
    assert same == (change != "parameter")
    quality = f"icu/{DATE}/quality.json"
    documents = [json.loads(files[quality]) for files in (before, after)]
    assert documents[0].pop("provenance") != documents[1].pop("provenance")
    assert (documents[0] == documents[1]) == (change != "parameter")


def test_if_one_shard_fails_the_other_shards_are_kept(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = icu_features(str(source), str(tmp_path / "elsewhere"), DATE, shards=3)["run"]
    # A directory in the place of shard 1's features makes every write of them fail.
    wall = tmp_path / "store" / f"{Partition(DATE, run).staged('features/shard-001')}.parquet"
    wall.mkdir(parents=True)
    store = str(tmp_path / "store")
    with pytest.raises(InvalidArtifactNameError):
        icu_features(str(source), store, DATE, shards=3)
    wall.rmdir()
    caplog.clear()
    icu_features(str(source), store, DATE, shards=3)
    assert [n for n in range(3) if f"shard {n}: features made by an earlier try" in caplog.text] == [0, 2]
    assert [n for n in range(3) if f"shard {n}: preprocessed by an earlier try" in caplog.text] == [0, 1, 2]
    pd.testing.assert_frame_equal(
        stored_features(PipelineStore.from_uri(store)), expected_features(source), check_exact=True
    )


@pytest.mark.parametrize("engine", ["fibres", "threads=0", "processes=two", "threads=-1"])
def test_an_unknown_engine_is_refused_before_anything_is_read(engine: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="engine"):
        icu_features(str(tmp_path / "nowhere"), str(tmp_path), DATE, engine=engine)
    with pytest.raises(ValueError, match="engine"):
        task_runner(engine)


@task
def _imported() -> list[str]:
    return sorted({"matplotlib", "prefect_aws", "prefect_dask"} & set(sys.modules))


@flow
def _in_a_worker() -> list[str]:
    with running("processes=1") as runner:
        return runner.submit(_imported, {}).result()


def test_a_worker_process_imports_neither_prefects_collections_nor_plots() -> None:
    assert _in_a_worker() == []


@flow
def _result_storages() -> list[object]:
    found = []
    for engine in ("threads", "processes=1"):
        with running(engine):
            context = FlowRunContext.get()
            assert context is not None
            found.append(context.result_store.result_storage)
    return found


def test_the_callers_own_result_storage_is_passed_to_the_workers(tmp_path: Path) -> None:
    default, left_out = _result_storages()
    assert isinstance(default, LocalFileSystem)
    assert left_out is None
    for options in ({"result_storage": tmp_path}, {"persist_result": True}):
        near, sent = _result_storages.with_options(**options)()
        assert near == sent
        assert sent is not None
