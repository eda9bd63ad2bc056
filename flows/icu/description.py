"""What a clinician looks for first: who the patients are, and what was measured hour by hour.

The cohort is described as a whole. The course (`count_course`) is counted for each shard and then added. As everywhere,
numbers based on fewer than ten patients are hidden (`disclosure`).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flows.icu.bins import Grid, extremes, grid_of, quantiles
from flows.icu.catalogue import Catalogue, Variable
from flows.icu.counts import Counts
from flows.icu.disclosure import SMALL, hidden_cells, suppress

# Each category with its excluded upper bound, in years for ages and in hours for stays.
_AGES = {"under 18": 18, "18 to 29": 30, **{f"{age} to {age + 9}": age + 10 for age in range(30, 90, 10)}}
_STAYS = {
    "under 1 day": 24,
    "1 to 2 days": 48,
    "2 to 3 days": 72,
    "3 to 5 days": 120,
    "5 to 7 days": 168,
    "7 to 14 days": 336,
}
_NOT_KNOWN = "not known"
# The number of a stay's measurements has its own bin up to this number.
_MOST = 500
_Ints = npt.NDArray[np.int64]


def describe_cohort(stays: pd.DataFrame, outcomes: pd.DataFrame) -> dict[str, Any]:
    """The numbers of stays by age, sex and other groups.

    Args:
        stays: The cohort, with `cohort.COHORT_DTYPES`.
        outcomes: The outcomes, with `cohort.OUTCOME_DTYPES`, in the order of the stays.

    Returns:
        For each group (`age`, `sex`, `unit`, `admission`, `length_of_stay`, `outcome`) the number of stays of each
        category. None stands for a hidden number. Categories in the source's own words that fewer than ten patients
        have are counted together, without their names.
    """
    died, in_icu = (outcomes[name].astype("boolean") for name in ("died_in_hospital", "died_in_icu"))
    outcome = pd.Series("left the hospital alive", index=outcomes.index, dtype=object)
    outcome[died.fillna(False).to_numpy("bool")] = "died in the hospital, after the ICU"
    outcome[in_icu.fillna(False).to_numpy("bool")] = "died in the ICU"
    outcome[(died.fillna(False) & in_icu.isna()).to_numpy("bool")] = "died in the hospital"
    outcome[died.isna().to_numpy("bool")] = _NOT_KNOWN
    subject = stays["subject_id"]
    return {
        "age": _ranges(stays["age"], subject, _AGES, "90 and older"),
        "sex": _words(stays["gender"], subject),
        "unit": _words(stays["first_careunit"], subject),
        "admission": _words(stays["admission_type"], subject),
        "length_of_stay": _ranges(outcomes["los_hours"], outcomes["subject_id"], _STAYS, "14 days and more"),
        "outcome": _told(outcome, outcomes["subject_id"]),
    }


def _ranges(
    numbers: "pd.Series[float]", subject: "pd.Series[int]", bounds: dict[str, int], last: str
) -> dict[str, int | None]:
    names = np.array([*bounds, last, _NOT_KNOWN], dtype=object)
    place = np.searchsorted(list(bounds.values()), numbers.to_numpy("float64"), side="right")
    place[numbers.isna().to_numpy()] = len(names) - 1
    return _told(pd.Series(names[place], dtype=object), subject, list(names))


def _words(words: "pd.Series[str]", subject: "pd.Series[int]") -> dict[str, int | None]:
    known = words.astype(object).where(words.notna(), _NOT_KNOWN)
    people = subject.groupby(known.to_numpy()).nunique()
    rare = [word for word, number in people.items() if number < SMALL and word != _NOT_KNOWN]
    return _told(known.where(~known.isin(rare), "other"), subject)


def _told(
    categories: "pd.Series[Any]", subject: "pd.Series[int]", order: list[str] | None = None
) -> dict[str, int | None]:
    groups = subject.reset_index(drop=True).groupby(categories.to_numpy())
    stays, people = groups.size(), groups.nunique()
    names = order or list(stays.sort_values(ascending=False, kind="stable").index)
    names = [name for name in names if stays.get(name, 0)]
    hidden = hidden_cells([int(people[name]) for name in names])
    return {str(name): None if hide else int(stays[name]) for name, hide in zip(names, hidden, strict=True)}


def count_course(features: pd.DataFrame, catalogue: Catalogue) -> Counts:
    """The counts of one shard's features by window, and of the measurements of each stay.

    Returns:
        `windows` has for each window number the numbers of `windows` and `subjects` and, for each variable, the number
        of `missing` values and the `bins` of the means. `measured` has for each variable the bins of the number of
        measurements of a stay. Bins are sparse: they map a bin to the number of its values, and to the numbers of
        subjects whose lowest and whose highest value is in it.
    """
    window, stay = features["window"].to_numpy("int64"), pd.factorize(features["stay_id"])[0]
    subject = pd.factorize(features["subject_id"])[0]
    of_stay = np.zeros(stay.max(initial=-1) + 1, np.int64)
    of_stay[stay] = subject
    people = features.groupby("window")["subject_id"].nunique()
    number = np.bincount(window)
    windows: Counts = {
        str(k): {"windows": int(n), "subjects": int(people[k]), "variables": {}} for k, n in enumerate(number) if n
    }
    measured = {}
    for variable in catalogue.variables:
        values = features[f"{variable.name}_mean"].to_numpy("float64")
        missing = np.bincount(window, weights=np.isnan(values), minlength=len(number))
        bins = _bins_of_windows(values, window, subject, grid_of(variable))
        for k, found in windows.items():
            found["variables"][variable.name] = {"missing": int(missing[int(k)]), "bins": bins.get(k, {})}
        total = np.bincount(stay, weights=features[f"{variable.name}_count"].to_numpy("float64"))
        total = np.minimum(total.astype(np.int64), _MOST)
        measured[variable.name] = _sparse(total, np.zeros(len(total), np.int64), of_stay).get("0", {})
    return {"windows": windows, "measured": measured}


def _bins_of_windows(
    values: npt.NDArray[np.float64], window: _Ints, subject: npt.NDArray[np.intp], grid: Grid
) -> Counts:
    there = np.flatnonzero(~np.isnan(values))
    return _sparse(grid.find(values[there]), window[there], subject[there])


def _sparse(bins: _Ints, group: _Ints, subject: npt.NDArray[np.intp]) -> Counts:
    """For each group and bin, the number of values, and of subjects whose lowest, and whose highest, value is in it."""
    if not len(bins):
        return {}
    width, people = int(bins.max()) + 1, int(subject.max()) + 1
    key = group * width + bins
    low, high = extremes(key, group * people + subject)
    someone = high >= 0
    columns = [np.bincount(places, minlength=int(key.max()) + 1) for places in (key, low[someone], high[someone])]
    keys = np.flatnonzero(columns[0])
    counts: Counts = {}
    for at, *numbers in zip(keys.tolist(), *(column[keys].tolist() for column in columns), strict=True):
        counts.setdefault(str(at // width), {})[str(at % width)] = numbers
    return counts


def course_document(course: Counts, catalogue: Catalogue, window_hours: int) -> dict[str, Any]:
    """The course of all shards, as a part of the quality document.

    Args:
        course: The sum of the counts of `count_course`.
        catalogue: The catalogue.
        window_hours: The length of a window, in hours.

    Returns:
        `hours` has each window's end in hours after admission, and `windows` the number of windows. For each variable
        and window there are the share `missing` and the quantiles `p25`, `p50`, `p75` of the means. `measured` has
        these quantiles of the number of measurements of a stay. None stands for hidden numbers.
    """
    numbers = sorted(course.get("windows", {}), key=int)
    of_windows = [course["windows"][k] for k in numbers]
    hidden = hidden_cells([found["subjects"] for found in of_windows])
    windows = [None if hide else found["windows"] for found, hide in zip(of_windows, hidden, strict=True)]
    return {
        "hours": [(int(k) + 1) * window_hours for k in numbers],
        "windows": windows,
        "variables": {
            variable.name: _course(variable, of_windows, windows, course["measured"][variable.name])
            for variable in catalogue.variables
        }
        if numbers
        else {},
    }


def _course(
    variable: Variable, of_windows: list[Counts], windows: list[int | None], measured: Counts
) -> dict[str, Any]:
    found = [counts["variables"][variable.name] for counts in of_windows]
    missing = [counts["missing"] for counts in found]
    present = [counts["windows"] - n for counts, n in zip(of_windows, missing, strict=True)]
    # Readers know the share over all windows, so a single hidden share could be computed from the others.
    hides = [a or b for a, b in zip(hidden_cells(missing), hidden_cells(present), strict=True)]
    shares = [
        None if hide or not total else round(number / total, 4)
        for hide, number, total in zip(hides, missing, windows, strict=True)
    ]
    grid = grid_of(variable)
    course = [quantiles(_dense(counts["bins"], len(grid.edges) - 1), grid.edges) for counts in found]
    each = quantiles(_dense(measured, _MOST + 1), np.arange(_MOST + 2, dtype=np.float64))
    return {
        "missing": shares,
        **{name: [of_window[name] for of_window in course] for name in ("p25", "p50", "p75")},
        # Bin n is for exactly n measurements.
        "measured": {name: None if (n := each[name]) is None else int(n) for name in ("p25", "p50", "p75")},
    }


def _dense(sparse: Counts, number: int) -> Counts:
    dense = np.zeros((3, number), np.int64)
    for index, counts in sparse.items():
        dense[:, int(index)] = counts
    return dict(zip(("windows", "lowest", "highest"), dense, strict=True))


def delay_document(delays: list[int] | None) -> list[int | None]:
    """The numbers of values by storing delay (`events.DELAYS`). Small cells are hidden."""
    return [None if hide else n for n, hide in zip(delays or [], hidden_cells(delays or []), strict=True)]


def lost_document(lost: Counts, tables: dict[str, Any], names: list[str]) -> dict[str, dict[str, int | None]]:
    """The number of each variable's dropped rows, by reason. Small cells are hidden.

    A reason that is hidden in a table's account is hidden for all variables here, since their numbers add up to it.
    """
    reasons = dict.fromkeys(reason for of_variable in lost.values() for reason in of_variable)
    hidden_in_tables = {
        reason for table in tables.values() for reason, rows in table["dropped"].items() if rows is None
    }
    found: dict[str, dict[str, int | None]] = {name: {} for name in names}
    for reason in reasons:
        numbers = [lost.get(name, {}).get(reason, 0) for name in names]
        for name, number, hide in zip(names, numbers, hidden_cells(numbers), strict=True):
            if number:
                found[name][reason] = None if hide or reason in hidden_in_tables else number
    return found


def suppressed_values(bins: Counts) -> int | None:
    """The number of windows with a value, or None if too few patients have one."""
    people = sum(bins["lowest"])
    return None if people and suppress(people) is None else suppress(sum(bins["windows"]))
