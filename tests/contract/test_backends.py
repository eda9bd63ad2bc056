"""Our own backends pass the published contract."""

import pytest

from clinops_prefect.storage.backend import Backend, Can
from clinops_prefect.testing import BackendContract
from clinops_prefect.testing.contracts.objects import write
from tests import doors
from tests.doors import Door


class TestBackends(BackendContract):
    @pytest.fixture
    def backend(self, door: Door, request: pytest.FixtureRequest) -> Backend:
        # fake-gcs-server lists versions only for `versions=true`, and the client says `True`: the proxy mends that.
        is_mended = door.scheme == "gs" and "version" in request.node.name
        fields = {"endpoint_url": request.getfixturevalue("proxy").url} if is_mended else {}
        backend = door.store(**fields)._backend()
        if doors.Can.KEEP_LONG_SEGMENTS not in door.can:
            backend.segment_bytes = 255
        return backend

    @pytest.fixture
    def backend_without_bucket(self, door: Door) -> Backend:
        return door.store_without_bucket()._backend()

    @pytest.fixture
    def direct(self, door: Door) -> Door:
        return door

    @pytest.fixture
    def can(self, door: Door, backend: Backend) -> frozenset[Can]:
        return backend.can - door.server_lacks

    def test_our_stores_report_the_time_of_a_write(self, backend: Backend) -> None:
        """The contract lets a service leave it out."""
        write(backend, "x", b"1")
        assert backend.head("x").created is not None
