"""The quality page's plots: inline SVG that needs nothing from outside."""

import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK, _MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"
BLUE, PALE, RED = "#1f6f9f", "#a9cce3", "#b4552d"


def dropped_plot(dropped: dict[str, int | None], labels: dict[str, str]) -> str:
    """Draw rows dropped by reason as bars; a suppressed number as the text "hidden".

    Args:
        dropped: Reason to rows.
        labels: Reason to what a reader is told.
    """
    figure, axes = _figure(10.4, 0.4 * len(dropped) + 0.5)
    numbers = list(dropped.values())
    axes.barh(range(len(dropped)), [number or 0 for number in numbers], color=RED, height=0.62)
    for row, number in enumerate(numbers):
        text = "hidden" if number is None else f"{number:,}"
        axes.annotate(text, (number or 0, row), xytext=(5, 0), textcoords="offset points", va="center", color=_INK)
    axes.set_yticks(range(len(dropped)), [labels[reason] for reason in dropped])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max((number or 0 for number in numbers), default=0) or 1)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return svg(figure, "Rows dropped, by reason")


def missing_plot(variables: dict[str, dict[str, Any]]) -> str:
    """Draw, per variable, the share of windows without a value of their own and the share without any to fill in."""
    figure, axes = _figure(10.4, 0.46 * len(variables) + 0.9)
    for row, variable in enumerate(variables.values()):
        for key, color, height in (("missing_rate", PALE, 0.66), ("unfilled_rate", BLUE, 0.3)):
            rate = variable[key]
            axes.barh(row, 100 * (rate or 0), color=color, height=height)
        rates = [variable["missing_rate"], variable["unfilled_rate"]]
        text = " / ".join("\u2013" if rate is None else f"{rate:.1%}" for rate in rates)
        axes.annotate(
            text, (100 * max(rate or 0 for rate in rates), row), xytext=(5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(variables)), [label(name) for name in variables])
    axes.invert_yaxis()
    axes.set_xlim(0, 118)
    axes.set_xticks(range(0, 101, 25), [f"{percent} %" for percent in range(0, 101, 25)])
    axes.xaxis.grid(True, color=GRID)
    return svg(figure, "Share of windows without a value, by variable")


def distribution_plot(variables: dict[str, dict[str, Any]]) -> str:
    """Draw the distribution of each variable's window means; suppressed bars are left out."""
    return svg(
        small_multiples(variables, lambda axes, variable: _histogram(axes, variable["distribution_of_mean"])),
        "Distribution of the window means of each variable",
    )


def small_multiples(variables: dict[str, dict[str, Any]], draw: Callable[[Axes, dict[str, Any]], None]) -> Figure:
    """One small plot a variable, four in a row."""
    columns = min(4, len(variables))
    rows = -(-len(variables) // columns)
    figure = Figure(figsize=(10.4, 2.35 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(variables) :]:
        axes.set_visible(False)
    for axes, (name, variable) in zip(grid.flat, variables.items(), strict=False):
        _style(axes)
        draw(axes, variable)
        axes.set_title(label(name), fontsize=10.5, color=_INK, loc="left", fontweight="bold")
        axes.set_xlabel(variable["unit"], fontsize=9, color=_MUTED)
    return figure


def bars(labels: list[str]) -> tuple[Figure, Axes]:
    """An empty plot of horizontal bars, the first on top."""
    figure, axes = _figure(10.4, 0.46 * len(labels) + 0.9)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    return figure, axes


_NAMES = {"spo2": "SpO₂", "ph": "pH", "pco2": "pCO₂", "po2": "pO₂"}


def label(variable: str) -> str:
    """Make a reader's name of a variable's: abbreviations in capitals, the others as words."""
    if variable in _NAMES:
        return _NAMES[variable]
    return variable.upper() if len(variable) <= 3 else variable.replace("_", " ").capitalize()


def _histogram(axes: Axes, distribution: dict[str, Any]) -> None:
    edges, windows = distribution["edges"], distribution["windows"]
    shown = [index for index, number in enumerate(windows) if number]
    if not shown:
        axes.text(0.5, 0.5, "too few people\nto show", transform=axes.transAxes, ha="center", va="center", color=_MUTED)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    axes.stairs([windows[index] or 0 for index in range(len(windows))], edges, fill=True, color=BLUE)
    # Most of a plausible range is empty; show where the data are.
    axes.set_xlim(edges[max(shown[0] - 2, 0)], edges[min(shown[-1] + 3, len(edges) - 1)])
    axes.yaxis.grid(True, color=GRID)
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="x", nbins=5)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    # Figure itself and not pyplot, which keeps a global list of figures and is not safe in threads.
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _style(axes)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(length=0, labelsize=9, colors=_INK)


def svg(figure: Figure, title: str) -> str:
    """The figure as SVG, with a title for screen readers."""
    buffer = io.StringIO()
    # Text stays text, which a screen reader finds; a fixed salt makes the same data the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    # Without the XML head and the metadata, which name addresses outside of the page.
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
