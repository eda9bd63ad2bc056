"""FHIR R4 Encounters and Patients as the stays and patients that `cohort` checks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.icu.counts import Counts
from flows.sources.fhir import read_resources
from flows.sources.fhir_table import FhirTable, fhir_id, reference_id
from flows.sources.tables import TableError

# Statuses of an encounter that did not, or not yet, take place (https://hl7.org/fhir/R4/valueset-encounter-status.html).
_NOT_BEGUN = frozenset({"planned", "cancelled"})
_GENDERS = {"male": "M", "female": "F"}
_STAY = {
    "subject_id": "Int64",
    "stay_id": "Int64",
    "hadm_id": "Int64",
    "intime": "datetime64[us]",
    "outtime": "datetime64[us]",
    "first_careunit": "str",
}
_PATIENT = {"subject_id": "Int64", "gender": "str", "dob": "datetime64[us]"}


def read_encounters(paths: list[Path], table: FhirTable) -> tuple[pd.DataFrame, Counts]:
    """Read the encounters that are ICU stays, in the columns of `icu/icustays`.

    Returns:
        The stays: `intime` and `outtime` are the period, null where it has dates alone; `hadm_id` is what the encounter
        is part of. And the counts of what was left out: `entered_in_error`, and `not_a_stay` (another class or type
        than the table's, or not begun).

    Raises:
        TableError: A file cannot be read, or a line is not such a resource.
    """
    rows, counts = [], {"entered_in_error": 0, "not_a_stay": 0}
    for path in paths:
        for number, encounter in read_resources(path, "Encounter"):
            try:
                if encounter.get("status") == "entered-in-error":
                    counts["entered_in_error"] += 1
                elif encounter.get("status") in _NOT_BEGUN or not _is_stay(encounter, table):
                    counts["not_a_stay"] += 1
                else:
                    rows.append(_stay(encounter, table))
                continue
            except (ValueError, TypeError, AttributeError):
                problem = f"{path}: line {number} has a time or an element that is not of FHIR R4"
            raise TableError(problem)
    return _frame(rows, _STAY), counts


def read_patients(paths: list[Path]) -> pd.DataFrame:
    """Read the patients, in the columns of `hosp/patients`; `dob` is null unless it has a day."""
    rows = []
    for path in paths:
        for _, patient in read_resources(path, "Patient"):
            born = str(patient.get("birthDate"))
            dob = pd.to_datetime(born, format="%Y-%m-%d", errors="coerce")
            rows.append((fhir_id(patient["id"]), _GENDERS.get(patient.get("gender", "")), dob))
    return _frame(rows, _PATIENT).assign(anchor_age=np.nan, anchor_year=np.nan)


def _frame(rows: list[tuple[Any, ...]], dtypes: dict[str, str]) -> pd.DataFrame:
    # Column by column: ids with a null among them would pass through floats, which round the hashed ones.
    columns = zip(*rows, strict=True) if rows else [()] * len(dtypes)
    series = zip(dtypes.items(), columns, strict=True)
    return pd.DataFrame({name: pd.Series(list(cells), dtype=dtype) for (name, dtype), cells in series})


def _is_stay(encounter: dict[str, Any], table: FhirTable) -> bool:
    if not table.stay_codes:
        return True
    concepts = [*encounter.get("type", []), encounter.get("serviceType", {})]
    codings = [encounter.get("class", {}), *(coding for concept in concepts for coding in concept.get("coding", []))]
    return any(f"{coding.get('system', '')}|{coding.get('code', '')}" in table.stay_codes for coding in codings)


def _stay(encounter: dict[str, Any], table: FhirTable) -> tuple[Any, ...]:
    period = encounter.get("period", {})
    places = [place.get("location", {}).get("display") for place in encounter.get("location", [])]
    return (
        reference_id(encounter.get("subject"), "Patient"),
        fhir_id(encounter["id"]),
        reference_id(encounter.get("partOf"), "Encounter"),
        table.time(period.get("start")),
        table.time(period.get("end")),
        places[0] if places else None,
    )
