"""Helpers for the laws of a backend, such as objects whose bytes show which write succeeded."""

import random

import pytest

from clinops_prefect.storage.backend import Backend, Can, ObjectExistsError
from clinops_prefect.storage.service import ServiceBackend
from clinops_prefect.storage.transfer import PART_BYTES
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.races import winners


def write(
    backend: Backend, key: str, data: bytes, *, metadata: dict[str, str] | None = None, overwrite: bool = True
) -> None:
    """Write an object."""
    # The chunks end at other places than the parts of an upload.
    chunks = (data[start : start + 777_777] for start in range(0, len(data), 777_777))
    backend.write(key, chunks, content_type="application/x-own", metadata=metadata or {}, overwrite=overwrite)


def race(backend: Backend, direct: DirectAccess, key: str, size: int, rivals: int) -> None:
    """Assert that exactly one of `rivals` simultaneous conditional writes succeeds, and that its bytes are stored."""
    written = [sample(size, number) for number in range(rivals)]
    won = winners(lambda data: write(backend, key, data, overwrite=False), written, ObjectExistsError)
    assert len(won) == 1, f"{len(won)} of {rivals} conditional writes at once succeeded"
    assert direct.get(key) == written[won[0]]


def needs(can: frozenset[Can], *wanted: Can) -> None:
    """Skip the law if it needs something that is not in `Backend.can`."""
    if missing := [one.name for one in wanted if one not in can]:
        pytest.skip(f"the backend does not say that it can {', '.join(missing)}")


def large_size(backend: Backend) -> int:
    """A size in bytes that a backend writes in parts."""
    return (backend.part_bytes if isinstance(backend, ServiceBackend) else PART_BYTES) + 100_001


def sample(size: int, seed: int = 0) -> bytes:
    """Random bytes, different for each seed."""
    return random.Random(seed).randbytes(size)
