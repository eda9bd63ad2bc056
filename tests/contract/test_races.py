"""Races of large uploads, and copies whose source changes, at the critical request, in every store.

A proxy lets another writer act between two requests, and makes the checks that an emulator lacks.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import ArtifactExistsError, ArtifactNotFoundError, PipelineStore, ServiceUnavailableError
from clinops_prefect.storage.backend import ObjectChangedError
from clinops_prefect.storage.local.atomic_file import AtomicFile
from clinops_prefect.storage.s3.backend import S3Backend
from clinops_prefect.storage.service import ServiceBackend
from clinops_prefect.testing.contracts.objects import write
from clinops_prefect.testing.contracts.races import winners
from tests.conftest import STORES
from tests.doors import Door
from tests.gallery import assert_same
from tests.proxy import Answered, Forward, Outcome, Proxy, Seen
from tests.strict import Strict, begins_in_parts, completes, copies

# The smallest part that S3 allows. With real sizes, the requests would be the same, but with more bytes.
_PART_BYTES = 5 << 20
# The text is larger than a part in both formats. Cells are long texts, so that CSV is fast.
_CELL_BYTES, _ROWS = 9_000, 800


def large(seed: int) -> pd.DataFrame:
    """Text that does not compress below one part."""
    letters = np.random.default_rng(seed).integers(33, 127, (_ROWS, _CELL_BYTES), dtype=np.uint8)
    letters[letters == ord('"')] = ord("a")
    return pd.DataFrame({"text": [row.tobytes().decode() for row in letters], "writer": seed})


@pytest.fixture(scope="module")
def frames() -> list[pd.DataFrame]:
    return [large(0), large(1)]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (ServiceBackend, *ServiceBackend.__subclasses__()):
        monkeypatch.setattr(backend, "part_bytes", _PART_BYTES)
    monkeypatch.setattr(S3Backend, "copy_part_bytes", _PART_BYTES)


@pytest.fixture
def proxy(door: Door) -> Iterator[Proxy | None]:
    """A proxy in front of a cloud. None for a folder."""
    endpoint = getattr(door, "endpoint", "")
    if not endpoint:
        yield None
        return
    with Proxy(endpoint) as proxy:
        proxy.around = Strict(door)
        yield proxy


# A request, and for a folder the corresponding step of writing a file.
FIRST, LAST = (begins_in_parts, "__enter__"), (completes, "place")


@pytest.mark.parametrize(("format", "moment"), [("parquet", FIRST), ("parquet", LAST), ("csv", LAST)])
def test_an_upload_in_parts_loses_to_one_that_came_in_between(
    door: Door,
    format: str,
    proxy: Proxy | None,
    moment: tuple[Callable[[Seen], bool], str],
    frames: list[pd.DataFrame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both uploads found no artifact at first, so only the condition on the last request protects the winner's."""
    others = door.store(format=format)
    acted: list[str] = []
    # The other parts wait too, since the winner's last request drops blocks that were already sent.
    turn = threading.RLock()

    def act() -> None:
        with turn:
            if not acted:
                acted.append("")
                acted[0] = others.upload(frames[1], "x", overwrite=False)

    store = _held(door, proxy, *moment, act, monkeypatch, format=format)
    with pytest.raises(ArtifactExistsError):
        store.upload(frames[0], "x", overwrite=False)
    assert acted == [store.uri("x")]
    assert_same(others.download("x"), frames[1])
    assert len(door.keys()) == {"parquet": 1, "csv": 2}[format]
    assert door.unfinished() == []


