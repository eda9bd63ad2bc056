"""Cleaning: turns the raw rows of one shard into events with a time, a variable and a value in its canonical unit.

Every row is kept, or dropped for exactly one reason. The function checks this before it returns. Values that cannot be
used (unknown unit, implausible) become null, and their rows stay. Nothing is clipped or guessed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flows.icu.catalogue import Catalogue, fold_text
from flows.icu.counts import Counts, add_counts
from flows.icu.raw import EVENT_SOURCES, OBSERVATIONS
from flows.icu.stays import NO_TIME, StayTable, microseconds
from flows.icu.units import UnitTable

# A row is dropped for the first of these reasons that holds. If a row names its stay, this stay is used. If it names
# only a subject and a time, as every laboratory row does, it belongs to the stay that was under way.
ALL_REASONS = (
    "not_in_catalogue",
    "no_stay",
    "unknown_stay",
    "other_subject",
    "unknown_subject",
    "no_time",
    "no_number",
    "before_stay",
    "after_stay",
    "outside_stays",
    "duplicate",
)
REASONS = tuple(reason for reason in ALL_REASONS if reason not in ("unknown_subject", "outside_stays"))
LAB_REASONS = ("not_in_catalogue", "unknown_subject", "no_time", "no_number", "outside_stays", "duplicate")
# FHIR's Observations may name a stay or not. If one names no stay of the cohort, its time decides.
_OBSERVATION_REASONS = tuple(reason for reason in ALL_REASONS if reason not in ("no_stay", "unknown_stay"))
REASONS_OF = {"chartevents": REASONS, "labevents": LAB_REASONS, OBSERVATIONS: _OBSERVATION_REASONS}

# Upper bounds of storing delays, in microseconds. The last count of a variable is for longer delays.
DELAYS = {"15 min": 900_000_000, "1 h": 3_600_000_000, "6 h": 21_600_000_000}

_JOINED_ROWS = 250_000
_CHART, _OBSERVATION = EVENT_SOURCES.index("chartevents"), EVENT_SOURCES.index(OBSERVATIONS)
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Cleaned:
    """The events of a shard and the account of its rows.

    Attributes:
        events: `subject_id`, `stay_id`, `itemid` int64; `variable` categorical, in the catalogue's order; `charttime`
            and `time` datetime64[us], where `time` is when the value was known; `value` float64, in the variable's
            unit. The rows are sorted by stay, `time`, `charttime` and the catalogue's order of items, reversed. In this
            order, the last value of a window is its `last` feature.
        counts: `tables` has for each table `rows_in`, `kept` and, by reason, `dropped`. `variables` has for each
            variable `converted`, `unknown_unit` and `implausible` (of rows that only `duplicate` can still drop),
            `usable` (of kept rows) and `no_storetime` (usable values that count from their chart time).
            `unknown_texts` has for each variable the folded unit texts that are not in the catalogue, with the number
            of subjects. `lost` has for each variable and reason the number of dropped rows. `delays` has for each
            variable the numbers of usable values by the delay between chart and storing time (`DELAYS`).
    """

    events: pd.DataFrame
    counts: Counts


@dataclass(frozen=True)
class _Rows:
    """Columns of the rows that only `duplicate` can still drop. Times are in microseconds since 1970."""

    table: npt.NDArray[np.int8]
    stay: _Ints  # the stay's row number in the cohort
    item: _Ints
    charttime: _Ints
    time: _Ints
    variable: npt.NDArray[np.integer[Any]]
    value: npt.NDArray[np.float64]
    stored: npt.NDArray[np.bool_]  # whether a storing time was given

    def take(self, rows: npt.NDArray[np.intp]) -> "_Rows":
        return _Rows(*(column[rows] for column in vars(self).values()))


def clean(frames: Iterable[pd.DataFrame], stays: pd.DataFrame, catalogue: Catalogue) -> Cleaned:
    """Clean the raw rows of one shard.

    Args:
        frames: The shard's raw rows (`raw.RAW_DTYPES`), in any number of frames. No frame means an empty shard. All
            rows of a subject must be in the same shard. Each frame is released after its rows are judged, so with an
            iterator only the surviving rows are in memory.
        stays: The **whole** cohort (`cohort.COHORT_DTYPES`), not only the shard's stays. Otherwise a row with another
            subject's stay would look like a row with an unknown stay. A row that names no stay belongs to the stay of
            its subject that is under way when the value is known. If there are several, it belongs to the latest one.
        catalogue: Items, units and plausible ranges.

    Returns:
        The events and the counts.
    """
    table, units = StayTable(stays), UnitTable(catalogue)
    # Start with a frame without rows, so that an empty shard gets the same schema.
    parts = [_no_rows()]
    counts: Counts = {
        "tables": {
            name: {"rows_in": 0, "kept": 0, "dropped": dict.fromkeys(REASONS_OF[name], 0)} for name in EVENT_SOURCES
        },
        "variables": {
            name: dict.fromkeys(("converted", "unknown_unit", "implausible", "usable", "no_storetime"), 0)
            for name in catalogue.names
        },
    }
    unknown = []
    for frame in _joined(frames):
        rows, texts, frame_counts = _judge(frame, table, units)
        parts.append(rows)
        unknown.append(texts)
        counts = add_counts(counts, frame_counts)
    rows = _Rows(*(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True)))
    first = _first_of_duplicates(rows)
    kept = rows.take(np.flatnonzero(first))
    for code, name in enumerate(EVENT_SOURCES):
        account = counts["tables"][name]
        account["dropped"]["duplicate"] += int(np.count_nonzero(~first & (rows.table == code)))
        account["kept"] += int(np.count_nonzero(kept.table == code))
        # This check also runs in production: a lost row is a bug, and a report must not hide it.
        if account["rows_in"] != account["kept"] + sum(account["dropped"].values()):
            raise AssertionError(f"{name}: the rows in are not the rows kept and dropped")
    usable = ~np.isnan(kept.value)
    for key, flags in (("usable", usable), ("no_storetime", usable & ~kept.stored)):
        numbers = np.bincount(kept.variable[flags], minlength=len(catalogue.variables))
        for name, number in zip(catalogue.names, numbers, strict=True):
            counts["variables"][name][key] += int(number)
    counts["unknown_texts"] = _subjects_by_text(unknown, catalogue)
    again = np.bincount(rows.variable[~first], minlength=len(catalogue.variables))
    repeated = {name: {"duplicate": int(n)} for name, n in zip(catalogue.names, again, strict=True) if n}
    counts["lost"] = add_counts(counts.get("lost", {}), repeated)
    counts["delays"] = _delays(kept, catalogue)
    return Cleaned(_frame(kept, table, units, catalogue), counts)


def _joined(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The frames, with small ones joined. Otherwise the fixed cost of each frame would be most of the work."""
    waiting: list[pd.DataFrame] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= _JOINED_ROWS:
            yield pd.concat(waiting, ignore_index=True)
            waiting.clear()
    if waiting:
        yield pd.concat(waiting, ignore_index=True)


