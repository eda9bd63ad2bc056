"""Deleting all artifacts below a path: exactly these objects are removed, and errors say what was not removed."""

import re
from urllib.parse import unquote

import pandas as pd
import pytest

from clinops_prefect import (
    AccessDeniedError,
    ArtifactNotFoundError,
    BucketNotFoundError,
    ClinopsPrefectError,
    InvalidArtifactNameError,
    LocalPipelineStore,
    ServiceUnavailableError,
)
from tests.contract.conftest import clouds
from tests.doors import Door
from tests.gallery import assert_same
from tests.proxy import Outcome, Proxy, Reply, Seen, deny

FRAME = pd.DataFrame({"code": ["007", "b"], "v": [1, 2]})
# Names with characters that a request for many objects must escape.
NAMES = ["a", "b c", "c&<d>'\"", "deep/er/é", "e%20e", "f+f", "g=g;h"]


def is_removal(seen: Seen) -> bool:
    return seen.method == "DELETE" or "?delete" in seen.path or "/batch" in seen.path


def test_all_below_a_path_goes_and_nothing_else(door: Door, format: str) -> None:
    store = door.store(prefix="p", format=format)
    other = door.store(prefix="p", format="csv" if format == "parquet" else "parquet")
    for name in NAMES:
        store.upload(FRAME, f"icu/{name}")
    kept = ["icu", "icu_old/a", "other/a"]
    for name in kept:
        store.upload(FRAME, name)
    other.upload(FRAME, "icu/a")
    store.write_bytes("icu/quality.html", b"<p>")
    below = sorted(f"icu/{name}" for name in NAMES)
    before = door.keys()
    assert store.delete_artifacts("icu/", dry_run=True) == below
    assert door.keys() == before
    assert store.delete_artifacts("icu") == below
    assert store.list_artifacts() == kept
    assert_same(other.download("icu/a"), FRAME)
    assert store.read_bytes("icu/quality.html") == b"<p>"
    # Sidecars are removed too: a CSV artifact has two objects, and a Parquet artifact has one.
    per = {"parquet": 1, "csv": 2}
    assert len(door.keys()) == len(kept) * per[format] + per["csv" if format == "parquet" else "parquet"] + 1
    assert store.delete_artifacts("icu") == []


