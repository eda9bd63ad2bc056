"""ICU features, from raw MIMIC-IV tables or FHIR to one row per stay and window, through a pipeline store.

    python -m flows.icu_features --source DIR --store URI_OR_BLOCK --date YYYY-MM-DD [--engine processes]

Tasks pass each other the store's reference and artifact names, never frames. Everything is computed aside and put in
place at the end, so that a run which fails leaves the date as it was.
"""

import datetime as dt
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from clinops_prefect import PipelineStore, __version__
from clinops_prefect.tasks import open_store
from flows.icu.acceptance import accept, objections, summary
from flows.icu.catalogue import DEFAULT_CATALOGUE, load_catalogue
from flows.icu.counts import Counts, add_counts
from flows.icu.description import describe_cohort
from flows.icu.quality import quality_document
from flows.icu.verdict import one_line
from flows.icu.windows import check_window
from flows.running import artifacts, scheduling
from flows.running.claim import claimed
from flows.running.command_line import features_main
from flows.running.engines import DEFAULT_ENGINE, task_runner
from flows.running.partition import Partition, check_unchanged, fingerprint, input_files
from flows.running.source_store import open_source, reference_of
from flows.running.tasks import (
    features_shard,
    find_observation_versions,
    finish,
    ingest_file,
    make_cohort,
    preprocess_shard,
    publish_artifact,
    write_quality,
)
from flows.sources.fhir_table import DEFAULT_FHIR_TABLE, load_fhir_table
from flows.sources.folder import Source, find_source
from flows.sources.meds_table import DEFAULT_MEDS_TABLE, load_meds_table

# A worker process that dies (usually for want of memory) takes its pool with it.
_POOLS = 3


