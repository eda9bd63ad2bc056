"""The quality page: the quality document for clinical readers, as one HTML file."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from flows.icu.events import DELAYS
from flows.icu.verdict import REASON_GROUPS
from flows.icu.wording import REASON_TEXTS, label, unit_text
from flows.reports.page import Heat, Words, count, levels_of, number, percent, render_page, svg
from flows.reports.plots import Bar, bar_plot, line_plot, variable_plot

_GROUPS = {
    "age": "Age at admission, years",
    "sex": "Sex",
    "length_of_stay": "Length of stay in the ICU",
    "outcome": "Outcome",
    "unit": "First care unit",
    "admission": "Kind of admission",
}
# The page lists at most this many files. The manifest has all of them.
_LISTED_FILES = 40


def quality_page(
    document: dict[str, Any],
    title: str = "ICU features: data quality",
    trend: Sequence[dict[str, Any]] = (),
) -> str:
    """The HTML of a quality document.

    Args:
        document: The result of `quality.quality_document`. Suppressed numbers are shown as "hidden" or as a dash.
        title: The page's heading.
        trend: Rows of `trend.trend_row` for earlier dates and this one. If there are none, the page has no trend.

    Returns:
        The HTML. Texts from the document and the catalogue are escaped.
    """
    tables = {name: table for name, table in document["tables"].items() if table["rows_in"] != 0}
    variables, levels = document["variables"], levels_of(document["verdict"])
    trend_rows, trend_plots = trend_parts(trend)
    return render_page(
        "quality_page.html.j2",
        title=title,
        document=document,
        tables=tables,
        levels=levels,
        tiles=_tiles(document),
        groups=[(_GROUPS[name], _group_plot(_GROUPS[name], group)) for name, group in _known_groups(document).items()],
        dropped={name: _dropped_plot(name, table, document) for name, table in tables.items() if _others(table)},
        values=[_values_row(name, variable, document) for name, variable in variables.items()],
        delays=[_delay_row(name, variable) for name, variable in variables.items() if any(variable["delay"])],
        delay_names=[f"up to {name}" for name in DELAYS] + ["later"],
        missing_plot=_missing_plot(variables, levels_of(document["verdict"], "unfilled", "no_value")),
        hours=document["course"]["hours"],
        missing_rows=_missing_rows(document),
        plots=[_plot(name, variable, document, levels) for name, variable in variables.items() if _can_show(variable)],
        not_shown=[
            label(name, variable.get("label")) for name, variable in variables.items() if not _can_show(variable)
        ],
        quantiles=[
            [
                name,
                unit_text(variable["unit"]) or "no unit",
                *(number(value) for value in variable["quantiles"]["mean"].values()),
            ]
            for name, variable in variables.items()
        ],
        splits=[[name, *(count(n) for n in split.values())] for name, split in document["splits"].items()],
        trend=trend_rows,
        trend_plots=trend_plots,
        facts=_facts(document),
        files=document["provenance"].get("inputs", []),
        listed=_LISTED_FILES,
    )


def _tiles(document: dict[str, Any]) -> list[tuple[str, str]]:
    tables, variables, total = document["tables"].values(), document["variables"].values(), document["splits"]["total"]
    return [
        (count(total["subjects"]), "patients"),
        (count(total["stays"]), "ICU stays"),
        (count(total["windows"]), "windows"),
        (count(_sum([table["rows_in"] for table in tables])), "rows read"),
        (count(_sum([table["kept"] for table in tables])), "rows kept"),
        (count(_sum([variable["usable"] for variable in variables])), "usable values"),
    ]


def _sum(numbers: list[int | None]) -> int | None:
    # A sum without the hidden numbers would be wrong, and a sum with them would reveal them.
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _known_groups(document: dict[str, Any]) -> dict[str, dict[str, int | None]]:
    described = document["description"]
    return {name: described[name] for name in _GROUPS if set(described.get(name, {})) - {"not known"}}


def _group_plot(title: str, group: dict[str, int | None]) -> Markup:
    known = [stays for stays in group.values() if stays is not None]
    total = sum(known) if len(known) == len(group) else None

    def text(stays: int | None) -> str:
        if stays is None:
            return "hidden"
        return f"{stays:,} ({stays / total:.0%})" if total else f"{stays:,}"

    return svg(bar_plot([Bar(name, stays, text(stays)) for name, stays in group.items()], f"{title}, stays"))


def _dropped_plot(table: str, account: dict[str, Any], document: dict[str, Any]) -> Markup:
    levels = {
        reason: finding["level"]
        for finding in document["verdict"]["findings"]
        if finding["about"] == [table]
        for reason in REASON_GROUPS[finding["kind"]][0]
    }
    # Nearly all rows are of other items. Their bar would make all others invisible, so only the text has this number.
    dropped = {key: rows for key, rows in account["dropped"].items() if key != "not_in_catalogue" and rows != 0}
    bars = [
        Bar(REASON_TEXTS.get(key, key.replace("_", " ")), rows, count(rows), level=levels.get(key, ""))
        for key, rows in dropped.items()
    ]
    return svg(bar_plot(bars, f"Rows of {table} that were dropped, by reason"))


def _can_show(variable: dict[str, Any]) -> bool:
    distribution = variable["distribution_of_mean"]
    return any([distribution["below"], *distribution["windows"], distribution["above"]])


def _others(table: dict[str, Any]) -> bool:
    return any(rows != 0 for key, rows in table["dropped"].items() if key != "not_in_catalogue")


def _values_row(name: str, variable: dict[str, Any], document: dict[str, Any]) -> list[Any]:
    unknown = count(variable["unknown_unit"])
    if texts := variable["unknown_texts"]:
        named = ", ".join(
            f"{'none given' if text == '' else f'“{text}”'} ({people:,} patients)" for text, people in texts.items()
        )
        unknown = f"{unknown}: {named}"
    low, high = variable["plausible"]
    return [
        name,
        unit_text(variable["unit"]) or "no unit",
        f"{number(low)} \u2013 {number(high)}",
        count(variable["usable"]),
        _measured(document["course"]["variables"].get(name)),
        count(variable["converted"]),
        Words(unknown) if texts else unknown,
        count(variable["implausible"]),
        count(variable["no_storetime"]),
    ]


def _measured(course: dict[str, Any] | None) -> str:
    if course is None or course["measured"]["p50"] is None:
        return number(None)
    low, middle, high = (course["measured"][name] for name in ("p25", "p50", "p75"))
    return f"{middle}" if low is None or high is None else f"{middle} ({low}\u2013{high})"


def _delay_row(name: str, variable: dict[str, Any]) -> list[Any]:
    known = [rows for rows in variable["delay"] if rows is not None]
    total = sum(known) if len(known) == len(variable["delay"]) else None
    # A hidden cell is small, so the shares of the others are computed without it.
    shown = total or sum(known)
    return [name, *(Heat(None if rows is None or not shown else rows / shown) for rows in variable["delay"])]


def _missing_plot(variables: dict[str, dict[str, Any]], levels: dict[str, str]) -> Markup:
    bars = [
        Bar(
            label(name, variable.get("label")),
            variable["missing_rate"],
            f"{percent(variable['missing_rate'])} / {percent(variable['unfilled_rate'])}",
            level=levels.get(name, ""),
            inner=variable["unfilled_rate"],
        )
        for name, variable in variables.items()
    ]
    return svg(bar_plot(bars, "Windows without a value, and without one in the 24 hours before either", top=1))


def _missing_rows(document: dict[str, Any]) -> list[list[Any]]:
    course = document["course"]["variables"]
    return [
        [name, *(Heat(share) for share in course[name]["missing"])] for name in document["variables"] if name in course
    ]


def _plot(
    name: str, variable: dict[str, Any], document: dict[str, Any], levels: dict[str, str]
) -> tuple[str, str, Markup, str]:
    found, unit = variable["quantiles"]["mean"], unit_text(variable["unit"])
    middle = f"median {number(found['p50'])} {unit}".rstrip() if found["p50"] is not None else ""
    spread = f", half of them from {number(found['p25'])} to {number(found['p75'])}" if found["p25"] is not None else ""
    what = "distribution of the window means, and their quartiles by hours since admission"
    alternative = f"{label(name, variable.get('label'))}: {what}. {middle}{spread}"
    course = document["course"]["variables"].get(name)
    plot = variable_plot(alternative, unit, variable["distribution_of_mean"], course, document["course"]["hours"])
    return label(name, variable.get("label")), middle, svg(plot), levels.get(name, "")


def trend_parts(trend: Sequence[dict[str, Any]]) -> tuple[list[list[Any]], list[tuple[str, Markup]]]:
    """The rows and plots of the trend over dates, for both pages."""
    rows = [
        [
            row["date"], row["verdict"], count(row["subjects"]), count(row["stays"]), count(row["windows"]),
            count(row["kept"]), Heat(row["missing"]),
        ]
        for row in trend
    ]  # fmt: skip
    if len(trend) < 2:
        return rows, []
    dates = [row["date"] for row in trend]
    missing = [None if row["missing"] is None else 100 * row["missing"] for row in trend]
    return rows, [
        (
            "Windows without a value, mean of all variables",
            svg(line_plot(dates, missing, "Missing values by date", "%")),
        ),
        ("Stays", svg(line_plot(dates, [row["stays"] for row in trend], "Stays by date", "stays"))),
    ]


def _facts(document: dict[str, Any]) -> dict[str, Any]:
    provenance = {key: value for key, value in document["provenance"].items() if key != "inputs"}
    parameters = {key: value for key, value in document["parameters"].items() if key != "catalogue_sha256"}
    return {**provenance, **parameters, "catalogue": f"SHA-256 {document['catalogue_sha256']}"}
