"""Drift: how far the features of one date are from those of another, per variable, as one document.

The population stability index (PSI) over tenths of the reference: up to 0.1 means no relevant change, above 0.25 the
population has changed. It is made of counts alone (`quality.count_features`), so shards are counted apart and added.
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
    """Compare two dates.

    Args:
        reference: The sum of what `count_features` counted of the reference; at least the means are distributed.
        date: Likewise of the date.
        catalogue: What both were made with.
        max_psi: A variable whose index is above it has drifted; None, no index is too high.
        max_missing_change: Likewise the change of its missing rate, either way.

    Returns:
        The `verdict` (`verdict.drift_verdict`), `windows` and, per variable, the windows with `values`, `psi`,
        `missing_rate`, `missing_change`, the `quantiles` and `distribution` of the window means of both, and which
        limits it `exceeds`. None stands for what fewer than ten people are behind.
    """
    both = dict(zip(_COMPARED, (reference, date), strict=True))
    windows = {name: sum(split["windows"] for split in counts["splits"].values()) for name, counts in both.items()}
    variables = {}
    for variable in catalogue.variables:
        counted = {name: counts["features"][variable.name] for name, counts in both.items()}
        bins = {name: counts["bins"]["mean"] for name, counts in counted.items()}
        # Each subject has one lowest value.
        few = any(sum(found["lowest"]) == 0 or suppress(sum(found["lowest"])) is None for found in bins.values())
        index = None if few else psi(*(np.array(bins[name]["windows"]) for name in _COMPARED))
        rates = {name: share(counted[name]["missing"], windows[name]) for name in _COMPARED}
        known = rates["date"] is not None and rates["reference"] is not None
        change = rates["date"] - rates["reference"] if known else None  # type: ignore[operator]
        above = {"psi": _is_above(index, max_psi), "missing_change": _is_above(change, max_missing_change)}
        variables[variable.name] = {
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

    Half a count is added to every tenth, or an empty one would make it infinite.
    """
    upto = np.cumsum(reference)
    # A bin belongs to the tenth that its middle count is in; a bin larger than a tenth is one of its own.
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
