"""The FHIR table (`fhir.toml`, which explains its keys), and the conversion of FHIR's ids and times for the steps."""

import datetime as dt
import functools
import hashlib
import re
import zoneinfo
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.icu.toml_file import read_toml

DEFAULT_FHIR_TABLE = Path(__file__).with_name("fhir.toml")
_KEYS = {"timezone": str, "item_systems": list, "stay_files": list, "stay_codes": list, "codes": dict}
# Keys that are new, so tables for earlier versions do not have them.
_LATER_KEYS = {"stay_locations": list}

# FHIR's dateTime with a time (https://hl7.org/fhir/R4/datatypes.html#dateTime). FHIR requires zone and seconds, but we
# accept texts without them, and zones without a colon. `fromisoformat` alone would accept other forms of ISO 8601.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
_REFERENCE = re.compile(r"(?:^|/)(?P<type>[A-Za-z]+)/(?P<id>[A-Za-z0-9.\-]{1,64})(?:/_history/[A-Za-z0-9.\-]+)?$")
_URN = re.compile(r"(?i:urn:(?:uuid|oid):)(?P<id>[A-Za-z0-9.\-]{1,64})")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# A number of up to 18 digits stays itself. Hashes are above all of these numbers.
_NUMBER = re.compile(r"[1-9]\d{0,17}")
_HASHED = 1 << 62


class FhirTableError(ValueError):
    """The FHIR table is not valid. The message names the key."""


