"""Shards and splits: they never change, have the right sizes, and are independent of each other."""

import numpy as np
import pytest

from flows.icu.hashing import SPLITS, shard_of, split_of, splitmix64

IDS = np.arange(10_000_000, 10_100_000)


def test_the_hash_is_splitmix64():
    # The first outputs of the reference implementation (https://prng.di.unimi.it/splitmix64.c) for the seed 0, whose
    # state is a multiple of the golden gamma.
    gamma = 0x9E3779B97F4A7C15
    first_three = [int(splitmix64(np.array([0]), n * gamma)[0]) for n in range(3)]
    assert first_three == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_a_subjects_shard_and_split_never_change():
    # Never change these numbers: a change would move patients between training and test.
    ids = np.array([0, 1, 42, 123_456_789, 2**62])
    assert split_of(ids).tolist() == [2, 2, 1, 0, 2]
    assert shard_of(ids, 8).tolist() == [6, 3, 5, 5, 3]


def test_the_splits_have_their_shares():
    shares = np.bincount(split_of(IDS), minlength=3) / len(IDS)
    assert dict(zip(SPLITS, shares, strict=True)) == pytest.approx(
        {"train": 0.7, "validation": 0.15, "test": 0.15}, abs=0.005
    )


@pytest.mark.parametrize("shards", [1, 2, 7, 8, 100])
def test_the_shards_are_even(shards):
    sizes = np.bincount(shard_of(IDS, shards), minlength=shards)
    assert len(sizes) == shards
    assert sizes == pytest.approx(len(IDS) / shards, rel=0.15)


def test_the_shards_are_independent_of_the_splits():
    shard, split = shard_of(IDS, 8), split_of(IDS)
    for number in range(8):
        assert np.mean(split[shard == number] == 0) == pytest.approx(0.7, abs=0.02)


def test_zero_shards_are_refused():
    with pytest.raises(ValueError, match="at least one shard"):
        shard_of(IDS, 0)
