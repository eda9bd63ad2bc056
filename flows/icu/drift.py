"""Drift: the difference between the features of two dates, for each variable, as one document.

The measure is the population stability index (PSI) over tenths of the reference. A PSI up to 0.1 means no relevant
change; above 0.25 the population has changed. It needs only counts (`quality.count_features`), so shards are counted
separately and added.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from flows.icu.bins import distribution, variable_quantiles
from flows.icu.catalogue import Catalogue
from flows.icu.counts import Counts
from flows.icu.description import suppressed_values
from flows.icu.disclosure import share, suppress
from flows.icu.verdict import drift_verdict

_GROUPS = 10
_COMPARED = ("reference", "date")


def drift_document(
    reference: Counts, date: Counts, catalogue: Catalogue, *, max_psi: float | None, max_missing_change: float | None
) -> dict[str, Any]:
    """The comparison of two dates.

    Args:
        reference: The sum of the counts of `count_features` for the reference. At least the means are distributed.
        date: The sum of the counts of `count_features` for the date.
        catalogue: The catalogue of both dates.
        max_psi: A variable with a higher PSI exceeds the limit. None means no limit.
        max_missing_change: A variable whose missing rate changes by more, up or down, exceeds the limit. None means no
            limit.

    Returns:
        The `verdict` (`verdict.drift_verdict`), `windows` and, for each variable, the windows with `values`, `psi`,
        `missing_rate`, `missing_change`, the `quantiles` and `distribution` of the window means of both dates, and the
        limits that it `exceeds`. None stands for numbers based on fewer than ten patients.
    """
    both = dict(zip(_COMPARED, (reference, date), strict=True))
    windows = {name: sum(split["windows"] for split in counts["splits"].values()) for name, counts in both.items()}
    variables = {}
    for variable in catalogue.variables:
        counted = {name: counts["features"][variable.name] for name, counts in both.items()}
        bins = {name: counts["bins"]["mean"] for name, counts in counted.items()}
        # Each subject has exactly one lowest value, so the sum is the number of subjects.
        few = any(sum(found["lowest"]) == 0 or suppress(sum(found["lowest"])) is None for found in bins.values())
        index = None if few else psi(*(np.array(bins[name]["windows"]) for name in _COMPARED))
        rates = {name: share(counted[name]["missing"], windows[name]) for name in _COMPARED}
        known = rates["date"] is not None and rates["reference"] is not None
        change = rates["date"] - rates["reference"] if known else None  # type: ignore[operator]
        above = {"psi": _is_above(index, max_psi), "missing_change": _is_above(change, max_missing_change)}
        variables[variable.name] = {
            **({"label": variable.label} if variable.label else {}),
            "unit": variable.unit,
            "values": {name: suppressed_values(found) for name, found in bins.items()},
            "psi": index,
            "missing_rate": rates,
            "missing_change": change,
            "exceeds": [limit for limit, is_above in above.items() if is_above],
            "quantiles": {name: variable_quantiles(found, variable) for name, found in bins.items()},
            "distribution": {name: distribution(found, variable) for name, found in bins.items()},
        }
    limits = {"psi": max_psi, "missing_change": max_missing_change}
    told = {name: suppress(number) for name, number in windows.items()}
    document = {"windows": told, "limits": limits, "variables": variables}
    return {"verdict": drift_verdict(document, catalogue.limits), **document}


def psi(reference: npt.NDArray[np.int64], date: npt.NDArray[np.int64]) -> float:
    """The population stability index of two histograms over the same bins, by tenths of the reference.

    Half a count is added to every tenth, since an empty tenth would make the index infinite.
    """
    upto = np.cumsum(reference)
    # A bin belongs to the tenth that contains its middle count. A bin larger than a tenth is a group of its own.
    tenth = np.minimum((upto - reference / 2) * _GROUPS // upto[-1], _GROUPS - 1).astype(np.int64)
    there = np.unique(tenth)
    shares = []
    for counts in (reference, date):
        smoothed = np.bincount(tenth, weights=counts, minlength=_GROUPS)[there] + 0.5
        shares.append(smoothed / smoothed.sum())
    expected, found = shares
    return float(((found - expected) * np.log(found / expected)).sum())


def _is_above(number: float | None, limit: float | None) -> bool:
    return number is not None and limit is not None and abs(number) > limit
