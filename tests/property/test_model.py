"""A store behaves as a dictionary of frames, whatever is done to it in whatever order."""

import contextlib
import tempfile
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from clinops_prefect import ArtifactExistsError, ArtifactNotFoundError, UnsupportedFrameError
from tests.doors import Door, GCSDoor, LocalDoor, S3Door
from tests.gallery import assert_same
from tests.property.strategies import frames, plain_frames

NAMES = st.sampled_from(["a", "a/b", "a/b/c", "a-b", "ab", "d=1/ä.x", "a.parquet.x", "a.csv.x"])
FRAMES = st.integers(0, 5).flatmap(plain_frames) | frames(max_rows=3, max_columns=3)
METADATA = st.dictionaries(st.sampled_from(["k", "run-id"]), st.sampled_from(["", "v", "7"]), max_size=2)


class Model(RuleBasedStateMachine):
    """The oracle is a dict; the second door counts the objects."""

    door: Door
    format: str

    @initialize(prefix=st.sampled_from(["", "p", "p/q"]))
    def begin(self, prefix: str) -> None:
        self.prefix = prefix
        self.store = self.door.store(prefix=prefix, format=self.format)
        self.model: dict[str, tuple[pd.DataFrame, dict[str, str]]] = {}
        for key in self.door.keys():
            self.door.delete(key)
        # A neighbour that must never be seen nor touched; below an empty prefix only another kind of object is one.
        self.door.put(f"p-old/a.{self.format if prefix else 'txt'}", b"x")

    @rule(name=NAMES, frame=FRAMES, metadata=METADATA)
    def upload(self, name: str, frame: pd.DataFrame, metadata: dict[str, str]) -> None:
        with contextlib.suppress(UnsupportedFrameError):
            self.store.upload(frame, name, metadata=metadata)
            self.model[name] = frame, metadata

    @rule(name=NAMES, rows=st.integers(0, 4).flatmap(plain_frames))
    def upload_if_absent(self, name: str, rows: pd.DataFrame) -> None:
        try:
            self.store.upload(rows, name, overwrite=False)
        except ArtifactExistsError:
            assert name in self.model
        else:
            assert name not in self.model
            self.model[name] = rows, {}

    @rule(name=NAMES, batches=st.lists(st.integers(0, 4).flatmap(plain_frames), min_size=1, max_size=3))
    def upload_batches(self, name: str, batches: list[pd.DataFrame]) -> None:
        self.store.upload_batches(batches, name)
        self.model[name] = pd.concat(batches, ignore_index=True), {}

    @rule(name=NAMES, batches=st.lists(st.integers(0, 4).flatmap(plain_frames), max_size=2))
    def upload_batches_that_fail(self, name: str, batches: list[pd.DataFrame]) -> None:
        def failing() -> Any:
            yield from batches
            raise LookupError

        with pytest.raises(LookupError):
            self.store.upload_batches(failing(), name)

    @rule(name=NAMES, missing_ok=st.booleans())
    def delete(self, name: str, missing_ok: bool) -> None:
        if name in self.model or missing_ok:
            self.store.delete_artifact(name, missing_ok=missing_ok)
            self.model.pop(name, None)
        else:
            with pytest.raises(ArtifactNotFoundError):
                self.store.delete_artifact(name)

    @rule(source=NAMES, to=NAMES)
    def copy(self, source: str, to: str) -> None:
        if source in self.model:
            self.store.copy_artifact(source, to)
            self.model[to] = self.model[source]
        else:
            with pytest.raises(ArtifactNotFoundError):
                self.store.copy_artifact(source, to)

    @rule(name=NAMES)
    def download(self, name: str) -> None:
        if name in self.model:
            assert_same(self.store.download(name), self.model[name][0])
        else:
            for read in (self.store.download, self.store.stat, self.store.list_versions):
                with pytest.raises(ArtifactNotFoundError):
                    read(name)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def describe(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        frame, metadata = self.model[name]
        info = self.store.stat(name)
        assert info.metadata == metadata
        assert info.rows == len(frame)
        assert self.store.exists(name)

    @rule(below=st.sampled_from(["", "a", "a/b", "p"]))
    def listing(self, below: str) -> None:
        expected = [name for name in self.model if not below or name.startswith(f"{below}/")]
        assert self.store.list_artifacts(below) == sorted(expected)

    @invariant()
    def nothing_else_is_stored(self) -> None:
        if hasattr(self, "model"):
            each = {"parquet": 1, "csv": 2}[self.format]
            assert len(self.door.keys()) == each * len(self.model) + 1
            assert self.door.unfinished() == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("backend", ["local", "s3", "gcs"])
def test_a_store_is_a_dictionary_of_frames(backend: str, format: str, request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as directory:
        door: Any = LocalDoor(Path(directory))
        if backend == "s3":
            door = S3Door(request.getfixturevalue("s3_endpoint"), f"model-{uuid.uuid4().hex[:8]}")
        elif backend == "gcs":
            door = GCSDoor(request.getfixturevalue("gcs_endpoint"), f"model-{uuid.uuid4().hex[:8]}")
        machine = type("Model", (Model,), {"door": door, "format": format})
        examples = 25 if backend == "local" else 5
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=25 if backend == "local" else 15,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
