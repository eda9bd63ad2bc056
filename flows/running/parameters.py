"""Checks a run's parameters before anything is read: in the flow, and in its command before Prefect starts."""

from pathlib import Path
from typing import Any, NamedTuple

from clinops_prefect import LocalPipelineStore
from clinops_prefect.tasks import open_store
from flows.icu.catalogue import DEFAULT_CATALOGUE, Catalogue, load_catalogue
from flows.icu.windows import check_window
from flows.running.engines import task_runner
from flows.sources.fhir_table import DEFAULT_FHIR_TABLE, FhirTable, load_fhir_table
from flows.sources.meds_table import DEFAULT_MEDS_TABLE, MedsTable, load_meds_table


class Tables(NamedTuple):
    """The tables of a run: the catalogue, and the tables of FHIR and MEDS codes."""

    catalogue: Catalogue
    fhir: FhirTable
    meds: MedsTable


def checked_tables(
    *,
    shards: int,
    window_hours: int,
    horizon_hours: int,
    catalogue: str,
    fhir_table: str,
    meds_table: str,
    engine: str,
    **_: Any,
) -> Tables:
    """The loaded tables of `icu_features`. All parameters are checked that need neither the source nor the store.

    Raises:
        ValueError: A parameter or a table is wrong. The message names it.
        ImportError: The engine's package is not installed.
    """
    check_window(window_hours, horizon_hours)
    if shards < 1:
        raise ValueError(f"shards must be 1 or more, not {shards}")
    task_runner(engine)
    return Tables(
        load_catalogue(catalogue or DEFAULT_CATALOGUE),
        load_fhir_table(fhir_table or DEFAULT_FHIR_TABLE),
        load_meds_table(meds_table or DEFAULT_MEDS_TABLE),
    )


def file_in_the_way(store: str) -> Path | None:
    """The file at a path where a local store needs a folder. None if there is no such file.

    Args:
        store: The reference of a store that is not a saved block.
    """
    opened = open_store(store)
    if not isinstance(opened, LocalPipelineStore):
        return None
    root = Path(opened.directory).expanduser() / opened.prefix
    nearest = next(path for path in (root, *root.absolute().parents) if path.exists())
    return None if nearest.is_dir() else nearest