@flow(
    name="icu-features",
    flow_run_name=scheduling.run_name,
    description="From raw MIMIC-IV tables or FHIR to one row of features per ICU stay and window.",
    validate_parameters=True,
)
def icu_features(
    source: str,
    store: str,
    date: dt.date | None = None,
    shards: int = 4,
    window_hours: int = 6,
    horizon_hours: int = 48,
    catalogue: str = "",
    fhir_table: str = "",
    meds_table: str = "",
    engine: str = DEFAULT_ENGINE,
    refresh: bool = False,
    accept_empty: bool = False,
) -> dict[str, Any]:
    """Compute the ICU features of a date's partition, or find that it is complete.

    Args:
        source: The folder that holds `icu/` and `hosp/` in MIMIC-IV layout, or FHIR R4 NDJSON, on this machine or in a
            bucket (`s3://…`, `gs://…`, or a block such as `s3-pipeline-store/raw`); see `flows.sources.folder`.
        store: Where the artifacts go: `s3://…`, `gs://…`, `file:///…`, a folder, or a block such as
            `s3-pipeline-store/prod`.
        date: The partition's date; without, the day for which the run is scheduled. It filters nothing.
        shards: Into how many parts the subjects are split.
        window_hours: The length of a window, in whole hours.
        horizon_hours: How far from ICU admission windows reach, in whole hours; a multiple of `window_hours`.
        catalogue: A catalogue of variables, items, units and ranges; empty, the one that comes with the flow.
        fhir_table: Which FHIR codes are which items; empty, the one that comes with the flow.
        meds_table: Which codes of MEDS are which items, and begin and end a stay; likewise.
        engine: What the tasks run on: `threads[=N]`, `processes[=N]`, `dask[=ADDRESS]` or `ray[=ADDRESS]`.
        refresh: Compute also what is complete already, of the same inputs by the same code.
        accept_empty: Publish also a result without values, or without those of a table or variable that had some in
            what it replaces.

    Returns:
        The manifest, of this run or of the one that made the same before: run, inputs, parameters,
        and the artifacts with their URIs, rows and bytes.

    Raises:
        ValueError: A parameter is wrong.
        TableError: A source table is missing or cannot be read.
        NotAcceptedError: The result is empty, or much worse than what it would replace; the date is as it was.
        DateClaimedError: Another run of the date is under way.
        ClinopsPrefectError: The store cannot be used.
    """
    logger, date = get_run_logger(), scheduling.date_of_run(date)
    check_window(window_hours, horizon_hours)
    if shards < 1:
        raise ValueError(f"shards must be 1 or more, not {shards}")
    catalogue, fhir_table = catalogue or str(DEFAULT_CATALOGUE), fhir_table or str(DEFAULT_FHIR_TABLE)
    known, codes, target = load_catalogue(catalogue), load_fhir_table(fhir_table), open_store(store)
    meds = load_meds_table(meds_table or DEFAULT_MEDS_TABLE)
    task_runner(engine)  # what is wrong with it shows here
    found = find_source(open_source(source), codes)
    code_table = (meds_table or str(DEFAULT_MEDS_TABLE)) if found.is_meds else fhir_table
    # What can be wrong with credentials and the bucket shows here, before anything is read.
    target.exists(f"icu/{date}/cohort")
    owner = str(runtime.flow_run.id)
    with claimed(target, date.isoformat(), owner, logger.warning):
        inputs = input_files(found.paths, found.root)
        parameters = {
            "shards": shards,
            "window_hours": window_hours,
            "horizon_hours": horizon_hours,
            "catalogue_sha256": known.sha256,
            **({"fhir_table_sha256": codes.sha256} if found.is_fhir else {}),
            **({"meds_table_sha256": meds.sha256} if found.is_meds else {}),
            "format": target.format.value,
        }
        partition = Partition(date.isoformat(), fingerprint(inputs, parameters), owner)
        parameters = {"date": partition.date, **parameters}
        manifest = None if refresh else partition.complete(target)
        if refresh or manifest is not None:
            partition.clear(target)
        if manifest is not None:
            logger.info(
                "%s is complete, of the same inputs by the same code; nothing to do (run %s)", date, partition.run
            )
            return manifest
        logger.info(
            "run %s: %d files in %d shards to %s, on %s", partition.run, len(found.paths), shards, store, engine
        )
        options = {"catalogue": catalogue, "window_hours": window_hours, "horizon_hours": horizon_hours}
        document, totals, published = _made(
            engine, found, store, partition, shards, code_table, options, parameters, inputs, accept_empty
        )
        made = {
            "run": partition.run,
            "flow_run": owner,
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "clinops_prefect": __version__,
        }
        document["provenance"] = {"source": source, **made, "inputs": inputs}
        page = write_quality(store, partition, document)
        manifest = {
            **made,
            "verdict": document["verdict"]["level"],
            "parameters": parameters,
            "inputs": inputs,
            "schema": target.stat(partition.final("features/shard-000")).schema,
            "summary": totals,
            "artifacts": published,
        }
        finish(store, partition, manifest)
    artifacts.written_artifacts(published, partition.date)
    logger.info("done: %d artifacts of %s; the report is %s", len(published), partition.date, page)
    logger.info("verdict on %s: %s", partition.date, one_line(document["verdict"]))
    return manifest


def _made(
    engine: str,
    source: Source,
    store: str,
    partition: Partition,
    shards: int,
    code_table: str,
    options: dict[str, Any],
    parameters: dict[str, Any],
    inputs: list[dict[str, Any]],
    accept_empty: bool,
) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Compute and publish the artifacts: the quality document, the run's summary, and what was published."""
    target, known = open_store(store), load_catalogue(options["catalogue"])
    files = [events.name for events in source.events]
    for pools_left in reversed(range(_POOLS)):
        try:
            with task_runner(engine) as runner:
                _compute(runner, source, store, partition, shards, code_table, options)
                # Before anything is put in place: it raises when a row is unaccounted for.
                counts = _counted(target, partition, files, shards)
                document = quality_document(**counts, catalogue=known, parameters=parameters)
                totals = summary(counts["cohort"], counts["cleaned"], counts["features"])
                check_unchanged(source.paths, source.root, inputs)
                before = partition.replaced(target).get("summary")
                accept(objections(totals, before, known.limits), accept_empty=accept_empty)
                uris = [path.as_uri() for path in source.paths]
                return document, totals, _publish(runner, store, partition, shards, uris)
        except BrokenExecutor:
            if not pools_left:
                raise
            get_run_logger().warning(
                "a worker process died; what is complete is kept, the rest begins again in new ones"
            )
    raise AssertionError  # the last round returns or raises


