"""Computes ICU features from raw MIMIC-IV tables, FHIR or MEDS: one row per stay and window, in a pipeline store.

    python -m flows.icu_features --source DIR --store URI_OR_BLOCK --date YYYY-MM-DD [--engine processes]

Tasks pass on the store's reference and names of artifacts, never frames. All artifacts are computed in staging and
published at the end, so that a run which fails leaves the date unchanged.
"""

import datetime as dt
from concurrent.futures import BrokenExecutor
from typing import Any

from prefect import flow, get_run_logger, runtime

from clinops_prefect import __version__
from clinops_prefect.tasks import open_store
from flows.icu.acceptance import accept, objections, summary
from flows.icu.catalogue import DEFAULT_CATALOGUE
from flows.icu.quality import quality_document
from flows.icu.verdict import one_line
from flows.running import artifacts, scheduling
from flows.running.chain import Chain, published_artifacts, states
from flows.running.claim import claimed
from flows.running.command_line import features_main
from flows.running.engines import DEFAULT_ENGINE, io_engine, running
from flows.running.parameters import checked_tables
from flows.running.partition import Partition, check_unchanged, fingerprint, input_files
from flows.running.progress import following
from flows.running.source_store import open_source
from flows.running.tasks import finish, write_quality
from flows.sources.fhir_table import DEFAULT_FHIR_TABLE
from flows.sources.folder import find_source
from flows.sources.meds_table import DEFAULT_MEDS_TABLE

# How many pools to try. When a worker process dies (usually from lack of memory), its pool is lost.
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
    """Compute the ICU features of a date's partition, unless it is complete.

    Args:
        source: A folder with `icu/` and `hosp/` in MIMIC-IV layout, FHIR R4 NDJSON, or a MEDS dataset. It is on this
            machine or in a bucket (`s3://…`, `gs://…`, `az://…`, or a block such as `s3-pipeline-store/raw`); see
            `flows.sources.folder`.
        store: The store for the artifacts: `s3://…`, `gs://…`, `az://…`, `file:///…`, a folder, or a block such as
            `s3-pipeline-store/prod`.
        date: The partition's date. If None, the day for which the run is scheduled. The date does not filter the data.
        shards: The number of parts into which the subjects are split.
        window_hours: The length of a window, in whole hours.
        horizon_hours: The latest end of a window, in whole hours after ICU admission; a multiple of `window_hours`.
        catalogue: A file of variables, items, units and ranges. If empty, the default catalogue.
        fhir_table: A file that maps FHIR codes to items. If empty, the default table.
        meds_table: A file that maps MEDS codes to items, and names the codes that begin and end a stay. If empty, the
            default table.
        engine: The engine of the tasks: `threads[=N]`, `processes[=N]`, `dask[=ADDRESS]` or `ray[=ADDRESS]`.
        refresh: Compute again even if the partition is complete, from the same inputs and by the same code.
        accept_empty: Also publish a result without values, or one in which a table or variable has lost all of the
            values that the published result has.

    Returns:
        The manifest of this run, or of the earlier run that made the same: run, inputs, parameters, and the artifacts
        with their URIs, rows and bytes.

    Raises:
        ValueError: A parameter is wrong.
        TableError: A source table is missing or cannot be read.
        NotAcceptedError: The result is empty, or much worse than the published one. The date is unchanged.
        DateClaimedError: Another run of the date is under way.
        ClinopsPrefectError: The store cannot be used.
    """
    # Here and not above, since worker processes import this module and draw nothing; and before anything is written.
    import flows.reports.quality_page  # noqa: F401

    logger, date = get_run_logger(), scheduling.date_of_run(date)
    known, codes, meds = checked_tables(
        shards=shards,
        window_hours=window_hours,
        horizon_hours=horizon_hours,
        catalogue=catalogue,
        fhir_table=fhir_table,
        meds_table=meds_table,
        engine=engine,
    )
    catalogue, fhir_table = catalogue or str(DEFAULT_CATALOGUE), fhir_table or str(DEFAULT_FHIR_TABLE)
    target = open_store(store)
    found = find_source(open_source(source), codes)
    code_table = (meds_table or str(DEFAULT_MEDS_TABLE)) if found.is_meds else fhir_table
    # This request fails for wrong credentials or a wrong bucket, before anything is read.
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
        before = partition.manifest(target)
        is_complete = not refresh and partition.is_complete(target, before)
        if refresh or is_complete:
            partition.clear(target)
        if is_complete:
            logger.info(
                "%s is complete, of the same inputs by the same code; nothing to do (run %s)", date, partition.run
            )
            if before.get("verdict"):
                logger.info("verdict on %s: %s", date, before["verdict"])
            return before
        logger.info(
            "run %s: %d files in %d shards to %s, on %s", partition.run, len(found.paths), shards, store, engine
        )
        options = {"catalogue": catalogue, "window_hours": window_hours, "horizon_hours": horizon_hours}
        chain = Chain(found, store, partition, shards, code_table, options)

        def rows_read(step: str) -> int:
            return int((partition.read_note(target, f"{step}-rows") or {}).get("rows", 0))

        key, title = artifacts.key("icu-progress", target), f"ICU features of {date}"
        with following(key, title, chain.steps(), rows_read) as progress:
            for pools_left in reversed(range(_POOLS)):
                try:
                    with running(engine) as runner:
                        made = chain.compute(runner, progress)
                        break
                except BrokenExecutor:
                    if not pools_left:
                        raise
                    logger.warning("a worker process died; what is complete is kept, the rest begins again in new ones")
            # Before anything is published, since this raises if a row is unaccounted for.
            counts = chain.counted(target)
            document = quality_document(**counts, catalogue=known, parameters=parameters)
            totals = summary(counts["cohort"], counts["cleaned"], counts["features"])
            check_unchanged(found.paths, found.root, inputs)
            accept(objections(totals, before.get("summary"), known.limits), accept_empty=accept_empty)
            partition.withdraw(target, before)
            with running(io_engine(engine)) as runner:
                published = chain.publish(runner, target, made, progress)
            written = published_artifacts(published)
            made_by = {
                "run": partition.run,
                "flow_run": owner,
                "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "clinops_prefect": __version__,
            }
            document["provenance"] = {"source": source, **made_by, "inputs": inputs}
            report = write_quality(store, partition, document, wait_for=states(made, "features/"), return_state=True)
            page = report.result()
            manifest = {
                **made_by,
                "verdict": document["verdict"]["level"],
                "parameters": parameters,
                "inputs": inputs,
                "schema": target.stat(partition.final("features/shard-000")).schema,
                "summary": totals,
                "artifacts": written,
            }
            finish(store, partition, manifest, wait_for=[report, *states(published)])
            progress.end()
    artifacts.written_artifact(written, target, partition.date)
    logger.info("done: %d artifacts of %s; the report is %s", len(written), partition.date, page)
    logger.info("verdict on %s: %s", partition.date, one_line(document["verdict"]))
    return manifest


def main() -> None:
    """Run the command line."""
    features_main(icu_features)


if __name__ == "__main__":
    main()