@dataclass(frozen=True)
class FhirTable:
    """The content of `fhir.toml`.

    Attributes:
        items: From (system, code) to item id.
        sha256: The digest of the file.
    """

    timezone: zoneinfo.ZoneInfo
    item_systems: frozenset[str]
    stay_files: tuple[str, ...]
    stay_codes: frozenset[str]
    stay_locations: frozenset[str]
    items: dict[tuple[str, str], int]
    sha256: str

    def item(self, concept: Any) -> int | None:
        """The catalogue's item for a CodeableConcept, from its first known coding. None if there is none."""
        for coding in concept.get("coding", ()) if isinstance(concept, dict) else ():
            system, code = coding.get("system", ""), coding.get("code", "")
            if (item := self.items.get((system, code))) is not None:
                return item
            if system in self.item_systems and _NUMBER.fullmatch(code):
                return int(code)
        return None

    def time(self, text: str | None) -> dt.datetime | None:
        """A FHIR dateTime or instant in the zone's standard time, without daylight saving in summer.

        Hours then have equal length also in nights when clocks change, which matters for windows since admission.

        Returns:
            The time. None for no time, and for a date without a time: midnight would be a guess, and too early.

        Raises:
            ValueError: The text is not a time or date. It does not become null, or a value would count too early.
        """
        if text is None or _DATE.fullmatch(text):
            return None
        if not _TIME.fullmatch(text):
            raise ValueError
        # FHIR allows a leap second, and Python does not.
        is_leap = text[17:19] == "60"
        time = dt.datetime.fromisoformat(f"{text[:17]}59{text[19:]}" if is_leap else text)
        offset = time.utcoffset()
        shift = self.standard_offset - (self._offset(time) if offset is None else offset)
        return time.replace(tzinfo=None) + shift + dt.timedelta(seconds=is_leap)

    def times(self, clock: "pd.Series[pd.Timestamp]") -> "pd.Series[pd.Timestamp]":
        """Times of the zone's clocks in its standard time, as `time` converts a time without an offset.

        Args:
            clock: Naive times of a table in the same source as FHIR files.
        """
        if self.timezone.key == "UTC":
            return clock
        known = clock.dt.tz_localize(self.timezone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
        times = known.dt.tz_localize(None) + self.standard_offset
        # Times in hours that occur twice, or do not exist, when clocks change.
        odd = times.isna() & clock.notna()
        shifted = [time + (self.standard_offset - self._offset(time)) for time in clock[odd].dt.to_pydatetime()]
        elapsed = times.to_numpy("datetime64[us]").copy()
        elapsed[odd.to_numpy()] = np.array(shifted, dtype="datetime64[us]")
        return pd.Series(elapsed, index=clock.index, name=clock.name)

    @functools.cached_property
    def standard_offset(self) -> dt.timedelta:
        """The zone's offset without daylight saving. It is one for all years, so that all hours have equal length."""
        return min(_offset_at(self.timezone, dt.datetime(2100, month, 1), fold=0) for month in (1, 7))

    def _offset(self, clock: dt.datetime) -> dt.timedelta:
        """A clock's offset from UTC. In doubt it is standard time, the later of two, so no value counts too early."""
        return min(_offset_at(self.timezone, clock, fold) for fold in (0, 1))


def load_fhir_table(path: str | Path = DEFAULT_FHIR_TABLE) -> FhirTable:
    """Load and check a FHIR table.

    Raises:
        FhirTableError: There is no such file, it is not TOML, a key is unknown, missing or of the wrong type, or there
            is no such zone.
    """
    table, data = read_toml(path, "table of FHIR codes", FhirTableError)
    table = {key: kind() for key, kind in _LATER_KEYS.items()} | table
    keys = _KEYS | _LATER_KEYS
    for key in sorted(table.keys() ^ keys.keys()):
        raise FhirTableError(f"{path}: {'unknown' if key in table else 'missing'} key {key}")
    for key, kind in keys.items():
        values = table[key] if kind is list else []
        if not isinstance(table[key], kind) or not all(isinstance(value, str) for value in values):
            raise FhirTableError(f"{path}: {key} has the wrong type")
    items = {}
    for system, codes in table["codes"].items():
        for code, item in codes.items() if isinstance(codes, dict) else [("", None)]:
            if type(item) is not int or not 0 < item < 2**63:
                raise FhirTableError(f"{path}: codes of {system}: {code!r} has no item id")
            items[system, code] = item
    try:
        zone = zoneinfo.ZoneInfo(table["timezone"])
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise FhirTableError(f"{path}: there is no time zone {table['timezone']!r}") from None
    return FhirTable(
        timezone=zone,
        item_systems=frozenset(table["item_systems"]),
        stay_files=tuple(table["stay_files"]),
        stay_codes=frozenset(table["stay_codes"]),
        stay_locations=frozenset(fold_name(name) for name in table["stay_locations"]),
        items=items,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def fold_name(text: str) -> str:
    """A location's name or code in a form for comparison: case-folded, without surrounding white space."""
    return text.strip().casefold()


def _offset_at(zone: zoneinfo.ZoneInfo, clock: dt.datetime, fold: int) -> dt.timedelta:
    offset = clock.replace(tzinfo=zone, fold=fold).utcoffset()
    return dt.timedelta() if offset is None else offset


def canonical_id(text: str) -> str:
    """An id in one spelling: bundles may write a UUID as a URN, and in upper or lower case."""
    if found := _URN.fullmatch(text):
        text = found["id"]
    return text.lower() if _UUID.fullmatch(text) else text


@functools.lru_cache(maxsize=1 << 16)
def fhir_id(text: str) -> int:
    """A logical id as the whole number that the steps use as an id.

    A number of up to 18 digits stays itself, so that Observations match an `icu/icustays` in the same source. Any other
    id (a UUID) becomes a 62-bit hash above these numbers. The probability that two of 40 million ids share a hash is 2
    in 10,000.
    """
    text = canonical_id(text)
    if _NUMBER.fullmatch(text):
        return int(text)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return _HASHED | (int.from_bytes(digest) >> 2)


def unresolved(reference: Any) -> str:
    """The reason why `reference_id` finds no id: `conditional`, `contained`, `logical`, `absent` or `other`."""
    if reference is None:
        return "absent"
    text = reference.get("reference") if isinstance(reference, dict) else ""
    if text is None:
        return "logical" if "identifier" in reference else "other"
    if not isinstance(text, str):
        return "other"
    return "contained" if text.startswith("#") else "conditional" if "?" in text else "other"


def reference_id(reference: Any, kind: str) -> int | None:
    """The id in a Reference to a resource of this type. None for no reference, another type, or a contained one."""
    text = reference.get("reference", "") if isinstance(reference, dict) else ""
    if not isinstance(text, str):
        return None
    if _URN.fullmatch(text):
        return fhir_id(text)
    found = _REFERENCE.search(text)
    return fhir_id(found["id"]) if found and found["type"] == kind else None
