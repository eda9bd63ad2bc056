"""Versions, where the bucket keeps them."""

import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, OperationNotSupportedError, UnsupportedFrameError
from tests.contract.conftest import clouds
from tests.doors import Can, Door
from tests.gallery import assert_same
from tests.proxy import Proxy

FRAMES = [pd.DataFrame({"code": ["007"] * rows, "v": range(rows)}, index=range(1, rows + 1)) for rows in (1, 2, 3)]


@clouds
def test_every_version_is_listed_newest_first_and_can_be_read(door: Door, format: str, proxy: Proxy) -> None:
    assert door.keep_versions()
    store = door.store(prefix="p", format=format, endpoint_url=proxy.url)
    for number, frame in enumerate(FRAMES):
        store.upload(frame, "x", metadata={"number": str(number)})
    store.upload(FRAMES[0], "x-other")
    store.upload(FRAMES[0], "x/below")
    infos = store.list_versions("x")
    assert [info.metadata["number"] for info in infos] == ["2", "1", "0"]
    assert [info.rows for info in infos] == [3, 2, 1]
    assert len({info.version for info in infos}) == 3
    assert infos[0] == store.stat("x")
    for info, frame in zip(infos, reversed(FRAMES), strict=True):
        assert_same(store.download("x", version=info.version), frame)
        part = store.download("x", version=info.version, columns=["v"], filters=[("v", ">", 0)])
        assert part["v"].tolist() == list(range(1, info.rows or 0))
    assert_same(store.download("x"), FRAMES[2])


@clouds
def test_a_deleted_artifacts_versions_can_still_be_read(door: Door, format: str, proxy: Proxy) -> None:
    door.keep_versions()
    store = door.store(format=format, endpoint_url=proxy.url)
    store.upload(FRAMES[0], "x")
    store.upload(FRAMES[1], "x")
    store.delete_artifact("x")
    assert not store.exists("x")
    assert store.list_artifacts() == []
    infos = store.list_versions("x")
    assert [info.rows for info in infos] == [2, 1]
    assert_same(store.download("x", version=infos[0].version), FRAMES[1])
    with pytest.raises(ArtifactNotFoundError):
        store.download("x")


def test_without_versions_there_is_one(door: Door, format: str) -> None:
    store = door.store(format=format)
    with pytest.raises(ArtifactNotFoundError):
        store.list_versions("x")
    store.upload(FRAMES[0], "x")
    store.upload(FRAMES[1], "x")
    (info,) = store.list_versions("x")
    assert info == store.stat("x")
    assert_same(store.download("x", version=info.version), FRAMES[1])


def test_a_version_that_never_was_is_not_found(door: Door, format: str) -> None:
    # A service that ignores which version is asked for is found out, and never answers with another one.
    ignores = Can.TELL_UNKNOWN_VERSIONS not in door.can and not door.keep_versions()
    store = door.store(format=format)
    store.upload(FRAMES[0], "x")
    for version in ("17", "no such version", "0e5b8f42-51f2-4b1b-9b1e-6ad6a2c9a0b0"):
        for call in (
            lambda v: store.download("x", version=v),
            lambda v: store.download("x", columns=["v"], version=v),
        ):
            with pytest.raises(OperationNotSupportedError if ignores else ArtifactNotFoundError):
                call(version)


def test_a_refused_upload_makes_no_version(door: Door, format: str) -> None:
    door.keep_versions()
    store = door.store(format=format)
    store.upload(FRAMES[0], "x")
    with pytest.raises(UnsupportedFrameError):
        store.upload(pd.DataFrame({"a": [1, "x"]}), "x")
    assert len(store.list_versions("x")) == 1
