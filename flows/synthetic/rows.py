"""Synthetic chart and lab rows, with all defects of real rows.

The shares follow the MIMIC-III demo: 14 % of the chart rows are of the default catalogue's items, and 57 % have no
number. The median delay until a value is stored is 15 minutes, and a sixth of the values take more than an hour. Rare
defects are more frequent than in reality, and the first rows have each defect once, so that small data have all of
them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# Item, share among the rows of its system's catalogue items, mean, standard deviation, decimals, unit texts.
# Temperatures and glucose have several units and spellings. "?F" is what the source made of "°F".
_Item = tuple[int, int, float, float, int, tuple[str | None, ...]]
_CAREVUE: list[_Item] = [
    (211, 16, 87, 19, 0, ("BPM",)),
    (618, 15, 20, 6, 0, ("BPM",)),
    (615, 2, 20, 6, 0, ("BPM", None)),
    (646, 16, 97, 2.5, 0, ("%",)),
    (51, 9, 117, 22, 0, ("mmHg", "mmHg", None)),
    (455, 7, 118, 22, 0, ("mmHg",)),
    (8368, 9, 57, 14, 0, ("mmHg",)),
    (8441, 7, 58, 14, 0, ("mmHg",)),
    (52, 9, 76, 15, 0, ("mmHg", "cmH2O")),
    (456, 7, 76, 15, 0, ("mmHg",)),
    (676, 3, 37, 0.8, 1, ("Deg. C", None)),
    (678, 4, 98.6, 1.4, 1, ("Deg. F", "Deg. F", "?F", None)),
    (807, 2, 141, 50, 0, (None,)),
    (811, 2, 141, 50, 0, (None, "mg/dL")),
    (1529, 1, 141, 50, 0, (None,)),
]
_METAVISION: list[_Item] = [
    (220045, 15, 87, 19, 0, ("bpm",)),
    (220210, 15, 20, 6, 0, ("insp/min",)),
    (220277, 15, 97, 2.5, 0, ("%",)),
    (220050, 5, 117, 22, 0, ("mmHg",)),
    (220179, 9, 118, 22, 0, ("mmHg",)),
    (220051, 5, 57, 14, 0, ("mmHg",)),
    (220180, 9, 58, 14, 0, ("mmHg",)),
    (220052, 5, 76, 15, 0, ("mmHg",)),
    (220181, 9, 76, 15, 0, ("mmHg",)),
    (223762, 1, 37, 0.8, 1, ("?C", "°C")),
    (223761, 4, 98.6, 1.4, 1, ("?F", "?F", "°F")),
    (220621, 2, 141, 50, 0, ("mg/dL", "MG / DL", "mg/dL", None)),
    (225664, 2, 141, 50, 0, (None, "mg/dL", "mg/dL", "mg%")),
    (226537, 1, 7.8, 2.7, 1, ("mmol/L", " mmol/l")),
]
# Items of no catalogue. A drug's unit occurs with the micro sign (U+00B5) and with the Greek mu (U+03BC).
_OTHERS: list[_Item] = [
    (128, 60, 0, 0, 0, (None,)),
    (742, 6, 0, 0, 0, (None,)),
    (221749, 3, 1.2, 0.4, 2, ("\u00b5g/kg/min", "\u03bcg/kg/min")),
    (223900, 6, 4, 1.2, 0, (None,)),
    (224080, 8, 0, 0, 0, (None,)),
    (226253, 17, 85, 3, 0, ("%",)),
]
_LABS: list[_Item] = [
    (50813, 1, 1.9, 0.9, 1, ("mmol/L",)),
    (50912, 2, 1.2, 0.5, 1, ("mg/dL",)),
    (51006, 2, 26, 12, 0, ("mg/dL",)),
    (50983, 2, 139, 4, 0, ("mEq/L",)),
    (50971, 2, 4.1, 0.5, 1, ("mEq/L",)),
    (50902, 2, 104, 5, 0, ("mEq/L",)),
    (50882, 2, 25, 4, 0, ("mEq/L",)),
    (50893, 1, 8.5, 0.7, 1, ("mg/dL",)),
    (50885, 1, 1.1, 0.8, 1, ("mg/dL",)),
    (51222, 2, 10.4, 1.6, 1, ("g/dL",)),
    (51265, 2, 210, 80, 0, ("K/uL",)),
    (51301, 2, 10.9, 4.5, 1, ("K/uL",)),
    (51237, 1, 1.3, 0.3, 1, (None,)),
    (50820, 1, 7.38, 0.07, 2, ("units",)),
    (50818, 1, 41, 9, 0, ("mm Hg",)),
    (50821, 1, 120, 50, 0, ("mm Hg",)),
    # Items of no catalogue: a glucose whose item id is also a chart item, and a drug level.
    (50931, 2, 141, 50, 0, ("mg/dL",)),
    (51003, 1, 0.4, 0.3, 2, ("\u00b5g/L", "\u03bcg/L")),
]
# Free text with characters that are difficult in CSV: commas, quotes and a line break.
_TEXTS = np.array(
    ["Clear", "No Response-ETT", "Left, lower", 'Patient "comfortable"', "Turned\nright side"], dtype=object
)
_IMPOSSIBLE = np.array([0.0, 11647.0, -8.0, 999999.0])

# All items in one list, so that one index selects an item in all columns, and the start of each group.
_ITEMS = [*_CAREVUE, *_METAVISION, *_OTHERS, *_LABS]
_FIRST_METAVISION, _FIRST_OTHER, _FIRST_LAB = np.cumsum([len(_CAREVUE), len(_METAVISION), len(_OTHERS)]).tolist()
_ITEM_IDS = np.array([item[0] for item in _ITEMS], dtype=np.int64)
_MEAN, _SPREAD = (np.array([item[column] for item in _ITEMS], dtype=np.float64) for column in (2, 3))
_HIGHEST = np.array([100.0 if "%" in item[5] else np.inf for item in _ITEMS])
_SCALE = 10.0 ** np.array([item[4] for item in _ITEMS])
# For each item twelve unit texts (12 is a multiple of every item's number of texts), as indices into all texts.
_UNIT_TEXTS = list(dict.fromkeys(text for item in _ITEMS for text in item[5]))
_UNIT_CHOICES = np.array([[_UNIT_TEXTS.index(item[5][i % len(item[5])]) for i in range(12)] for item in _ITEMS])

_MINUTE, _DAY = 60, 86_400
_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stays:
    """The synthetic stays as arrays, with times in seconds since 1970. `ends` is also set if `is_open` hides it."""

    subject: _Ints
    hadm: _Ints
    stay: _Ints
    begins: _Ints
    ends: _Ints
    is_open: _Flags
    is_carevue: _Flags


def chart_rows(stays: Stays, of_stay: _Ints, rng: np.random.Generator, *, is_first: bool, share: float) -> pa.Table:
    """Synthetic chart rows.

    Args:
        stays: The stays.
        of_stay: For each row to make, the index of its stay.
        rng: The random generator.
        is_first: Whether these are the table's first rows, which have each defect once.
        share: The share of rows of the default catalogue's items.

    Returns:
        The columns of MIMIC-IV's `icu/chartevents`.
    """
    rows = len(of_stay)
    some, forced = _troubles(rows, rng, is_first=is_first)
    no_stay, unknown_stay, other_subject, no_time, no_number = (some(0.001) for _ in range(5))
    before, after, impossible, repeated, no_storetime = some(0.006), some(0.001), some(0.002), some(0.015), some(0.003)

    begins, ends = stays.begins[of_stay], stays.ends[of_stay]
    # Sources chart to the minute, but a stay begins at any second.
    chart = begins + ((ends - begins) * rng.random(rows)).astype(np.int64)
    away = rng.integers(_MINUTE, _DAY, rows)
    chart = np.where(before, begins - away, np.where(after, ends + away, chart)) // _MINUTE * _MINUTE
    listed = rng.random(rows) < share
    listed[forced] = True
    pick = np.where(
        listed,
        np.where(
            stays.is_carevue[of_stay],
            _choose(0, _CAREVUE, rows, rng),
            _choose(_FIRST_METAVISION, _METAVISION, rows, rng),
        ),
        _choose(_FIRST_OTHER, _OTHERS, rows, rng),
    )

    # A repeated row has the stay, time and item of the row before it, but another value, like a correction.
    copy = np.flatnonzero(repeated[1:] & (of_stay[1:] == of_stay[:-1]) & ~repeated[:-1]) + 1
    for column in (chart, pick):
        column[copy] = column[copy - 1]

    listed = pick < _FIRST_OTHER
    number = _numbers(pick, rng)
    number[impossible] = rng.choice(_IMPOSSIBLE, np.count_nonzero(impossible))
    number[no_number | (~listed & (rng.random(rows) < 0.66))] = np.nan
    delay = np.exp(rng.normal(np.log(16), 1.3, rows)).astype(np.int64) * _MINUTE
    # Some values are stored before their chart time.
    delay[rng.random(rows) < 0.08] *= -1
    stay = stays.stay[of_stay]
    stay[unknown_stay] = 99_999_999
    # Use the stay of another subject: the one at the other end of the list, if there is another.
    stay[other_subject] = stays.stay[::-1][of_stay[other_subject]]
    return pa.table(
        {
            "subject_id": stays.subject[of_stay],
            "hadm_id": stays.hadm[of_stay],
            "stay_id": pa.array(stay, mask=no_stay),
            "caregiver_id": rng.integers(10_000, 99_999, rows),
            "charttime": pa.array(chart.view("datetime64[s]"), mask=no_time),
            "storetime": pa.array((chart + delay).view("datetime64[s]"), mask=no_storetime),
            "itemid": _ITEM_IDS[pick],
            "value": _values(number, rng),
            "valuenum": pa.array(number, from_pandas=True),
            "valueuom": _units(pick, rng),
            "warning": pa.array(np.zeros(rows, np.int64), mask=stays.is_carevue[of_stay]),
        }
    )


def lab_rows(
    stays: Stays, of_stay: _Ints, first_id: int, rng: np.random.Generator, *, is_first: bool = False
) -> pa.Table:
    """Synthetic lab rows. They have a patient and a time, but no stay. A few are of patients who were never in an ICU.

    Args:
        stays: The stays.
        of_stay: For each row to make, the index of a stay in which, or shortly before which, its time is.
        first_id: The first row's `labevent_id`.
        rng: The random generator.
        is_first: Whether these are the table's first rows, which have each defect once.

    Returns:
        The columns of MIMIC-IV's `hosp/labevents`.
    """
    rows = len(of_stay)
    some, forced = _troubles(rows, rng, is_first=is_first)
    elsewhere, no_time, no_storetime, repeated, no_number = (some(rate) for rate in (0.01, 0.001, 0.05, 0.005, 0.12))
    pick = _choose(_FIRST_LAB, _LABS, rows, rng)
    begins, ends = stays.begins[of_stay], stays.ends[of_stay]
    chart = (begins - _DAY + ((ends - begins + _DAY) * rng.random(rows)).astype(np.int64)) // _MINUTE * _MINUTE
    number = _numbers(pick, rng)
    # The rows around the forced defects are good, so that each defect is the only reason to drop its row.
    around = slice(0, max(forced, default=-1) + 1)
    pick[around], number[around] = _FIRST_LAB, 1.5
    chart[around] = ((begins + ends) // 2 // _MINUTE * _MINUTE + np.arange(rows) * _MINUTE)[around]
    number[no_number] = np.nan
    copy = np.flatnonzero(repeated[1:] & (of_stay[1:] == of_stay[:-1]) & ~repeated[:-1]) + 1
    for column in (chart, pick, number):
        column[copy] = column[copy - 1]
    stored = chart + rng.integers(20, 300, rows) * _MINUTE
    subject = stays.subject[of_stay]
    # Most of a hospital's patients are never in its ICU.
    subject[elsewhere] += 40_000_000
    nothing = pa.nulls(rows, pa.string())
    return pa.table(
        {
            "labevent_id": np.arange(first_id, first_id + rows),
            "subject_id": subject,
            "hadm_id": pa.array(stays.hadm[of_stay], mask=rng.random(rows) < 0.19),
            "specimen_id": rng.integers(1, 99_999_999, rows),
            "itemid": _ITEM_IDS[pick],
            "order_provider_id": nothing,
            "charttime": pa.array(chart.view("datetime64[s]"), mask=no_time),
            "storetime": pa.array(stored.view("datetime64[s]"), mask=no_storetime),
            "value": _values(number, rng),
            "valuenum": pa.array(number, from_pandas=True),
            "valueuom": _units(pick, rng),
            "ref_range_lower": pa.nulls(rows, pa.float64()),
            "ref_range_upper": pa.nulls(rows, pa.float64()),
            "flag": nothing,
            "priority": pa.array(np.array(["ROUTINE", "STAT"], object)[rng.integers(0, 2, rows)]),
            "comments": nothing,
        }
    )


def _troubles(rows: int, rng: np.random.Generator, *, is_first: bool) -> tuple[Callable[[float], _Flags], list[int]]:
    """A function that picks random rows at a rate, and the list of rows that it was forced to pick: one for each call
    if these are the table's first rows."""
    slots = iter(range(3, rows, 5)) if is_first else iter(())
    forced: list[int] = []

    def some(rate: float) -> _Flags:
        flags = rng.random(rows) < rate
        if (slot := next(slots, None)) is not None:
            flags[slot] = True
            forced.append(slot)
        return flags

    return some, forced


