"""Versions, where the bucket keeps them."""

import pandas as pd
import pytest

from clinops_prefect import ArtifactNotFoundError, OperationNotSupportedError
from tests.doors import Can, Door

FRAMES = [pd.DataFrame({"code": ["007"] * rows, "v": range(rows)}, index=range(1, rows + 1)) for rows in (1, 2, 3)]


def test_a_version_that_never_was_is_not_found(door: Door, format: str) -> None:
    # A service that ignores which version is asked for is found out, and never answers with another one.
    ignores = Can.TELL_UNKNOWN_VERSIONS not in door.can and not door.keep_versions()
    store = door.store(format=format)
    store.upload(FRAMES[0], "x")
    for version in ("17", "no such version", "0e5b8f42-51f2-4b1b-9b1e-6ad6a2c9a0b0"):
        for call in (
            lambda v: store.download("x", version=v),
            lambda v: store.download("x", columns=["v"], version=v),
        ):
            with pytest.raises(OperationNotSupportedError if ignores else ArtifactNotFoundError):
                call(version)
