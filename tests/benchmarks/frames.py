"""The frames that are moved. Each is made once and kept as a pickle, which every process then reads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

WIDE_ROWS, WIDE_COLUMNS, MISSING = 100_000, 1_000, 0.6
NARROW_ROWS, ROWS_PER_STAY = 5_000_000, 500
BATCH_ROWS, BATCHES = 10_000, 50


def frame(name: str, scratch: str | Path) -> pd.DataFrame:
    """`wide`, `narrow`, `result` (100 MB) or `small` (20 kB of Parquet)."""
    path = Path(scratch) / f"{name}.pickle"
    if not path.exists():
        made: pd.DataFrame = {"wide": _wide, "narrow": _narrow, "result": _result, "small": small}[name]()
        made.to_pickle(path)
    loaded: pd.DataFrame = pd.read_pickle(path)
    return loaded


def size_of(df: pd.DataFrame) -> int:
    """Its bytes in memory."""
    return int(df.memory_usage(deep=True).sum())


def small() -> pd.DataFrame:
    """A frame whose Parquet file has about 20 kB."""
    return _floats(540, 8)


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


def _result() -> pd.DataFrame:
    return _floats(125_000, 100)


def _floats(rows: int, columns: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    values = np.empty((columns, rows))
    for column in values:
        # Charted to three decimals, as vital signs and laboratory values are.
        column[:] = random.normal(80, 15, rows).round(3)
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
