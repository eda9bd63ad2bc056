"""The catalogue: the items, the unit and the plausible range of each variable.

The catalogue is a data file (`catalogue.toml`, which explains its own keys), so that you can extend it without changing
code: copy the file, add a table or an item, and pass the copy's path to `load_catalogue`.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.icu.catalogue_keys import CatalogueError, check_keys, check_table, number
from flows.icu.limits import DEFAULT_LIMITS, Limits, read_limits
from flows.icu.toml_file import read_toml

__all__ = [
    "DEFAULT_CATALOGUE",
    "Catalogue",
    "CatalogueError",
    "Limits",
    "Unit",
    "Variable",
    "fold_text",
    "load_catalogue",
]

DEFAULT_CATALOGUE = Path(__file__).with_name("catalogue.toml")

# Feature columns are named `{variable}_{feature}`, so a variable's name must be valid in column names everywhere.
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_VARIABLE_KEYS = ("label", "unit", "plausible", "shown", "items", "items_in", "items_by_text", "units")
_UNIT_KEYS = ("texts", "subtract", "multiply", "divide")


@dataclass(frozen=True)
class Unit:
    """A unit that a variable is charted in: canonical value = (charted - subtract) * multiply / divide, in this order.

    Attributes:
        name: The unit, as written in the catalogue.
        texts: The accepted spellings after `fold_text`, including the name.
    """

    name: str
    texts: frozenset[str]
    subtract: float = 0.0
    multiply: float = 1.0
    divide: float = 1.0


@dataclass(frozen=True)
class Variable:
    """One variable of the catalogue.

    Attributes:
        name: The variable's name, with which its feature columns begin.
        low: Lowest plausible value, included, in `unit`.
        high: Highest plausible value, included, in `unit`.
        units: The canonical unit first, then the convertible ones.
        items: The name of the unit of each item id, or None if the row's own text decides. In the order of the file.
        shown: The range that plots show, in `unit`. None means the plausible range.
        label: What readers are told it is, as within a sentence. None means that a label is made of `name`.
    """

    name: str
    low: float
    high: float
    units: tuple[Unit, ...]
    items: dict[int, str | None]
    shown: tuple[float, float] | None = None
    label: str | None = None

    @property
    def unit(self) -> str:
        """The canonical unit's name."""
        return self.units[0].name


@dataclass(frozen=True)
class Catalogue:
    """The variables, in the order of the feature columns.

    Attributes:
        limits: The limits for publishing a result, and for the verdict of a report.
        sha256: The digest of the catalogue's file, for the lineage of results.
    """

    variables: tuple[Variable, ...]
    sha256: str
    limits: Limits = DEFAULT_LIMITS

    @property
    def names(self) -> list[str]:
        """The variables' names, in order."""
        return [variable.name for variable in self.variables]

    @property
    def item_ids(self) -> list[int]:
        """The item ids of all variables, ascending."""
        return sorted(item for variable in self.variables for item in variable.items)


def fold_text(text: str) -> str:
    """A unit text in a form for comparison: NFKC, case-folded, without white space.

    NFKC maps the micro sign (U+00B5) to the Greek mu (U+03BC). Both occur in sources.
    """
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def load_catalogue(path: str | Path = DEFAULT_CATALOGUE) -> Catalogue:
    """Load and check a catalogue.

    Args:
        path: A TOML file. The default is `catalogue.toml` in the folder of this module, which explains the keys.

    Raises:
        CatalogueError: There is no such file, it is not TOML, or it contradicts itself. The message says where.
    """
    tables, data = read_toml(path, "catalogue", CatalogueError)
    limits = read_limits(tables.pop("limits", {}))
    if not tables:
        raise CatalogueError(f"{path} names no variable")
    variables = tuple(_variable(name, table) for name, table in tables.items())
    owner: dict[int, str] = {}
    for variable in variables:
        for item in variable.items:
            if item in owner:
                raise CatalogueError(f"item {item} is in two variables, {owner[item]} and {variable.name}")
            owner[item] = variable.name
    return Catalogue(variables, hashlib.sha256(data).hexdigest(), limits)


