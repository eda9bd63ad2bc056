"""Short forms of the reports in Markdown, for the artifacts that Prefect's UI shows."""

from typing import Any

from flows.icu.disclosure import SMALL
from flows.icu.wording import REASON_TEXTS, labels, unit_text
from flows.reports.page import count, index, percent, points

# The signs of the pages, which fonts without emoji have too.
_SIGNS = {"good": "✓", "look at this": "▲", "do not use": "✕"}
_NO_LINK = (
    "A browser follows no link to a file, least of all on another machine: open it on the machine that the flow ran on."
)
_GROUPS = {"subjects": "patients", "stays": "stays", "windows": "windows"}
_DASH = "A dash stands for a hidden number, or for one that does not exist."


def quality_markdown(document: dict[str, Any], date: str, page: str, link: str) -> str:
    """The verdict on a date and its counts, as Markdown.

    Args:
        document: The result of `quality.quality_document`.
        date: The partition's date.
        page: The URI of the whole report.
        link: The URL for a browser: `store.browser_url` of the page.
    """
    total = document["splits"]["total"]
    lines = [
        *_head(f"ICU features of {date}: data quality", document["verdict"], page, link),
        " · ".join(f"**{count(total[group])}** {name}" for group, name in _GROUPS.items()),
    ]
    for table, account in document["tables"].items():
        if account["rows_in"] == 0:
            continue
        lines += ["", f"## {table}", "", "| | rows |", "|---|---:|", f"| read | {count(account['rows_in'])} |"]
        lines.append(f"| kept | {count(account['kept'])} |")
        for reason, rows in account["dropped"].items():
            if rows != 0:
                lines.append(f"| dropped: {REASON_TEXTS.get(reason, reason.replace('_', ' '))} | {count(rows)} |")
        if account["hidden"]:
            lines.append(f"| hidden, together | {count(account['hidden'])} |")
    lines += ["", "## Variables", ""]
    lines += ["| variable | unit | usable | unknown unit | implausible | missing |", "|---|---|---:|---:|---:|---:|"]
    known = labels(document["variables"])
    for name, variable in document["variables"].items():
        numbers = " | ".join(count(variable[key]) for key in ("usable", "unknown_unit", "implausible"))
        cells = [_plain(known[name]), _plain(unit_text(variable["unit"])), numbers, percent(variable["missing_rate"])]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Missing: windows without a value. Numbers under {SMALL} are hidden, and so are those by which one of",
    ]
    lines.append(f"them could be worked out. {_DASH}")
    return "\n".join(lines)


def drift_markdown(document: dict[str, Any], date: str, reference: str, page: str, link: str) -> str:
    """The verdict on a drift and each variable's numbers, as Markdown. See `quality_markdown`."""
    lines = _head(f"ICU features of {date}: drift from {reference}", document["verdict"], page, link)
    lines += [
        f"| variable | stability index | missing, {reference} | missing, {date} | change, points |",
        "|---|---:|---:|---:|---:|",
    ]
    known = labels(document["variables"])
    for name, variable in document["variables"].items():
        rates = variable["missing_rate"]
        cells = [
            index(variable["psi"]),
            percent(rates["reference"]),
            percent(rates["date"]),
            points(variable["missing_change"]),
        ]
        lines.append(f"| {_plain(known[name])} | {' | '.join(cells)} |")
    lines += ["", f"Values based on fewer than {SMALL} patients are hidden. {_DASH}"]
    return "\n".join(lines)


def _head(title: str, verdict: dict[str, Any], page: str, link: str) -> list[str]:
    lines = [f"# {title}", "", f"## {_SIGNS[verdict['level']]} {verdict['level'].capitalize()}", ""]
    lines += [f"{place}. {_plain(finding['text'])}" for place, finding in enumerate(verdict["findings"][:3], start=1)]
    if len(verdict["findings"]) > 3:
        more = len(verdict["findings"]) - 3
        lines.append(f"\n{more} more {'is' if more == 1 else 'are'} in the report.")
    lines += ["", f"[Open the whole report, with plots]({link})", "", f"`{page}`", ""]
    return [*lines, _NO_LINK, ""] if link.startswith("file:") else lines


def _plain(text: str) -> str:
    """A text of the source, such as a unit, escaped so that Markdown shows it unchanged."""
    for sign in "\\`*_[]<>|~#":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else {"<": "&lt;", ">": "&gt;"}[sign])
    return text
