"""Reads FHIR R4 Encounters and Patients as the stays and patients that `cohort` checks."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flows.icu.counts import Counts
from flows.icu.disclosure import told
from flows.sources.fhir_resources import frame_of, read_resources
from flows.sources.fhir_table import FhirTable, fhir_id, fold_name, reference_id
from flows.sources.fhir_versions import Versions, find_versions
from flows.sources.files import TableError
from flows.sources.objects import SourcePath

# Statuses of an encounter that has not taken place (https://hl7.org/fhir/R4/valueset-encounter-status.html).
_NOT_BEGUN = frozenset({"planned", "cancelled"})
# Statuses of a location where the patient has not been.
_NOT_THERE = frozenset({"planned", "reserved"})
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
# Dispositions of a death (http://terminology.hl7.org/CodeSystem/discharge-disposition), and other words in use.
_EXPIRED = frozenset({"exp", "expired", "died", "dead", "deceased"})
_DAY = pd.Timedelta(days=1)
_NO_ID, _OLDER = "without an id; left out", "a later version is there, and counts instead"
_TIED = "several of the same id, and nothing says which one is later"
_SHOWN = 5


@dataclass(frozen=True)
class Resources:
    """The resources of one kind that were read.

    Attributes:
        frame: One row for each resource that counts.
        left_out: The numbers of other rows, by the reason why they do not count.
        notes: Other numbers, by name.
        warnings: Messages that a person should read. They name files and lines, never their content.
    """

    frame: pd.DataFrame
    left_out: Counts
    notes: Counts
    warnings: list[str]


def read_encounters(
    paths: list[SourcePath],
    table: FhirTable,
    *,
    versions: Versions | None = None,
    locations: Set[int] = frozenset(),
    all_are_stays: bool = False,
) -> Resources:
    """The encounters that are ICU stays, in the columns of `icu/icustays`.

    An encounter whose class or type is one of `stay_codes` is one stay. Any other encounter has a stay for each
    uninterrupted time in ICU locations. If there are no `stay_codes`, and no encounter names an ICU location, every
    encounter counts as a stay, and their number is noted.

    Args:
        paths: The Encounter files.
        table: The table that says what an ICU is.
        versions: The superseded lines. If None, they are found in these files.
        locations: The ids of ICU Locations.
        all_are_stays: Whether the files have ICU stays only, as their names say.

    Returns:
        The stays. `intime` and `outtime` are the period, null if it has dates without times. `hadm_id` is the encounter
        of which this one is part. Left out are `entered_in_error`, `superseded` (there is a later version),
        `not_a_stay` (not in the table by class, type or location, or not begun) and `several_rows` (versions that
        contradict each other, without a sign which is later). `any_encounter` notes stays that nothing marks as such.

    Raises:
        TableError: A file cannot be read, or a line is not an Encounter.
    """
    versions = find_versions(paths, "Encounter") if versions is None else versions
    counts = dict.fromkeys(("entered_in_error", "superseded", "not_a_stay", "several_rows"), 0)
    rows, others = [], []
    tied: dict[int, list[list[tuple[Any, ...]]]] = {}
    lines: dict[str, list[str]] = {_NO_ID: [], _OLDER: [], _TIED: []}
    for path in paths:
        for number, encounter in read_resources(path, "Encounter"):
            line = f"line {number} of {path}"
            try:
                if encounter.get("status") == "entered-in-error":
                    counts["entered_in_error"] += 1
                    continue
                if number in versions.superseded.get(path, ()):
                    counts["superseded"] += 1
                    lines[_OLDER].append(line)
                    continue
                begun = encounter.get("status") not in _NOT_BEGUN
                is_stay = begun and (all_are_stays if not table.stay_codes else _has_code(encounter, table))
                found = [_stay(encounter, table)] if is_stay else _in_icu(encounter, table, locations) if begun else []
                if not found:
                    counts["not_a_stay"] += 1
                    # It may still count as a stay, if nothing in the source distinguishes stays from other encounters.
                    others += [(_stay(encounter, table), line)] if begun and not table.stay_codes else []
                    continue
            except (ValueError, TypeError, AttributeError):
                problem = f"{path}: line {number} has a time or an element that is not of FHIR R4"
            else:
                if number in versions.tied.get(path, ()):
                    lines[_TIED].append(line)
                    tied.setdefault(fhir_id(encounter["id"]), []).append(found)
                else:
                    rows += found
                    lines[_NO_ID] += [line] if _stay_id(encounter) is None else []
                continue
            raise TableError(problem)
    taken = [] if rows or tied else others
    counts["not_a_stay"] -= len(taken)
    rows += [row for row, _ in taken]
    lines[_NO_ID] += [line for row, line in taken if row[1] is None]
    for same in tied.values():
        if all(found == same[0] for found in same):
            rows += [row for found in same for row in found]  # equal rows, which the cohort counts as repeated
        else:
            counts["several_rows"] += sum(map(len, same))
    notes = {"any_encounter": len(taken)}
    warnings = [_said("Encounter", what, where) for what, where in lines.items() if where]
    if taken:
        warnings.append(
            f"every Encounter was taken for an ICU stay ({told(len(taken))} of them): nothing says which ones are; "
            "set stay_codes or stay_locations in a copy of fhir.toml, and pass it as fhir_table (--fhir-table)"
        )
    return Resources(frame_of(rows, _STAY), counts, notes, warnings)


def read_locations(paths: list[SourcePath], table: FhirTable) -> set[int]:
    """The ids of ICU Locations, by the table's `stay_locations`. A bed belongs to an ICU if its ward does."""
    part_of: dict[int, int | None] = {}
    found = set()
    for path in paths:
        for _, location in read_resources(path, "Location"):
            if not isinstance(location.get("id"), str):
                continue
            number = fhir_id(location["id"])
            part_of[number] = reference_id(location.get("partOf"), "Location")
            concepts = [*location.get("type", []), location.get("physicalType", {})]
            if _names(concepts, location.get("name"), f"Location/{location['id']}") & table.stay_locations:
                found.add(number)
    for number in part_of:
        above, seen = part_of[number], {number}
        while above is not None and above not in seen:
            if above in found:
                found.add(number)
            seen.add(above)
            above = part_of.get(above)
    return found


