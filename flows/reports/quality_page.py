"""The quality page: the quality document for a reader with a clinical eye, as one file of HTML.

It asks nothing of the network: styles and plots are inside.
"""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from flows.icu.events import ALL_REASONS
from flows.reports.quality_plots import distribution_plot, dropped_plot, label, missing_plot

# What a reader is told of each reason.
_EXPLAINED = dict(
    zip(
        ALL_REASONS,
        (
            "not an item of the catalogue",
            "no ICU stay given",
            "a stay that is not in the cohort",
            "a stay of another patient",
            "a patient without a stay",
            "no chart time",
            "no number",
            "known before the stay began",
            "known after the stay ended",
            "known while the patient was in no stay",
            "repeats a measurement",
        ),
        strict=True,
    )
) | {
    "entered_in_error": "entered in error",
    "superseded": "there is a later version",
    "no_result": "cancelled, or without a result yet",
    "unresolved_reference": "names no patient that can be told",
}
_NOT_SHOWN = "\u2013"


def quality_page(document: dict[str, Any], title: str = "ICU features: data quality") -> str:
    """Render a quality document.

    Args:
        document: As `quality.quality_document` returns it; a number that it suppresses shows as "hidden", or as a dash.
        title: The page's heading.

    Returns:
        The HTML. Texts from the document and the catalogue are escaped.
    """
    tables = {name: table for name, table in document["tables"].items() if table["rows_in"] != 0}
    return render_page(
        "quality_page.html.j2",
        title=title,
        document=document,
        tables=tables,
        reasons=_EXPLAINED,
        headline=_headline(document),
        dropped_plots={name: Markup(_dropped(table)) for name, table in tables.items() if _others(table)},  # noqa: S704
        missing_plot=Markup(missing_plot(document["variables"])),  # noqa: S704
        distribution_plot=Markup(distribution_plot(document["variables"])),  # noqa: S704
    )


def render_page(template: str, **values: Any) -> str:
    """Render a template of this folder; what is missing in it raises, and texts are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters.update(
        count=_count, number=_number, percent=_percent, points=_points, index=_index, label=label
    )
    return environment.get_template(template).render(**values)


def _dropped(table: dict[str, Any]) -> str:
    # Nearly all rows are of other items; beside that bar one could see no other. The text tells that number.
    return dropped_plot({key: n for key, n in table["dropped"].items() if key != "not_in_catalogue"}, _EXPLAINED)


def _others(table: dict[str, Any]) -> bool:
    return any(number != 0 for key, number in table["dropped"].items() if key != "not_in_catalogue")


def _headline(document: dict[str, Any]) -> dict[str, int | None]:
    tables, variables = document["tables"].values(), document["variables"].values()
    return {
        "rows_in": _sum([table["rows_in"] for table in tables]),
        "kept": _sum([table["kept"] for table in tables]),
        "usable": _sum([variable["usable"] for variable in variables]),
    }


def _sum(numbers: list[int | None]) -> int | None:
    # Without the ones that are hidden it would be wrong, and with them give them away.
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _count(number: int | None) -> str:
    # A cell may be hidden to protect another one, and not be small itself.
    return "hidden" if number is None else f"{number:,}"


def _number(number: float | None) -> str:
    # Four figures are more than the bins resolve; of thousands all are shown, or it would be an exponent.
    if number is None:
        return _NOT_SHOWN
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _percent(share: float | None) -> str:
    return _NOT_SHOWN if share is None else f"{share:.1%}"


def _points(change: float | None) -> str:
    return _NOT_SHOWN if change is None else f"{100 * change:+.1f}"


def _index(index: float | None) -> str:
    return _NOT_SHOWN if index is None else f"{index:.3f}"
