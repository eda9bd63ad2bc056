"""A plot shows its own data, whatever was drawn before or at the same time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flows.reports.plots import variable_plot

HOURS = [6, 12, 18, 24]


def shown(*windows: int | None, start: float = 0.0, below: int | None = 0, above: int | None = 0) -> dict[str, Any]:
    return {
        "edges": [start + at for at in range(len(windows) + 1)],
        "windows": [*windows],
        "below": below,
        "above": above,
    }


def course(*middle: float | None) -> dict[str, Any]:
    return {
        "p25": [None if n is None else n * 0.9 for n in middle],
        "p50": [*middle],
        "p75": [None if n is None else n * 1.2 for n in middle],
    }


PLOTS: dict[str, tuple[Any, ...]] = {
    "a large course": ("Lactate", "mmol/L", shown(10, 40, 30), course(1_000, 2_000, 3_000, 2_500), HOURS),
    "a small course": ("pH", "", shown(0, 7, None, 20_000, start=7), course(7.1, None, 7.4, 7.3), [8, 16, 24, 32]),
    "below zero": ("Base excess", "mmol/L", shown(20, 5, start=-3, below=None), course(-3, -2, -2.5, -1), HOURS),
    "no course": ("Heart rate", "bpm", shown(100, 900, 20, start=60, above=12), None, HOURS),
    "a comparison": ("GCS", "", shown(5, None), None, [], shown(9, 1), (80, 70)),
    "all hidden": ("INR", "", shown(0, 3), course(None, None, None, None), HOURS),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_does_not_depend_on_the_plot_before_it(name: str) -> None:
    drawn = set()
    for other in PLOTS.values():
        variable_plot(*other)
        drawn.add(variable_plot(*PLOTS[name]))
    assert len(drawn) == 1


def test_plots_that_are_drawn_at_the_same_time_do_not_mix() -> None:
    alone = [variable_plot(*plot) for plot in PLOTS.values()]
    with ThreadPoolExecutor(4) as pool:
        together = [*pool.map(lambda plot: variable_plot(*plot), [*PLOTS.values()] * 2)]
    assert together == alone * 2
