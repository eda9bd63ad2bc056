"""The limits of the catalogue: from when on a result is not published, or a person should look at it."""

from dataclasses import dataclass, fields
from typing import Any

from flows.icu.catalogue_keys import CatalogueError, check_keys, number

# Above the first number a person should look at it, above the second it should not be used.
Pair = tuple[float, float]


@dataclass(frozen=True)
class Limits:
    """From when on a result may not replace the one before it, and what the verdict of a report depends on.

    Attributes:
        missing_jump: By how much a variable's share of windows without a value may not grow.
        of_values: How many usable values the variable must have had, for that to be judged. A drift is judged where as
            many windows have a value.
        unknown_unit: Share of a variable's values.
        implausible: Share of a variable's values.
        no_value: Share of the variables that have no usable value.
        unfilled: Share of the windows that have no value of a variable, also not in the 24 hours before their end.
        outside_stay: Share of a table's rows before, after or between the stays.
        no_owner: Share of a table's rows of no stay, of an unknown stay, or of another patient's.
        no_number: Share of a table's rows without a number or a time.
        no_storetime: Share of a variable's values that count from their chart time.
        stored_late: Share of a variable's values that were stored more than six hours after their chart time.
        stays_left_out: Share of the rows of stays.
        patients: Numbers of patients; here, below them.
        psi: A variable's population stability index.
        missing_change: The change of a variable's missing rate, either way.
    """

    missing_jump: float = 0.2
    of_values: int = 100
    unknown_unit: Pair = (0.01, 0.5)
    implausible: Pair = (0.05, 0.5)
    no_value: Pair = (0.0, 0.5)
    unfilled: Pair = (0.95, 1.0)
    outside_stay: Pair = (0.7, 0.99)
    no_owner: Pair = (0.01, 0.2)
    no_number: Pair = (0.1, 0.9)
    no_storetime: Pair = (0.5, 1.0)
    stored_late: Pair = (0.5, 1.0)
    stays_left_out: Pair = (0.05, 0.5)
    patients: Pair = (50, 10)
    psi: Pair = (0.1, 0.25)
    missing_change: Pair = (0.1, 0.3)


DEFAULT_LIMITS = Limits()
_JUDGED = ("missing_jump", "of_values")
_NAMES = tuple(field.name for field in fields(Limits))


def read_limits(table: Any) -> Limits:
    """Read the table `[limits]` of a catalogue; what it does not name is as in `Limits`.

    Raises:
        CatalogueError: A limit is unknown, or not a number that can be one.
    """
    check_keys("limits", table, _NAMES)
    jump = number("limits", "missing_jump", table.get("missing_jump", Limits.missing_jump))
    values = table.get("of_values", Limits.of_values)
    if not 0 < jump <= 1 or type(values) is not int or values < 1:
        raise CatalogueError("limits: missing_jump has to be above 0 and at most 1, of_values a whole number from 1 on")
    return Limits(
        jump, values, **{name: _pair(name, table[name]) for name in _NAMES if name in table and name not in _JUDGED}
    )


def _pair(name: str, value: Any) -> Pair:
    if not isinstance(value, list) or len(value) != 2:
        raise CatalogueError(f"limits: {name} has to be [look at this, do not use], two numbers")
    look, refuse = (number("limits", name, one) for one in value)
    if look < 0 or refuse < 0 or (look < refuse if name == "patients" else look > refuse):
        raise CatalogueError(f"limits: {name} has to be [look at this, do not use]: the second is the worse one")
    return look, refuse
