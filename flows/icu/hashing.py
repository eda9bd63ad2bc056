"""Stable hashes of subjects: which shard holds a subject, and which split it belongs to.

Python's own `hash` and pandas' hashing promise nothing across versions; a split has to be the same for ever, or a test
patient becomes a training patient with the next upgrade. So the function is written out here: splitmix64 (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), on the subject's id plus a salt.
"""

import numpy as np
import numpy.typing as npt

# Two salts, so that the shards do not sort the subjects by split: with one salt, eight shards would each hold almost
# only training patients or almost none. Changing either moves every subject; never do.
_SHARD_SALT = 0x5348_4152_4400_0001
_SPLIT_SALT = 0x5350_4C49_5400_0001

SPLITS = ("train", "validation", "test")
# Percent of the subjects up to and including each split.
_SPLIT_ENDS = np.array([70, 85], dtype=np.uint64)


def splitmix64(ids: npt.NDArray[np.int64], salt: int) -> npt.NDArray[np.uint64]:
    """Hash whole numbers to uniform 64 bits.

    Args:
        ids: Any shape, int64.
        salt: Added to each id (modulo 2^64); another salt gives an independent hash.

    Returns:
        The same shape, uint64. `splitmix64(0, 0)` is 0xE220A8397B1DCDAF, the generator's first output for seed 0.
    """
    # Wrapping modulo 2^64 is what the function is made of; numpy's arrays wrap silently.
    x = ids.astype(np.uint64) + np.array([(salt + 0x9E37_79B9_7F4A_7C15) % 2**64], dtype=np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return x ^ (x >> np.uint64(31))


def shard_of(subject_ids: npt.NDArray[np.int64], shards: int) -> npt.NDArray[np.int64]:
    """Return each subject's shard, 0 … shards - 1 (int64). A function of the id and the number of shards alone."""
    if shards < 1:
        raise ValueError("there has to be at least one shard")
    return (splitmix64(subject_ids, _SHARD_SALT) % np.uint64(shards)).astype(np.int64)


def split_of(subject_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """Return each subject's split as an index into `SPLITS` (int8): 70 % train, 15 % validation, 15 % test.

    A function of the id alone: the same in every shard and every run, whoever else is in the data.
    """
    percent = splitmix64(subject_ids, _SPLIT_SALT) % np.uint64(100)
    return np.searchsorted(_SPLIT_ENDS, percent, side="right").astype(np.int8)
