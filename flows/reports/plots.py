"""The reports' plots: inline SVG by matplotlib, without scripts and external files.

Each plot is 360 units wide, with letters of 11 units. A phone shows it almost at that size, so the letters stay
legible. A wide screen shows several plots side by side. Colours are variables of the page's style sheet, so that plots
follow dark mode and print.
"""

import io
import re
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

WIDTH = 360
_LETTERS = 11
# The largest width of a letter in matplotlib's default font, in units.
_LETTER_WIDTH, _CAPITAL_WIDTH = 6.3, 8.2
# The colours that matplotlib draws. `_svg` replaces them by variables of the style sheet.
_INK, _MUTED, _LINE = "#010101", "#020202", "#030303"
_VALUE, _SECOND, _LOOK, _BAD, _HIDDEN = "#040404", "#050505", "#060606", "#070707", "#080808"
_VARIABLES = {
    _INK: "ink", _MUTED: "muted", _LINE: "line", _VALUE: "value", _SECOND: "second",
    _LOOK: "look", _BAD: "bad", _HIDDEN: "hidden",
}  # fmt: skip
_BY_LEVEL = {"look at this": _LOOK, "do not use": _BAD}
# The length of a hidden number's bar, as a share of the longest. It is constant, so that it reveals nothing.
_HIDDEN_LENGTH = 0.05
# Two runs in one process must not draw on a reused figure at the same time.
_DRAWING = threading.Lock()
_Places = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Bar:
    """One bar of a bar plot.

    Attributes:
        label: The text before the bar.
        number: The bar's length. None if the number is hidden.
        text: The text at the bar's end.
        level: The verdict's level.
        inner: The length of a second, narrower bar inside.
    """

    label: str
    number: float | None
    text: str
    level: str = ""
    inner: float | None = None


def bar_plot(bars: Sequence[Bar], title: str, *, top: float | None = None, lines: Sequence[float] = ()) -> str:
    """The SVG of horizontal bars, the first at the top. A hidden number is a short hatched bar with the word "hidden".

    Args:
        bars: The bars.
        title: A description of the plot for screen readers.
        top: The length of a full bar. If None, the length of the longest bar.
        lines: The positions of lines for limits.
    """
    labels = [textwrap.fill(bar.label, 26) for bar in bars]
    height = (27 if any("\n" in text for text in labels) else 19) * len(bars) + 8
    left = max((_width(line) for text in labels for line in text.split("\n")), default=0) + 8
    right = max((len(bar.text) for bar in bars), default=0) * _LETTER_WIDTH + 8
    figure = _figure(height)
    axes = _axes(figure, left, 4, WIDTH - left - right, height - 8, height)
    longest = top or max([bar.number or 0 for bar in bars] + list(lines), default=0) or 1
    # Where the inner number is hidden, the outer bar keeps its colour: in the inner's colour it would be read as both.
    outer = _SECOND if any(bar.inner is not None for bar in bars) else ""
    for row, bar in enumerate(bars):
        color = _BY_LEVEL.get(bar.level, _VALUE)
        if bar.number is None:
            axes.barh(row, _HIDDEN_LENGTH * longest, height=0.66, **_hatched())
        else:
            axes.barh(row, bar.number, height=0.66, color=outer or color)
        if bar.inner is not None:
            axes.barh(row, bar.inner, height=0.3, color=color)
        end = max(_HIDDEN_LENGTH * longest if bar.number is None else bar.number, bar.inner or 0)
        axes.annotate(
            bar.text, (end, row), xytext=(4, 0), textcoords="offset points", va="center",
            color=color if bar.level else _INK, annotation_clip=False,
        )  # fmt: skip
    for line in lines:
        axes.axvline(line, color=_MUTED, linewidth=1, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(bars)), labels)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, longest)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return _svg(figure, f"{title}. " + "; ".join(f"{bar.label}: {bar.text}" for bar in bars), height)