def read_patients(paths: list[SourcePath], table: FhirTable) -> Resources:
    """The patients, in the columns of `hosp/patients`. `dob` is null unless it has a day.

    `is_deceased` is null if the record does not say. If the death is a date without a time, `deathtime` is null and
    `deathday` is set. `patient_no_id` and `patient_superseded` are noted. If versions contradict each other, without a
    sign which is later, the cohort uses none of them.
    """
    rows = []
    notes = {"patient_no_id": 0, "patient_superseded": 0}
    versions = find_versions(paths, "Patient")
    lines: dict[str, list[str]] = {_NO_ID: [], _OLDER: []}
    for path in paths:
        for number, patient in read_resources(path, "Patient"):
            line = f"line {number} of {path}"
            if number in versions.superseded.get(path, ()):
                notes["patient_superseded"] += 1
                lines[_OLDER].append(line)
                continue
            if not isinstance(patient.get("id"), str):
                notes["patient_no_id"] += 1
                lines[_NO_ID].append(line)
                continue
            born = str(patient.get("birthDate"))
            dob = pd.to_datetime(born, format="%Y-%m-%d", errors="coerce")
            try:
                death = _death(patient, table)
            except (ValueError, TypeError):
                problem = f"{path}: line {number} has a time that is not of FHIR R4"
            else:
                rows.append((fhir_id(patient["id"]), _GENDERS.get(str(patient.get("gender"))), dob, *death))
                continue
            raise TableError(problem)
    frame = frame_of(rows, _PATIENT).assign(anchor_age=np.nan, anchor_year=np.nan)
    return Resources(frame, {}, notes, [_said("Patient", what, where) for what, where in lines.items() if where])


def read_dispositions(
    paths: list[SourcePath], table: FhirTable, versions: Versions | None = None
) -> dict[int, tuple[bool | None, Any]]:
    """For each encounter, whether the patient had died (None if the encounter does not say), and the period's end."""
    superseded = (find_versions(paths, "Encounter") if versions is None else versions).superseded
    ends: dict[int, tuple[bool | None, Any]] = {}
    for path in paths:
        for number, encounter in read_resources(path, "Encounter"):
            if number in superseded.get(path, ()) or encounter.get("status") == "entered-in-error":
                continue
            try:
                disposition = encounter.get("hospitalization", {}).get("dischargeDisposition")
                end = table.time(encounter.get("period", {}).get("end"))
                ends[fhir_id(encounter["id"])] = (_has_died(disposition) if disposition else None, end)
            except (KeyError, ValueError, TypeError, AttributeError):
                continue  # `read_encounters` reports what is wrong with a stay, and other encounters are not needed
    return ends


