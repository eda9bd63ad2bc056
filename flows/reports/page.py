"""The parts of every report: the page, numbers as text, and tables.

A page loads nothing from the network: it contains its styles and plots.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flows.icu.wording import labels

_NOT_SHOWN = "\u2013"
_CSS = {"good": "good", "look at this": "look", "do not use": "bad", "": ""}


@dataclass(frozen=True)
class Heat:
    """A table cell with a share in percent, coloured by the share."""

    share: float | None


@dataclass(frozen=True)
class Words:
    """A table cell with text, which may have several lines."""

    text: str


def render_page(template: str, **values: Any) -> str:
    """The HTML of a template of this folder. Texts are escaped, and a missing value raises."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The rows of a table are variables, dates or splits; only a variable has another name for readers.
    known = labels(values["document"]["variables"])
    environment.filters.update(
        count=count,
        label=lambda name: known.get(name, name),
        css=_CSS.get,
        cell=_cell,
        hours=_hours,
        unbroken=_unbroken,
    )
    return environment.get_template(template).render(**values).lstrip()


def svg(plot: str) -> Markup:
    """A plot as markup, which is not escaped."""
    return Markup(plot)  # noqa: S704


def levels_of(verdict: dict[str, Any], *kinds: str) -> dict[str, str]:
    """The worst level of each variable or table in a verdict's findings: in all of them, or in those of these kinds."""
    levels: dict[str, str] = {}
    for finding in verdict["findings"]:
        if kinds and finding["kind"] not in kinds:
            continue
        for name in finding["about"]:
            # The findings are sorted, the worst first.
            levels.setdefault(name, finding["level"])
    return levels


def count(number: int | None) -> str:
    """A count as text. A count may be hidden to protect another count, so "hidden" does not mean small."""
    return "hidden" if number is None else f"{number:,}"


def number(number: float | None) -> str:
    """A measured number as text, with four digits, which is more than the bins resolve. Thousands show all digits."""
    if number is None:
        return _NOT_SHOWN
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def percent(share: float | None) -> str:
    """A share as text, in percent."""
    return _NOT_SHOWN if share is None else f"{share:.1%}"


def points(change: float | None) -> str:
    """A change of a share as text, in percentage points."""
    return _NOT_SHOWN if change is None else f"{100 * change:+.1f}"


def index(index: float | None) -> str:
    """A stability index as text."""
    return _NOT_SHOWN if index is None else f"{index:.3f}"


def _cell(cell: Any) -> Markup:
    if isinstance(cell, Heat):
        if cell.share is None:
            return Markup("<td>{}</td>").format(_NOT_SHOWN)
        style = f"--share: {100 * cell.share:.0f}%"
        return Markup('<td class="heat" style="{}">{}</td>').format(style, f"{100 * cell.share:.0f}%")
    if isinstance(cell, Words):
        return Markup('<td class="text">{}</td>').format(cell.text)
    return Markup("<td>{}</td>").format(cell)


def _unbroken(text: str) -> Markup:
    """The text as HTML in which no date is broken across lines."""
    return Markup(re.sub(r"\d{4}-\d\d-\d\d", r'<span class="date">\g<0></span>', str(escape(text))))  # noqa: S704


def _hours(hours: list[int]) -> list[str]:
    return [f"{hour} h" for hour in hours]
