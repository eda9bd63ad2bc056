"""Every method takes the URI that `upload` returned as a name. The URI of another store is refused."""

from pathlib import Path

import pandas as pd
import pytest

from clinops_prefect import InvalidArtifactNameError, LocalPipelineStore
from tests.doors import Door
from tests.gallery import assert_same

FRAME = pd.DataFrame({"code": ["007", "b"], "v": [1, 2]})


@pytest.mark.parametrize("name", ["x", "a b/é", "50%/#1", "q?a=b@c"])
def test_every_method_takes_the_uri(door: Door, format: str, name: str) -> None:
    store = door.store(prefix="p/q", format=format)
    uri = store.upload(FRAME, name, metadata={"a": "b"})
    assert store.uri(uri) == uri
    assert_same(store.download(uri), FRAME)
    assert_same(pd.concat(store.iter_batches(uri)), FRAME)
    assert store.exists(uri)
    assert store.stat(uri) == store.stat(name)
    assert store.list_versions(uri) == store.list_versions(name)
    assert store.upload(FRAME, uri) == uri
    assert store.upload_batches([FRAME], uri) == uri
    copied = store.copy_artifact(uri, store.uri("copies/y"))
    assert_same(store.download("copies/y"), FRAME)
    store.delete_artifact(copied)
    store.delete_artifact(uri)
    assert not store.exists(uri)
    assert door.keys() == []
    there = store.write_bytes(f"{name}.txt", b"1")
    assert store.read_bytes(there) == b"1"
    assert store.browser_url(there) == store.browser_url(f"{name}.txt")
    assert store.write_bytes(there, b"2") == there
    assert store.read_bytes(f"{name}.txt") == b"2"


def test_the_uri_of_another_place_is_told_with_both(door: Door) -> None:
    store, other = door.store(prefix="p"), door.store(prefix="p2")
    strangers = {
        other.upload(FRAME, "x"): "is not in this store",
        door.store(prefix="p", format="csv").upload(FRAME, "x"): r"does not end in \.parquet",
        store.uri("y").replace(f"{door.scheme}://", f"{door.scheme}://another-"): "is not in this store",
        "ftp://somewhere/x.parquet": "is not in this store",
    }
    for uri, why in strangers.items():
        for call in (
            store.download,
            store.stat,
            store.exists,
            store.delete_artifact,
            lambda uri: store.upload(FRAME, uri),
        ):
            with pytest.raises(InvalidArtifactNameError, match=why) as caught:
                call(uri)
            assert uri.partition("?")[0][:60] in str(caught.value)
            assert store.uri("y").rpartition("/")[0] in str(caught.value)
    assert other.exists("x")


def test_no_password_in_a_uri_is_shown(door: Door) -> None:
    with pytest.raises(InvalidArtifactNameError) as caught:
        door.store().download("s3://KEY:hunter2@bucket/x.parquet?sig=hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_way_out_of_a_folder_is_none(tmp_path: Path) -> None:
    outside = LocalPipelineStore(tmp_path / "outside")
    outside.upload(FRAME, "x")
    store = LocalPipelineStore(tmp_path / "store")
    for uri in (f"{store.uri('y')[:-9]}../outside/x.parquet", f"file://{tmp_path}/store/%2e%2e/outside/x.parquet"):
        with pytest.raises(InvalidArtifactNameError, match="is not in this store"):
            store.download(uri)
    assert_same(outside.download(outside.uri("x").replace("file://", "file://localhost")), FRAME)
