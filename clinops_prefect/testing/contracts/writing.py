"""Laws of a store: conditional writes, metadata, copies, versions, and the writing and deletion of artifacts."""

import datetime as dt
from collections.abc import Callable

import pandas as pd
import pytest

from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    InvalidArtifactNameError,
    InvalidMetadataError,
    UnsupportedFrameError,
)
from clinops_prefect.storage.backend import Can
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.frames import MakeStore, assert_equal, clinical
from clinops_prefect.testing.contracts.races import winners

OLD, NEW = pd.DataFrame({"v": [1]}), pd.DataFrame({"v": [2, 3]})
# The number of objects of an artifact. A CSV artifact has two: its text and its sidecar.
OBJECTS = {"parquet": 1, "csv": 2}
_RIVALS = 16


class WritingLaws:
    """See `StoreContract`."""

    def test_an_upload_replaces_the_old_artifact_and_leaves_nothing_of_it(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(format=format)
        store.upload(OLD, "x")
        store.upload(NEW, "x")
        assert_equal(store.download("x"), NEW)
        assert len(direct.keys()) == OBJECTS[format]

    def test_overwrite_false_refuses_and_leaves_what_is_there(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(format=format)
        store.upload(OLD, "x", overwrite=False)
        before = {key: direct.get(key) for key in direct.keys()}
        calls: list[Callable[[], str]] = [
            lambda: store.upload(NEW, "x", overwrite=False),
            lambda: store.upload_batches([NEW], "x", overwrite=False),
        ]
        for call in calls:
            with pytest.raises(ArtifactExistsError) as caught:
                call()
            assert isinstance(caught.value, FileExistsError)
            assert caught.value.uri == store.uri("x")
        assert {key: direct.get(key) for key in direct.keys()} == before

    def test_of_16_simultaneous_conditional_uploads_exactly_one_wins(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(format=format)
        frames = [pd.DataFrame({"v": [number] * (number + 1)}) for number in range(_RIVALS)]
        for _ in range(2):
            won = winners(lambda df: store.upload(df, "x", overwrite=False), frames, ArtifactExistsError)
            assert len(won) == 1
            assert store.download("x")["v"].tolist() == won * (won[0] + 1)
            assert len(direct.keys()) == OBJECTS[format]
            store.delete_artifact("x")
            assert direct.keys() == []

    def test_of_simultaneous_uploads_all_succeed_and_one_remains(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(format=format)
        frames = [pd.DataFrame({"v": [number] * (number + 1)}) for number in range(6)]
        assert winners(lambda df: store.upload(df, "x"), frames, ArtifactExistsError) == list(range(6))
        assert store.download("x")["v"].nunique() == 1
        assert len(store.download("x")) == store.download("x")["v"][0] + 1
        assert len(direct.keys()) == OBJECTS[format]

    def test_metadata_comes_back_and_belongs_to_one_write(self, make_store: MakeStore, format: str) -> None:
        metadata = {"flow-run": "0b0e-42", "source_table": "icu/chartevents", "n.rows": "1, 2 & 3 = 'six'"}
        store = make_store(format=format)
        store.upload(OLD, "x", metadata=metadata)
        store.upload_batches([OLD], "y", metadata=metadata)
        store.copy_artifact("x", "z")
        assert [store.stat(name).metadata for name in "xyz"] == [metadata] * 3
        store.upload(OLD, "x")
        assert store.stat("x").metadata == {}

    def test_as_much_metadata_as_is_allowed_is_carried_and_no_more(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(format=format)
        for refused in ({"k": "x" * 1_800}, {"Key": "x"}, {"a": "ä"}, {"a": " x"}, {"clinops-sha256": "x"}):
            with pytest.raises(InvalidMetadataError):
                store.upload(OLD, "x", metadata=refused)
        assert direct.keys() == []
        store.upload(OLD, "x", metadata={"k": "~" * 1_799})
        assert store.stat("x").metadata == {"k": "~" * 1_799}

    def test_stat_says_size_rows_schema_and_time(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store, frame = make_store(prefix="p", format=format), clinical().set_index("stay_id")
        before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=2)
        uri = store.upload(frame, "x")
        info = store.stat("x")
        assert isinstance(info, ArtifactInfo)
        assert (info.uri, info.rows, info.bytes) == (uri, 60, len(direct.get(f"p/x.{format}")))
        assert info.schema == {name: str(dtype) for name, dtype in frame.dtypes.items()}
        assert list(info.schema) == list(frame.columns)
        assert before <= info.created <= dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
        assert info.created.utcoffset() == dt.timedelta(0)

    def test_exists_download_and_delete_agree_on_what_is_there(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(prefix="p", format=format)
        other = make_store(prefix="p", format={"parquet": "csv", "csv": "parquet"}[format])
        assert not store.exists("x")
        store.upload(OLD, "x")
        other.upload(NEW, "x")
        store.upload(NEW, "x2")
        assert store.exists("x")
        store.delete_artifact("x")
        assert not store.exists("x")
        assert other.exists("x")
        assert_equal(other.download("x"), NEW)
        with pytest.raises(ArtifactNotFoundError) as caught:
            store.delete_artifact("x")
        assert isinstance(caught.value, FileNotFoundError)
        store.delete_artifact("x", missing_ok=True)
        store.delete_artifact("x2")
        other.delete_artifact("x")
        assert direct.keys() == []

    def test_what_is_below_a_path_is_deleted_together_and_nothing_beside_it(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(prefix="p", format=format)
        other = make_store(prefix="p", format={"parquet": "csv", "csv": "parquet"}[format])
        for name in ("a/x", "a/b/y", "a", "ab/x"):
            store.upload(OLD, name)
        other.upload(NEW, "a/x")
        store.write_bytes("a/report.html", b"1")
        for refused in ("", "/"):
            with pytest.raises(InvalidArtifactNameError):
                store.delete_artifacts(refused)
        before = direct.keys()
        assert store.delete_artifacts("a", dry_run=True) == ["a/b/y", "a/x"]
        assert direct.keys() == before
        assert store.delete_artifacts("a/") == ["a/b/y", "a/x"]
        assert store.list_artifacts() == ["a", "ab/x"]
        assert_equal(other.download("a/x"), NEW)
        assert store.read_bytes("a/report.html") == b"1"
        assert len(direct.keys()) == 2 * OBJECTS[format] + OBJECTS[other.format.value] + 1
        assert store.delete_artifacts("a") == []

    def test_a_copy_is_equal_independent_and_replaces(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store = make_store(prefix="p", format=format)
        store.upload(clinical(), "a/x")
        store.upload(OLD, "b/y")
        assert store.copy_artifact("a/x", "b/y") == store.uri("b/y")
        store.delete_artifact("a/x")
        assert_equal(store.download("b/y"), clinical())
        store.copy_artifact("b/y", "b/y")
        assert_equal(store.download("b/y"), clinical())
        assert store.list_artifacts() == ["b/y"]
        with pytest.raises(ArtifactNotFoundError):
            store.copy_artifact("a/x", "c")
        assert not store.exists("c")
        assert len(direct.keys()) == OBJECTS[format]

    def test_without_versions_there_is_one(self, make_store: MakeStore, format: str) -> None:
        store = make_store(format=format)
        with pytest.raises(ArtifactNotFoundError):
            store.list_versions("x")
        store.upload(OLD, "x")
        store.upload(NEW, "x")
        (info,) = store.list_versions("x")
        assert info == store.stat("x")
        assert_equal(store.download("x", version=info.version), NEW)

    def test_every_version_is_listed_newest_first_and_can_be_read(
        self, make_store: MakeStore, direct: DirectAccess, can: frozenset[Can], format: str
    ) -> None:
        if Can.KEEP_VERSIONS not in can:
            pytest.skip("the backend does not say that it can KEEP_VERSIONS")
        direct.keep_versions()
        store = make_store(prefix="p", format=format)
        uploaded = [pd.DataFrame({"code": ["007"] * rows, "v": range(rows)}) for rows in (1, 2, 3)]
        for number, frame in enumerate(uploaded):
            store.upload(frame, "x", metadata={"number": str(number)})
        store.upload(OLD, "x-other")
        store.upload(OLD, "x/below")
        with pytest.raises(UnsupportedFrameError):
            store.upload(pd.DataFrame({"a": [1, "x"]}), "x")
        infos = store.list_versions("x")
        assert [info.metadata["number"] for info in infos] == ["2", "1", "0"]
        assert [info.rows for info in infos] == [3, 2, 1]
        assert len({info.version for info in infos}) == 3
        assert infos[0] == store.stat("x")
        for info, frame in zip(infos, reversed(uploaded), strict=True):
            assert_equal(store.download("x", version=info.version), frame)
            part = store.download("x", version=info.version, columns=["v"], filters=[("v", ">", 0)])
            assert part["v"].tolist() == list(range(1, info.rows or 0))
        store.delete_artifact("x")
        assert not store.exists("x")
        assert [info.rows for info in store.list_versions("x")] == [3, 2, 1]
        assert_equal(store.download("x", version=infos[1].version), uploaded[1])
