"""Conditional writes, metadata, and the writing and deletion of artifacts."""

import itertools
import threading
import time

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import (
    ArtifactExistsError,
    InvalidMetadataError,
    UnsupportedFrameError,
)
from clinops_prefect.testing.contracts.races import winners
from tests.contract.conftest import clouds
from tests.doors import Can, Door
from tests.gallery import FRAMES, assert_same
from tests.proxy import Outcome, Proxy, Seen

OLD, NEW = pd.DataFrame({"v": [1]}), pd.DataFrame({"v": [2, 3]})


def test_of_simultaneous_conditional_uploads_in_parts_one_wins(door: Door) -> None:
    """Above 8 MiB an upload ends with one request that has the condition, and a service may check it too early."""
    store = door.store()
    frames = [pd.DataFrame(np.random.default_rng(number).random((1_200_000, 1)), columns=["v"]) for number in range(4)]
    won = winners(lambda frame: store.upload(frame, "x", overwrite=False), frames, ArtifactExistsError)
    assert len(won) == 1 or (won and Can.COMPLETE_CONDITIONALLY not in door.can)
    assert store.download("x")["v"].iloc[0] in [frames[number]["v"].iloc[0] for number in won]
    with pytest.raises(ArtifactExistsError):
        store.upload(pd.DataFrame({"v": np.arange(1_200_000.0)}), "x", overwrite=False)
    assert door.keys() == ["x.parquet"]
    assert door.unfinished() == []


@clouds
def test_a_conditional_write_whose_answer_was_lost_is_not_a_lost_race(door: Door, proxy: Proxy) -> None:
    """The client's own retry finds the object that its first try has written."""
    from tests.proxy import Outcome

    store, lost = door.store(endpoint_url=proxy.url), []

    def lose_the_first(seen: object) -> Outcome:
        if seen.method in ("PUT", "POST") and b"PAR1" in seen.body and not lost:  # type: ignore[attr-defined]
            lost.append(seen)
            return Outcome.LOSE
        return Outcome.FORWARD

    proxy.answers = lose_the_first
    store.upload(OLD, "x", overwrite=False)
    assert lost
    assert_same(store.download("x"), OLD)


def test_metadata_is_where_the_providers_tools_show_it(door: Door, format: str) -> None:
    metadata = {"flow-run": "0b0e-42", "source_table": "icu/chartevents", "n.rows": "1, 2 & 3 = 'six'"}
    store = door.store(format=format)
    store.upload(OLD, "x", metadata=metadata)
    store.upload_batches([OLD], "y", metadata=metadata)
    store.copy_artifact("x", "z")
    for name in "xyz":
        if door.scheme != "file" or format == "parquet":
            assert metadata.items() <= door.metadata(f"{name}.{format}").items()


@pytest.mark.parametrize(
    "metadata",
    [
        {"Key": "x"}, {"": "x"}, {"a b": "x"}, {"ä": "x"}, {"clinops-sha256": "x"}, {"_a": "x"}, {1: "x"}, {"a\n": "x"},
        {"a": 1}, {"a": None}, {"a": "ä"}, {"a": "line\nline"}, {"a": " x"}, {"a": "x "}, {"a": "\x7f"},
        {"a": "x" * 1_800}, {f"k{i}": "x" * 20 for i in range(90)}, ["a"], "a",
    ],
    ids=lambda metadata: ascii(metadata)[:24],
)  # fmt: skip
def test_metadata_that_no_store_can_carry_is_refused(door: Door, metadata: dict[str, str]) -> None:
    store = door.store()
    for call in (store.upload, lambda df, name, **o: store.upload_batches([df], name, **o)):
        with pytest.raises(InvalidMetadataError):
            call(OLD, "x", metadata=metadata)
    assert door.keys() == []


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_stat_works_for_every_kind_of_frame(door: Door, format: str) -> None:
    store = door.store(format=format)
    for name, frame in FRAMES.items():
        try:
            store.upload(frame, "x")
        except UnsupportedFrameError:
            continue
        info = store.stat("x")
        assert info.rows == len(frame), name
        # Parquet has the name "element" for the items of a list.
        schema = {label: dtype.replace("list<element:", "list<item:") for label, dtype in info.schema.items()}
        assert schema == {str(label): str(dtype) for label, dtype in frame.dtypes.items()}, name


@clouds
def test_stat_and_exists_do_not_fetch_the_body(door: Door, format: str, proxy: Proxy) -> None:
    store = door.store(format=format, endpoint_url=proxy.url)
    store.upload(pd.DataFrame({f"c{i}": range(i, 40_000 + i) for i in range(20)}), "x")
    size = len(door.get(f"x.{format}"))
    proxy.clear()
    assert store.stat("x").rows == 40_000
    assert proxy.answered < 120_000 < size
    assert len(proxy.seen) <= 3
    proxy.clear()
    assert store.exists("x")
    assert proxy.answered < 2_000
    assert len(proxy.seen) == 1


@clouds
def test_a_small_artifact_is_one_request_each_way(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    frame = pd.DataFrame({"a": range(1000)})
    store.upload(frame, "x")
    assert len(proxy.seen) == 1
    proxy.clear()
    assert_same(store.download("x"), frame)
    # Google's client would look up the bucket too, from another thread.
    time.sleep(0.3)
    assert len(proxy.seen) == 1


@clouds
def test_no_byte_of_a_copy_passes_through_this_machine(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    store.upload(pd.DataFrame({"a": range(100_000)}), "x")
    proxy.clear()
    store.copy_artifact("x", "y")
    assert sum(len(seen.body) for seen in proxy.seen) + proxy.answered < 5_000
    assert door.get("y.parquet") == door.get("x.parquet")


@clouds
def test_rivals_for_one_name_make_a_bounded_number_of_requests_each(door: Door, format: str, proxy: Proxy) -> None:
    """Each loser notices the loss and removes only its own sidecar. All look before any writes: the strongest race."""
    rivals = 16
    store = door.store(format=format, endpoint_url=proxy.url)
    frames = [pd.DataFrame({"code": ["007"], "v": [number]}) for number in range(rivals)]
    together, looks = threading.Barrier(rivals), itertools.count()

    def hold(seen: Seen) -> Outcome:
        is_look = seen.path.partition("?")[0].endswith(f"x.{format}") and seen.method in ("HEAD", "GET")
        if is_look and next(looks) < rivals:
            together.wait(600)
        return Outcome.FORWARD

    proxy.answers = hold

    won = winners(lambda frame: store.upload(frame, "x", overwrite=False), frames, ArtifactExistsError)
    assert len(won) == 1
    requests = len(proxy.seen)
    assert_same(store.download("x"), frames[won[0]])
    assert len(door.keys()) == (2 if format == "csv" else 1), door.keys()
    assert requests <= rivals * (11 if format == "csv" else 4), requests
