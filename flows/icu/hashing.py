"""Stable hashes of subjects, which decide a subject's shard and split.

The hashes of Python and pandas may change between versions. A split must stay the same for ever, or an upgrade would
turn test patients into training patients. The hash is therefore implemented here: splitmix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014) of the subject's id plus a salt.
"""

import numpy as np
import numpy.typing as npt

# There are two salts, so that a subject's shard does not depend on its split: with one salt, each of eight shards would
# have almost only training patients or almost none. Never change a salt: this would move every subject.
_SHARD_SALT = 0x5348_4152_4400_0001
_SPLIT_SALT = 0x5350_4C49_5400_0001

SPLITS = ("train", "validation", "test")
# The cumulative percentages of the first two splits.
_SPLIT_ENDS = np.array([70, 85], dtype=np.uint64)


def splitmix64(ids: npt.NDArray[np.int64], salt: int) -> npt.NDArray[np.uint64]:
    """The hashes of whole numbers, uniform over 64 bits.

    Args:
        ids: An int64 array of any shape.
        salt: A number that is added to each id (modulo 2^64). Another salt gives an independent hash.

    Returns:
        A uint64 array of the same shape. `splitmix64(0, 0)` is 0xE220A8397B1DCDAF, the generator's first output for
        seed 0.
    """
    # The function needs arithmetic modulo 2^64, which numpy's arrays do silently.
    x = ids.astype(np.uint64) + np.array([(salt + 0x9E37_79B9_7F4A_7C15) % 2**64], dtype=np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return x ^ (x >> np.uint64(31))


def shard_of(subject_ids: npt.NDArray[np.int64], shards: int) -> npt.NDArray[np.int64]:
    """Each subject's shard, from 0 to `shards - 1` (int64). It depends only on the id and the number of shards."""
    if shards < 1:
        raise ValueError("there has to be at least one shard")
    return (splitmix64(subject_ids, _SHARD_SALT) % np.uint64(shards)).astype(np.int64)


def split_of(subject_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """Each subject's split as an index into `SPLITS` (int8): 70 % train, 15 % validation, 15 % test.

    The split depends only on the id. It is the same in every shard and run, and does not depend on other subjects.
    """
    percent = splitmix64(subject_ids, _SPLIT_SALT) % np.uint64(100)
    return np.searchsorted(_SPLIT_ENDS, percent, side="right").astype(np.int8)
