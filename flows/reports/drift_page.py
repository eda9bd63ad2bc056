"""The drift page: the drift document as one file of HTML, with plots."""

from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from flows.reports.quality_page import render_page
from flows.reports.quality_plots import BLUE, GRID, PALE, RED, bars, label, small_multiples, svg

# What is usually said of an index above these.
_SOME, _MUCH = 0.1, 0.25


def drift_page(document: dict[str, Any], date: str, reference: str) -> str:
    """Render a drift document.

    Args:
        document: As `drift.drift_document` returns it.
        date: What was compared …
        reference: … and with what.
    """
    return render_page(
        "drift_page.html.j2",
        title=f"ICU features of {date}: drift from {reference}",
        document=document,
        date=date,
        reference=reference,
        psi_plot=Markup(_psi_plot(document)),  # noqa: S704
        missing_plot=Markup(_missing_plot(document["variables"])),  # noqa: S704
        distribution_plot=Markup(_distribution_plot(document["variables"])),  # noqa: S704
    )


def _psi_plot(document: dict[str, Any]) -> str:
    variables, limit = document["variables"], document["limits"]["psi"]
    figure, axes = bars([label(name) for name in variables])
    numbers = [variable["psi"] for variable in variables.values()]
    colors = [RED if "psi" in variable["exceeds"] else BLUE for variable in variables.values()]
    axes.barh(range(len(numbers)), [number or 0 for number in numbers], color=colors, height=0.62)
    for row, number in enumerate(numbers):
        text = "\u2013" if number is None else f"{number:.3f}"
        axes.annotate(text, (number or 0, row), xytext=(5, 0), textcoords="offset points", va="center")
    for line in (_SOME, _MUCH, *([] if limit is None else [limit])):
        axes.axvline(line, color=RED if line == limit else GRID, linewidth=1, zorder=0.5)
    axes.set_xlim(0, 1.15 * max([_MUCH, limit or 0, *(number or 0 for number in numbers)]))
    return svg(figure, "Population stability index of each variable")


def _missing_plot(variables: dict[str, dict[str, Any]]) -> str:
    figure, axes = bars([label(name) for name in variables])
    for row, variable in enumerate(variables.values()):
        for name, color, shift in (("reference", PALE, -0.17), ("date", BLUE, 0.17)):
            axes.barh(row + shift, 100 * (variable["missing_rate"][name] or 0), color=color, height=0.34)
    axes.set_xlim(0, 100)
    axes.set_xticks(range(0, 101, 25), [f"{percent} %" for percent in range(0, 101, 25)])
    axes.xaxis.grid(True, color=GRID)
    return svg(figure, "Share of windows without a value, of both dates, by variable")


def _distribution_plot(variables: dict[str, dict[str, Any]]) -> str:
    def draw(axes: Axes, variable: dict[str, Any]) -> None:
        shown: list[int] = []
        for name, color in (("reference", PALE), ("date", BLUE)):
            edges, windows = variable["distribution"][name].values()
            total = sum(number or 0 for number in windows) or 1
            shares = [100 * (number or 0) / total for number in windows]
            axes.stairs(shares, edges, fill=name == "reference", color=color, linewidth=1.4)
            shown += [index for index, number in enumerate(windows) if number]
        if shown:
            # Most of a plausible range is empty; show where the data are.
            axes.set_xlim(edges[max(min(shown) - 2, 0)], edges[min(max(shown) + 3, len(edges) - 1)])

    return svg(small_multiples(variables, draw), "Distribution of the window means of both dates, by variable")
