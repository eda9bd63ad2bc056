"""What a source folder holds: MIMIC-IV tables, FHIR R4 exports, or FHIR observations beside MIMIC-IV's stays.

icu/icustays, icu/chartevents, hosp/…                  as .csv, .csv.gz or .parquet
*Observation*.ndjson, *Encounter*.ndjson, *Patient*.ndjson     any number of each, plain or .gz
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
from flows.sources.mimic import EVENT_TABLES, ingest, read_cohort
from flows.sources.tables import TableError, TableNotFoundError, find_table

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
    tables = {table: path for table, name in EVENT_TABLES.items() if (path := _find(root, name))}
    observations = _ndjson(root, "*Observation*")
    if "chartevents" in tables and observations:
        raise TableError(f"{root}: both icu/chartevents and FHIR observations; their values would count twice")
    if not observations:
        find_table(root, EVENT_TABLES["chartevents"])
    events = [Events(table, str(path), table) for table, path in tables.items()]
    events += [Events(OBSERVATIONS, str(path), f"{OBSERVATIONS}-{i:05d}") for i, path in enumerate(observations)]
    stays = [path for name in _STAY_TABLES if (path := _find(root, name))]
    if _find(root, "icu/icustays") is None:
        if not observations:
            find_table(root, "icu/icustays")
        encounters = _encounters(root, fhir)
        if not encounters:
            raise TableNotFoundError(f"{root}: no stays; looked for icu/icustays and *Encounter*.ndjson, .ndjson.gz")
        stays = [*encounters, *_ndjson(root, "*Patient*")]
    return Source(root, events, stays)


def read_stays(root: str | Path, fhir: FhirTable) -> Cohort:
    """Read the cohort: of `icu/icustays` where there is one, else of the Encounters (and Patients).

    Raises:
        TableError: A file is missing or cannot be read.
    """
    root = Path(root)
    if _find(root, "icu/icustays") is not None or not (encounters := _encounters(root, fhir)):
        return read_cohort(root)
    stays, left_out = read_encounters(encounters, fhir)
    files = _ndjson(root, "*Patient*")
    patients = read_patients(files, fhir) if files else None
    stays = with_deaths(stays, patients, read_dispositions(_ndjson(root, "*Encounter*"), fhir))
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
    return ingest(root, events.table, catalogue)


def _find(root: Path, name: str) -> Path | None:
    try:
        return find_table(root, name)
    except TableNotFoundError:
        return None


def _encounters(root: Path, fhir: FhirTable) -> list[Path]:
    return next((found for pattern in fhir.stay_files if (found := _ndjson(root, pattern))), [])


def _ndjson(root: Path, pattern: str) -> list[Path]:
    return sorted(path for suffix in (".ndjson", ".ndjson.gz") for path in root.glob(pattern + suffix))
