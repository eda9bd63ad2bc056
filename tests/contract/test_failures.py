"""Missing, forbidden or busy: every store raises the same errors. tests/faults has services out of reach."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from clinops_prefect import (
    AccessDeniedError,
    ArtifactNotFoundError,
    BucketNotFoundError,
    ClinopsPrefectError,
    LocalPipelineStore,
    PipelineStore,
)
from tests.contract.conftest import clouds
from tests.doors import Door
from tests.gallery import assert_same
from tests.proxy import Proxy, Seen, busy, cut, deny, first

FRAME = pd.DataFrame({"a": [1, 2]})
BIG = pd.DataFrame({f"c{i}": pd.Series(range(i, 180_000 + i)).sample(frac=1, random_state=i).array for i in range(40)})

READS: dict[str, Callable[[PipelineStore], Any]] = {
    "download": lambda s: s.download("x"),
    "download columns": lambda s: s.download("x", columns=["a"]),
    "iter_batches": lambda s: list(s.iter_batches("x")),
    "stat": lambda s: s.stat("x"),
    "delete": lambda s: s.delete_artifact("x"),
    "copy": lambda s: s.copy_artifact("x", "y"),
    "versions": lambda s: s.list_versions("x"),
    "read_bytes": lambda s: s.read_bytes("x"),
}
OTHERS: dict[str, Callable[[PipelineStore], Any]] = {
    "upload": lambda s: s.upload(FRAME, "x"),
    "upload if absent": lambda s: s.upload(FRAME, "x", overwrite=False),
    "upload_batches": lambda s: s.upload_batches([FRAME], "x"),
    "write_bytes": lambda s: s.write_bytes("x", b"1"),
    "list": lambda s: s.list_artifacts(),
    "list below": lambda s: s.list_artifacts("a"),
    "exists": lambda s: s.exists("x"),
}


@pytest.mark.parametrize("method", READS)
def test_a_missing_artifact_is_not_found(door: Door, format: str, method: str) -> None:
    store = door.store(prefix="p", format=format)
    store.upload(FRAME, "other")
    with pytest.raises(ArtifactNotFoundError) as caught:
        READS[method](store)
    assert isinstance(caught.value, FileNotFoundError)
    assert "/p/x" in caught.value.uri
    assert caught.value.uri in str(caught.value)


@clouds
@pytest.mark.parametrize("method", READS | OTHERS)
def test_a_missing_bucket_is_told_apart_and_raises_everywhere(door: Door, format: str, method: str) -> None:
    store = door.store_without_bucket(format=format)
    with pytest.raises(BucketNotFoundError) as caught:
        (READS | OTHERS)[method](store)
    assert isinstance(caught.value, FileNotFoundError)
    assert not isinstance(caught.value, ArtifactNotFoundError)
    assert caught.value.uri == f"{door.scheme}://{store.bucket}"  # type: ignore[attr-defined]


@clouds
def test_deleting_what_may_be_missing_from_a_missing_bucket_raises(door: Door, format: str) -> None:
    with pytest.raises(BucketNotFoundError):
        door.store_without_bucket(format=format).delete_artifact("x", missing_ok=True)


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_local_directory_is_created_by_the_first_write_and_empty_before(door: Door) -> None:
    store = door.store_without_bucket()
    assert store.list_artifacts() == []
    assert not store.exists("x")
    store.upload(FRAME, "x")
    assert store.list_artifacts() == ["x"]


@clouds
@pytest.mark.parametrize("method", READS | OTHERS)
def test_denied_access_is_a_permission_error(door: Door, format: str, method: str, proxy: Proxy) -> None:
    proxy.answers = deny
    store = door.store(endpoint_url=proxy.url, format=format)
    with pytest.raises(AccessDeniedError) as caught:
        (READS | OTHERS)[method](store)
    assert isinstance(caught.value, PermissionError)
    assert caught.value.uri.startswith(f"{door.scheme}://")
    assert caught.value.__cause__ is not None


@clouds
def test_who_may_read_objects_and_not_the_bucket_is_not_told_that_the_bucket_is_missing(
    door: Door, proxy: Proxy
) -> None:
    def no_looking(seen: Seen) -> Any:
        is_bucket = seen.path.split("?")[0].rstrip("/") in (f"/{door.bucket}", f"/storage/v1/b/{door.bucket}/o")  # type: ignore[attr-defined]
        return deny(seen) if is_bucket else first(0, deny)(seen)

    proxy.answers = no_looking
    store = door.store(endpoint_url=proxy.url)
    assert store.exists("x") is False
    store.upload(FRAME, "x")
    assert_same(store.download("x"), FRAME)
    with pytest.raises(AccessDeniedError):
        store.list_artifacts()


@clouds
def test_a_service_that_is_busy_twice_is_asked_again(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    for call in (
        lambda: store.upload(FRAME, "x"), lambda: assert_same(store.download("x"), FRAME), lambda: store.stat("x"),
        lambda: store.list_artifacts() == ["x"] or pytest.fail("wrong list"), lambda: store.copy_artifact("x", "y"),
        lambda: store.delete_artifact("x"),
    ):  # fmt: skip
        proxy.answers = first(2, busy)
        call()


@clouds
def test_an_answer_that_breaks_off_is_asked_for_again(door: Door, format: str, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url, format=format)
    store.upload(BIG[["c0", "c1"]], "x")
    for read in (
        lambda: store.download("x"), lambda: store.download("x", columns=["c0", "c1"]),
        lambda: pd.concat(store.iter_batches("x")),
    ):  # fmt: skip
        proxy.answers = first(2, cut, method="GET")
        assert_same(read(), BIG[["c0", "c1"]])


@clouds
def test_a_multipart_upload_that_fails_leaves_nothing(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    store.upload(FRAME, "x")
    begun: list[Seen] = []

    def deny_the_second_part(seen: Seen) -> Any:
        if seen.method == "PUT" and len(seen.body) > 1 << 20:
            begun.append(seen)
            if len(begun) >= 2:
                return deny(seen)
        return first(0, deny)(seen)

    proxy.answers = deny_the_second_part
    with pytest.raises(AccessDeniedError):
        store.upload(BIG, "x")
    assert len(begun) >= 2
    assert door.unfinished() == []
    assert door.keys() == ["x.parquet"]
    assert_same(store.download("x"), FRAME)


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_directory_that_cannot_be_one_is_an_error_of_ours(door: Door) -> None:
    door.put("file", b"")
    store = LocalPipelineStore(str(door.root / "file"))  # type: ignore[attr-defined]
    for method in (OTHERS["upload"], READS["download"]):
        with pytest.raises(ClinopsPrefectError):
            method(store)
    if_empty = LocalPipelineStore("")
    with pytest.raises(ClinopsPrefectError):
        if_empty.list_artifacts()