def _choose(first: int, items: list[_Item], rows: int, rng: np.random.Generator) -> _Ints:
    shares = np.array([item[1] for item in items], dtype=np.float64)
    chosen: _Ints = first + np.searchsorted(np.cumsum(shares / shares.sum())[:-1], rng.random(rows), side="right")
    return chosen


def _numbers(pick: _Ints, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    scale = _SCALE[pick]
    numbers = np.abs(np.rint(rng.normal(_MEAN[pick], _SPREAD[pick]) * scale)) / scale
    capped: npt.NDArray[np.float64] = np.minimum(numbers, _HIGHEST[pick])
    return capped


def _units(pick: _Ints, rng: np.random.Generator) -> pa.Array:
    choice = _UNIT_CHOICES[pick, rng.integers(0, 12, len(pick))].astype(np.int32)
    return pa.DictionaryArray.from_arrays(choice, pa.array(_UNIT_TEXTS)).dictionary_decode()


def _values(number: npt.NDArray[np.float64], rng: np.random.Generator) -> pa.Array:
    """The numbers as text. Without a number, there is a text measurement, and a few of these are missing."""
    texts = pa.DictionaryArray.from_arrays(rng.integers(0, len(_TEXTS), len(number)).astype(np.int32), pa.array(_TEXTS))
    texts = pc.if_else(pa.array(rng.random(len(number)) < 0.06), None, texts.dictionary_decode())
    return pc.if_else(pa.array(np.isnan(number)), texts, pa.array(number).cast(pa.string()))