def _compute(
    runner: TaskRunner[Any],
    source: Source,
    store: str,
    partition: Partition,
    shards: int,
    code_table: str,
    options: dict[str, Any],
) -> None:
    """Compute every artifact in staging; each task finds what it, or an earlier try of it, has finished."""
    common = {"store": store, "partition": partition}
    reading = {"source": reference_of(source.root), "fhir": code_table, **common}
    ingest = {"shards": shards, "catalogue": options["catalogue"], **reading}
    versions = []
    if source.is_fhir:
        versions = [runner.submit(find_observation_versions, {"source": reference_of(source.root), **common})]
    read = [*versions, runner.submit(make_cohort, reading)]
    read += [runner.submit(ingest_file, {"events": events, **ingest}, wait_for=versions) for events in source.events]
    cleaning = {"files": [events.name for events in source.events], "catalogue": options["catalogue"], **common}
    events = [runner.submit(preprocess_shard, {"shard": n, **cleaning}, wait_for=read) for n in range(shards)]
    features = [
        runner.submit(features_shard, {"shard": n, "shards": shards, "events": made, **options, **common})
        for n, made in enumerate(events)
    ]
    with artifacts.progress(f"icu-features-{partition.date}") as progress:
        _finished([*read, *events, *features], progress)


def _counted(target: PipelineStore, partition: Partition, files: list[str], shards: int) -> dict[str, Counts]:
    """What every step counted, added up; and a description of the whole cohort."""

    def counted(steps: Iterable[str]) -> list[dict[str, Any]]:
        return [partition.read_note(target, step) or {} for step in steps]

    (cohort,) = counted(["cohort"])
    stays, outcomes = (target.download(partition.staged(name)) for name in ("cohort", "outcomes"))
    return {
        "description": describe_cohort(stays, outcomes),
        "ingested": add_counts(*(note["counts"] for note in counted(f"ingest-{file}" for file in files))),
        "cohort": cohort,
        "cleaned": add_counts(*counted(f"events-{shard:03d}" for shard in range(shards))),
        "features": add_counts(*counted(f"features-{shard:03d}" for shard in range(shards))),
    }


def _publish(
    runner: TaskRunner[Any], store: str, partition: Partition, shards: int, sources: list[str]
) -> list[dict[str, Any]]:
    """Put the artifacts in place, each with its lineage: tables → cohort and events → features."""
    target = open_store(store)
    partition.withdraw(target)
    cohort = target.uri(partition.final("cohort"))
    made_from = {"cohort": sources, "outcomes": [*sources, cohort]}
    for shard in range(shards):
        events = f"events/shard-{shard:03d}"
        made_from[events] = [*sources, cohort]
        made_from[f"features/shard-{shard:03d}"] = [target.uri(partition.final(events)), cohort]
    common = {"store": store, "partition": partition}
    futures = [
        runner.submit(publish_artifact, {"name": name, "made_from": upstream, **common})
        for name, upstream in made_from.items()
    ]
    _finished(futures)
    return sorted((future.result() for future in futures), key=lambda artifact: str(artifact["name"]))


def _finished(futures: list[PrefectFuture[Any]], progress: artifacts.Progress | None = None) -> None:
    """Wait for all, so that what can be done is done and kept, then raise what failed.

    A pool that broke comes first: what depends on its tasks fails with other errors, and is tried again with them.
    """
    if progress is not None:
        progress.follow(futures)
    failures: list[Exception] = []
    for future in futures:
        try:
            future.result()
        except Exception as failure:
            failures.append(failure)
    if failures:
        raise next((failure for failure in failures if isinstance(failure, BrokenExecutor)), failures[0])


def main() -> None:
    """The command line."""
    features_main(icu_features)


if __name__ == "__main__":
    main()
