"""Laws of a missing bucket: every operation says that it is missing, not that it is empty or lacks an object."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from clinops_prefect.errors import ArtifactNotFoundError, BucketNotFoundError
from clinops_prefect.storage.backend import Backend, Can
from clinops_prefect.storage.ranges import span, suffix, whole
from clinops_prefect.store import PipelineStore
from clinops_prefect.testing.contracts.frames import MakeStore, assert_equal
from clinops_prefect.testing.contracts.objects import large_size, needs, sample, write

_FRAME = pd.DataFrame({"v": [1]})
_CALLS: dict[str, Callable[[Backend], object]] = {
    "head": lambda backend: backend.head("a/x"),
    "open": lambda backend: backend.open("a/x", whole()),
    "open a range": lambda backend: backend.open("a/x", span(3, 10)),
    "open the end": lambda backend: backend.open("a/x", suffix(10)),
    "list": lambda backend: list(backend.list("a/")),
    "list pinned": lambda backend: list(backend.list_pinned("a/")),
    "versions": lambda backend: list(backend.versions("a/x")),
    "write": lambda backend: write(backend, "a/x", b"1"),
    "write once": lambda backend: write(backend, "a/x", b"1", overwrite=False),
    "write in parts": lambda backend: write(backend, "a/x", sample(large_size(backend))),
    "copy": lambda backend: backend.copy("a/x", "a/y"),
    "remove": lambda backend: backend.remove("a/x"),
}
_STORE_CALLS: dict[str, Callable[[PipelineStore], object]] = {
    "upload": lambda store: store.upload(_FRAME, "a/x"),
    "upload once": lambda store: store.upload(_FRAME, "a/x", overwrite=False),
    "upload_batches": lambda store: store.upload_batches([_FRAME], "a/x"),
    "download": lambda store: store.download("a/x"),
    "iter_batches": lambda store: list(store.iter_batches("a/x")),
    "dataset": lambda store: store.dataset("a"),
    "stat": lambda store: store.stat("a/x"),
    "exists": lambda store: store.exists("a/x"),
    "list_artifacts": lambda store: store.list_artifacts("a"),
    "list_versions": lambda store: store.list_versions("a/x"),
    "copy_artifact": lambda store: store.copy_artifact("a/x", "a/y"),
    "delete_artifact": lambda store: store.delete_artifact("a/x"),
    "delete_artifact missing_ok": lambda store: store.delete_artifact("a/x", missing_ok=True),
    "delete_artifacts": lambda store: store.delete_artifacts("a"),
    "write_bytes": lambda store: store.write_bytes("a/report.html", b"1"),
    "read_bytes": lambda store: store.read_bytes("a/report.html"),
}


def _told(call: Callable[[Any], object], nowhere: Backend | PipelineStore) -> Exception | None:
    try:
        call(nowhere)
    except Exception as error:
        return error
    return None


def _check(calls: dict[str, Callable[[Any], object]], nowhere: Backend | PipelineStore) -> None:
    for name, call in calls.items():
        told = _told(call, nowhere)
        assert isinstance(told, BucketNotFoundError), f"{name}: {told!r}"
        assert told.uri, name


class BackendBucketLaws:
    """See `BackendContract`."""

    @pytest.fixture
    def backend_without_bucket(self) -> Backend:
        """A backend whose bucket does not exist. Override this fixture."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture `backend_without_bucket`")

    def test_a_missing_bucket_is_told_apart_from_a_missing_object(
        self, backend_without_bucket: Backend, can: frozenset[Can]
    ) -> None:
        if Can.MAKE_BUCKETS in can:
            pytest.skip("the backend says that it can MAKE_BUCKETS")
        _check(_CALLS, backend_without_bucket)
        keys = ["a/x", "a/y"][: backend_without_bucket.removed_at_once]
        failed = backend_without_bucket.remove_many(keys)
        assert {key: type(error) for key, error in failed.items()} == dict.fromkeys(keys, BucketNotFoundError)

    def test_a_bucket_that_the_first_write_makes_is_empty_before(
        self, backend_without_bucket: Backend, can: frozenset[Can]
    ) -> None:
        needs(can, Can.MAKE_BUCKETS)
        assert (list(backend_without_bucket.list("")), list(backend_without_bucket.versions("a/x"))) == ([], [])
        backend_without_bucket.remove("a/x")
        with pytest.raises(ArtifactNotFoundError):
            backend_without_bucket.head("a/x")
        write(backend_without_bucket, "a/x", b"1", overwrite=False)
        assert list(backend_without_bucket.list("")) == ["a/x"]
        assert backend_without_bucket.open("a/x", whole())[0] == b"1"


class StoreBucketLaws:
    """See `StoreContract`."""

    @pytest.fixture
    def make_store_without_bucket(self) -> MakeStore:
        """Makes stores of a bucket that does not exist, with a test's fields. Override this fixture."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture `make_store_without_bucket`")

    def test_a_missing_bucket_is_told_apart_from_a_missing_artifact(
        self, make_store_without_bucket: MakeStore, can: frozenset[Can], format: str
    ) -> None:
        if Can.MAKE_BUCKETS in can:
            pytest.skip("the backend says that it can MAKE_BUCKETS")
        _check(_STORE_CALLS, make_store_without_bucket(format=format))

    def test_a_bucket_that_the_first_upload_makes_is_empty_before(
        self, make_store_without_bucket: MakeStore, can: frozenset[Can], format: str
    ) -> None:
        needs(can, Can.MAKE_BUCKETS)
        store = make_store_without_bucket(format=format)
        assert store.list_artifacts() == store.delete_artifacts("a") == []
        assert not store.exists("a/x")
        store.delete_artifact("a/x", missing_ok=True)
        with pytest.raises(ArtifactNotFoundError):
            store.download("a/x")
        store.upload(_FRAME, "a/x", overwrite=False)
        assert store.list_artifacts() == ["a/x"]
        assert_equal(store.download("a/x"), _FRAME)
