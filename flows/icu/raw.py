"""Raw rows: what every source hands to the cleaning, one schema whatever it read, and how subjects are sharded."""

import numpy as np
import pandas as pd

from flows.icu.hashing import shard_of

# FHIR's Observations, which are not a table of MIMIC-IV's layout but become the same rows.
OBSERVATIONS = "observations"
# The sources of events, by the names that the counts use.
EVENT_SOURCES = ["chartevents", "labevents", OBSERVATIONS]

TABLE_DTYPE = pd.CategoricalDtype(EVENT_SOURCES)
RAW_DTYPES: dict[str, object] = {
    "table": TABLE_DTYPE,
    "subject_id": pd.Int64Dtype(),
    "stay_id": pd.Int64Dtype(),
    "itemid": pd.Int64Dtype(),
    "charttime": np.dtype("datetime64[us]"),
    "storetime": np.dtype("datetime64[us]"),
    "valuenum": np.dtype("float64"),
    "valueuom": pd.StringDtype(na_value=np.nan),
}


def empty_raw() -> pd.DataFrame:
    """A frame of raw rows without any: what a shard that no row fell into is made of."""
    return pd.DataFrame({column: pd.Series(dtype=dtype) for column, dtype in RAW_DTYPES.items()})  # type: ignore[call-overload]


def split_into_shards(rows: pd.DataFrame, shards: int) -> dict[int, pd.DataFrame]:
    """Part raw rows by the shard of their subject, keeping their order.

    Args:
        rows: Raw rows (`RAW_DTYPES`).
        shards: How many shards there are.

    Returns:
        The rows of each shard that has any. A row without a subject goes to shard 0, where it is counted as dropped:
        no stay is its own.
    """
    shard = shard_of(rows["subject_id"].to_numpy("int64", na_value=0), shards)
    shard[rows["subject_id"].isna().to_numpy()] = 0
    # Sorted once, then cut: rows taken for each shard by itself make the time grow with rows times shards.
    in_order = rows.iloc[np.argsort(shard, kind="stable")]
    ends = np.cumsum(np.bincount(shard, minlength=shards))
    return {
        number: in_order.iloc[begin:end]
        for number, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
        if begin < end
    }