@pytest.mark.parametrize("prefix", ["", "/"])
def test_an_empty_prefix_is_refused(door: Door, prefix: str) -> None:
    store = door.store()
    store.upload(FRAME, "x")
    for dry_run in (True, False):
        with pytest.raises(InvalidArtifactNameError, match="every artifact below"):
            store.delete_artifacts(prefix, dry_run=dry_run)
    assert store.exists("x")


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_many_go_in_one_request_to_s3(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    for number in range(12):
        store.upload(FRAME, f"x/{number}")
    proxy.clear()
    assert len(store.delete_artifacts("x")) == 12
    assert len([seen for seen in proxy.seen if is_removal(seen)]) == 1
    assert door.keys() == []


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
@pytest.mark.parametrize("status", ["204 No Content", "503 Service Unavailable"])
def test_many_go_in_one_request_to_cloud_storage(door: Door, proxy: Proxy, status: str) -> None:
    """The emulator gives an empty answer to a batch, so the test makes the answer that Google documents."""
    store = door.store(endpoint_url=proxy.url)
    for number in range(3):
        store.upload(FRAME, f"x/{number}")

    def batch(seen: Seen) -> Outcome | Reply:
        if "/batch" not in seen.path:
            return Outcome.FORWARD
        answers = []
        for name in re.findall(rb"^DELETE \S+/o/(\S+?)\?", seen.body, re.MULTILINE):
            answer = status if name.endswith(b"1.parquet") else "204 No Content"
            if answer.startswith("204"):
                door.delete(unquote(name.decode()))
            answers.append(
                f"--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n\r\n"
            )
        return Reply(200, f"{''.join(answers)}--b--".encode(), (("Content-Type", "multipart/mixed; boundary=b"),))

    proxy.clear()
    proxy.answers = batch
    assert len(store.delete_artifacts("x")) == 3
    assert len([seen for seen in proxy.seen if is_removal(seen)]) == (1 if status.startswith("204") else 4)
    assert door.keys() == []


@clouds
def test_more_than_one_request_takes(door: Door, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = door.store(format=format)
    monkeypatch.setattr(type(store._backend()), "removed_at_once", 3)
    for number in range(7):
        store.upload(FRAME, f"x/{number}")
    assert len(store.delete_artifacts("x")) == 7
    assert door.keys() == []


@clouds
def test_a_service_without_a_request_for_many_is_asked_for_each(door: Door, format: str, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url, format=format)
    for number in range(3):
        store.upload(FRAME, f"x/{number}")

    def lacks_it(seen: Seen) -> Outcome:
        return deny(seen) if is_removal(seen) and seen.method == "POST" else Outcome.FORWARD

    proxy.answers = lacks_it
    assert len(store.delete_artifacts("x")) == 3
    assert door.keys() == []


@clouds
def test_what_cannot_be_deleted_is_told_with_how_many_were(door: Door, format: str, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url, format=format)
    for name in ("free-1", "held", "free-2"):
        store.upload(FRAME, f"x/{name}")

    def held(seen: Seen) -> Outcome:
        is_many = is_removal(seen) and seen.method == "POST"
        return deny(seen) if is_many or (is_removal(seen) and f"held.{format}" in seen.path) else Outcome.FORWARD

    proxy.answers = held
    with pytest.raises(AccessDeniedError, match="2 of 3 artifacts were deleted: call it again") as caught:
        store.delete_artifacts("x")
    assert caught.value.uri == store.uri("x/held")
    assert_same(door.store(format=format).download("x/held"), FRAME)
    proxy.answers = lambda _: Outcome.FORWARD
    assert store.delete_artifacts("x") == ["x/held"]
    assert door.keys() == []


@clouds
def test_a_service_that_cannot_be_reached_is_not_asked_for_each(
    door: Door, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = door.store(endpoint_url=proxy.url)
    monkeypatch.setattr(type(store._backend()), "removed_at_once", 1)
    for number in range(60):
        door.put(f"x/{number}.parquet", b"")
    proxy.answers = lambda seen: Outcome.ERROR if is_removal(seen) else Outcome.FORWARD
    with pytest.raises(ServiceUnavailableError, match="0 of 60 artifacts were deleted"):
        store.delete_artifacts("x")
    assert len({seen.path for seen in proxy.seen if is_removal(seen)}) < 60


def test_sidecars_that_a_killed_removal_left_go_too(door: Door) -> None:
    store = door.store(format="csv")
    store.upload(FRAME, "x/a")
    store.upload(FRAME, "x/b")
    door.delete("x/a.csv")
    assert store.delete_artifacts("x", dry_run=True) == ["x/b"]
    assert len(door.keys()) == 3
    assert store.delete_artifacts("x") == ["x/b"]
    assert door.keys() == []


@clouds
def test_a_missing_bucket_is_said_to_be_missing(door: Door) -> None:
    with pytest.raises(BucketNotFoundError):
        door.store_without_bucket().delete_artifacts("x")


def test_a_local_folder_that_may_not_be_written_keeps_its_artifacts(tmp_path: object) -> None:
    store = LocalPipelineStore(tmp_path, prefix="p")  # type: ignore[arg-type]
    store.upload(FRAME, "x/a")
    store.upload(FRAME, "x/b/c")
    backend = type(store._backend())
    remove = backend._remove

    def held(self: object, key: str) -> None:
        if key == "p/x/a.parquet":
            raise PermissionError(13, "denied")
        remove(self, key)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "_remove", held)
        with pytest.raises(ClinopsPrefectError, match="1 of 2 artifacts were deleted"):
            store.delete_artifacts("x")
    assert store.list_artifacts() == ["x/a"]
    with pytest.raises(ArtifactNotFoundError):
        store.download("x/b/c")
