"""The MEDS table (`meds.toml`, which explains its keys): the meaning of codes."""

import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from flows.icu.catalogue import Catalogue
from flows.icu.toml_file import read_toml

DEFAULT_MEDS_TABLE = Path(__file__).with_name("meds.toml")
_LISTS = (
    "items",
    "unknown_units",
    "stay_begins",
    "stay_ends",
    "hospital_ends",
    "hospital_deaths",
    "births",
    "deaths",
    "stay_columns",
    "unit_columns",
    "charttime_columns",
    "storetime_columns",
)
_COHORT_KEYS = ("stay_begins", "stay_ends", "hospital_ends", "births", "deaths")
_TABLES = ("genders", "codes")
_FIELDS = {"item": r"[1-9]\d{0,17}", "loinc": r"\d{1,7}-\d", "unit": r".*"}
_FIELD = re.compile(r"\{(\w+)\}")
# The same ids of LOINC items as in fhir.toml.
_LOINC = 1_000_000_000


class MedsTableError(ValueError):
    """The MEDS table is not valid. The message names the key."""


@dataclass(frozen=True)
class MedsTable:
    """The content of `meds.toml`, which explains the keys.

    Attributes:
        forms: The key `items`, as patterns.
        lists: The keys with lists.
        genders: From code to M or F.
        codes: From code to an item id or a variable's name.
        sha256: The digest of the file.
    """

    forms: tuple[re.Pattern[str], ...]
    lists: dict[str, tuple[str, ...]]
    genders: dict[str, str]
    codes: dict[str, int | str]
    sha256: str

    def is_one_of(self, code: str, key: str) -> bool:
        """Whether a code matches the list of a key."""
        return any(fnmatchcase(code, pattern) for pattern in self.lists[key])

    def meaning(self, code: str) -> str:
        """The key of a code that is about the cohort. Empty for any other code."""
        if code in self.genders:
            return "genders"
        return next((key for key in _COHORT_KEYS if self.is_one_of(code, key)), "")

    def item(self, code: str, catalogue: Catalogue) -> tuple[int | None, str | None]:
        """The item of a code, or None, and the text of its unit if the code has one.

        Raises:
            MedsTableError: The table names a variable that the catalogue does not have.
        """
        if (known := self.codes.get(code)) is not None:
            return (known if isinstance(known, int) else self._first_item(code, known, catalogue)), None
        for form in self.forms:
            if found := form.fullmatch(code):
                fields = found.groupdict()
                unit = fields.get("unit")
                item = int(fields["item"]) if "item" in fields else _LOINC + int(fields["loinc"].replace("-", ""))
                return item, None if unit in self.lists["unknown_units"] else unit
        return None, None

    def _first_item(self, code: str, name: str, catalogue: Catalogue) -> int:
        for variable in catalogue.variables:
            if variable.name == name:
                return next(iter(variable.items))
        raise MedsTableError(f"meds table: codes: {code!r} is of {name}, which is no variable of the catalogue")


def load_meds_table(path: str | Path = DEFAULT_MEDS_TABLE) -> MedsTable:
    """Load and check a MEDS table.

    Raises:
        MedsTableError: There is no such file, it is not TOML, or a key is unknown, missing, of the wrong type, or has
            a form without an item.
    """
    table, data = read_toml(path, "table of MEDS codes", MedsTableError)
    for key in sorted(table.keys() ^ {*_LISTS, *_TABLES}):
        raise MedsTableError(f"{path}: {'unknown' if key in table else 'missing'} key {key}")
    for key in _LISTS:
        if not isinstance(table[key], list) or not all(isinstance(text, str) for text in table[key]):
            raise MedsTableError(f"{path}: {key} has to be a list of texts")
    for key, kinds in {"genders": str, "codes": int | str}.items():
        values = table[key].values() if isinstance(table[key], dict) else [None]
        if any(not isinstance(value, kinds) or isinstance(value, bool) for value in values):
            raise MedsTableError(f"{path}: {key} has to be a table of codes")
    lists = {key: tuple(table[key]) for key in _LISTS}
    forms = tuple(_form(form, path) for form in lists["items"])
    return MedsTable(forms, lists, table["genders"], table["codes"], hashlib.sha256(data).hexdigest())


def _form(text: str, path: Any) -> re.Pattern[str]:
    names = _FIELD.findall(text)
    if len({"item", "loinc"} & set(names)) != 1 or not set(names) <= set(_FIELDS) or len(set(names)) < len(names):
        raise MedsTableError(f"{path}: items: {text!r} needs {{item}} or {{loinc}}, and may have {{unit}}")
    parts = _FIELD.split(text)
    # Every second part is the name of a field.
    pattern = [f"(?P<{part}>{_FIELDS[part]})" if place % 2 else re.escape(part) for place, part in enumerate(parts)]
    return re.compile("".join(pattern), re.DOTALL)
