"""Histograms with fixed bins for each variable. Their counts can be made for each shard and then added.

A bar of a plot is a whole number of bins. Its width is a round number (1, 2 or 5 times a power of ten), and it begins
halfway between two numbers that may be charted. Otherwise some bars would contain more charted numbers than their
neighbours, and the plot would show teeth that are not in the data.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from flows.icu.catalogue import Variable
from flows.icu.counts import Counts
from flows.icu.disclosure import SMALL, hidden_cells

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
_BARS = 50
_BINS_PER_BAR = 5
# The number of bins below and above the shown range. Each of these two groups is one bar.
_OUTER_BINS = 40
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """The bins of a variable, from its lowest to its highest plausible value.

    Attributes:
        edges: The bins' edges, ascending.
        bar: For each bin, the number of its bar. Bar 0 is below the shown range, and the last bar is above it.
        bar_edges: The edges of the bars within the shown range.
    """

    edges: _Floats
    bar: _Ints
    bar_edges: _Floats

    def find(self, values: _Floats) -> _Ints:
        """The bin of each value. Values outside of the range count in the first or last bin."""
        place = np.searchsorted(self.edges, values, side="right") - 1
        return np.clip(place, 0, len(self.edges) - 2).astype(np.int64)


@lru_cache(maxsize=256)
def _grid(low: float, high: float, shown: tuple[float, float]) -> Grid:
    power = 10.0 ** math.floor(math.log10((shown[1] - shown[0]) / _BARS))
    step = next(power * factor for factor in (1, 2, 5, 10) if (shown[1] - shown[0]) / (power * factor) <= _BARS + 1e-9)
    # The unit of the step's last digit: 1 for a step of 2 or 5, 0.1 for a step of 0.2.
    digit = 10.0 ** math.floor(math.log10(step) + 1e-9)
    begin = math.floor(shown[0] / digit + 1e-9) * digit - digit / 2
    bars = max(math.ceil((shown[1] - begin) / step - 1e-9), 1)
    bar_edges = np.round(begin + step * np.arange(bars + 1), 12)
    inner = np.round(begin + step / _BINS_PER_BAR * np.arange(bars * _BINS_PER_BAR + 1), 12)
    end = float(bar_edges[-1])
    below = np.linspace(low, begin, _OUTER_BINS + 1)[:-1] if low < begin else np.empty(0)
    # Above the shown range, bins grow wider: few values are spread over a wide range.
    above = np.geomspace(end, high, _OUTER_BINS + 1)[1:] if high > end > 0 else np.linspace(end, max(high, end), 2)[1:]
    above = above[above > end]
    bar = [0] * len(below) + [1 + index // _BINS_PER_BAR for index in range(len(inner) - 1)] + [bars + 1] * len(above)
    return Grid(np.concatenate([below, inner, above]), np.array(bar, dtype=np.int64), bar_edges)


def grid_of(variable: Variable) -> Grid:
    """The bins of a variable."""
    return _grid(variable.low, variable.high, variable.shown or (variable.low, variable.high))


def count_bins(values: _Floats, subject: npt.NDArray[np.intp], variable: Variable) -> Counts:
    """Count values by bin.

    Args:
        values: The values in the variable's unit. Null values are not counted.
        subject: A number for the subject of each value.
        variable: The variable, which has the bins.

    Returns:
        For each bin, the number of `windows` and of the subjects whose `lowest` and `highest` value is in it. For each
        bar, the number of `subjects`.
    """
    grid, there = grid_of(variable), ~np.isnan(values)
    bins, subject = grid.find(values[there]), subject[there]
    low, high = extremes(bins, subject)
    # Whether a subject has a value in a bar. To sort the values by subject would take several times as long.
    seen = np.zeros((len(low), len(grid.bar_edges) + 1), bool)
    seen[subject, grid.bar[bins]] = True
    number, someone = len(grid.edges) - 1, high >= 0
    return {
        "windows": np.bincount(bins, minlength=number).tolist(),
        "lowest": np.bincount(low[someone], minlength=number).tolist(),
        "highest": np.bincount(high[someone], minlength=number).tolist(),
        "subjects": seen.sum(axis=0).tolist(),
    }


def extremes(bins: _Ints, group: npt.NDArray[np.intp]) -> tuple[_Ints, _Ints]:
    """The lowest and the highest bin of each group. The highest is -1 in a group without values."""
    groups = int(group.max(initial=-1)) + 1
    low, high = np.full(groups, np.iinfo(np.int64).max), np.full(groups, -1, np.int64)
    np.minimum.at(low, group, bins)
    np.maximum.at(high, group, bins)
    return low, high


def quantiles(bins: Counts, edges: _Floats) -> dict[str, float | None]:
    """The quantiles of a histogram, interpolated within a bin. None for a quantile based on fewer than ten patients."""
    windows = np.array(bins["windows"])
    upto = np.cumsum(windows)
    # For each bin, the subjects with a value in it or in a lower bin, and in it or in a higher bin.
    below = np.cumsum(bins["lowest"])
    above = np.cumsum(bins["highest"][::-1])[::-1]
    found: dict[str, float | None] = {}
    for name, quantile in QUANTILES.items():
        place = quantile * upto[-1]
        index = int(np.searchsorted(upto, place))
        # With fewer than ten patients below or above, the quantile could reveal the value of one of them.
        if upto[-1] == 0 or below[index] < SMALL or above[index] < SMALL:
            found[name] = None
            continue
        within = (place - (upto[index] - windows[index])) / windows[index]
        found[name] = round(float(edges[index] + within * (edges[index + 1] - edges[index])), 6)
    return found


def variable_quantiles(bins: Counts, variable: Variable) -> dict[str, float | None]:
    """The quantiles of the counts of `count_bins`, limited to the plausible range."""
    found = quantiles(bins, grid_of(variable).edges)
    # The first and the last bin may reach beyond the range.
    return {k: None if q is None else min(max(q, variable.low), variable.high) for k, q in found.items()}


def resolution(found: dict[str, float | None], variable: Variable) -> float:
    """The width of the widest bin that contains one of these quantiles. No quantile has a larger error."""
    edges = grid_of(variable).edges
    known = np.array([quantile for quantile in found.values() if quantile is not None])
    index = grid_of(variable).find(known if len(known) else edges[:1])
    return round(float(np.max(edges[index + 1] - edges[index])), 6)


def distribution(bins: Counts, variable: Variable) -> dict[str, Any]:
    """The bars of a plot. None stands for bars based on too few patients.

    Returns:
        The bars' `edges`, the number of `windows` in each bar, and the numbers `below` and `above` the bars.
    """
    grid = grid_of(variable)
    windows = np.bincount(grid.bar, weights=bins["windows"], minlength=len(grid.bar_edges) + 1).astype(np.int64)
    hidden = hidden_cells(bins["subjects"])
    below, *shown, above = (None if hide else int(n) for n, hide in zip(windows, hidden, strict=True))
    edges = [round(float(edge), 6) for edge in grid.bar_edges]
    return {"edges": edges, "windows": shown, "below": below, "above": above}
