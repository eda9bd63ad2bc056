"""Features: turns the cleaned events of a shard into one row per stay and window.

A value counts from the time when it was known, and a window uses only values known before its end. If values after some
time change, all windows that ended by this time stay exactly the same, to the last bit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flows.icu.catalogue import Catalogue
from flows.icu.stays import microseconds
from flows.icu.units import UnitTable

HOUR = 3_600_000_000  # in microseconds, the unit of all times here
# A window without a value of its own is filled with the newest value that is at most this old at the window's end.
FILL_HOURS = 24

_FEATURES = {
    "mean": np.float64,
    "min": np.float64,
    "max": np.float64,
    "last": np.float64,
    "filled": np.float64,
    "lag1": np.float64,
    "lag2": np.float64,
    "count": np.int32,
    "missing": np.int8,
}
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


def check_window(window_hours: int, horizon_hours: int) -> None:
    """Raise `ValueError` unless both are whole hours and the horizon is a multiple of the window."""
    for name, hours in (("window", window_hours), ("horizon", horizon_hours)):
        if isinstance(hours, bool) or not isinstance(hours, int) or hours < 1:
            raise ValueError(f"the {name} has to be a whole number of hours, one or more")
    if horizon_hours % window_hours:
        raise ValueError(f"a horizon of {horizon_hours} h is not a multiple of a window of {window_hours} h")


def feature_columns(catalogue: Catalogue) -> dict[str, object]:
    """The columns of the features, in order, with their dtypes."""
    return {
        "subject_id": np.dtype(np.int64),
        "stay_id": np.dtype(np.int64),
        "window": np.dtype(np.int32),
        "window_start": np.dtype("datetime64[us]"),
        "window_end": np.dtype("datetime64[us]"),
        "split": pd.StringDtype(na_value=np.nan),
        **{f"{v}_{f}": np.dtype(dtype) for v in catalogue.names for f, dtype in _FEATURES.items()},
    }


def window_features(
    events: pd.DataFrame,
    stays: pd.DataFrame,
    catalogue: Catalogue,
    *,
    window_hours: int = 6,
    horizon_hours: int = 48,
) -> pd.DataFrame:
    """The features of the stays of one shard.

    Args:
        events: The result of `events.clean`, in any order.
        stays: The cohort's rows (`cohort.COHORT_DTYPES`) of the shard's stays. Each stay has its windows, also without
            events.
        catalogue: The catalogue of the cleaned events. Its variables give the columns.
        window_hours: The length of a window, in hours.
        horizon_hours: The latest end of a window, in hours after `intime`; a multiple of `window_hours`.

    Returns:
        One row per stay and window, sorted by both, with the columns and dtypes of `feature_columns`. Values are in the
        variables' units.

    Raises:
        ValueError: The hours are not valid, or events belong to stays or variables that are not given.
    """
    check_window(window_hours, horizon_hours)
    stays = stays.sort_values("stay_id", ignore_index=True)
    width = window_hours * HOUR
    intime, outtime = (microseconds(stays[column]) for column in ("intime", "outtime"))
    limit = horizon_hours // window_hours
    number = np.clip(-((intime - outtime) // width), 1, limit)  # the ceiling of (outtime - intime) / width
    number[stays["outtime"].isna().to_numpy()] = limit
    # The rows of stay s in the result are first[s] … first[s] + number[s] - 1.
    first = np.cumsum(number) - number
    stay = np.repeat(np.arange(len(stays)), number)
    window = np.arange(len(stay)) - first[stay]
    start = intime[stay] + window * width
    features = {
        "subject_id": stays["subject_id"].to_numpy("int64")[stay],
        "stay_id": stays["stay_id"].to_numpy("int64")[stay],
        "window": window.astype(np.int32),
        "window_start": start.view("datetime64[us]"),
        "window_end": (start + width).view("datetime64[us]"),
        "split": stays["split"].iloc[stay].array,
    }
    row, time, value = _sorted_events(events, stays, catalogue, intime, number, first, width)
    grid = _Grid(first[stay], window, start + width)
    bounds = np.searchsorted(row, np.arange(len(catalogue.variables) + 1) * len(stay))
    for code, name in enumerate(catalogue.names):
        part = slice(bounds[code], bounds[code + 1])
        columns = _aggregate(row[part] - code * len(stay), time[part], value[part], grid)
        features.update({f"{name}_{feature}": columns[feature].astype(dtype) for feature, dtype in _FEATURES.items()})
    return pd.DataFrame(features)


@dataclass(frozen=True)
class _Grid:
    """For each row of the result: the first row of its stay, and the window's number and end."""

    first: _Ints
    window: _Ints
    end: _Ints