def with_deaths(
    stays: pd.DataFrame, patients: pd.DataFrame | None, ends: dict[int, tuple[bool | None, Any]]
) -> pd.DataFrame:
    """The stays with `hospital_expire_flag` and `deathtime`, for `cohort.build_cohort`.

    The discharge disposition decides, of the stay's Encounter or of the Encounter of which it is part. Without one, a
    patient who died before that Encounter's end died in the hospital, and a patient who is not deceased did not.

    Args:
        stays: The result of `read_encounters`.
        patients: The result of `read_patients`.
        ends: The result of `read_dispositions`.
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
    """Whether a death is between a stay's beginning and the end of the hospital's encounter. None if unknown."""
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


def _has_code(encounter: dict[str, Any], table: FhirTable) -> bool:
    concepts = [*encounter.get("type", []), encounter.get("serviceType", {})]
    codings = [encounter.get("class", {}), *(coding for concept in concepts for coding in concept.get("coding", []))]
    return any(f"{coding.get('system', '')}|{coding.get('code', '')}" in table.stay_codes for coding in codings)


def _names(concepts: list[dict[str, Any]], *names: str | None) -> set[str]:
    """The texts by which `stay_locations` may name a location."""
    codes = [
        f"{coding.get('system', '')}|{coding.get('code', '')}"
        for concept in concepts
        for coding in concept.get("coding", [])
    ]
    return {fold_name(name) for name in (*codes, *names) if name}


def _stay_id(encounter: dict[str, Any]) -> int | None:
    text = encounter.get("id")
    return fhir_id(text) if isinstance(text, str) else None


def _stay(encounter: dict[str, Any], table: FhirTable) -> tuple[Any, ...]:
    period = encounter.get("period", {})
    places = [place.get("location", {}).get("display") for place in encounter.get("location", [])]
    return (
        reference_id(encounter.get("subject"), "Patient"),
        _stay_id(encounter),
        reference_id(encounter.get("partOf"), "Encounter"),
        table.time(period.get("start")),
        table.time(period.get("end")),
        places[0] if places else None,
    )


def _in_icu(encounter: dict[str, Any], table: FhirTable, icu: Set[int]) -> list[tuple[Any, ...]]:
    """One stay for each uninterrupted time in an ICU. Beds that follow each other without a gap are one stay."""
    places, whole = encounter.get("location", []), encounter.get("period", {})
    spans = []
    for place in places:
        reference = place.get("location", {})
        names = _names([place.get("physicalType", {})], reference.get("display"), reference.get("reference"))
        is_icu = names & table.stay_locations or reference_id(reference, "Location") in icu
        if is_icu and place.get("status") not in _NOT_THERE:
            period = place.get("period") or (whole if len(places) == 1 else {})
            end = table.time(period.get("end")) or table.time(whole.get("end"))
            spans.append((table.time(period.get("start")), end, reference.get("display")))
    stays: list[list[Any]] = []
    for begin, end, display in sorted(spans, key=lambda span: (span[0] is None, span[0])):
        last = stays[-1] if stays else None
        if last and begin is not None and last[0] is not None and (last[1] is None or begin <= last[1]):
            last[1] = None if end is None or last[1] is None else max(last[1], end)
        else:
            stays.append([begin, end, display])
    number = _stay_id(encounter)
    who = reference_id(encounter.get("subject"), "Patient")
    return [
        (who, None if number is None else fhir_id(f"{encounter['id']}@{begin}"), number, begin, end, display)
        for begin, end, display in stays
    ]


def _said(kind: str, what: str, lines: list[str]) -> str:
    more = f" and others ({told(len(lines) - _SHOWN)})" if len(lines) > _SHOWN else ""
    return f"{kind}: {', '.join(lines[:_SHOWN])}{more}: {what}"
