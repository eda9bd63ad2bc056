"""The verdict of a report: good, look at this, or do not use, with the reasons in words.

The verdict is computed from the document, which hides numbers based on fewer than ten patients (`disclosure`), so the
verdict cannot reveal them. Hidden numbers are not judged, since they are small.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flows.icu.limits import Limits, Pair
from flows.icu.wording import REASON_VERBS, in_text, labels, percent

LEVELS = ("good", "look at this", "do not use")
_GOOD, _LOOK, _REFUSE = range(3)
# If more variables than this have the same fault, they become one finding. Otherwise the first three findings could all
# be the same.
_NAMED = 2
# For each limit: the reasons for dropping rows that it adds up, and the words for such rows.
REASON_GROUPS = {
    "outside_stay": (("before_stay", "after_stay", "outside_stays"), "fell outside of a stay"),
    "no_owner": (
        ("no_stay", "unknown_stay", "other_subject", "unknown_subject", "unresolved_reference"),
        "name no stay or patient that is known",
    ),
    "no_number": (("no_number", "no_time", "no_result"), "have no number or no time"),
}


@dataclass(frozen=True)
class _Finding:
    kind: str
    level: int
    size: float  # how bad, within a level and kind
    about: tuple[str, ...]
    text: str
    # The predicate, if the text is a variable's share and a predicate. Only such findings can be joined.
    does: str = ""
    # The variable, as within a sentence.
    name: str = ""


def quality_verdict(document: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The verdict on a quality document.

    Args:
        document: The result of `quality.quality_document`.
        limits: The catalogue's limits.

    Returns:
        `level`, one of `LEVELS`, and the `findings`, the worst first. Each finding has its `level`, its `kind` (the
        name of a limit), the variables or table that it is `about`, and the `text`.
    """
    return _verdict([*_cohort(document, limits), *_variables(document, limits), *_tables(document, limits)])


