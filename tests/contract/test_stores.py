"""Our own stores pass the published contract."""

from functools import partial

import pytest

from clinops_prefect.storage.backend import Can
from clinops_prefect.testing import StoreContract
from clinops_prefect.testing.contracts.frames import MakeStore
from tests.doors import Door


class TestStores(StoreContract):
    @pytest.fixture
    def make_store(self, door: Door, request: pytest.FixtureRequest) -> MakeStore:
        # fake-gcs-server lists versions only for `versions=true`, and the client says `True`: the proxy mends that.
        is_mended = door.scheme == "gs" and "version" in request.node.name
        fields = {"endpoint_url": request.getfixturevalue("proxy").url} if is_mended else {}
        return partial(door.store, **fields)

    @pytest.fixture
    def make_store_without_bucket(self, door: Door) -> MakeStore:
        return door.store_without_bucket

    @pytest.fixture
    def direct(self, door: Door) -> Door:
        return door

    @pytest.fixture
    def can(self, door: Door) -> frozenset[Can]:
        return door.store()._backend_type().can - door.server_lacks
