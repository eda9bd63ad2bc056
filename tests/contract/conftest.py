"""Fixtures of the contract, in addition to `door`."""

from collections.abc import Iterator

import pytest

from tests.doors import Door
from tests.proxy import Proxy


@pytest.fixture(params=["parquet", "csv"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(door: Door) -> Iterator[Proxy]:
    """A proxy in front of the door's emulator; `door.store(endpoint_url=proxy.url)` goes through it."""
    with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]
        yield proxy


clouds = pytest.mark.parametrize("door", ["s3", "gcs"], indirect=True)
