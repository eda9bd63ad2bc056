"""Flows whose tasks hand on references instead of frames: results, cache keys, lineage and errors, on a real server."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.task_runners import ThreadPoolTaskRunner

from clinops_prefect import (
    ArtifactNotFoundError,
    ArtifactRef,
    DataFrameSerializer,
    FrameInputs,
    InvalidArtifactNameError,
    InvalidStoreError,
)
from clinops_prefect.tasks import adownload_artifact, aupload_artifact, download_artifact, open_store, upload_artifact
from tests.prefect.conftest import Saved
from tests.prefect.sample_flows import frame
from tests.prefect.server import PrefectServer
from tests.prefect.test_tasks import assets


def test_tasks_hand_on_references(saved: Saved) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def moves() -> Any:
        ref = upload_artifact.submit(saved.reference, frame(), "frames/a", metadata={"run": "7"}, as_ref=True)
        part = download_artifact.submit(ref, columns=["stay"], filters=[("sex", "==", "F")])
        return (
            ref.result(),
            download_artifact(ref.result()),
            part.result(),
            download_artifact(ref.result(), as_="arrow"),
        )

    ref, whole, part, table = moves()
    assert (type(ref), ref.store, ref.name) == (ArtifactRef, saved.reference, "frames/a")
    assert ref == saved.store.ref("frames/a")
    assert_frame_equal(whole, frame())
    assert part["stay"].tolist() == [1, 3]
    assert table.num_rows == 3
    assert ref.stat().metadata == {"run": "7"}
    assert saved.door.scheme in repr(ref)


def test_async_flows_do_so_too(local: Saved) -> None:
    @flow
    async def moves() -> Any:
        ref = await aupload_artifact(local.reference, frame(), "a", as_ref=True)
        return await adownload_artifact(ref), await ref.adownload(columns=["sex"]), (await ref.astat()).rows

    whole, part, rows = asyncio.run(moves())
    assert_frame_equal(whole, frame())
    assert (list(part.columns), rows) == (["sex"], 3)


@pytest.mark.parametrize("serializer", ["json", DataFrameSerializer()])
@pytest.mark.parametrize("is_kept_apart", [False, True])
def test_a_reference_is_a_result_and_a_cache_key(
    local: Saved, tmp_path: Path, serializer: Any, is_kept_apart: bool, prefect_keys: str
) -> None:
    runs: list[str] = []
    policy = FrameInputs() + TASK_SOURCE
    policy = policy.configure(key_storage=prefect_keys) if is_kept_apart else policy
    kept: dict[str, Any] = {"result_storage": local.reference, "result_serializer": serializer, "persist_result": True}

    @task(cache_policy=policy, **kept)
    def features(ref: ArtifactRef) -> ArtifactRef:
        runs.append("features")
        return upload_artifact(local.reference, ref.download()[["stay"]], "features", as_ref=True)

    @flow(**kept)
    def run() -> Any:
        ref = upload_artifact(local.reference, frame(), "raw", as_ref=True)
        return features(local.store.ref("raw")), features(ref)

    first, second = run()
    assert first == second
    assert runs == ["features"]
    assert list(first.download().columns) == ["stay"]
    # Another version is another input.
    run()
    assert runs == ["features", "features"]


@pytest.fixture
def prefect_keys(local: Saved) -> str:
    keys = type(local.store)(local.store.directory, prefix="keys")  # type: ignore[attr-defined]
    name = f"{local.reference.partition('/')[2]}-keys"
    keys.save(name, _sync=True)
    return f"local-pipeline-store/{name}"


def test_a_flows_own_result_may_be_a_reference(local: Saved) -> None:
    for serializer in ("json", DataFrameSerializer()):

        @flow(persist_result=True, result_storage=local.reference, result_serializer=serializer)
        def makes() -> Any:
            return upload_artifact(local.reference, frame(), "a", as_ref=True)

        state = makes(return_state=True)
        state.data.__dict__.pop("_cache", None)
        assert state.result() == local.store.ref("a")


@pytest.mark.parametrize("reads", ["the task", "its own task"])
def test_who_reads_a_reference_depends_on_the_artifact(local: Saved, server: PrefectServer, reads: str) -> None:
    local.store.upload(frame(), "raw")

    @task
    def clean(ref: ArtifactRef) -> Any:
        upload_artifact.fn(local.reference, ref.download(columns=["stay"]), "clean")

    @flow
    def moves(ref: Any) -> None:
        if reads == "its own task":
            clean(ref)
        else:
            upload_artifact(local.reference, download_artifact(ref), "clean")

    run = str(moves(local.store.ref("raw"), return_state=True).state_details.flow_run_id)
    (made,) = assets(server, run, "materialization.succeeded", 1)
    assert made["resource"]["prefect.resource.id"] == local.store.uri("clean")
    upstream = [each["prefect.resource.id"] for each in made["related"] if each["prefect.resource.role"] == "asset"]
    assert upstream == [local.store.uri("raw")]


def test_who_takes_a_reference_that_a_task_made_depends_on_the_artifact(local: Saved, server: PrefectServer) -> None:
    @task
    def summary(ref: ArtifactRef) -> Any:
        upload_artifact.fn(local.reference, pd.DataFrame({"rows": [ref.stat().rows]}), "summary")

    @flow
    def moves() -> None:
        summary(upload_artifact(local.reference, frame(), "raw", as_ref=True))

    run = str(moves(return_state=True).state_details.flow_run_id)
    made = assets(server, run, "materialization.succeeded", 2)
    by_id = {each["resource"]["prefect.resource.id"]: each for each in made}
    related = by_id[local.store.uri("summary")]["related"]
    upstream = [each["prefect.resource.id"] for each in related if each["prefect.resource.role"] == "asset"]
    assert upstream == [local.store.uri("raw")]


def test_what_cannot_be_is_told(local: Saved, tmp_path: Path) -> None:
    ref = upload_artifact.fn(local.reference, frame(), "a", as_ref=True)
    for options in ({"name": "a"}, {"version": "1"}):
        with pytest.raises(TypeError, match="leave name and version out"):
            download_artifact.fn(ref, **options)
    with pytest.raises(TypeError, match=r"which store, artifact and version it means: download_artifact\(ref\)"):
        download_artifact.fn(local.reference, ref)
    with pytest.raises(InvalidArtifactNameError, match="not ArtifactRef; pass its uri"):
        local.store.stat(ref)  # type: ignore[arg-type]
    upload_artifact.fn(local.reference, frame()[:1], "a")
    with pytest.raises(ArtifactNotFoundError, match="the version that this reference means is gone"):
        download_artifact.fn(ref)
    again = upload_artifact.fn(local.reference, frame(), "a", as_ref=True)
    moved = open_store(local.reference)
    moved.directory = str(tmp_path / "elsewhere")  # type: ignore[attr-defined]
    moved.save(local.reference.partition("/")[2], overwrite=True, _sync=True)
    with pytest.raises(InvalidStoreError, match=r"means .*elsewhere.* now, and the reference was made for"):
        again.download()


def test_a_retry_that_finds_its_own_write_gives_the_reference(local: Saved) -> None:
    seen = threading.local()

    @task(retries=1)
    def stores() -> Any:
        ref = upload_artifact.fn(local.reference, frame(), "a", overwrite=False, as_ref=True)
        if not getattr(seen, "once", False):
            seen.once = True
            raise ConnectionError
        return ref

    @flow
    def moves() -> Any:
        return stores()

    assert_frame_equal(moves().download(), frame())


def test_inputs_of_prefect_itself_tell_versions_apart(local: Saved) -> None:
    one, two = (upload_artifact.fn(local.reference, frame()[:rows], "a", as_ref=True) for rows in (1, 2))
    keys = [INPUTS.compute_key(None, {"ref": ref}, {}) for ref in (one, two, one)]  # type: ignore[arg-type]
    assert keys[0] == keys[2] != keys[1]
