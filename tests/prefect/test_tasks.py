"""The tasks, in flows on a real server: what they take, what they retry, and what they tell the Assets page."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from clinops_prefect import AccessDeniedError, ArtifactNotFoundError, ServiceUnavailableError
from clinops_prefect.blocks import s3
from clinops_prefect.tasks import (
    adownload_artifact,
    alist_artifacts,
    aupload_artifact,
    download_artifact,
    list_artifacts,
    upload_artifact,
)
from tests.doors import Door, S3Door
from tests.prefect.conftest import Saved
from tests.prefect.sample_flows import frame
from tests.prefect.server import PrefectServer
from tests.proxy import Proxy, busy, deny, first

QUICK: dict[str, Any] = {"retry_delay_seconds": 0, "retry_jitter_factor": None}


def as_block(saved: Saved) -> Any:
    return saved.store


def as_reference(saved: Saved) -> Any:
    return saved.reference


@pytest.mark.parametrize("store", [as_block, as_reference])
def test_a_frame_goes_up_and_comes_down(store: Any, saved: Saved) -> None:
    @flow
    def moves() -> Any:
        uri = upload_artifact(store(saved), frame(), "frames/a", metadata={"run": "7"})
        part = download_artifact(store(saved), "frames/a", columns=["stay"], filters=[("sex", "==", "F")])
        return uri, list_artifacts(store(saved), "frames"), download_artifact(store(saved), "frames/a"), part

    uri, names, whole, part = moves()
    assert uri == saved.store.uri("frames/a")
    assert names == ["frames/a"]
    assert_frame_equal(whole, frame())
    assert part["stay"].tolist() == [1, 3]


def test_a_uri_needs_no_saved_block(tmp_path: Path) -> None:
    @flow
    def moves() -> Any:
        upload_artifact(f"file://{tmp_path}/a", frame(), "frames/a")
        return download_artifact(str(tmp_path / "a"), "frames/a")

    assert_frame_equal(moves(), frame())


def test_async_flows_await_the_twins(saved: Saved) -> None:
    @flow
    async def moves() -> Any:
        names = [f"frames/{name}" for name in "abc"]
        await asyncio.gather(*(aupload_artifact(saved.reference, frame(), name) for name in names))
        frames = await asyncio.gather(*(adownload_artifact(saved.reference, name) for name in names))
        return await alist_artifacts(saved.store), frames

    names, frames = asyncio.run(moves())
    assert names == ["frames/a", "frames/b", "frames/c"]
    for each in frames:
        assert_frame_equal(each, frame())


def test_they_can_be_mapped(saved: Saved) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=4))
    def moves() -> Any:
        names = [f"frames/{number}" for number in range(8)]
        uris = upload_artifact.map(saved.reference, [frame()] * len(names), names)
        return download_artifact.map(saved.reference, names, wait_for=[uris]).result()

    assert len(moves()) == 8


def test_a_missing_block_is_said_by_name() -> None:
    @flow
    def moves() -> Any:
        return list_artifacts.with_options(retries=0)("s3-pipeline-store/nobody-saved-this")

    with pytest.raises(ValueError, match="nobody-saved-this"):
        moves()


@pytest.fixture
def flaky(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Door, Proxy]]:
    """A store whose requests can fail; each is made once, since boto3's own tries take half a minute."""
    monkeypatch.setitem(s3._CLIENT, "retries", {"mode": "standard", "total_max_attempts": 1})
    door = S3Door(s3_endpoint, f"test-{uuid4().hex[:12]}")
    with Proxy(s3_endpoint) as proxy:
        door.endpoint = proxy.url
        yield door, proxy


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_overload_that_passes_is_retried(asynchronous: bool, flaky: tuple[Door, Proxy]) -> None:
    door, proxy = flaky
    proxy.answers = first(1, busy, method="PUT")
    store = door.store()

    @flow
    def moves() -> Any:
        return upload_artifact.with_options(**QUICK)(store, frame(), "a")

    @flow
    async def amoves() -> Any:
        return await aupload_artifact.with_options(**QUICK)(store, frame(), "a")

    uri = asyncio.run(amoves()) if asynchronous else moves()
    assert uri == store.uri("a")
    assert sum(seen.method == "PUT" for seen in proxy.seen) == 2


