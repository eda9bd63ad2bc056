"""Names of artifacts, and listings."""

import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, ClinopsPrefectError, InvalidArtifactNameError
from tests.contract.conftest import clouds
from tests.doors import Can, Door
from tests.proxy import Proxy

FRAME = pd.DataFrame({"a": [1, 2]})
BAD = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a\x00b", "a\nb", "a\x7f", "a\x85", "\ud800",
    "a\u2028b", "a\u202eb", "n" * 4000, "é" * 2000,
]  # fmt: skip


def test_a_backslash_in_a_name_is_no_slash(door: Door, format: str) -> None:
    store = door.store(format=format)
    if Can.KEEP_BACKSLASHES in door.can:
        store.upload(FRAME, "a\\b")
        assert store.list_artifacts() == ["a\\b"]
    elif door.scheme == "az":
        with pytest.raises(InvalidArtifactNameError):
            store.upload(FRAME, "a\\b")
        assert door.keys() == []
    else:  # SeaweedFS turns a backslash into a slash, and S3 does not
        store.upload(FRAME, "a\\b")
        assert store.list_artifacts() == ["a/b"]


@clouds
def test_a_bad_name_is_refused_before_any_request(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    for name in BAD:
        with pytest.raises(InvalidArtifactNameError):
            store.download(name)
    assert proxy.seen == []


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_name_that_is_a_directory_or_goes_through_a_file_is_an_error_of_ours(door: Door) -> None:
    store = door.store()
    store.upload(FRAME, "a")
    with pytest.raises(InvalidArtifactNameError):
        store.upload(FRAME, "a.parquet/b")
    store.upload(FRAME, "d.parquet/x")
    for call in (store.download, store.stat, store.delete_artifact, lambda n: list(store.iter_batches(n))):
        with pytest.raises(ArtifactNotFoundError):
            call("d")
    with pytest.raises(ClinopsPrefectError):
        store.upload(FRAME, "d")
    assert store.exists("d") is False
    assert store.list_artifacts() == ["a", "d.parquet/x"]
