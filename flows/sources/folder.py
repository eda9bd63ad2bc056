"""Finds what a source folder has: MIMIC-IV tables, FHIR R4, FHIR observations with MIMIC-IV's stays, or MEDS.

icu/icustays, icu/chartevents, hosp/…     CSV, plain or compressed, or Parquet: a file, numbered parts, or a folder
*Observation*, *Encounter*, *Patient*     .ndjson or .jsonl, plain or compressed, any number of each, at any depth
data/**/*.parquet                         a MEDS dataset's shards
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flows.icu.catalogue import Catalogue
from flows.icu.cohort import Cohort, build_cohort
from flows.icu.counts import Counts, add_counts
from flows.icu.raw import OBSERVATIONS
from flows.sources.fhir import ingest_observations
from flows.sources.fhir_cohort import (
    read_dispositions,
    read_encounters,
    read_locations,
    read_patients,
    with_deaths,
)
from flows.sources.fhir_table import FhirTable, load_fhir_table
from flows.sources.fhir_versions import find_versions
from flows.sources.files import (
    TableError,
    TableNotFoundError,
    find_optional_table,
    find_resources,
    find_table,
    what_is_there,
)
from flows.sources.meds import find_shards, ingest_meds, read_meds_cohort
from flows.sources.meds_table import MedsTable, load_meds_table
from flows.sources.mimic import BATCHES_TOGETHER, EVENT_TABLES, ingest, read_cohort
from flows.sources.objects import SourcePath, as_source_path, path_below

_EVERY_ENCOUNTER = "*Encounter*"
_STAY_TABLES = ("icu/icustays", "hosp/patients", "hosp/admissions")


Codes = FhirTable | MedsTable


@dataclass(frozen=True)
class Events:
    """A file of events. One task reads it.

    Attributes:
        table: `chartevents`, `labevents` or `observations`.
        path: The file, relative to the source's root.
        name: A unique name within the source, for notes and stored rows.
    """

    table: str
    path: str
    name: str


@dataclass(frozen=True)
class Source:
    """A source folder's files.

    Attributes:
        root: The folder.
        events: The files of events.
        stays: The files from which the cohort is made.
        is_meds: Whether it is a MEDS dataset, whose shards have both.
    """

    root: SourcePath
    events: list[Events]
    stays: list[SourcePath]
    is_meds: bool = False

    @property
    def paths(self) -> list[SourcePath]:
        """All files on which a run depends."""
        return [*self.stays, *(self.root / events.path for events in self.events)]

    @property
    def is_fhir(self) -> bool:
        """Whether the source has FHIR files."""
        return not self.is_meds and any(events.table == OBSERVATIONS for events in self.events)


def find_source(root: str | SourcePath, fhir: FhirTable) -> Source:
    """The files of a source folder.

    Raises:
        TableNotFoundError: There are no events, or no stays.
        TableError: There are two kinds of events: a table, and FHIR or MEDS.
    """
    root = as_source_path(root)
    if isinstance(root, Path):
        root = root.resolve()
    tables = {table: files for table, name in EVENT_TABLES.items() if (files := find_optional_table(root, name))}
    observations = find_resources(root, "*Observation*")
    if "chartevents" in tables and observations:
        raise TableError(f"{root}: both icu/chartevents and FHIR observations; their values would count twice")
    if shards := find_shards(root):
        if tables or observations:
            raise TableError(f"{root}: both a MEDS dataset and other events; their values would count twice")
        events = [
            Events(OBSERVATIONS, path_below(path, root).as_posix(), f"meds-{i:05d}") for i, path in enumerate(shards)
        ]
        return Source(root, events, [], is_meds=True)
    if not observations:
        find_table(root, EVENT_TABLES["chartevents"])
    events = [
        Events(table, path_below(path, root).as_posix(), table if len(files) == 1 else f"{table}-{i:05d}")
        for table, files in tables.items()
        for i, path in enumerate(files)
    ]
    events += [
        Events(OBSERVATIONS, path_below(path, root).as_posix(), f"{OBSERVATIONS}-{i:05d}")
        for i, path in enumerate(observations)
    ]
    stays = [path for name in _STAY_TABLES for path in find_optional_table(root, name)]
    if not find_optional_table(root, "icu/icustays"):
        if not observations:
            find_table(root, "icu/icustays")
        encounters = _encounters(root, fhir)
        if not encounters:
            looked = f"looked for icu/icustays and {', '.join(fhir.stay_files)} as .ndjson or .jsonl"
            raise TableNotFoundError(f"{root}: no stays; {looked}; {what_is_there(root)}")
        others = (find_resources(root, pattern) for pattern in (_EVERY_ENCOUNTER, "*Patient*", "*Location*"))
        stays = list(dict.fromkeys([*encounters, *(path for paths in others for path in paths)]))
    return Source(root, events, stays)


def load_codes(path: str | Path) -> Codes:
    """Load a table of codes, FHIR's or MEDS's: a table of MEDS says what begins a stay.

    Raises:
        FhirTableError: It is FHIR's, and has something wrong.
        MedsTableError: It is MEDS's, likewise.
    """
    try:
        is_meds = "stay_begins" in tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        is_meds = False  # the loader raises and says what is wrong
    return load_meds_table(path) if is_meds else load_fhir_table(path)


def read_stays(root: str | SourcePath, codes: Codes) -> Cohort:
    """The cohort, from `icu/icustays` if there is one, else from Encounters (and Patients), or from MEDS.

    Raises:
        TableError: A file is missing or cannot be read.
    """
    root = as_source_path(root)
    if isinstance(codes, MedsTable):
        return read_meds_cohort(find_shards(root), codes)
    fhir = codes
    if find_optional_table(root, "icu/icustays") or not (encounters := _encounters(root, fhir)):
        # If the source also has FHIR files, the table's times are converted as theirs are.
        return read_cohort(root, times=fhir.times if find_resources(root, "*Observation*") else None)
    every = find_resources(root, _EVERY_ENCOUNTER)
    versions = find_versions([*every, *(path for path in encounters if path not in every)], "Encounter")
    read = read_encounters(
        encounters,
        fhir,
        versions=versions,
        locations=read_locations(find_resources(root, "*Location*"), fhir),
        # If the table selects files by their name, they have ICU stays only.
        all_are_stays=_stay_pattern(root, fhir).casefold() != _EVERY_ENCOUNTER.casefold(),
    )
    files = find_resources(root, "*Patient*")
    patients = read_patients(files, fhir) if files else None
    people = None if patients is None else patients.frame
    stays = with_deaths(read.frame, people, read_dispositions(every, fhir, versions))
    # A FHIR export may have no Patient for a stay. Only MIMIC's table of patients has all subjects.
    cohort = build_cohort(stays, people, names_all_subjects=False)
    notes = [read.notes] if patients is None else [read.notes, patients.notes]
    counts = add_counts(cohort.counts, {"rows_in": sum(read.left_out.values())}, read.left_out, *notes)
    warnings = [*read.warnings, *([] if patients is None else patients.warnings)]
    return Cohort(cohort.stays, cohort.outcomes, counts, tuple(warnings))


def superseded_observations(root: str | SourcePath) -> dict[str, list[int]]:
    """The superseded lines of each Observation file, by its path in the source. The later version is in any file."""
    root = as_source_path(root)
    lines = find_versions(find_resources(root, "*Observation*"), "Observation").settled
    return {path_below(path, root).as_posix(): sorted(numbers) for path, numbers in lines.items()}


def ingest_events(
    events: Events,
    root: SourcePath,
    catalogue: Catalogue,
    codes: Codes,
    superseded: Mapping[str, Collection[int]] | None = None,
    *,
    together: int = BATCHES_TOGETHER,
) -> Iterator[tuple[pd.DataFrame, Counts]]:
    """The rows and counts of a file of events; see `mimic.ingest` and `fhir.ingest_observations`.

    Args:
        events: The file.
        root: The source's folder.
        catalogue: The items to keep.
        codes: The items of the codes.
        superseded: The result of `superseded_observations`. If None, it is computed.
        together: For a table, the maximum number of batches whose rows are in one frame.
    """
    path = root / events.path
    if isinstance(codes, MedsTable):
        yield from ingest_meds(path, catalogue, codes)
        return
    fhir = codes
    if events.table == OBSERVATIONS:
        lines = superseded_observations(root) if superseded is None else superseded
        yield from ingest_observations(path, catalogue, fhir, set(lines.get(events.path, ())))
        return
    with_fhir = bool(find_resources(root, "*Observation*"))
    for frame, counts in ingest(root, events.table, catalogue, file=path, together=together):
        if with_fhir:
            frame = frame.assign(charttime=fhir.times(frame["charttime"]), storetime=fhir.times(frame["storetime"]))
        yield frame, counts


def _stay_pattern(root: SourcePath, fhir: FhirTable) -> str:
    return next((pattern for pattern in fhir.stay_files if find_resources(root, pattern)), "")


def _encounters(root: SourcePath, fhir: FhirTable) -> list[SourcePath]:
    return find_resources(root, _stay_pattern(root, fhir))
