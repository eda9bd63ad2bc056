"""The contract of a store: frames under names, in every format."""

import pytest

from clinops_prefect.storage.backend import Can
from clinops_prefect.storage_format import StorageFormat
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.buckets import StoreBucketLaws
from clinops_prefect.testing.contracts.damage import DamageLaws
from clinops_prefect.testing.contracts.frames import FrameLaws, MakeStore
from clinops_prefect.testing.contracts.naming import NamingLaws
from clinops_prefect.testing.contracts.prefect import PrefectLaws
from clinops_prefect.testing.contracts.writing import WritingLaws


class StoreContract(WritingLaws, FrameLaws, NamingLaws, DamageLaws, StoreBucketLaws, PrefectLaws):
    """The laws of a store.

    Name your subclass `Test…`, and override the fixtures `make_store`, `make_store_without_bucket` and `direct`. A
    law is skipped if it needs something that is not in `Backend.can`.
    """

    @pytest.fixture
    def make_store(self) -> MakeStore:
        """Makes stores of one empty bucket, with a test's fields such as `prefix`. Override this fixture."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture `make_store`")

    @pytest.fixture
    def direct(self) -> DirectAccess:
        """Direct SDK access to the same bucket. Override this fixture."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture `direct`")

    @pytest.fixture
    def can(self, make_store: MakeStore) -> frozenset[Can]:
        """What the laws ask of the store. Override this fixture if a test server can do less than the service."""
        return make_store()._backend_type().can

    @pytest.fixture(params=[StorageFormat.PARQUET.value, StorageFormat.CSV.value])
    def format(self, request: pytest.FixtureRequest) -> str:
        """Each format, one test after the other."""
        return str(request.param)
