"""The limits of the catalogue, for publishing a result and for the verdict of a report."""

from dataclasses import dataclass, fields
from typing import Any

from flows.icu.catalogue_keys import CatalogueError, check_keys, number

# Above the first number, a person should look at the data. Above the second, nobody should use them.
Pair = tuple[float, float]


@dataclass(frozen=True)
class Limits:
    """The limits at which a result may not replace the published one, and the limits for the verdict of a report.

    Attributes:
        missing_jump: A variable's share of windows without a value must grow by less than this.
        of_values: How many usable values a variable must have had, so that `missing_jump` applies. A drift is judged if
            as many windows have a value.
        unknown_unit: The share of a variable's values with an unknown unit.
        implausible: The share of a variable's values that are implausible.
        no_value: The share of variables without a usable value.
        unfilled: The share of windows without a value of a variable, also in the 24 hours before their end.
        outside_stay: The share of a table's rows before, after or between the stays.
        no_owner: The share of a table's rows of no stay, of an unknown stay, or of another patient's stay.
        no_number: The share of a table's rows without a number or a time.
        no_storetime: The share of a variable's values that count from their chart time.
        stored_late: The share of a variable's values that were stored more than six hours after their chart time.
        stays_left_out: The share of the rows of stays that are left out.
        patients: Numbers of patients. Here lower numbers are worse.
        psi: A variable's population stability index.
        missing_change: The change of a variable's missing rate, up or down.
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
    """The limits in the table `[limits]` of a catalogue. Others have the defaults of `Limits`.

    Raises:
        CatalogueError: The name of a limit is unknown, or its number is not valid.
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