def test_of_two_uploads_in_parts_that_end_together_one_wins(
    door: Door, proxy: Proxy | None, frames: list[pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait for each other before their last request. Then one request is carried out after the other."""
    both = threading.Barrier(2)
    store = _held(door, proxy, *LAST, partial(both.wait, 600), monkeypatch)

    won = winners(lambda frame: store.upload(frame, "x", overwrite=False), frames, ArtifactExistsError)
    assert len(won) == 1
    assert_same(store.download("x"), frames[won[0]])
    assert len(door.keys()) == 1
    assert door.unfinished() == []


@pytest.mark.parametrize("batches", ["a frame", "a list", "an iterator"])
def test_of_two_uploads_in_parts_that_replace_each_other_both_succeed(
    door: Door, proxy: Proxy | None, frames: list[pd.DataFrame], batches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure drops the blocks of the later one, which is then sent again, as far as it can be read again."""
    both, waited = threading.Barrier(2), itertools.count()

    def wait() -> None:
        if next(waited) < 2:
            both.wait(600)

    store = _held(door, proxy, *LAST, wait, monkeypatch)

    def upload(frame: pd.DataFrame) -> None:
        if batches == "a frame":
            store.upload(frame, "x")
        else:
            store.upload_batches([frame] if batches == "a list" else iter([frame]), "x")

    won = winners(upload, frames, ServiceUnavailableError)
    if batches != "an iterator" or door.scheme != "az":
        assert won == [0, 1]
    remains = store.download("x")
    writer = int(remains["writer"][0])
    assert writer in won
    assert_same(remains, frames[writer])
    assert door.keys() == ["x.parquet"]
    assert door.unfinished() == []


def test_of_two_plain_objects_in_parts_that_replace_each_other_both_succeed(
    door: Door, proxy: Proxy | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, waited = threading.Barrier(2), itertools.count()
    store = _held(door, proxy, *LAST, lambda: both.wait(600) if next(waited) < 2 else None, monkeypatch)
    pages = [bytes([number]) * (_PART_BYTES + 10) for number in range(2)]
    assert winners(lambda page: store.write_bytes("report.html", page), pages, ServiceUnavailableError) == [0, 1]
    assert store.read_bytes("report.html") in pages
    assert door.unfinished() == []


@pytest.mark.parametrize("door", [store for store in STORES if store == "s3"], indirect=True)
@pytest.mark.parametrize("times", [1, 100])
def test_an_upload_whose_parts_a_lifecycle_rule_removed_is_sent_again(
    door: Door, proxy: Proxy, frames: list[pd.DataFrame], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []

    def remove() -> None:
        if len(removed) < times:
            (upload,) = door.client.list_multipart_uploads(Bucket=door.bucket)["Uploads"]
            door.client.abort_multipart_upload(Bucket=door.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            removed.append(upload["UploadId"])

    store = _held(door, proxy, *LAST, remove, monkeypatch)
    if times == 1:
        store.upload(frames[0], "x")
        assert_same(store.download("x"), frames[0])
        return
    with pytest.raises(ServiceUnavailableError, match="has dropped the upload") as caught:
        store.upload(frames[0], "x", overwrite=False)
    assert caught.value.uri == store.uri("x")
    # Nobody outside knows a type that is not in `clinops_prefect.errors`, and a stored result would lose it.
    assert type(caught.value) is ServiceUnavailableError
    # It is not tried for ever.
    assert len(removed) == 5
    assert door.keys() == door.unfinished() == []


@pytest.mark.parametrize("door", [store for store in STORES if store == "s3"], indirect=True)
@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize(
    ("is_large", "code"),
    [(False, "ConditionalRequestConflict"), (False, "OperationAborted"), (True, "OperationAborted")],
)
def test_a_conditional_upload_that_meets_another_request_is_sent_again_or_has_lost(
    door: Door, proxy: Proxy, frames: list[pd.DataFrame], is_lost: bool, is_large: bool, code: str
) -> None:
    """S3 answers 409 while it carries out another write, or a removal, of the same name, here for half a second."""
    refused: list[float] = []
    frame = frames[0] if is_large else OLD
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code></Error>'.encode()

    def answer(seen: Seen, forward: Forward) -> Answered:
        if "if-none-match" not in seen.headers or (refused and time.monotonic() > refused[0] + 0.5):
            return forward()
        refused.append(time.monotonic())
        if is_lost and len(refused) == 1:
            door.store().upload(NEW, "x")
        return 409, [("Content-Type", "application/xml")], body

    proxy.around = answer
    with pytest.raises(ArtifactExistsError) if is_lost else nullcontext():
        door.store(endpoint_url=proxy.url).upload(frame, "x", overwrite=False)
    assert refused
    assert_same(door.store().download("x"), NEW if is_lost else frame)
    assert door.unfinished() == []


@pytest.mark.parametrize("door", [store for store in STORES if store == "gcs"], indirect=True)
@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_whose_session_has_expired_is_sent_again(
    door: Door, proxy: Proxy, frames: list[pd.DataFrame], status: int
) -> None:
    expired: list[str] = []

    def answer(seen: Seen, forward: Forward) -> Answered:
        if completes(seen) and not expired:
            expired.append(seen.path)
            return status, [("Content-Type", "application/json")], b"{}"
        return forward()

    proxy.around = answer
    door.store(endpoint_url=proxy.url).upload(frames[0], "x", overwrite=False)
    assert expired
    assert_same(door.store().download("x"), frames[0])


@pytest.mark.parametrize("door", [store for store in STORES if store == "azure"], indirect=True)
def test_an_upload_of_another_program_that_was_killed_does_not_stop_ours(
    door: Door, frames: list[pd.DataFrame]
) -> None:
    """Azure keeps the blocks for a week, and meanwhile takes no block whose id has another length."""

    def text() -> Iterator[bytes]:
        yield b"1" * _PART_BYTES
        raise InterruptedError

    store = door.store()
    with pytest.raises(InterruptedError):
        door.client.upload_blob("x.parquet", text(), overwrite=True)
    (left,) = door.client.get_blob_client("x.parquet").get_block_list("uncommitted")[1]
    assert len(left.id) > 1
    store.upload(frames[0], "x")
    assert_same(store.download("x"), frames[0])


def _held(
    door: Door,
    proxy: Proxy | None,
    is_request: Callable[[Seen], bool],
    step: str,
    act: Callable[[], object],
    monkeypatch: pytest.MonkeyPatch,
    **fields: Any,
) -> PipelineStore:
    """A store that calls `act` before such a request, or in a folder before such a step of writing a file."""
    if proxy:

        def answers(seen: Seen) -> Outcome:
            if is_request(seen):
                act()
            return Outcome.FORWARD

        proxy.answers = answers
        return door.store(endpoint_url=proxy.url, **fields)
    done = getattr(AtomicFile, step)

    def acting(file: AtomicFile, *arguments: Any) -> Any:
        if not file._path.name.endswith(".schema.json"):
            act()
        return done(file, *arguments)

    monkeypatch.setattr(AtomicFile, step, acting)
    return door.store(**fields)


OLD, NEW = pd.DataFrame({"code": ["007"], "v": [1]}), pd.DataFrame({"code": ["008", "009"], "v": [2, 3]})
IN_ONE, IN_PARTS, THROUGH_HERE = "in one request", "in parts", "through this machine"
COPIES = [("s3", IN_ONE), ("s3", IN_PARTS), ("gcs", IN_ONE), ("azure", IN_ONE), ("azure", THROUGH_HERE)]


@pytest.fixture
def copying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, str]]:
    """The store's way to copy, and the fields that select this way."""
    if request.param == IN_PARTS:
        monkeypatch.setattr(S3Backend, "copy_bytes", 1 << 20)
    return request.param, {"encryption_scope": "hospital"} if request.param == THROUGH_HERE else {}


ways_to_copy = pytest.mark.parametrize(
    ("door", "copying"), [pytest.param(*way, id="-".join(way)) for way in COPIES if way[0] in STORES], indirect=True
)


@ways_to_copy
def test_nothing_is_copied_of_an_object_that_was_replaced_meanwhile(
    door: Door, copying: tuple[str, dict[str, str]], proxy: Proxy, frames: list[pd.DataFrame]
) -> None:
    """In parts, the copy would mix two versions. In one request, it would be of a version that was not checked."""
    store, (way, fields) = door.store(), copying
    old, new = frames if way == IN_PARTS else (OLD, NEW)
    store.upload(old, "source")
    changed = _change_before(proxy, store, new, copies if way != THROUGH_HERE else _reads, times=1)
    with pytest.raises(ObjectChangedError):
        door.store(endpoint_url=proxy.url, **fields)._backend().copy("source.parquet", "target.parquet")
    assert changed == [1]
    assert door.keys() == ["source.parquet"]
    assert door.unfinished() == []
    assert_same(store.download("source"), new)


@ways_to_copy
def test_a_copy_whose_source_changes_is_one_of_the_new_artifact(
    door: Door, copying: tuple[str, dict[str, str]], proxy: Proxy, format: str
) -> None:
    store, (way, fields) = door.store(format=format), copying
    store.upload(OLD, "source", metadata={"state": "old"})
    store.upload(OLD, "target", metadata={"state": "target"})
    changed = _change_before(proxy, store, NEW, copies if way != THROUGH_HERE else _reads, times=1)
    door.store(endpoint_url=proxy.url, format=format, **fields).copy_artifact("source", "target")
    assert changed == [1]
    assert_same(store.download("target"), NEW)
    assert store.stat("target").metadata == {"state": "new 1"}
    assert len(door.keys()) == {"parquet": 2, "csv": 4}[format]


@ways_to_copy
def test_a_source_that_is_removed_meanwhile_is_reported_as_absent(
    door: Door, copying: tuple[str, dict[str, str]], proxy: Proxy, format: str
) -> None:
    """And not as a missing bucket, which the service's answer may say, too."""
    store, (way, fields) = door.store(format=format), copying
    store.upload(OLD, "source")
    removed: list[int] = []

    def answers(seen: Seen) -> Outcome:
        if (copies if way != THROUGH_HERE else _reads)(seen) and not removed:
            removed.append(1)
            store.delete_artifact("source")
        return Outcome.FORWARD

    proxy.answers = answers
    with pytest.raises(ArtifactNotFoundError, match="source"):
        door.store(endpoint_url=proxy.url, format=format, **fields).copy_artifact("source", "target")
    assert removed == [1]
    assert not store.exists("target")


@ways_to_copy
def test_a_copy_keeps_what_is_known_about_the_object(
    door: Door, copying: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, fields = copying
    if way == IN_PARTS:
        monkeypatch.setattr(S3Backend, "copy_bytes", 0)
    backend = door.store(**fields)._backend()
    write(backend, "source", b"bytes", metadata={"flow-run": "0b0e-42"})
    backend.copy("source", "target")
    assert (door.get("target"), door.content_type("target")) == (b"bytes", "application/x-own")
    assert backend.head("target").metadata["flow-run"] == "0b0e-42"


@ways_to_copy
def test_a_source_that_changes_all_the_time_is_given_up_and_the_target_stays(
    door: Door, copying: tuple[str, dict[str, str]], proxy: Proxy
) -> None:
    store, (way, fields) = door.store(), copying
    store.upload(OLD, "source")
    store.upload(OLD, "target")
    changed = _change_before(proxy, store, NEW, copies if way != THROUGH_HERE else _reads)
    with pytest.raises(ServiceUnavailableError, match="faster than it can be"):
        door.store(endpoint_url=proxy.url, **fields).copy_artifact("source", "target")
    assert len(changed) > 1
    assert_same(store.download("target"), OLD)


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_file_that_is_replaced_while_it_is_copied_is_copied_as_it_was(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = door.store()
    store.upload(large := pd.DataFrame({"v": np.random.default_rng(0).random(2_000_000)}), "source")
    write, changed = AtomicFile.write, []

    def replacing(file: AtomicFile, data: bytes) -> None:
        write(file, data)
        if file._path.name == "target.parquet" and not changed:
            changed.append(1)
            store.upload(NEW, "source")

    monkeypatch.setattr(AtomicFile, "write", replacing)
    store.copy_artifact("source", "target")
    assert changed
    assert_same(store.download("target"), large)
    assert_same(store.download("source"), NEW)


def _reads(seen: Seen) -> bool:
    return seen.method == "GET" and "source" in seen.path


def _change_before(
    proxy: Proxy, store: PipelineStore, frame: pd.DataFrame, is_request: Callable[[Seen], bool], times: int = 100
) -> list[int]:
    """Replace the source before such a request, `times` times. The returned list grows with each replacement."""
    changed: list[int] = []
    turn = threading.Lock()

    def answers(seen: Seen) -> Outcome:
        with turn:
            if is_request(seen) and len(changed) < times:
                changed.append(len(changed) + 1)
                store.upload(frame, "source", metadata={"state": f"new {len(changed)}"})
        return Outcome.FORWARD

    proxy.answers = answers
    return changed
