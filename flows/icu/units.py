"""Units: converts charted numbers to the canonical unit of their variable, as the catalogue says."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flows.icu.catalogue import Catalogue, fold_text

_UNKNOWN = -1


class UnitTable:
    """The catalogue as arrays, for looking up items and converting values.

    Attributes:
        names: The variables' names, in the catalogue's order.
        variable: For each item, in ascending order of ids, the index of its variable, in the smallest integer type.
        rank: For each item, its number in the order of the catalogue.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.names = catalogue.names
        items: list[tuple[int, int, int, int]] = []
        factors: list[tuple[float, float, float]] = []
        self._units_of_text: dict[str, list[tuple[int, int]]] = {}
        canonical = []
        for code, variable in enumerate(catalogue.variables):
            canonical.append(len(factors))
            index = {}
            for unit in variable.units:
                index[unit.name] = len(factors)
                for text in unit.texts:
                    self._units_of_text.setdefault(text, []).append((code, len(factors)))
                factors.append((unit.subtract, unit.multiply, unit.divide))
            for item, name in variable.items.items():
                items.append((item, code, _UNKNOWN if name is None else index[name], len(items)))
        items.sort()
        self._ids = np.array([item for item, *_ in items], dtype=np.int64)
        small = np.min_scalar_type(-len(catalogue.variables))
        self.variable: npt.NDArray[np.integer[Any]] = np.array([code for _, code, *_ in items], dtype=small)
        self._unit_of_item = np.array([unit for *_, unit, _ in items], dtype=np.int64)
        self.rank = np.array([rank for *_, rank in items], dtype=np.int64)
        self._subtract, self._multiply, self._divide = np.array(factors, dtype=np.float64).T
        self._canonical = np.array(canonical, dtype=np.int64)
        self._low = np.array([variable.low for variable in catalogue.variables])
        self._high = np.array([variable.high for variable in catalogue.variables])

    def find_items(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """The position of each item id among the catalogue's ids, and whether the catalogue has it."""
        position = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return position, self._ids[position] == ids

    def convert(
        self, position: npt.NDArray[np.intp], number: npt.NDArray[np.float64], text: "pd.Series[str]"
    ) -> tuple[npt.NDArray[np.float64], dict[str, npt.NDArray[np.bool_]]]:
        """The values in the canonical unit. Values that cannot be used become null.

        Args:
            position: The position of each row's item, from `find_items`.
            number: The charted values, which must be finite.
            text: The charted unit texts. They are used only for the items of `items_by_text`.

        Returns:
            The values, null if the unit is unknown or the value implausible. `converted`, `unknown_unit` and
            `implausible` flag the rows.
        """
        unit = self._unit_of_item[position]
        by_text = np.flatnonzero(unit == _UNKNOWN)
        unit[by_text] = self._units_of_texts(self.variable[position[by_text]], text.iloc[by_text])
        unknown = unit == _UNKNOWN
        variable = self.variable[position]
        # An unknown unit (-1) uses the last unit, and is nulled below. Overflow gives inf, which is implausible.
        with np.errstate(over="ignore"):
            value = (number - self._subtract[unit]) * self._multiply[unit] / self._divide[unit]
        implausible = ~unknown & ~((value >= self._low[variable]) & (value <= self._high[variable]))
        value[unknown | implausible] = np.nan
        converted = ~unknown & (unit != self._canonical[variable])
        return value, {"converted": converted, "unknown_unit": unknown, "implausible": implausible}

    def _units_of_texts(self, variable: npt.NDArray[np.integer[Any]], text: "pd.Series[str]") -> npt.NDArray[np.int64]:
        # There are many rows and few different texts, so fold each text once.
        codes, texts = pd.factorize(text)
        table = np.full((len(self.names), len(texts) + 1), _UNKNOWN, dtype=np.int64)
        for column, folded in enumerate(fold_text(one) for one in texts):
            for code, unit in self._units_of_text.get(folded, ()):
                table[code, column] = unit
        # A missing text has the code -1, and so selects the last column, which is always unknown.
        found: npt.NDArray[np.int64] = table[variable, codes]
        return found
