"""Cleaning: the raw rows of one shard to events with a time, a variable and a value in its canonical unit.

Every row is either kept or dropped for exactly one reason, and the function checks that itself before it returns.
Values that cannot be used (unknown unit, implausible) become null and stay; nothing is clipped or guessed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from flows.icu.catalogue import Catalogue
from flows.icu.counts import Counts, add_counts
from flows.icu.raw import EVENT_SOURCES
from flows.icu.units import UnitTable

# A row is dropped for the first of these that holds.
REASONS = (
    "not_in_catalogue",
    "no_stay",
    "unknown_stay",
    "other_subject",
    "no_time",
    "no_number",
    "before_stay",
    "after_stay",
    "duplicate",
)

# NaT's integer, the lowest there is: so the maximum with a null time is the other time.
_NO_TIME = np.iinfo(np.int64).min
_JOINED_ROWS = 250_000
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cleaned:
    """The events of a shard and the account of its rows.

    Attributes:
        events: `subject_id`, `stay_id`, `itemid` int64; `variable` categorical, in the catalogue's order; `charttime`
            and `time` datetime64[us], where `time` is when the value was known; `value` float64, in the variable's
            unit. Sorted by stay, `time`, `charttime` and descending item: the order in which values count as last.
        counts: `tables`: per table `rows_in`, `kept` and, by reason, `dropped`; `variables`: per variable `converted`,
            `unknown_unit` and `implausible` (of the rows that survived as far as `after_stay`) and `usable` (of the
            kept).
    """

    events: pd.DataFrame
    counts: Counts


@dataclass(frozen=True)
class _Rows:
    """Columns of the rows that survived as far as `after_stay`; times in microseconds since 1970."""

    table: npt.NDArray[np.int8]
    stay: _Ints  # the row of the stay in the cohort
    item: _Ints
    charttime: _Ints
    time: _Ints
    variable: npt.NDArray[np.int8]
    value: npt.NDArray[np.float64]

    def take(self, rows: npt.NDArray[np.intp]) -> "_Rows":
        return _Rows(*(column[rows] for column in vars(self).values()))


def clean(frames: Iterable[pd.DataFrame], stays: pd.DataFrame, catalogue: Catalogue) -> Cleaned:
    """Clean the raw rows of one shard.

    Args:
        frames: The shard's raw rows (`ingest.RAW_DTYPES`), in any number of frames; no frame at all is an empty shard.
            All rows of a subject have to be in the same shard. Each frame is let go once its rows are judged, so an
            iterator keeps the peak at the survivors.
        stays: The **whole** cohort (`cohort.COHORT_DTYPES`), not the shard's: only so can a row with another subject's
            stay be told from a row with an unknown stay.
        catalogue: Items, units and plausible ranges.

    Returns:
        The events and the counts.
    """
    stays = stays.sort_values("stay_id", ignore_index=True)
    units = UnitTable(catalogue)
    # Begin with no rows, so that an empty shard takes the same path and gets the same schema.
    parts = [_no_rows()]
    counts: Counts = {
        "tables": {table: {"rows_in": 0, "kept": 0, "dropped": dict.fromkeys(REASONS, 0)} for table in EVENT_SOURCES},
        "variables": {
            name: dict.fromkeys(("converted", "unknown_unit", "implausible", "usable"), 0) for name in catalogue.names
        },
    }
    for frame in _joined(frames):
        rows, frame_counts = _judge(frame, stays, units)
        parts.append(rows)
        counts = add_counts(counts, frame_counts)
    rows = _Rows(*(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True)))
    first = _first_of_duplicates(rows)
    kept = rows.take(np.flatnonzero(first))
    for code, table in enumerate(EVENT_SOURCES):
        account = counts["tables"][table]
        account["dropped"]["duplicate"] += int(np.count_nonzero(~first & (rows.table == code)))
        account["kept"] += int(np.count_nonzero(kept.table == code))
        # Not a debug check: an unexplained row is a bug, and a report that hides it is worse than none.
        if account["rows_in"] != account["kept"] + sum(account["dropped"].values()):
            raise AssertionError(f"{table}: the rows in are not the rows kept and dropped")
    usable = np.bincount(kept.variable[~np.isnan(kept.value)], minlength=len(catalogue.variables))
    for name, number in zip(catalogue.names, usable, strict=True):
        counts["variables"][name]["usable"] += int(number)
    return Cleaned(_frame(kept, stays, catalogue), counts)


def _joined(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Join small frames: a fixed cost per frame would otherwise be most of the work."""
    waiting: list[pd.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= _JOINED_ROWS:
            yield pd.concat(waiting, ignore_index=True)
            waiting.clear()
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def _judge(frame: pd.DataFrame, stays: pd.DataFrame, units: UnitTable) -> tuple[_Rows, Counts]:
    """Judge rows one by one: everything but the duplicates."""
    table = frame["table"].cat.codes.to_numpy().astype(np.int8)
    item = frame["itemid"].to_numpy("int64", na_value=-1)
    charttime, storetime = (_microseconds(frame[column]) for column in ("charttime", "storetime"))
    time = np.maximum(charttime, storetime)
    number = frame["valuenum"].to_numpy("float64")
    stay_id = frame["stay_id"].to_numpy("int64", na_value=0)
    stay, known_stay = _look_up(stays["stay_id"].to_numpy("int64"), stay_id)
    subject = frame["subject_id"].to_numpy("int64", na_value=0)
    same_subject = (_pick(stays["subject_id"].to_numpy("int64"), stay) == subject) & frame["subject_id"].notna()
    intime, outtime = (_pick(_microseconds(stays[column]), stay) for column in ("intime", "outtime"))
    position, known_item = units.find_items(item)
    conditions = (
        ~known_item,
        frame["stay_id"].isna().to_numpy(),
        ~known_stay,
        ~same_subject.to_numpy("bool"),
        charttime == _NO_TIME,
        ~np.isfinite(number),
        time < intime,
        (time >= outtime) & (outtime != _NO_TIME),
    )
    # select takes the first condition that holds.
    reason = np.select(conditions, list(range(len(conditions))), default=-1)
    survivors = np.flatnonzero(reason == -1)
    position = position[survivors]
    value, what = units.convert(position, number[survivors], frame["valueuom"].iloc[survivors])
    variable = units.variable[position]
    rows = _Rows(
        table[survivors],
        stay[survivors],
        item[survivors],
        charttime[survivors],
        time[survivors],
        variable,
        value,
    )
    tables = {}
    for code, name in enumerate(EVENT_SOURCES):
        dropped = np.bincount(reason[(table == code) & (reason >= 0)], minlength=len(conditions))
        tables[name] = {
            "rows_in": int(np.count_nonzero(table == code)),
            "dropped": {REASONS[index]: int(number) for index, number in enumerate(dropped)},
        }
    variables = {
        name: {key: int(np.count_nonzero(flags & (variable == code))) for key, flags in what.items()}
        for code, name in enumerate(units.names)
    }
    return rows, {"tables": tables, "variables": variables}


def _first_of_duplicates(rows: _Rows) -> npt.NDArray[np.bool_]:
    """Flag the row that stays of each measurement: same stay, chart time and item."""
    keys = pd.DataFrame({"stay": rows.stay, "charttime": rows.charttime, "item": rows.item})
    keep = ~keys.duplicated(keep=False).to_numpy()
    repeated = np.flatnonzero(~keep)
    some = rows.take(repeated)
    # Usable before null, then the earliest time (keeping the latest would leak), then the lowest value; the table last,
    # so that the account does not depend on the order of reading.
    order = np.lexsort((some.table, some.value, some.time, np.isnan(some.value), some.item, some.charttime, some.stay))
    ordered = keys.iloc[repeated[order]]
    keep[repeated[order]] = ~ordered.duplicated(keep="first").to_numpy()
    return keep


def _frame(rows: _Rows, stays: pd.DataFrame, catalogue: Catalogue) -> pd.DataFrame:
    rows = rows.take(np.lexsort((-rows.item, rows.charttime, rows.time, rows.stay)))
    return pd.DataFrame(
        {
            "subject_id": _pick(stays["subject_id"].to_numpy("int64"), rows.stay),
            "stay_id": _pick(stays["stay_id"].to_numpy("int64"), rows.stay),
            "itemid": rows.item,
            "variable": pd.Categorical.from_codes(rows.variable, dtype=pd.CategoricalDtype(catalogue.names)),
            "charttime": rows.charttime.view("datetime64[us]"),
            "time": rows.time.view("datetime64[us]"),
            "value": rows.value,
        }
    )


def _no_rows() -> _Rows:
    ints, small = np.empty(0, np.int64), np.empty(0, np.int8)
    return _Rows(small, ints, ints, ints, ints, small, np.empty(0, np.float64))


def _microseconds(times: "pd.Series[pd.Timestamp]") -> _Ints:
    return times.to_numpy("datetime64[us]").view("int64")


def _look_up(known: _Ints, wanted: _Ints) -> tuple[_Ints, npt.NDArray[np.bool_]]:
    """Find each of `wanted` in the ascending `known`: its position, and whether it is there at all."""
    position = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    return position, _pick(known, position) == wanted if len(known) else np.zeros(len(wanted), bool)


def _pick(column: _Ints, position: _Ints) -> _Ints:
    # Without any stay there is nothing to pick from, and no row that would look at it.
    return column[position] if len(column) else np.zeros(len(position), np.int64)
