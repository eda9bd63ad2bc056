"""Decides whether a run's result may replace the published one, so that a bad result never replaces a good one.

The decision uses the exact counts, and comes before anything is published. The messages end up in logs, so they name
only tables and variables, and rates if enough values support them.
"""

from dataclasses import dataclass
from typing import Any

from flows.icu.catalogue import Limits
from flows.icu.counts import Counts


class NotAcceptedError(ValueError):
    """The result is empty, or much worse than what it would replace. Nothing was published."""


@dataclass(frozen=True)
class Objection:
    """A reason not to publish a result.

    Attributes:
        text: What is wrong, in words.
        is_empty: Whether something has no values at all, which a user may expect and accept.
    """

    text: str
    is_empty: bool


def summary(cohort: Counts, cleaned: Counts, features: Counts) -> dict[str, Any]:
    """The summary of a run, with which a later run of the date is compared.

    Args:
        cohort: The counts of `cohort.build_cohort`.
        cleaned: The sum of the counts of `events.clean`.
        features: The sum of the counts of `quality.count_features`.

    Returns:
        `stays`, `windows`, for each table the rows `kept`, and for each variable the `usable` values and the windows
        with a `missing` value. The numbers are exact, and all is JSON.
    """
    return {
        "stays": cohort["stays"],
        "windows": sum(split["windows"] for split in features["splits"].values()),
        "tables": {name: table["kept"] for name, table in cleaned["tables"].items()},
        "variables": {
            name: {"usable": counts["usable"], "missing": features["features"][name]["missing"]}
            for name, counts in cleaned["variables"].items()
        },
    }


def objections(now: dict[str, Any], before: dict[str, Any] | None, limits: Limits) -> list[Objection]:
    """The reasons not to publish a result.

    Args:
        now: The `summary` of the run.
        before: The `summary` of the published result. None if there is none, or an older version made it.
        limits: How much a missing rate may grow, and how many values a variable needs for this comparison.
    """
    if not now["windows"]:
        return [Objection("there is no window: the cohort has no stay", is_empty=True)]
    found = []
    if not any(variable["usable"] for variable in now["variables"].values()):
        found.append(Objection("no variable has a usable value", is_empty=True))
    if before is None or not before["windows"]:
        return found
    found += [
        Objection(f"{name} had rows, and has none now", is_empty=True)
        for name, kept in before["tables"].items()
        if kept and not now["tables"].get(name)
    ]
    for name, old in before["variables"].items():
        if (new := now["variables"].get(name)) is None or not old["usable"]:
            continue  # nothing to compare: the new catalogue lacks the variable, or it had no usable values before
        if not new["usable"]:
            found.append(Objection(f"{name} had usable values, and has none now", is_empty=True))
            continue
        rates = old["missing"] / before["windows"], new["missing"] / now["windows"]
        if old["usable"] >= limits.of_values and rates[1] - rates[0] >= limits.missing_jump:
            text = f"{name} is missing in {rates[1]:.0%} of the windows, and was in {rates[0]:.0%}"
            found.append(Objection(text, is_empty=False))
    return found


def accept(found: list[Objection], *, accept_empty: bool) -> None:
    """Raise if there are reasons not to publish a result.

    Raises:
        NotAcceptedError: There is an objection. With `accept_empty`, objections about missing values do not count.
    """
    standing = [objection for objection in found if not (accept_empty and objection.is_empty)]
    if not standing:
        return
    shown = "; ".join(objection.text for objection in standing[:5])
    more = f"; and {len(standing) - 5} more" if len(standing) > 5 else ""
    remedies = []
    if any(objection.is_empty for objection in standing):
        remedies.append("pass accept_empty (--accept-empty) if this is right")
    if not all(objection.is_empty for objection in standing):
        remedies.append("raise missing_jump under [limits] of the catalogue if this is right")
    raise NotAcceptedError(f"not published: {shown}{more}. Look at the source, or {' and '.join(remedies)}")
