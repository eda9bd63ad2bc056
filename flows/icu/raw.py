"""Raw rows: the common schema in which every source passes its rows to the cleaning, and the split into shards."""

import numpy as np
import pandas as pd

from flows.icu.hashing import shard_of

# FHIR's Observations. They are not a table in MIMIC-IV's layout, but become rows of the same schema.
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
    """A frame of raw rows with no rows, for a shard without rows."""
    return pd.DataFrame({column: pd.Series(dtype=dtype) for column, dtype in RAW_DTYPES.items()})  # type: ignore[call-overload]


def split_into_shards(rows: pd.DataFrame, shards: int) -> dict[int, pd.DataFrame]:
    """The raw rows of each shard, by the shard of their subject and in their order.

    Args:
        rows: Raw rows (`RAW_DTYPES`).
        shards: The number of shards.

    Returns:
        The rows of each shard that has rows. A row without a subject goes to shard 0. It has no stay, so it is dropped
        and counted there.
    """
    shard = shard_of(rows["subject_id"].to_numpy("int64", na_value=0), shards)
    shard[rows["subject_id"].isna().to_numpy()] = 0
    # Sort once and cut. Selecting the rows of each shard separately would take time proportional to rows times shards.
    in_order = rows.iloc[np.argsort(shard, kind="stable")]
    ends = np.cumsum(np.bincount(shard, minlength=shards))
    return {
        number: in_order.iloc[begin:end]
        for number, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
        if begin < end
    }
