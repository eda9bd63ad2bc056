"""Copies between stores: exact, with metadata and sidecar, of one version, in bounded memory."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import (
    ArtifactDecodeError,
    ArtifactNotFoundError,
    InvalidMetadataError,
    InvalidStoreError,
    LocalPipelineStore,
    PipelineStore,
    ServiceUnavailableError,
)
from clinops_prefect.artifacts.plain import CHECKSUM
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.storage.backend import Backend
from tests.doors import Door
from tests.gallery import FRAMES, assert_same

FRAME = pd.DataFrame({"code": ["007", "b"], "v": [1, 2]})


@pytest.fixture
def other(tmp_path: Path, format: str) -> PipelineStore:
    return LocalPipelineStore(tmp_path / "other", prefix="q", format=format)


def test_a_copy_to_another_store_and_back_is_exact(door: Door, format: str, other: PipelineStore) -> None:
    store = door.store(prefix="p", format=format)
    store.upload(FRAMES["clinical"], "a/x", metadata={"site": "icu"})
    other.upload(FRAME, "b/y")  # replaced, with its sidecar
    assert store.copy_artifact("a/x", "b/y", store=other) == other.uri("b/y")
    store.delete_artifact("a/x")
    uri = other.copy_artifact("b/y", "a/z", store=store)
    assert uri == store.uri("a/z")
    for kept, name in ((other, "b/y"), (store, "a/z")):
        assert_same(kept.download(name), FRAMES["clinical"])
        assert kept.stat(name).metadata == {"site": "icu"}
        assert kept.list_artifacts() == [name]
    assert door.get(f"p/a/z.{format}") == (Path(other.directory) / f"q/b/y.{format}").read_bytes()  # type: ignore[attr-defined]
    assert door.content_type(f"p/a/z.{format}") in (
        "",
        {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}[format],
    )
    if door.scheme != "file" or format == "parquet":
        assert door.metadata(f"p/a/z.{format}")["site"] == "icu"
    assert len(door.keys()) == {"parquet": 1, "csv": 2}[format]


def test_a_copy_to_another_prefix_of_the_same_bucket_is_the_services_own(
    door: Door, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, there = door.store(prefix="p", format=format), door.store(prefix="q", format=format)
    store.upload(FRAME, "x", metadata={"a": "b"})
    monkeypatch.setattr(ObjectReader, "chunks", lambda _: pytest.fail("the bytes passed through this machine"))
    assert store.copy_artifact("x", "y", store=there) == there.uri("y")
    assert_same(there.download("y"), FRAME)
    assert there.stat("y").metadata == {"a": "b"}


def test_the_file_of_another_program_is_copied_as_it_is(
    door: Door, other: PipelineStore, format: str, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    FRAME.to_csv(foreign, index=False) if format == "csv" else FRAME.to_parquet(foreign)
    door.put(f"x.{format}", foreign.read_bytes())
    store = door.store(format=format)
    other.upload(FRAME[["v"]], "x")
    store.copy_artifact("x", "x", store=other)
    assert (Path(other.directory) / f"q/x.{format}").read_bytes() == foreign.read_bytes()  # type: ignore[attr-defined]
    assert len(list((Path(other.directory) / "q").iterdir())) == 1  # type: ignore[attr-defined]
    assert_same(other.download("x"), store.download("x"))


def test_a_text_that_has_lost_its_sidecar_is_copied_with_its_metadata(tmp_path: Path) -> None:
    one, two = (LocalPipelineStore(tmp_path / name, format="csv") for name in ("one", "two"))
    one.upload(FRAME, "x", metadata={"site": "icu"})
    next((tmp_path / "one").glob("*.json")).unlink()
    one.copy_artifact("x", "x", store=two)
    assert two.stat("x").metadata == {"site": "icu"}


def test_a_text_that_has_lost_its_metadata_keeps_its_types(door: Door, tmp_path: Path) -> None:
    """`cp -r` does not copy extended attributes, and other tools upload a file again without its metadata."""
    store = door.store(format="csv")
    store.upload(FRAMES["clinical"], "x", metadata={"site": "icu"})
    text = door.get("x.csv")
    store._backend().remove("x.csv")
    door.put("x.csv", text)
    assert CHECKSUM not in door.metadata("x.csv")
    other = LocalPipelineStore(tmp_path / "other", format="csv")
    store.copy_artifact("x", "y")
    store.copy_artifact("x", "x", store=other)
    for kept, name in ((store, "x"), (store, "y"), (other, "x")):
        assert_same(kept.download(name), FRAMES["clinical"])
        assert kept.stat(name).rows == len(FRAMES["clinical"])
        assert kept.stat(name).metadata == {"site": "icu"}

    def full(*_: object, **__: object) -> None:
        raise ServiceUnavailableError("full")

    # A writer that fails removes its own sidecar, and not that of the text that stays.
    backend = store._backend()
    backend.write, write = (  # type: ignore[method-assign]
        lambda key, *args, **given: full() if key == "x.csv" else write(key, *args, **given),
        backend.write,
    )
    with pytest.raises(ServiceUnavailableError):
        store._codec.write(backend, "x.csv", store._codec.encode_frame(FRAME, {}), {}, overwrite=True)
    assert_same(store.download("x"), FRAMES["clinical"])
    # A text that somebody has edited is another one.
    store._backend().remove("x.csv")
    door.put("x.csv", b"code,v\n007,1\n")
    assert store.stat("x").rows is None


def test_stores_of_two_formats_are_refused_before_anything_is_written(
    door: Door, other: PipelineStore, format: str
) -> None:
    store = door.store(format="csv" if format == "parquet" else "parquet")
    store.upload(FRAME, "x")
    with pytest.raises(InvalidStoreError, match="parquet") as caught:
        store.copy_artifact("x", "x", store=other)
    assert "csv" in str(caught.value)
    assert not other.exists("x")
    with pytest.raises(TypeError, match="must be a PipelineStore, not str"):
        store.copy_artifact("x", "y", store="s3://bucket")  # type: ignore[arg-type]


def test_what_is_not_there_is_not_copied(door: Door, other: PipelineStore, format: str) -> None:
    other.upload(FRAME, "x")
    with pytest.raises(ArtifactNotFoundError):
        door.store(format=format).copy_artifact("x", "x", store=other)
    assert_same(other.download("x"), FRAME)


def test_a_source_that_changes_meanwhile_raises_and_leaves_the_target(
    door: Door, other: PipelineStore, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = door.store(format=format)
    big = pd.DataFrame(np.random.default_rng(1).random((600_000, 3)), columns=["a", "b", "c"])
    store.upload(big, "x")
    assert store.stat("x").bytes > 9 << 20
    other.upload(FRAME, "x")
    read, calls = Backend.read, itertools.count()

    def rival(self: Backend, *args: object, **kwargs: object) -> bytes:
        if next(calls) == 0:
            store.upload(FRAME, "x")
        return read(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Backend, "read", rival)
    with pytest.raises(ServiceUnavailableError, match="was overwritten while it was copied") as caught:
        store.copy_artifact("x", "x", store=other)
    assert caught.value.uri == store.uri("x")
    assert_same(other.download("x"), FRAME)
    assert len(list((Path(other.directory) / "q").iterdir())) == {"parquet": 1, "csv": 2}[format]  # type: ignore[attr-defined]
    store.copy_artifact("x", "x", store=other)
    assert_same(other.download("x"), FRAME)


@pytest.mark.parametrize("format", ["csv"], indirect=True)
def test_a_damaged_text_is_not_copied(door: Door, other: PipelineStore, format: str) -> None:
    store = door.store(format=format)
    store.upload(FRAME, "x")
    door.replace_bytes("x.csv", door.get("x.csv").replace(b"007", b"008"))
    with pytest.raises(ArtifactDecodeError, match="damaged"):
        store.copy_artifact("x", "x", store=other)
    assert not other.exists("x")


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_metadata_that_not_every_store_carries_is_refused(door: Door, other: PipelineStore, format: str) -> None:
    key = f"x.{format}"
    door.put(key, FRAME.to_csv(index=False).encode())
    blob = door.client.bucket(door.bucket).get_blob(key)  # type: ignore[attr-defined]
    blob.metadata = {"Ward Name": "é"}
    blob.patch()
    with pytest.raises(InvalidMetadataError, match="Ward Name"):
        door.store(format=format).copy_artifact("x", "x", store=other)
    assert not other.exists("x")


MEMORY = """
import sys
from clinops_prefect import LocalPipelineStore
from tests.memory import forget_peak, peak, resident

one, two = (LocalPipelineStore(f"{sys.argv[1]}/{name}") for name in "ab")
one.copy_artifact("small", "small", store=two)
before = resident()
forget_peak()
one.copy_artifact("large", "large", store=two)
print(peak() - before)
"""


def test_a_copy_takes_memory_for_a_few_parts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, size in (("small", 1), ("large", 400 << 20)):
        with (tmp_path / f"a/{name}.parquet").open("wb") as file:
            file.truncate(size)
    ran = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], check=True, capture_output=True, text=True)
    assert int(ran.stdout) < 100 << 20
    assert (tmp_path / "b/large.parquet").stat().st_size == 400 << 20