def variable_plot(
    title: str,
    unit: str,
    distribution: dict[str, Any],
    course: dict[str, Any] | None,
    hours: Sequence[int],
    other: dict[str, Any] | None = None,
    totals: tuple[int | None, int | None] = (None, None),
) -> str:
    """The SVG of one variable: its distribution, and its quartiles over the time since admission.

    Args:
        title: A description of the plot for screen readers.
        unit: The variable's unit.
        distribution: The result of `bins.distribution`. Hidden bars are hatched.
        course: The quartiles `p25`, `p50` and `p75` of each window. If None, this part is not drawn.
        hours: The windows' ends, in hours.
        other: A distribution to compare with, drawn as an outline. Both are then in percent of their windows.
        totals: With `other`, the windows of both distributions, those behind hidden bars included. Shares of the shown
            windows alone would make a single shown bar 100 %.
    """
    height, low, high = 150, 36, 12
    wide = course is None or not any(number is not None for number in course["p50"])
    places = ((46, WIDTH - 56),) if wide else ((46, 158), (254, 98))
    with _empty_figure(places, low, height - low - high, height) as figure:
        _histogram(figure.axes[0], unit, distribution, other, totals)
        if not wide and course is not None:
            _quartiles(figure.axes[1], course, hours)
        return _svg(figure, title, height)


