"""What a source folder holds: MIMIC-IV tables, FHIR R4 exports, or FHIR observations beside MIMIC-IV's stays.

icu/icustays, icu/chartevents, hosp/…     CSV, plain or compressed, or Parquet: a file, numbered parts, or a folder
*Observation*, *Encounter*, *Patient*     .ndjson or .jsonl, plain or compressed, any number of each, at any depth
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flows.icu.catalogue import Catalogue
from flows.icu.cohort import Cohort, build_cohort
from flows.icu.counts import Counts, add_counts
from flows.icu.raw import OBSERVATIONS
from flows.sources.fhir import ingest_observations
from flows.sources.fhir_cohort import read_dispositions, read_encounters, read_patients, with_deaths
from flows.sources.fhir_table import FhirTable
from flows.sources.files import TableError, TableNotFoundError, find_resources, find_table, what_is_there
from flows.sources.mimic import EVENT_TABLES, ingest, read_cohort

_STAY_TABLES = ("icu/icustays", "hosp/patients", "hosp/admissions")


@dataclass(frozen=True)
class Events:
    """A file of events, which is read by one task.

    Attributes:
        table: `chartevents`, `labevents` or `observations`.
        path: The file.
        name: A name of its own within the source, for notes and parts.
    """

    table: str
    path: str
    name: str


@dataclass(frozen=True)
class Source:
    """A source folder's files.

    Attributes:
        root: The folder.
        events: Files of events.
        stays: Files that the cohort is made of.
    """

    root: Path
    events: list[Events]
    stays: list[Path]

    @property
    def paths(self) -> list[Path]:
        """All files that a run depends on."""
        return [*self.stays, *(Path(events.path) for events in self.events)]

    @property
    def is_fhir(self) -> bool:
        """Whether anything in it is FHIR."""
        return any(events.table == OBSERVATIONS for events in self.events)


def find_source(root: str | Path, fhir: FhirTable) -> Source:
    """Find out what a folder holds.

    Raises:
        TableNotFoundError: There are no events, or no stays.
        TableError: The events are there twice, as a table and as FHIR.
    """
    root = Path(root).resolve()
    tables = {table: files for table, name in EVENT_TABLES.items() if (files := _find(root, name))}
    observations = find_resources(root, "*Observation*")
    if "chartevents" in tables and observations:
        raise TableError(f"{root}: both icu/chartevents and FHIR observations; their values would count twice")
    if not observations:
        find_table(root, EVENT_TABLES["chartevents"])
    events = [
        Events(table, str(path), table if len(files) == 1 else f"{table}-{i:05d}")
        for table, files in tables.items()
        for i, path in enumerate(files)
    ]
    events += [Events(OBSERVATIONS, str(path), f"{OBSERVATIONS}-{i:05d}") for i, path in enumerate(observations)]
    stays = [path for name in _STAY_TABLES for path in _find(root, name)]
    if not _find(root, "icu/icustays"):
        if not observations:
            find_table(root, "icu/icustays")
        encounters = _encounters(root, fhir)
        if not encounters:
            looked = f"looked for icu/icustays and {', '.join(fhir.stay_files)} as .ndjson or .jsonl"
            raise TableNotFoundError(f"{root}: no stays; {looked}; {what_is_there(root)}")
        stays = [*encounters, *find_resources(root, "*Patient*")]
    return Source(root, events, stays)


def read_stays(root: str | Path, fhir: FhirTable) -> Cohort:
    """Read the cohort: of `icu/icustays` where there is one, else of the Encounters (and Patients).

    Raises:
        TableError: A file is missing or cannot be read.
    """
    root = Path(root)
    if _find(root, "icu/icustays") or not (encounters := _encounters(root, fhir)):
        return read_cohort(root)
    stays, left_out = read_encounters(encounters, fhir)
    files = find_resources(root, "*Patient*")
    patients = read_patients(files, fhir) if files else None
    stays = with_deaths(stays, patients, read_dispositions(find_resources(root, "*Encounter*"), fhir))
    # An export of some resources may have no Patient for a stay; only MIMIC's table of patients names them all.
    cohort = build_cohort(stays, patients, names_all_subjects=False)
    counts = add_counts(cohort.counts, {"rows_in": sum(left_out.values())}, left_out)
    return Cohort(cohort.stays, cohort.outcomes, counts)


def ingest_events(
    events: Events, root: Path, catalogue: Catalogue, fhir: FhirTable
) -> Iterator[tuple[pd.DataFrame, Counts]]:
    """Read a file of events, whatever it is; see `ingest.ingest`."""
    if events.table == OBSERVATIONS:
        return ingest_observations(Path(events.path), catalogue, fhir)
    return ingest(root, events.table, catalogue, file=Path(events.path))


def _find(root: Path, name: str) -> list[Path]:
    try:
        return find_table(root, name)
    except TableNotFoundError:
        return []


def _encounters(root: Path, fhir: FhirTable) -> list[Path]:
    return next((found for pattern in fhir.stay_files if (found := find_resources(root, pattern))), [])
