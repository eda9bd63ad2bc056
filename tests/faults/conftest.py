"""Shared by the tests of faults, crashes and load: the long forms, and the seed of the random choices."""

import os
import random

import pytest

# `make faults-full` runs the long forms. CI runs the short forms: the same tests with fewer rounds.
FULL = os.environ.get("CLINOPS_FAULTS") == "full"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random choices from a seed that is printed if the test fails. CLINOPS_SEED=… repeats them."""
    seed = int(os.environ.get("CLINOPS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"{request.node.name}: CLINOPS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=["parquet", "csv"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)
