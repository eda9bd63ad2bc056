"""FHIR R4 Encounters and Patients as the stays and patients that `cohort` checks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flows.icu.counts import Counts
from flows.sources.fhir import read_resources
from flows.sources.fhir_table import FhirTable, fhir_id, reference_id
from flows.sources.files import TableError

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
_PATIENT = {
    "subject_id": "Int64",
    "gender": "str",
    "dob": "datetime64[us]",
    "is_deceased": "boolean",
    "deathtime": "datetime64[us]",
    "deathday": "datetime64[us]",
}
# Dispositions of a discharge (http://terminology.hl7.org/CodeSystem/discharge-disposition), and what others write.
_EXPIRED = frozenset({"exp", "expired", "died", "dead", "deceased"})
_DAY = pd.Timedelta(days=1)


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


def read_patients(paths: list[Path], table: FhirTable) -> pd.DataFrame:
    """Read the patients, in the columns of `hosp/patients`; `dob` is null unless it has a day.

    `is_deceased` is null where a patient's record says nothing of it; `deathtime` is null, and `deathday` is not, where
    it has a date alone.
    """
    rows = []
    for path in paths:
        for _, patient in read_resources(path, "Patient"):
            born = str(patient.get("birthDate"))
            dob = pd.to_datetime(born, format="%Y-%m-%d", errors="coerce")
            rows.append((fhir_id(patient["id"]), _GENDERS.get(patient.get("gender", "")), dob, *_death(patient, table)))
    return _frame(rows, _PATIENT).assign(anchor_age=np.nan, anchor_year=np.nan)


def read_dispositions(paths: list[Path], table: FhirTable) -> dict[int, tuple[bool | None, Any]]:
    """Read how the encounters ended: whether the patient had died, None where it is not told, and the period's end."""
    ends: dict[int, tuple[bool | None, Any]] = {}
    for path in paths:
        for _, encounter in read_resources(path, "Encounter"):
            try:
                disposition = encounter.get("hospitalization", {}).get("dischargeDisposition")
                end = table.time(encounter.get("period", {}).get("end"))
                ends[fhir_id(encounter["id"])] = (_has_died(disposition) if disposition else None, end)
            except (KeyError, ValueError, TypeError, AttributeError):
                continue  # `read_encounters` says what is wrong with a stay; of the others nothing is needed
    return ends


def with_deaths(
    stays: pd.DataFrame, patients: pd.DataFrame | None, ends: dict[int, tuple[bool | None, Any]]
) -> pd.DataFrame:
    """Add `hospital_expire_flag` and `deathtime` to the stays, as `cohort.build_cohort` takes them.

    The discharge disposition of the stay's Encounter, or of the one that it is part of, decides. Without one, a patient
    who died before that Encounter's end died in the hospital, and one who is not deceased did not.

    Args:
        stays: As `read_encounters` returns them.
        patients: As `read_patients` returns them.
        ends: As `read_dispositions` returns them.
    """
    known: dict[Any, tuple[Any, Any, Any]] = {}
    if patients is not None:
        deaths = (patients[column] for column in ("is_deceased", "deathtime", "deathday"))
        known = dict(zip(patients["subject_id"], zip(*deaths, strict=True), strict=True))
    rows = []
    for stay, part_of, subject, intime, outtime in zip(
        stays["stay_id"], stays["hadm_id"], stays["subject_id"], stays["intime"], stays["outtime"], strict=True
    ):
        is_deceased, time, day = known.get(subject, (pd.NA, pd.NaT, pd.NaT))
        of_stay = ends.get(stay, (None, None))
        of_hospital = (None, None) if pd.isna(part_of) else ends.get(part_of, (None, None))
        died = of_hospital[0] if of_hospital[0] is not None else of_stay[0]
        end = pd.Timestamp(of_hospital[1]) if of_hospital[1] is not None else outtime
        if died is None and is_deceased is not pd.NA:
            died = bool(is_deceased) and _is_within(time, day, intime, end)
        rows.append((float("nan") if died is None else float(died), time if died else pd.NaT))
    flag, death = zip(*rows, strict=True) if rows else ((), ())
    return stays.assign(
        hospital_expire_flag=pd.Series(list(flag), dtype="float64", index=stays.index),
        deathtime=pd.Series(list(death), dtype="datetime64[us]", index=stays.index),
    )


def _is_within(time: Any, day: Any, intime: Any, end: Any) -> bool | None:
    """Whether a death lies between a stay's beginning and the end of the hospital's encounter; None: nobody knows."""
    if not pd.isna(time):
        return bool(time >= intime and (pd.isna(end) or time <= end))
    if pd.isna(day):
        return None
    return bool(day + _DAY > intime and (pd.isna(end) or day <= end))


def _has_died(disposition: dict[str, Any]) -> bool:
    texts = [disposition.get("text", "")]
    for coding in disposition.get("coding", []):
        texts += [coding.get("code", ""), coding.get("display", "")]
    return any(word in _EXPIRED for text in texts for word in str(text).casefold().split()[:1])


def _death(patient: dict[str, Any], table: FhirTable) -> tuple[Any, Any, Any]:
    text = patient.get("deceasedDateTime")
    if text is None:
        return patient.get("deceasedBoolean"), pd.NaT, pd.NaT
    time = table.time(text)
    day = pd.to_datetime(text, format="%Y-%m-%d", errors="coerce") if time is None else pd.NaT
    return True, pd.NaT if time is None else time, day


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
