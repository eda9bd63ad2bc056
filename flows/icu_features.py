"""ICU features, from raw MIMIC-IV tables to one row per stay and window, through a pipeline store.

    python -m flows.icu_features --source DIR --store URI_OR_BLOCK --date YYYY-MM-DD

Tasks pass each other the store's reference and artifact names, never frames. Everything is computed aside and put in
place at the end, so that a run which fails leaves the date as it was.
"""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.futures import PrefectFuture, wait
from prefect.task_runners import ThreadPoolTaskRunner

from clinops_prefect import PipelineStore, __version__
from clinops_prefect.tasks import open_store
from flows import report
from flows.catalogue import DEFAULT_CATALOGUE, Catalogue, load_catalogue
from flows.counts import add_counts
from flows.icu_tasks import (
    features_shard,
    finish,
    ingest_table,
    make_cohort,
    preprocess_shard,
    publish_artifact,
    write_quality,
)
from flows.ingest import EVENT_TABLES
from flows.partition import Partition, fingerprint, input_files
from flows.quality import quality_document
from flows.tables import TableNotFoundError, find_table
from flows.windows import check_window

# Threads: the steps spend their time in Arrow and NumPy, which let go of the interpreter lock, and on the network.
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=4)
_TABLES = ("icu/icustays", "icu/chartevents", "hosp/labevents", "hosp/patients", "hosp/admissions")


@flow(
    name="icu-features",
    flow_run_name="icu-features-{date}",
    description="From raw MIMIC-IV tables to one row of features per ICU stay and window.",
    task_runner=_RUNNER,
    validate_parameters=True,
)
def icu_features(
    source: str,
    store: str,
    date: dt.date,
    shards: int = 4,
    window_hours: int = 6,
    horizon_hours: int = 48,
    catalogue: str = "",
) -> dict[str, Any]:
    """Compute the ICU features of a date's partition.

    Args:
        source: The folder that holds `icu/` and `hosp/` in MIMIC-IV layout, as CSV, CSV.gz or Parquet.
        store: Where the artifacts go: `s3://…`, `gs://…`, `file:///…`, a folder, or a block such as
            `s3-pipeline-store/prod`.
        date: The partition's date. It names the partition; it filters nothing.
        shards: Into how many parts the subjects are split.
        window_hours: The length of a window, in whole hours.
        horizon_hours: How far from ICU admission windows reach, in whole hours; a multiple of `window_hours`.
        catalogue: A catalogue of variables, items, units and ranges; empty, the one that comes with the flow.

    Returns:
        The manifest: run, inputs, parameters, and the artifacts with their URIs, rows and bytes.

    Raises:
        ValueError: A parameter is wrong.
        TableError: A source table is missing or cannot be read.
        ClinopsPrefectError: The store cannot be used.
    """
    logger = get_run_logger()
    check_window(window_hours, horizon_hours)
    if shards < 1:
        raise ValueError(f"shards must be 1 or more, not {shards}")
    catalogue = catalogue or str(DEFAULT_CATALOGUE)
    known, root, target = load_catalogue(catalogue), Path(source).resolve(), open_store(store)
    present = _present(root)
    # What can be wrong with credentials and the bucket shows here, before anything is read.
    target.exists(f"icu/{date}/cohort")
    inputs = input_files(present.values(), root)
    parameters = {
        "shards": shards,
        "window_hours": window_hours,
        "horizon_hours": horizon_hours,
        "catalogue_sha256": known.sha256,
        "format": target.format.value,
    }
    partition = Partition(date.isoformat(), fingerprint(inputs, parameters))
    parameters = {"date": partition.date, **parameters}
    logger.info("run %s: %d tables in %d shards to %s", partition.run, len(present), shards, store)

    tables = [table for table, name in EVENT_TABLES.items() if name in present]
    cohort = make_cohort.submit(str(root), store, partition)
    ingested = [ingest_table.submit(str(root), store, partition, table, shards, catalogue) for table in tables]
    events = [
        preprocess_shard.submit(
            store, partition, shard, tables, catalogue, return_state=False, wait_for=[cohort, *ingested]
        )
        for shard in range(shards)
    ]
    features = [
        features_shard.submit(
            store, partition, shard, shards, made, catalogue, window_hours, horizon_hours, return_state=False
        )
        for shard, made in enumerate(events)
    ]
    with report.progress(f"icu-features-{partition.date}") as progress:
        _finished([cohort, *ingested, *events, *features], progress)

    # Before anything is put in place: it raises when a row is unaccounted for.
    document = _document(target, partition, tables, shards, known, parameters)
    published = _publish(store, partition, shards, [path.as_uri() for path in present.values()])
    page = write_quality(store, partition, document)
    manifest = {
        "run": partition.run,
        "flow_run": str(runtime.flow_run.id),
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "clinops_prefect": __version__,
        "parameters": parameters,
        "inputs": inputs,
        "schema": target.stat(partition.final("features/shard-000")).schema,
        "artifacts": published,
    }
    finish(store, partition, manifest)
    report.written_artifacts(published, partition.date)
    logger.info("done: %d artifacts of %s; the report is %s", len(published), partition.date, page)
    return manifest


def _document(
    target: PipelineStore,
    partition: Partition,
    tables: list[str],
    shards: int,
    catalogue: Catalogue,
    parameters: dict[str, Any],
) -> dict[str, Any]:
    """The quality document, from what every step counted."""

    def counted(steps: Iterable[str]) -> list[dict[str, Any]]:
        return [partition.read_note(target, step) or {} for step in steps]

    (cohort,) = counted(["cohort"])
    return quality_document(
        ingested=add_counts(*(note["counts"] for note in counted(f"ingest-{table}" for table in tables))),
        cohort=cohort,
        cleaned=add_counts(*counted(f"events-{shard:03d}" for shard in range(shards))),
        features=add_counts(*counted(f"features-{shard:03d}" for shard in range(shards))),
        catalogue=catalogue,
        parameters=parameters,
    )


def _publish(store: str, partition: Partition, shards: int, sources: list[str]) -> list[dict[str, Any]]:
    """Put the artifacts in place, each with its lineage: tables → cohort and events → features."""
    target = open_store(store)
    futures = [publish_artifact.submit(store, partition, "cohort", sources)]
    cohort = target.uri(partition.final("cohort"))
    for shard in range(shards):
        events = f"events/shard-{shard:03d}"
        made_from = [target.uri(partition.final(events)), cohort]
        futures.append(publish_artifact.submit(store, partition, events, [*sources, cohort]))
        futures.append(publish_artifact.submit(store, partition, f"features/shard-{shard:03d}", made_from))
    _finished(futures)
    return sorted((future.result() for future in futures), key=lambda artifact: str(artifact["name"]))


def _finished(futures: list[PrefectFuture[Any]], progress: report.Progress | None = None) -> None:
    """Wait for all, so that what can be done is done and kept, then raise the first failure."""
    if progress is not None:
        progress.follow(futures)
    wait(futures)
    for future in futures:
        future.result()


def _present(root: Path) -> dict[str, Path]:
    present = {}
    for name in _TABLES:
        try:
            present[name] = find_table(root, name)
        except TableNotFoundError:
            if name.startswith("icu/"):
                raise
    return present


if __name__ == "__main__":
    from flows.command_line import main

    main()