def drift_verdict(document: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The verdict on a drift document, in the same form. If the run had its own limits, they decide the worst level."""
    given = document["limits"]
    psi = _with_own(limits.psi, given["psi"])
    change = _with_own(limits.missing_change, given["missing_change"])
    found, known = [], labels(document["variables"])
    for name, variable in document["variables"].items():
        values = [number for number in variable["values"].values() if number is not None]
        index, moved = variable["psi"], variable["missing_change"]
        # With few values, the index is mostly chance. A limit that the user gave counts anyway.
        judged = len(values) == 2 and min(values) >= limits.of_values
        if index is not None and (judged or "psi" in variable["exceeds"]) and (level := _level(index, psi)):
            text = f"{known[name]} is distributed differently: its population stability index is {index:.2f}"
            found.append(_Finding("psi", level, index, (name,), text))
        if moved is not None and (level := _level(abs(moved), change)):
            rates = variable["missing_rate"]
            now, before = (percent(rates[key]) for key in ("date", "reference"))
            text = f"{known[name]} is missing in {now} of the windows, and was in {before}"
            found.append(_Finding("missing_change", level, abs(moved), (name,), text))
    return _verdict(found)


def one_line(verdict: dict[str, Any], most: int = 3) -> str:
    """The verdict and its first findings, for a log line."""
    texts = [finding["text"] for finding in verdict["findings"][:most]]
    more = len(verdict["findings"]) - len(texts)
    texts += [f"and {more} more" if more > 1 else verdict["findings"][-1]["text"]] if more > 0 else []
    return f"{verdict['level']}: {'; '.join(texts)}" if texts else verdict["level"]


def _verdict(found: list[_Finding]) -> dict[str, Any]:
    # The worst finding comes first, and the worst of each kind comes before the second of any kind.
    found = sorted(_together(found), key=lambda finding: (-finding.level, -finding.size))
    place: dict[tuple[int, str], int] = {}
    ranked = []
    for finding in found:
        key = (finding.level, finding.kind)
        place[key] = place.get(key, -1) + 1
        ranked.append((-finding.level, place[key], finding))
    ordered = [finding for *_, finding in sorted(ranked, key=lambda entry: entry[:2])]
    return {
        "level": LEVELS[max((finding.level for finding in ordered), default=_GOOD)],
        "findings": [
            {"level": LEVELS[finding.level], "kind": finding.kind, "about": list(finding.about), "text": finding.text}
            for finding in ordered
        ],
    }


def _together(found: list[_Finding]) -> Iterator[_Finding]:
    """The findings, joined if more variables than can be named have the same fault."""
    groups: dict[tuple[str, int], list[_Finding]] = {}
    for finding in found:
        groups.setdefault((finding.kind, finding.level) if finding.does else (finding.text, 0), []).append(finding)
    for same in groups.values():
        if len(same) <= _NAMED:
            yield from same
            continue
        same.sort(key=lambda finding: -finding.size)
        named = ", ".join(f"{percent(one.size)} of {one.name}" for one in same[:_NAMED])
        # The split removes the unit texts of the first variable.
        text = f"{named} and a share of {len(same) - _NAMED} more variables {same[0].does.split(':')[0]}"
        yield _Finding(same[0].kind, same[0].level, same[0].size, sum((one.about for one in same), ()), text)


def _level(number: float | None, limit: Pair) -> int:
    if number is None:
        return _GOOD
    return _REFUSE if number > limit[1] else _LOOK if number > limit[0] else _GOOD


def _with_own(limit: Pair, own: float | None) -> Pair:
    return limit if own is None else (min(limit[0], own), own)


def _cohort(document: dict[str, Any], limits: Limits) -> Iterator[_Finding]:
    total = document["splits"]["total"]
    if total["windows"] == 0:
        yield _Finding("patients", _REFUSE, 1, (), "There is no window: the cohort has no stay")
        return
    patients = total["subjects"]
    if patients is None or patients < limits.patients[0]:
        level = _REFUSE if patients is None or patients < limits.patients[1] else _LOOK
        many = "too few patients to be told" if patients is None else f"only {patients} patients"
        yield _Finding("patients", level, 0, (), f"There are {many}: rates and quantiles may be chance")
    cohort = document["cohort"]
    dropped = _sum(number for reason, number in cohort["dropped"].items() if reason != "repeated")
    if dropped is not None and cohort["rows_in"]:
        share = dropped / cohort["rows_in"]
        if level := _level(share, limits.stays_left_out):
            text = f"{percent(share)} of the rows of stays were left out: no window can be made of them"
            yield _Finding("stays_left_out", level, share, (), text)


def _tables(document: dict[str, Any], limits: Limits) -> Iterator[_Finding]:
    for table, account in document["tables"].items():
        if account["rows_in"] is None or account["dropped"].get("not_in_catalogue") is None:
            continue
        rows = account["rows_in"] - account["dropped"]["not_in_catalogue"]
        for kind, (reasons, says) in REASON_GROUPS.items():
            number = sum(account["dropped"].get(reason) or 0 for reason in reasons)
            if rows and (level := _level(number / rows, getattr(limits, kind))):
                text = f"{percent(number / rows)} of the rows of {table} {says}: {number:,} of {rows:,}"
                yield _Finding(kind, level, number / rows, (table,), text)


def _variables(document: dict[str, Any], limits: Limits) -> Iterator[_Finding]:
    variables = document["variables"]
    empty = {name: variable for name, variable in variables.items() if variable["usable"] == 0}
    yield from _empty(empty, len(variables), limits)
    for name, variable in variables.items():
        if name in empty:
            continue
        named = in_text(name, variable.get("label"))
        unknown, implausible = (variable[key] for key in ("unknown_unit", "implausible"))
        # Hidden numbers are small compared with the usable values, so they count as 0.
        values = (variable["usable"] or 0) + (unknown or 0) + (implausible or 0)
        shares = {
            "unknown_unit": (unknown, values, f"have an unknown unit{_units(variable)}"),
            "implausible": (implausible, values, "are implausible"),
            "no_storetime": (
                variable["no_storetime"],
                variable["usable"],
                "have no storing time and count from their chart time, perhaps before they were known",
            ),
            "stored_late": (
                variable["delay"][-1] if variable["delay"] else None,
                sum(number or 0 for number in variable["delay"]),
                "were stored more than six hours after their chart time",
            ),
        }
        for kind, (part, whole, does) in shares.items():
            if part and whole and (level := _level(part / whole, getattr(limits, kind))):
                text = f"{percent(part / whole)} of {named} {does}"
                yield _Finding(kind, level, part / whole, (name,), text, does, named)
        if level := _level(rate := variable["unfilled_rate"], limits.unfilled):
            does = "have no value in a window, nor in the 24 hours before its end"
            text = f"{percent(rate)} of the windows have no value of {named}, nor in the 24 hours before their end"
            yield _Finding("unfilled", level, rate, (name,), text, does, named)


def _empty(empty: dict[str, Any], variables: int, limits: Limits) -> Iterator[_Finding]:
    """Findings about variables without a usable value: one for each that had rows, and one for all others."""
    level = _level(len(empty) / variables, limits.no_value)
    if not level:
        return
    known = labels(empty)
    with_rows = {name: why for name, variable in empty.items() if (why := _why_empty(variable))}
    without = [name for name in empty if name not in with_rows]
    for name, why in with_rows.items():
        yield _Finding("no_value", level, 1, (name,), f"{known[name]} has no usable value; {why}")
    if without and len(without) <= _NAMED:
        for name in without:
            yield _Finding("no_value", level, 0, (name,), f"{known[name]} has no row in the source")
    elif without:
        first = ", ".join(known[name] for name in without[:_NAMED])
        more = f"{first} and {len(without) - _NAMED} more"
        text = f"{len(without)} of {variables} variables have no row in the source: {more}"
        yield _Finding("no_value", level, 0, tuple(without), text)


def _why_empty(variable: dict[str, Any]) -> str:
    """The reason why a variable has no usable value. Empty if it had no rows, or only a few."""
    ends = {
        "have an unknown unit" + _units(variable): variable["unknown_unit"],
        "are implausible": variable["implausible"],
        **{REASON_VERBS[reason]: rows for reason, rows in variable["dropped"].items()},
    }
    known = {end: rows for end, rows in ends.items() if rows}
    hidden = any(rows is None for rows in ends.values())
    if not known:
        return "too few rows to say why" if hidden else ""
    end, rows = max(known.items(), key=lambda item: item[1])
    total = "" if hidden else f" of {sum(known.values()):,}"
    return f"{rows:,}{total} rows {end}"


def _units(variable: dict[str, Any]) -> str:
    texts = sorted(variable["unknown_texts"], key=lambda text: -variable["unknown_texts"][text])[:3]
    return f": {', '.join(text or 'none given' for text in texts)}" if texts else ""


def _sum(numbers: Any) -> int | None:
    known = list(numbers)
    return None if any(number is None for number in known) else sum(known)
