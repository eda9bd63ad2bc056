"""Cached results: a second run executes nothing, and reads the stored object no more often than it must."""

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

from clinops_prefect import DataFrameSerializer, PipelineStore
from tests.doors import GCSDoor, S3Door
from tests.prefect.conftest import Saved, save
from tests.prefect.sample_flows import frame, make_once, said
from tests.prefect.server import PrefectServer
from tests.proxy import Proxy, deny, forward


@pytest.fixture(params=["s3", "gcs"])
def watched(request: pytest.FixtureRequest) -> Iterator[tuple[Saved, Proxy]]:
    """A saved store whose every request is seen, and can be refused."""
    endpoint = request.getfixturevalue(f"{request.param}_endpoint")
    door = (S3Door if request.param == "s3" else GCSDoor)(endpoint, f"test-{uuid4().hex[:12]}")
    with Proxy(endpoint) as proxy:
        door.endpoint = proxy.url
        yield save(door), proxy


def run(saved: Saved, journal: Path, *, keys: Saved | None = None) -> pd.DataFrame:
    """Run the task once, in a flow of its own, with the cache's keys in the same object or in another store."""
    policy = INPUTS + TASK_SOURCE
    if keys is not None:
        policy = policy.configure(key_storage=keys.reference)
    cached = make_once.with_options(result_storage=saved.reference, cache_policy=policy)

    @flow
    def calls() -> dict[str, Any]:
        return {"result": cached(3, str(journal))}

    return calls()["result"]


def bodies(proxy: Proxy, key: str) -> int:
    """How often the content of an object was asked for."""
    name = key.replace("/", "%2F")
    gets = [seen for seen in proxy.seen if seen.method == "GET" and (key in seen.path or name in seen.path)]
    return sum(1 for seen in gets if seen.status in (200, 206) and "fields" not in seen.query and _is_body(seen))


def _is_body(seen: Any) -> bool:
    # Cloud Storage answers what is known about an object at its own address, and its content with `alt=media`.
    return "/storage/v1/" not in seen.path or seen.query.get("alt") == ["media"]


def test_a_second_run_executes_nothing(saved: Saved, tmp_path: Path) -> None:
    for _ in range(2):
        assert_frame_equal(run(saved, tmp_path / "journal"), frame())
    assert len(said(tmp_path / "journal")) == 1


def test_with_keys_stored_apart_a_hit_reads_the_body_once_and_the_body_is_parquet(
    watched: tuple[Saved, Proxy], tmp_path: Path
) -> None:
    saved, proxy = watched
    keys = save(saved.door, prefix="results/keys")
    run(saved, tmp_path / "journal", keys=keys)
    result, key = saved.door.keys()
    assert (result, key) == (result, result.replace("results/here", "results/keys"))
    assert_frame_equal(pd.read_parquet(io.BytesIO(saved.door.get(result))), frame())
    proxy.clear()
    assert_frame_equal(run(saved, tmp_path / "journal", keys=keys), frame())
    assert len(said(tmp_path / "journal")) == 1
    assert bodies(proxy, result) == 1


def test_keys_and_results_in_one_store_would_overwrite_each_other_and_are_refused(
    local: Saved, tmp_path: Path, server: PrefectServer
) -> None:
    run(local, tmp_path / "journal", keys=local)
    (key,) = local.door.keys()
    assert_frame_equal(pd.read_parquet(io.BytesIO(local.door.get(key))), frame())
    assert server.logged(key.removeprefix("results/here/"), "key_storage", "another prefix")


def test_without_them_it_is_read_twice(watched: tuple[Saved, Proxy], tmp_path: Path) -> None:
    """Prefect's own doing, and the reason for the advice to store keys apart."""
    saved, proxy = watched
    run(saved, tmp_path / "journal")
    (result,) = saved.door.keys()
    proxy.clear()
    run(saved, tmp_path / "journal")
    assert bodies(proxy, result) == 2


def test_another_task_with_the_same_inputs_has_a_result_of_its_own(local: Saved, tmp_path: Path) -> None:
    run(local, tmp_path / "journal")

    @task(result_storage=local.reference, result_serializer=DataFrameSerializer(), cache_policy=INPUTS + TASK_SOURCE)
    def other(rows: int, journal: str) -> pd.DataFrame:
        return frame(rows).iloc[:1]

    @flow
    def calls() -> dict[str, Any]:
        return {"result": other(3, str(tmp_path / "journal"))}

    assert len(calls()["result"]) == 1


def test_a_read_that_is_denied_is_an_error_in_the_log_of_the_run(
    watched: tuple[Saved, Proxy], tmp_path: Path, server: PrefectServer
) -> None:
    saved, proxy = watched
    run(saved, tmp_path / "journal")
    proxy.answers = lambda seen: deny(seen) if seen.method in ("GET", "HEAD") else forward(seen)
    run(saved, tmp_path / "journal")
    assert len(said(tmp_path / "journal")) == 2, "Prefect takes any error for a miss: if this fails, it no longer does"
    (key,) = saved.door.keys()
    path = key.removeprefix("results/here/")
    assert server.logged(f"result {path}", "access denied")


def test_a_miss_is_no_error(local: Saved, tmp_path: Path, server: PrefectServer) -> None:
    run(local, tmp_path / "journal")
    (key,) = local.door.keys()
    assert not server.logged(key.removeprefix("results/here/"), level=logging.WARNING, seconds=4)


def test_outside_a_run_it_is_logged_too(watched: tuple[Saved, Proxy], caplog: pytest.LogCaptureFixture) -> None:
    saved, proxy = watched
    proxy.answers = deny
    loaded: PipelineStore = type(saved.store).load(saved.reference.split("/")[1], _sync=True)
    with pytest.raises(PermissionError):
        loaded.read_path("some/result")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