def _variable(name: str, table: Any) -> Variable:
    if not _NAME.fullmatch(name):
        raise CatalogueError(f"variable {name!r}: a name has lower-case letters, digits and underscores only")
    where = f"variable {name}"
    check_keys(where, table, _VARIABLE_KEYS)
    canonical = table.get("unit")
    if not isinstance(canonical, str) or not canonical:
        raise CatalogueError(f"{where}: unit has to be a text")
    label = table.get("label")
    if label is not None and (not isinstance(label, str) or not label.strip()):
        raise CatalogueError(f"{where}: label has to be a text")
    low, high = _range(where, "plausible", table.get("plausible"))
    shown = _range(where, "shown", table["shown"]) if "shown" in table else None
    if shown and not low <= shown[0] < shown[1] <= high:
        raise CatalogueError(f"{where}: shown has to lie within plausible, {low:g} to {high:g}")
    tables = table.get("units", {})
    check_table(f"{where}, units", tables)
    # The canonical unit comes first and converts to itself. It may have a table too, with more spellings.
    units = tuple(_unit(where, unit, tables.get(unit, {})) for unit in dict.fromkeys([canonical, *tables]))
    if (units[0].subtract, units[0].multiply, units[0].divide) != (0, 1, 1):
        raise CatalogueError(f"{where}: {canonical} is the canonical unit and cannot have a conversion")
    _check_texts(where, units)
    items = _items(where, table, canonical, {unit.name for unit in units})
    return Variable(name, low, high, units, items, shown, label and label.strip())


def _items(where: str, table: dict[str, Any], canonical: str, units: set[str]) -> dict[int, str | None]:
    items_in = table.get("items_in", {})
    check_table(f"{where}, items_in", items_in)
    for unit in items_in:
        if unit not in units:
            raise CatalogueError(f"{where}: items_in names {unit}, but units has no conversion from {unit}")
    groups: list[tuple[str, str | None, Any]] = []
    # Keep the order of the file: among values with the same time, the value of the first item counts as the last.
    for key in table:
        if key == "items":
            groups.append((key, canonical, table[key]))
        elif key == "items_in":
            groups += [(f"items_in {unit}", unit, ids) for unit, ids in items_in.items()]
        elif key == "items_by_text":
            groups.append((key, None, table[key]))
    items: dict[int, str | None] = {}
    for key, unit, ids in groups:
        if not isinstance(ids, list):
            raise CatalogueError(f"{where}: {key} has to be a list of item ids")
        for item in ids:
            # In Python, bool is a kind of int, but it is not an item id.
            if type(item) is not int or not 0 < item < 2**63:
                raise CatalogueError(f"{where}: {key} has {item!r}, which is not an item id")
            if item in items:
                raise CatalogueError(f"{where}: item {item} is listed twice")
            items[item] = unit
    if not items:
        raise CatalogueError(f"{where}: no items")
    return items


def _unit(where: str, name: str, table: Any) -> Unit:
    where = f"{where}, unit {name}"
    check_keys(where, table, _UNIT_KEYS)
    texts = table.get("texts", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) and fold_text(text) for text in texts):
        raise CatalogueError(f"{where}: texts has to be a list of texts")
    subtract = number(where, "subtract", table.get("subtract", 0))
    multiply = number(where, "multiply", table.get("multiply", 1))
    divide = number(where, "divide", table.get("divide", 1))
    if multiply == 0 or divide == 0:
        raise CatalogueError(f"{where}: multiply and divide cannot be 0")
    return Unit(name, frozenset(fold_text(text) for text in [name, *texts]), subtract, multiply, divide)


def _range(where: str, key: str, bounds: Any) -> tuple[float, float]:
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise CatalogueError(f"{where}: {key} has to be [low, high]")
    low, high = (number(where, key, bound) for bound in bounds)
    if low >= high:
        raise CatalogueError(f"{where}: {key} has low {low:g}, which is not below high {high:g}")
    return low, high


def _check_texts(where: str, units: tuple[Unit, ...]) -> None:
    owner: dict[str, str] = {}
    for unit in units:
        for text in sorted(unit.texts):
            if text in owner:
                raise CatalogueError(f"{where}: the text {text!r} means both {owner[text]} and {unit.name}")
            owner[text] = unit.name
