"""Tasks that run again: each call does its work, a retry finds its own write, and a lost result is made again."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pandas as pd
import prefect.cache_policies
import pytest
from pandas.testing import assert_frame_equal
from prefect import flow
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_RESULTS_PERSIST_BY_DEFAULT, temporary_settings

from clinops_prefect import ArtifactExistsError, ServiceUnavailableError, tasks
from clinops_prefect.tasks import alist_artifacts, aupload_artifact, list_artifacts, upload_artifact
from tests.doors import LocalDoor
from tests.prefect.conftest import Saved, save
from tests.prefect.sample_flows import frame, said
from tests.prefect.test_cache import run
from tests.prefect.test_tasks import QUICK, flaky
from tests.proxy import Proxy, busy, forward

__all__ = ["flaky"]

PIPELINES = [getattr(tasks, name) for name in tasks.__all__ if "_step_functions_" in name]
TASKS = [getattr(tasks, name) for name in tasks.__all__ if name.removeprefix("a").endswith(("_artifact", "_artifacts"))]


def test_no_task_has_a_cache_whatever_options_it_is_given() -> None:
    for task in [*TASKS, *PIPELINES]:
        for given in ({}, {"retries": 0}, {"persist_result": True}, {"name": "other", "tags": ["x"]}):
            changed = task.with_options(**given)
            assert changed.cache_policy == NO_CACHE
            assert changed.retry_condition_fn is task.retry_condition_fn
            assert changed.retries == given.get("retries", 3)
    assert (len(TASKS), len(PIPELINES)) == (6, 6)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_with_persisted_results_each_call_does_its_work(local: Saved, asynchronous: bool) -> None:
    one, other = frame(), frame().iloc[:1]
    store = local.reference

    @flow(persist_result=True, result_storage=local.reference, result_serializer="json")
    def moves() -> int:
        for each in (one, other, one):
            upload_artifact(store, each, "a/x")
        before = list_artifacts(store, "a")
        upload_artifact(store, one, "a/y")
        return len(list_artifacts(store, "a")) - len(before)

    @flow(persist_result=True, result_storage=local.reference, result_serializer="json")
    async def amoves() -> int:
        for each in (one, other, one):
            await aupload_artifact(store, each, "a/x")
        before = await alist_artifacts(store, "a")
        await aupload_artifact(store, one, "a/y")
        return len(await alist_artifacts(store, "a")) - len(before)

    with temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True}):
        more = asyncio.run(amoves()) if asynchronous else moves()
    assert more == 1
    assert_frame_equal(local.store.download("a/x"), one)


def test_nothing_is_hashed_for_a_cache(
    local: Saved, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hashed = []
    monkeypatch.setattr(prefect.cache_policies, "hash_objects", lambda *given, **options: hashed.append(given))

    @flow(persist_result=True, result_storage=local.reference, result_serializer="json")
    def moves() -> None:
        upload_artifact(local.store, frame(), "a")
        list_artifacts(local.store)

    with temporary_settings({PREFECT_RESULTS_PERSIST_BY_DEFAULT: True}):
        moves()
    assert not hashed
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_a_retried_flow_finds_its_own_write_and_nobody_elses(saved: Saved, format: str) -> None:
    store, tries = saved.store.model_copy(update={"format": type(saved.store.format)(format)}), []

    @flow(retries=1, retry_delay_seconds=0)
    def moves(name: str, rows: int, later: int) -> str:
        uri = upload_artifact(
            store, frame(rows if len(tries) == 0 else later), name, overwrite=False, metadata={"a": "b"}
        )
        tries.append(uri)
        if len(tries) == 1:
            raise RuntimeError("after the upload")
        return uri

    assert moves("a", 3, 3) == store.uri("a")
    assert len(tries) == 2
    assert_frame_equal(store.download("a"), frame(3))
    assert store.stat("a").metadata == {"a": "b"}
    # Another run, with the same frame.
    with pytest.raises(ArtifactExistsError):
        moves("a", 3, 3)
    # The same run, with another frame.
    tries.clear()
    with pytest.raises(ArtifactExistsError):
        moves("b", 3, 2)
    assert_frame_equal(store.download("b"), frame(3))
    # The same run and frame, but a copy of what is there under another name is not its own write.
    with pytest.raises(ArtifactExistsError):
        store.upload(frame(3), "b", overwrite=False)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_retried_task_finds_its_own_write(flaky: tuple[Any, Proxy], asynchronous: bool) -> None:
    """The upload succeeds, and the request after it, for the asset's size and columns, does not."""
    door, proxy = flaky
    store, failed = door.store(), []

    def answers(seen: Any) -> Any:
        written = any(one.method == "PUT" for one in proxy.seen)
        if written and seen.method == "GET" and not failed:
            failed.append(seen)
            return busy(seen)
        return forward(seen)

    proxy.answers = answers

    @flow
    def moves() -> Any:
        return upload_artifact.with_options(**QUICK)(store, frame(), "a", overwrite=False)

    @flow
    async def amoves() -> Any:
        return await aupload_artifact.with_options(**QUICK)(store, frame(), "a", overwrite=False)

    assert (asyncio.run(amoves()) if asynchronous else moves()) == store.uri("a")
    assert failed
    assert_frame_equal(store.download("a"), frame())


def test_what_lasts_is_still_an_error(flaky: tuple[Any, Proxy]) -> None:
    door, proxy = flaky
    proxy.answers = busy
    store = door.store()

    @flow
    def moves() -> Any:
        return upload_artifact.with_options(retries=1, **QUICK)(store, frame(), "a", overwrite=False)

    with pytest.raises(ServiceUnavailableError):
        moves()


def test_the_same_frame_has_one_hash_and_another_another() -> None:
    from clinops_prefect.artifacts.codec import content_hash

    base = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])})
    assert content_hash(base) == content_hash(base.copy())
    others = [
        base.assign(a=[1, 3]), base.assign(b=["x", "y"]), base.astype({"a": "int32"}), base[["b", "a", "c"]],
        base.iloc[:1], base.set_axis([5, 6]), base.rename(columns={"a": "z"}),
        base.assign(c=pd.Categorical(["u", "w"])),
    ]  # fmt: skip
    assert len({content_hash(each) for each in [base, *others]}) == len(others) + 1


def test_with_keys_stored_apart_a_result_that_is_gone_is_made_again(saved: Saved, tmp_path: Path) -> None:
    keys = save(saved.door, prefix="results/keys")
    for expected in (1, 2, 2):
        assert_frame_equal(run(saved, tmp_path / "journal", keys=keys), frame())
        assert len(said(tmp_path / "journal")) == expected
        if expected == 1:
            (result,) = (key for key in saved.door.keys() if key.startswith("results/here"))
            saved.door.delete(result)


def test_so_it_is_with_keys_in_a_store_of_another_kind(saved: Saved, tmp_path: Path) -> None:
    keys = save(LocalDoor(tmp_path / "keys"))
    run(saved, tmp_path / "journal", keys=keys)
    for key in saved.door.keys():
        saved.door.delete(key)
    assert_frame_equal(run(saved, tmp_path / "journal", keys=keys), frame())
    assert len(said(tmp_path / "journal")) == 2
