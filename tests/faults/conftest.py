"""What the tests of faults, crashes and load share: the long forms, and the seed of everything random in them."""

import os
import random

import pytest

# `make faults-full`. The short forms are what CI runs: the same tests, with fewer rounds.
FULL = os.environ.get("CLINOPS_FAULTS") == "full"


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Randomness of a seed that is printed when the test fails; CLINOPS_SEED=… repeats it."""
    seed = int(os.environ.get("CLINOPS_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"{request.node.name}: CLINOPS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=["parquet", "csv"])
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)
