"""Laws of a backend about copies within it."""

import sys

import pytest

from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage.ranges import whole
from clinops_prefect.storage.service import ServiceBackend
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.objects import large_size, sample, write


class ObjectCopyLaws:
    """See `BackendContract`."""

    def test_a_copy_is_equal_and_independent_and_replaces(self, backend: Backend, direct: DirectAccess) -> None:
        data = sample(70_000)
        write(backend, "a/x", data, metadata={"k": "v"})
        write(backend, "b/y", b"old", metadata={"old": "1"})
        backend.copy("a/x", "b/y")
        assert direct.get("a/x") == direct.get("b/y") == data
        metadata = backend.head("b/y").metadata
        assert (metadata.get("k"), "old" in metadata) == ("v", False)
        backend.remove("a/x")
        assert backend.open("b/y", whole())[0] == data

    def test_a_large_copy_is_equal(
        self, backend: Backend, direct: DirectAccess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A service that copies large objects in parts does so with smaller ones here."""
        if isinstance(backend, ServiceBackend) and backend.copy_bytes < sys.maxsize:
            monkeypatch.setattr(backend, "copy_bytes", 1 << 20)
            monkeypatch.setattr(backend, "copy_part_bytes", 5 << 20)  # the least that S3 takes
        data = sample(large_size(backend))
        write(backend, "a/x", data, metadata={"k": "v"})
        backend.copy("a/x", "b/y")
        assert direct.get("b/y") == data
        assert backend.head("b/y").metadata.get("k") == "v"
        assert direct.unfinished() == []
