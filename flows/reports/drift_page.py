"""The drift page: the drift document as one HTML file with plots."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from flows.icu.wording import label, unit_text
from flows.reports.page import Words, count, index, levels_of, number, percent, points, render_page, svg
from flows.reports.plots import Bar, bar_plot, variable_plot
from flows.reports.quality_page import trend_parts

# What a limit of a run is called in the table's other columns.
_LIMITS = {"psi": "stability index", "missing_change": "missing"}


def drift_page(document: dict[str, Any], date: str, reference: str, trend: Sequence[dict[str, Any]] = ()) -> str:
    """The HTML of a drift document.

    Args:
        document: The result of `drift.drift_document`.
        date: The date that was compared.
        reference: The date with which it was compared.
        trend: Rows of `trend.trend_row`. If there are none, the page has no trend.
    """
    variables, levels = document["variables"], levels_of(document["verdict"])
    trend_rows, trend_plots = trend_parts(trend)
    return render_page(
        "drift_page.html.j2",
        title=f"ICU features of {date}: drift from {reference}",
        document=document,
        date=date,
        reference=reference,
        levels=levels,
        tiles=[
            (count(document["windows"]["reference"]), f"windows of {reference}"),
            (count(document["windows"]["date"]), f"windows of {date}"),
            (
                str(sum(bool(variable["exceeds"]) for variable in variables.values())),
                "variables beyond a limit of this run",
            ),
        ],
        psi_plot=_psi_plot(document, levels_of(document["verdict"], "psi")),
        missing_plot=_missing_plot(variables, levels_of(document["verdict"], "missing_change")),
        rows=[_row(name, variable) for name, variable in variables.items()],
        plots=[_plot(name, variable, levels) for name, variable in variables.items() if _can_show(variable)],
        not_shown=[
            label(name, variable.get("label")) for name, variable in variables.items() if not _can_show(variable)
        ],
        trend=trend_rows,
        trend_plots=trend_plots,
        runs=document.get("runs", {}),
    )


def _psi_plot(document: dict[str, Any], levels: dict[str, str]) -> Markup:
    # A hidden index is not small, so its bar looks different.
    bars = [
        Bar(
            label(name, variable.get("label")),
            variable["psi"],
            "hidden" if variable["psi"] is None else index(variable["psi"]),
            levels.get(name, ""),
        )
        for name, variable in document["variables"].items()
    ]
    limit = document["limits"]["psi"]
    lines = [line for line in (0.1, 0.25, limit) if line is not None]
    return svg(bar_plot(bars, "Population stability index of each variable", lines=lines))


def _missing_plot(variables: dict[str, dict[str, Any]], levels: dict[str, str]) -> Markup:
    bars = [
        Bar(
            label(name, variable.get("label")),
            variable["missing_rate"]["reference"],
            f"{percent(variable['missing_rate']['reference'])} → {percent(variable['missing_rate']['date'])}",
            level=levels.get(name, ""),
            inner=variable["missing_rate"]["date"],
        )
        for name, variable in variables.items()
    ]
    return svg(bar_plot(bars, "Share of windows without a value, of both dates, by variable", top=1))


def _row(name: str, variable: dict[str, Any]) -> list[Any]:
    rates, quantiles = variable["missing_rate"], variable["quantiles"]
    return [
        name, unit_text(variable["unit"]) or "no unit", index(variable["psi"]),
        number(quantiles["reference"]["p50"]), number(quantiles["date"]["p50"]),
        percent(rates["reference"]), percent(rates["date"]), points(variable["missing_change"]),
        Words(" and ".join(_LIMITS[limit] for limit in variable["exceeds"])),
    ]  # fmt: skip


def _can_show(variable: dict[str, Any]) -> bool:
    found = variable["distribution"]["date"]
    return any([found["below"], *found["windows"], found["above"]])


def _plot(name: str, variable: dict[str, Any], levels: dict[str, str]) -> tuple[str, str, Markup, str]:
    medians = [number(variable["quantiles"][key]["p50"]) for key in ("reference", "date")]
    note = f"median {medians[0]} → {medians[1]} {unit_text(variable['unit'])}".rstrip()
    both = variable["distribution"]
    title = f"{label(name, variable.get('label'))}: distribution of the window means of both dates. {note}"
    totals = variable["values"]["date"], variable["values"]["reference"]
    plot = variable_plot(
        title, unit_text(variable["unit"]), both["date"], None, [], other=both["reference"], totals=totals
    )
    return label(name, variable.get("label")), note, svg(plot), levels.get(name, "")