def line_plot(labels: Sequence[str], numbers: Sequence[float | None], title: str, unit: str) -> str:
    """The SVG of a line with one number per label. Hidden numbers are gaps."""
    height = 150
    figure = _figure(height)
    axes = _axes(figure, 50, 36, WIDTH - 66, height - 50, height)
    drawn = [float("nan") if n is None else n for n in numbers]
    # Without `clip_on`, the axes would cut the highest marker in half.
    axes.plot(range(len(labels)), drawn, color=_VALUE, marker="o", markersize=4, clip_on=False)
    shown = sorted({0, len(labels) // 2, len(labels) - 1})
    axes.set_xticks(shown, [labels[index] for index in shown])
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit, color=_MUTED)
    _grid(axes)
    return _svg(figure, title, height)


def _histogram(
    axes: Axes,
    unit: str,
    distribution: dict[str, Any],
    other: dict[str, Any] | None,
    totals: tuple[int | None, int | None],
) -> None:
    edges = distribution["edges"]
    step = edges[1] - edges[0]
    counts = [distribution["below"], *distribution["windows"], distribution["above"]]
    compared = [other["below"], *other["windows"], other["above"]] if other else []
    shares = _shares(counts, totals[0]) if other else counts
    outline = _shares(compared, totals[1])
    top = max([n or 0 for n in [*shares, *outline]]) or 1
    lefts = [edges[0] - step, *edges[:-1], edges[-1]]
    there = [index for index, n in enumerate(counts) if n != 0] + [index for index, n in enumerate(outline) if n != 0]
    axes.stairs([n or float("nan") for n in shares], [*lefts, lefts[-1] + step], fill=True, color=_VALUE)
    # Where only the other number is hidden, the hatch would lie on this one's bar; the outline has a gap there.
    gone = [
        left
        for at, left in enumerate(lefts)
        if counts[at] is None or (other and not counts[at] and compared[at] is None)
    ]
    axes.bar(gone, [0.06 * top] * len(gone), width=step, align="edge", **_hatched())
    if other:
        axes.stairs(
            [float("nan") if n is None else n for n in outline], [*lefts, lefts[-1] + step], color=_INK, linewidth=1.2
        )
    # Most of the range is often empty, so show only the part with data.
    first, last = max(min(there) - 1, 0), min(max(there) + 1, len(lefts) - 1)
    axes.set_xlim(lefts[first], lefts[last] + step)
    axes.set_ylim(0, 1.04 * top)
    axes.set_xlabel(unit, color=_MUTED, labelpad=2)
    axes.set_ylabel("% of windows" if other else "windows", color=_MUTED, labelpad=3)
    axes.yaxis.set_major_formatter(FuncFormatter(_thousands))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    _grid(axes)


def _quartiles(axes: Axes, course: dict[str, Any], hours: Sequence[int]) -> None:
    low, middle, high = (
        [float("nan") if number is None else number for number in course[name]] for name in ("p25", "p50", "p75")
    )
    axes.fill_between(hours, low, high, color=_SECOND, linewidth=0, clip_on=False)
    axes.plot(hours, middle, color=_VALUE, linewidth=1.6, clip_on=False)
    axes.set_xlim(0, max(hours))
    axes.set_xticks([0, max(hours) // 2, max(hours)])
    axes.set_xlabel("hours", color=_MUTED, labelpad=2)
    _grid(axes)


def _shares(counts: Sequence[int | None], total: int | None) -> list[float | None]:
    """The counts in percent of the total, or of what is shown if the total is hidden."""
    whole = total or sum(n or 0 for n in counts) or 1
    return [None if n is None else 100 * n / whole for n in counts]


def _thousands(number: float, _place: int) -> str:
    return f"{number / 1000:g}k" if abs(number) >= 10_000 else f"{number:g}"


def _hatched() -> dict[str, Any]:
    return {"facecolor": "none", "edgecolor": _HIDDEN, "hatch": "//////", "linewidth": 0.8}


def _grid(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.grid(True, color=_LINE, linewidth=0.8)


def _width(text: str) -> float:
    return sum(_CAPITAL_WIDTH if letter.isupper() else _LETTER_WIDTH for letter in text)


def _figure(height: float) -> Figure:
    # Figure instead of pyplot, which keeps a global list of figures and is not thread-safe.
    return Figure(figsize=(WIDTH / 72, height / 72))


def _axes(figure: Figure, left: float, bottom: float, width: float, tall: float, height: float) -> Axes:
    axes = figure.add_axes((left / WIDTH, bottom / height, width / WIDTH, tall / height))
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    axes.tick_params(bottom=False, left=False, labelsize=_LETTERS, colors=_INK, pad=3)
    axes.patch.set_visible(False)
    return axes


@contextmanager
def _empty_figure(places: _Places, bottom: float, tall: float, height: float) -> Iterator[Figure]:
    """A figure with empty axes, for one plot at a time.

    A report has a plot like this for each variable. Making new axes, with their ticks, would take half of its time.

    Args:
        places: The left end and the width of each of the axes.
        bottom: The lower end of all axes.
        tall: The height of all axes.
        height: The figure's height.
    """
    with _DRAWING:
        figure = _reused_figure(places, bottom, tall, height)
        for axes in figure.axes:
            for artist in [*axes.lines, *axes.patches, *axes.collections, *axes.texts]:
                artist.remove()
            # Older versions of matplotlib would else keep the limits of what the last plot showed.
            axes.relim()
        yield figure


@lru_cache(maxsize=4)
def _reused_figure(places: _Places, bottom: float, tall: float, height: float) -> Figure:
    figure = _figure(height)
    for left, width in places:
        _axes(figure, left, bottom, width, tall, height)
    return figure


def _svg(figure: Figure, title: str, height: float) -> str:
    """The figure as SVG, with a text for screen readers."""
    for axes in figure.axes:
        for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts):
            text.set_fontsize(_LETTERS)
    buffer = io.StringIO()
    # Text stays text, so that screen readers find it. With a fixed salt, the same data give the same bytes.
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": title, "font.family": "sans-serif", "hatch.linewidth": 0.7}
    figure.patch.set_visible(False)
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    # Remove the XML head and the metadata, which contain external addresses, and what only an editor needs.
    svg = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<style .*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )
    # The page defines the hatch once. Otherwise each plot would contain a long definition.
    svg = re.sub(r"<pattern .*?</pattern>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"url\(#h\w+\)", "url(#hatch)", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    # One decimal is enough for coordinates. Only tags are changed, so the text of labels stays.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub(r"<g>\s*(<(?:text|path|use)[^<]*(?:</text>|/>))\s*</g>", r"\1", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    svg = re.sub(r"font-size: \d+px; font-family: [^;]*; ", "", svg)
    svg = re.sub(r"font: [^;]*; ", "", svg)
    svg = re.sub(r"<defs>\s*</defs>", "", svg)
    title = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    head = f'<svg class="plot" role="img" aria-label="{title}" viewBox="0 0 {WIDTH} {height:g}"'
    return re.sub(r"<svg[^>]*", head + ' xmlns:xlink="http://www.w3.org/1999/xlink"', svg, count=1)
