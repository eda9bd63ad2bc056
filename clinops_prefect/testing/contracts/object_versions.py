"""Laws of a backend: the versions of an object."""

import pytest

from clinops_prefect.errors import ArtifactNotFoundError, OperationNotSupportedError
from clinops_prefect.storage.backend import Backend, Can
from clinops_prefect.storage.ranges import span, whole
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.objects import needs, write


class ObjectVersionLaws:
    """See `BackendContract`."""

    def test_without_versions_there_is_one(self, backend: Backend) -> None:
        write(backend, "x", b"old")
        write(backend, "x", b"new one")
        write(backend, "x2", b"another")
        (info,) = backend.versions("x")
        current = backend.head("x")
        assert (info.size, info.pin, info.version) == (7, current.pin, current.version)
        assert backend.open("x", whole(), version=info.version)[0] == b"new one"

    def test_every_version_is_listed_newest_first_and_can_be_read(
        self, backend: Backend, direct: DirectAccess, can: frozenset[Can]
    ) -> None:
        needs(can, Can.KEEP_VERSIONS)
        direct.keep_versions()
        bodies = [b"1", b"22", b"333"]
        for body in bodies:
            write(backend, "x", body)
        write(backend, "x2", b"another")
        versions = [info.version for info in backend.versions("x")]
        assert len(set(versions)) == 3
        opened = [backend.open("x", whole(), version=version) for version in versions]
        assert [data for data, _ in opened] == bodies[::-1]
        more = [backend.read("x", span(0, len(data)), version=info.version, pin=info.pin) for data, info in opened]
        assert more == bodies[::-1]
        assert [backend.head("x", version=version).size for version in versions] == [3, 2, 1]
        assert backend.head("x").version == versions[0]

    def test_the_versions_of_a_removed_object_can_still_be_read(
        self, backend: Backend, direct: DirectAccess, can: frozenset[Can]
    ) -> None:
        needs(can, Can.KEEP_VERSIONS)
        direct.keep_versions()
        for body in (b"1", b"22"):
            write(backend, "x", body)
        backend.remove("x")
        with pytest.raises(ArtifactNotFoundError):
            backend.open("x", whole())
        assert list(backend.list("")) == []
        bodies = [backend.open("x", whole(), version=info.version)[0] for info in backend.versions("x")]
        assert bodies == [b"22", b"1"]

    def test_a_version_that_never_was_is_no_other_version(self, backend: Backend) -> None:
        write(backend, "x", b"1")
        for version in ("17", "no such version"):
            for call in (lambda v: backend.head("x", version=v), lambda v: backend.open("x", whole(), version=v)):
                # The second version detects a service that ignores which version is requested.
                with pytest.raises((ArtifactNotFoundError, OperationNotSupportedError), match="version") as caught:
                    call(version)
                assert caught.value.uri == backend.uri("x")
