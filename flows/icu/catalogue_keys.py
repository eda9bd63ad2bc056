"""Checks for every table of the catalogue: its keys and its numbers."""

import math
from typing import Any

from clinops_prefect.names import nearest_word


class CatalogueError(ValueError):
    """The catalogue contradicts itself, or is not a catalogue. The message names the variable, item or unit."""


def number(where: str, key: str, value: Any) -> float:
    """The value as a float. Raises unless it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CatalogueError(f"{where}: {key} has to be a finite number")
    return float(value)


def check_table(where: str, table: Any) -> None:
    """Raise unless `table` is a table."""
    if not isinstance(table, dict):
        raise CatalogueError(f"{where}: has to be a table")


def check_keys(where: str, table: Any, known: tuple[str, ...]) -> None:
    """Raise unless `table` is a table with known keys only. The message names the most similar known key."""
    check_table(where, table)
    for key in table:
        if key not in known:
            near = nearest_word(key, known)
            hint = f"; did you mean {near}?" if near else f"; known are {', '.join(known)}"
            raise CatalogueError(f"{where}: unknown key {key}{hint}")