def test_an_overload_that_lasts_fails_the_task_in_the_end(flaky: tuple[Door, Proxy]) -> None:
    door, proxy = flaky
    proxy.answers = busy
    store = door.store()

    @flow
    def moves() -> Any:
        return list_artifacts.with_options(retries=1, **QUICK)(store)

    with pytest.raises(ServiceUnavailableError):
        moves()
    assert len(proxy.seen) == 2


def test_what_will_not_pass_is_not_retried(flaky: tuple[Door, Proxy]) -> None:
    door, proxy = flaky
    store = door.store()

    @flow
    def missing() -> Any:
        return download_artifact.with_options(**QUICK)(store, "nothing")

    @flow
    def denied() -> Any:
        return download_artifact.with_options(**QUICK)(store, "nothing")

    with pytest.raises(ArtifactNotFoundError):
        missing()
    once = len(proxy.seen)
    proxy.clear()
    proxy.answers = deny
    with pytest.raises(AccessDeniedError):
        denied()
    assert len(proxy.seen) == 1 <= once <= 3  # a missing object, and then whether the bucket is there


def test_they_read_well_in_the_ui(local: Saved, server: PrefectServer) -> None:
    @flow
    def moves() -> Any:
        upload_artifact(local.reference, frame(), "frames/a")
        return download_artifact(local.reference, "frames/a")

    state = moves(return_state=True)
    flow_run = str(state.state_details.flow_run_id)
    runs = server.eventually("task_runs/filter", 2, flow_runs={"id": {"any_": [flow_run]}})
    assert {run["name"].rpartition("-")[0] for run in runs} == {"upload-artifact", "download-artifact"}
    assert all(run["tags"] == [] for run in runs)  # with a tag, Prefect would ask its server for a limit, and wait
    for task in (upload_artifact, download_artifact, list_artifacts):
        assert task.description
        assert task.description.endswith(".")
        twin = {"upload": aupload_artifact, "download": adownload_artifact, "list": alist_artifacts}
        assert twin[task.name.split("-")[0]].description == task.description


def assets(server: PrefectServer, flow_run: str, kind: str, count: int) -> list[dict[str, Any]]:
    """The asset events of a run, as the server keeps them."""
    event = {"name": [f"prefect.asset.{kind}"]}
    related = {"resources_in_roles": [[f"prefect.flow-run.{flow_run}", "flow-run"]]}
    return server.eventually("events/filter", count, filter={"event": event, "related": related}, key="events")


def test_an_upload_is_an_asset_with_its_size_and_columns_and_a_download_is_upstream_of_it(
    saved: Saved, server: PrefectServer
) -> None:
    saved.store.upload(frame(), "raw/events")

    @flow
    def moves() -> None:
        events = download_artifact(saved.reference, "raw/events")
        upload_artifact(saved.reference, events, "clean/events")

    state = moves(return_state=True)
    run = str(state.state_details.flow_run_id)
    (made,) = assets(server, run, "materialization.succeeded", 1)
    assert made["resource"]["prefect.resource.id"] == saved.store.uri("clean/events")
    info = saved.store.stat("clean/events")
    assert made["payload"] == {
        "uri": info.uri,
        "rows": 3,
        "bytes": info.bytes,
        "columns": ["stay", "sex", "at"],
        "number of columns": 3,
    }
    upstream = [each["prefect.resource.id"] for each in made["related"] if each["prefect.resource.role"] == "asset"]
    assert upstream == [saved.store.uri("raw/events")]


def test_no_value_of_a_frame_reaches_the_server(local: Saved, server: PrefectServer) -> None:
    secret = f"Jane-{uuid4().hex}"
    people = pd.DataFrame({"name": [secret]})

    @flow
    def moves() -> None:
        upload_artifact(local.reference, people, "people")
        download_artifact(local.reference, "people")

    state = moves(return_state=True)
    run = str(state.state_details.flow_run_id)
    assets(server, run, "materialization.succeeded", 1)
    database = b"".join(path.read_bytes() for path in server.home.glob("prefect.db*"))
    assert run.encode() in database or run.replace("-", "").encode() in database
    assert secret.encode() not in database
