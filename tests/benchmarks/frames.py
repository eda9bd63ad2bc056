"""The frames that are moved. Each is made once and kept as a pickle, which every process then reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

WIDE_ROWS, WIDE_COLUMNS, MISSING = 100_000, 1_000, 0.6
NARROW_ROWS, ROWS_PER_STAY = 5_000_000, 500
BATCH_ROWS, BATCHES = 10_000, 50

# Every promise is checked on both sets: compression and dictionaries gain much on rounded values, and little on others.
DESCRIPTIONS = {
    "wide": "wide frame",
    "narrow": "narrow frame",
    "wide-precise": "wide frame of full-precision floats",
    "narrow-precise": "narrow frame of full-precision floats, texts of many words and integers with nulls",
}
_WORDS = 50_000


def frame(name: str, scratch: str | Path) -> pd.DataFrame:
    """One of `DESCRIPTIONS`, or `result` (100 MB)."""
    path = Path(scratch) / f"{name}.pickle"
    if not path.exists():
        made: pd.DataFrame = {
            "wide": _wide,
            "wide-precise": _wide_precise,
            "narrow": _narrow,
            "narrow-precise": _narrow_precise,
            "result": _result,
        }[name]()
        made.to_pickle(path)
    loaded: pd.DataFrame = pd.read_pickle(path)
    return loaded


def frame_bytes(name: str, scratch: str | Path) -> int:
    """About the bytes of a frame in memory, without loading it."""
    return (Path(scratch) / f"{name}.pickle").stat().st_size


def size_of(df: pd.DataFrame) -> int:
    """Its bytes in memory."""
    return int(df.memory_usage(deep=True).sum())


def small(*, precise: bool = False) -> pd.DataFrame:
    """A frame whose Parquet file has about 20 kB; `precise`: of the second set, with a text and an integer."""
    if not precise:
        return _floats(540, 8)
    random, rows = np.random.default_rng(0), 420
    df = _floats(rows, 6, decimals=None)
    df["note"] = pd.Series(_words(random, rows), dtype="str")
    df["itemid"] = _with_nulls(random.integers(220_000, 230_000, rows), random)
    return df


def batches() -> Iterator[pd.DataFrame]:
    """Four gigabytes of wide rows, 80 MB at a time."""
    base = np.random.default_rng(0).normal(80, 15, (WIDE_COLUMNS, BATCH_ROWS)).round(3)
    base[np.random.default_rng(1).random(base.shape) < MISSING] = np.nan
    names = [f"feature_{number}" for number in range(WIDE_COLUMNS)]

    def each() -> Iterator[pd.DataFrame]:
        for number in range(BATCHES):
            yield pd.DataFrame((base + number).T, columns=names, copy=False)

    return each()


def _wide() -> pd.DataFrame:
    return _floats(WIDE_ROWS, WIDE_COLUMNS)


def _wide_precise() -> pd.DataFrame:
    return _floats(WIDE_ROWS, WIDE_COLUMNS, decimals=None)


def _result() -> pd.DataFrame:
    return _floats(125_000, 100)


def _floats(rows: int, columns: int, decimals: int | None = 3) -> pd.DataFrame:
    random = np.random.default_rng(0)
    values = np.empty((columns, rows))
    for column in values:
        # Charted to three decimals, as vital signs and laboratory values are; computed ones have all of them.
        measured = random.normal(80, 15, rows)
        column[:] = measured if decimals is None else measured.round(decimals)
        column[random.random(rows) < MISSING] = np.nan
    return pd.DataFrame(values.T, columns=[f"feature_{number}" for number in range(columns)])


def _narrow() -> pd.DataFrame:
    random = np.random.default_rng(0)
    stays = NARROW_ROWS // ROWS_PER_STAY
    items = np.array([220045, 220210, 220277, 220179, 220180, 223761], dtype=np.int64)
    units = np.array(["bpm", "insp/min", "%", "mmHg", "mmHg", "Deg. F"])
    item = random.integers(0, len(items), NARROW_ROWS)
    begin = np.datetime64("2180-01-01T00:00:00", "us") + np.repeat(random.integers(0, 10**6, stays), ROWS_PER_STAY)
    minutes = np.sort(random.integers(0, 4320, (stays, ROWS_PER_STAY)), axis=1).ravel()
    return pd.DataFrame(
        {
            "stay_id": np.repeat(30_000_000 + 7 * np.arange(stays), ROWS_PER_STAY),
            "charttime": begin + minutes.astype("timedelta64[m]"),
            "itemid": items[item],
            "valuenum": random.normal(80, 15, NARROW_ROWS).round(1),
            "valueuom": pd.Series(units[item], dtype="str"),
        }
    )


def _narrow_precise() -> pd.DataFrame:
    random = np.random.default_rng(1)
    df = _narrow()
    df["valuenum"] = random.normal(80, 15, NARROW_ROWS)
    df["itemid"] = _with_nulls(df["itemid"].to_numpy(), random)
    df["valueuom"] = pd.Series(_words(random, NARROW_ROWS), dtype="str")
    return df


def _with_nulls(values: "np.ndarray[Any, Any]", random: np.random.Generator) -> pd.arrays.IntegerArray:
    return pd.arrays.IntegerArray(values.astype("int64"), random.random(len(values)) < 0.1)


def _words(random: np.random.Generator, rows: int) -> "np.ndarray[Any, Any]":
    """Texts of three words of a large vocabulary, as comments have."""
    vocabulary = np.array([f"{word:x}" for word in random.integers(16**4, 16**7, _WORDS)])
    first, second, third = vocabulary[random.integers(0, _WORDS, (3, rows))]
    joined: np.ndarray[Any, Any] = np.char.add(np.char.add(np.char.add(first, " "), second), np.char.add(" ", third))
    return joined