def _sorted_events(
    events: pd.DataFrame,
    stays: pd.DataFrame,
    catalogue: Catalogue,
    intime: _Ints,
    number: _Ints,
    first: _Ints,
    width: int,
) -> tuple[_Ints, _Ints, _Floats]:
    """The usable events in windows: for each its cell (`variable * rows + row`), time and value.

    They are sorted by cell and, within a cell, by the order that decides which value is the last.
    """
    events = events[events["value"].notna()]
    variable = pd.Categorical(events["variable"], categories=catalogue.names).codes.astype(np.int64)
    if (variable < 0).any():
        raise ValueError("there are events of variables that are not in the catalogue")
    stay = pd.Index(stays["stay_id"]).get_indexer(pd.Index(events["stay_id"]))
    strangers = events.loc[stay < 0, "stay_id"].nunique()
    if strangers:
        raise ValueError(f"{strangers} stays of the events are not among the stays given")
    time, charttime = microseconds(events["time"]), microseconds(events["charttime"])
    window = (time - intime[stay]) // width
    # No window contains events after the last one. Events before the stay do not belong to it.
    seen = np.flatnonzero((window >= 0) & (window < number[stay]))
    cell = (variable * number.sum() + first[stay] + window)[seen]
    units = UnitTable(catalogue)
    time, charttime, item = time[seen], charttime[seen], events["itemid"].to_numpy("int64")[seen]
    # Of events with equal times, the item that is first in the catalogue counts as last: the arterial pressure wins
    # over the cuff's.
    rank = units.rank[units.find_items(item)[0]]
    order = np.lexsort((-rank, charttime, time, cell))
    return cell[order], time[order], events["value"].to_numpy("float64")[seen][order]


def _aggregate(row: _Ints, time: _Ints, value: _Floats, grid: _Grid) -> dict[str, npt.NDArray[Any]]:
    """The features of one variable.

    Args:
        row: The row in the result of each event of the variable, ascending. Within a row, events are in the order that
            decides which value is the last.
        time: The time of each event.
        value: The value of each event.
        grid: The rows of the result.
    """
    rows = len(grid.window)
    count = np.bincount(row, minlength=rows)
    full = np.flatnonzero(count)
    after = np.cumsum(count)  # the number of events in all rows up to this one
    begin = (after - count)[full]
    mean, low, high, last, filled = (np.full(rows, np.nan) for _ in range(5))
    # bincount adds each row separately, in the order of time. With a running total over all rows, a later value could
    # change the last bits of an earlier window.
    mean[full] = np.bincount(row, weights=value, minlength=rows)[full] / count[full]
    if len(full):
        low[full] = np.minimum.reduceat(value, begin)
        high[full] = np.maximum.reduceat(value, begin)
    last[full] = value[after[full] - 1]
    # Fill with the newest event before the end of each row, if it is of the same stay and not too old.
    some = np.flatnonzero(after)
    newest = after[some] - 1
    same_stay = row[newest] >= grid.first[some]
    young = (count[some] > 0) | (time[newest] >= grid.end[some] - FILL_HOURS * HOUR)
    some, newest = some[same_stay & young], newest[same_stay & young]
    filled[some] = value[newest]
    return {
        "mean": mean,
        "min": low,
        "max": high,
        "last": last,
        "filled": filled,
        "lag1": _lag(filled, 1, grid.window),
        "lag2": _lag(filled, 2, grid.window),
        "count": count,
        "missing": count == 0,
    }


def _lag(filled: _Floats, windows: int, window: _Ints) -> _Floats:
    lagged = np.full(len(filled), np.nan)
    lagged[windows:] = filled[:-windows]
    lagged[window < windows] = np.nan
    return lagged