def _judge(frame: pd.DataFrame, stays: StayTable, units: UnitTable) -> tuple[_Rows, pd.DataFrame, Counts]:
    """Check each row on its own. Duplicates are found later."""
    table = frame["table"].cat.codes.to_numpy().astype(np.int8)
    item = frame["itemid"].to_numpy("int64", na_value=-1)
    charttime, storetime = (microseconds(frame[column]) for column in ("charttime", "storetime"))
    time = np.maximum(charttime, storetime)
    number = frame["valuenum"].to_numpy("float64")
    subject = frame["subject_id"].to_numpy("int64", na_value=0)
    has_subject = frame["subject_id"].notna().to_numpy()
    stay, known_stay = stays.find(frame["stay_id"].to_numpy("int64", na_value=0))
    has_stay = frame["stay_id"].notna().to_numpy()
    known_stay &= has_stay
    by_stay = (table == _CHART) | ((table == _OBSERVATION) & known_stay)
    by_time = np.flatnonzero(~by_stay)
    under_way, known_subject = stays.under_way(subject[by_time], time[by_time])
    stay[by_time] = under_way
    is_known, is_there = np.ones(len(frame), bool), np.ones(len(frame), bool)
    is_known[by_time], is_there[by_time] = known_subject & has_subject[by_time], under_way >= 0
    same_subject = (stays.subject_of(stay) == subject) & has_subject
    begins, ends = stays.bounds(stay)
    position, known_item = units.find_items(item)
    conditions = {
        "not_in_catalogue": ~known_item,
        "no_stay": by_stay & ~has_stay,
        "unknown_stay": by_stay & ~known_stay,
        "other_subject": by_stay & ~same_subject,
        "unknown_subject": ~is_known,
        "no_time": charttime == NO_TIME,
        "no_number": ~np.isfinite(number),
        "before_stay": by_stay & (time < begins),
        "after_stay": by_stay & (time >= ends),
        "outside_stays": ~is_there,
    }
    # np.select takes the first condition that holds.
    reason = np.select(list(conditions.values()), list(range(len(conditions))), default=-1)
    survivors = np.flatnonzero(reason == -1)
    position = position[survivors]
    text = frame["valueuom"].iloc[survivors]
    value, what = units.convert(position, number[survivors], text)
    variable = units.variable[position]
    rows = _Rows(
        table[survivors],
        stay[survivors],
        item[survivors],
        charttime[survivors],
        time[survivors],
        variable,
        value,
        storetime[survivors] != NO_TIME,
    )
    tables = {}
    for code, name in enumerate(EVENT_SOURCES):
        dropped = np.bincount(reason[(table == code) & (reason >= 0)], minlength=len(conditions))
        by_reason = {key: int(rows) for key, rows in zip(conditions, dropped, strict=True)}
        tables[name] = {
            "rows_in": int(np.count_nonzero(table == code)),
            "dropped": {key: rows for key, rows in by_reason.items() if key in REASONS_OF[name]},
        }
    variables = {
        name: {key: int(np.count_nonzero(flags & (variable == code))) for key, flags in what.items()}
        for code, name in enumerate(units.names)
    }
    unknown = np.flatnonzero(what["unknown_unit"])
    texts = pd.DataFrame(
        {
            "variable": variable[unknown],
            "text": text.iloc[unknown].fillna("").to_numpy(object),
            "subject": subject[survivors][unknown],
        }
    ).drop_duplicates()
    gone = np.flatnonzero((reason >= 0) & known_item)
    lost = _lost(
        reason[gone], units.variable[units.find_items(item[gone])[0]].astype(np.int64), list(conditions), units.names
    )
    return rows, texts, {"tables": tables, "variables": variables, "lost": lost}


