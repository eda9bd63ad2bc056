"""Whether a run's result may replace what is there: nothing bad replaces something good.

Judged on the exact counts, before anything is published. The messages name tables and variables, and rates where enough
values are behind them: they end up in logs.
"""

from dataclasses import dataclass
from typing import Any

from flows.icu.catalogue import Limits
from flows.icu.counts import Counts


class NotAcceptedError(ValueError):
    """The result is empty, or much worse than what it would replace. Nothing was published."""


@dataclass(frozen=True)
class Objection:
    """Why a result is not to be published.

    Attributes:
        text: What is wrong, for a person.
        is_empty: Whether something has no value at all, which may be what somebody expects.
    """

    text: str
    is_empty: bool


def summary(cohort: Counts, cleaned: Counts, features: Counts) -> dict[str, Any]:
    """Sum up a run, for the one that will replace it.

    Args:
        cohort: What `cohort.build_cohort` counted.
        cleaned: The sum of what `events.clean` counted.
        features: The sum of what `quality.count_features` counted.

    Returns:
        `stays`, `windows`, per table the rows `kept`, per variable `usable` values and windows with a value `missing`;
        exact, and all JSON.
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
    """Find what speaks against publishing a result.

    Args:
        now: The `summary` of the run.
        before: That of the date that it would replace; None where there is none, or an older version made it.
        limits: From which jump on a missing rate speaks against it, and of how many values.
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
            continue  # another catalogue
        if not new["usable"]:
            found.append(Objection(f"{name} had usable values, and has none now", is_empty=True))
            continue
        rates = old["missing"] / before["windows"], new["missing"] / now["windows"]
        if old["usable"] >= limits.of_values and rates[1] - rates[0] >= limits.missing_jump:
            text = f"{name} is missing in {rates[1]:.0%} of the windows, and was in {rates[0]:.0%}"
            found.append(Objection(text, is_empty=False))
    return found


def accept(found: list[Objection], *, accept_empty: bool) -> None:
    """Let a result pass, or say what speaks against it.

    Raises:
        NotAcceptedError: There is an objection that `accept_empty` does not lift.
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