def _lost(reason: _Ints, variable: _Ints, conditions: list[str], names: list[str]) -> Counts:
    """The number of each variable's dropped rows, by reason."""
    number = np.bincount(variable * len(conditions) + reason, minlength=len(names) * len(conditions))
    by_variable = number.reshape(len(names), len(conditions))
    return {
        name: {conditions[code]: int(row[code]) for code in np.flatnonzero(row)}
        for name, row in zip(names, by_variable, strict=True)
        if row.any()
    }


def _delays(kept: _Rows, catalogue: Catalogue) -> Counts:
    """The numbers of each variable's usable values, by the delay between chart and storing time."""
    rows = np.flatnonzero(~np.isnan(kept.value) & kept.stored)
    # A value that was stored before its chart time has no delay, since `time` is never before `charttime`.
    place = np.searchsorted(list(DELAYS.values()), (kept.time - kept.charttime)[rows], side="left")
    groups = len(DELAYS) + 1
    number = np.bincount(kept.variable[rows].astype(np.int64) * groups + place, minlength=len(catalogue.names) * groups)
    return dict(zip(catalogue.names, number.reshape(-1, groups).tolist(), strict=True))


def _subjects_by_text(frames: list[pd.DataFrame], catalogue: Catalogue) -> Counts:
    """For each variable, the number of subjects with each unknown unit text."""
    if not frames:
        return {}
    texts = pd.concat(frames, ignore_index=True)
    texts["text"] = texts["text"].map({text: fold_text(text) for text in texts["text"].unique()})
    numbers = texts.drop_duplicates().groupby(["variable", "text"], as_index=False).size()
    counts: Counts = {}
    for code, text, subjects in numbers.itertuples(index=False):
        counts.setdefault(catalogue.names[code], {})[text] = int(subjects)
    return counts


def _first_of_duplicates(rows: _Rows) -> npt.NDArray[np.bool_]:
    """Flags one row of each measurement, the row to keep. A measurement has one stay, chart time and item."""
    keys = pd.DataFrame({"stay": rows.stay, "charttime": rows.charttime, "item": rows.item})
    keep = ~keys.duplicated(keep=False).to_numpy()
    repeated = np.flatnonzero(~keep)
    some = rows.take(repeated)
    # A usable value is better than null, then the earliest time wins (the latest would leak later knowledge), then the
    # lowest value. The table comes last, so that the account does not depend on the order of reading.
    order = np.lexsort((some.table, some.value, some.time, np.isnan(some.value), some.item, some.charttime, some.stay))
    ordered = keys.iloc[repeated[order]]
    keep[repeated[order]] = ~ordered.duplicated(keep="first").to_numpy()
    return keep


def _frame(rows: _Rows, stays: StayTable, units: UnitTable, catalogue: Catalogue) -> pd.DataFrame:
    rank = units.rank[units.find_items(rows.item)[0]]
    rows = rows.take(np.lexsort((-rank, rows.charttime, rows.time, rows.stay)))
    return pd.DataFrame(
        {
            "subject_id": stays.subject_of(rows.stay),
            "stay_id": stays.id_of(rows.stay),
            "itemid": rows.item,
            "variable": pd.Categorical.from_codes(rows.variable, dtype=pd.CategoricalDtype(catalogue.names)),
            "charttime": rows.charttime.view("datetime64[us]"),
            "time": rows.time.view("datetime64[us]"),
            "value": rows.value,
        }
    )


def _no_rows() -> _Rows:
    ints, small = np.empty(0, np.int64), np.empty(0, np.int8)
    return _Rows(small, ints, ints, ints, ints, small, np.empty(0, np.float64), np.empty(0, np.bool_))
