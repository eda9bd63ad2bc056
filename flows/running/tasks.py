"""The ICU feature flow's steps as Prefect tasks. They take a store's reference and names of artifacts.

Each task writes a note to staging when it is complete, so that a new try after a kill continues there. No task returns
a str or a dict: Prefect finds the task that made a parameter by the result's address in memory. Python reuses
addresses, so the run's graph would have wrong edges.
"""

import json
import time
from typing import Any

import pandas as pd
from prefect import get_run_logger, task
from prefect.tasks import exponential_backoff

from clinops_prefect import assets
from clinops_prefect.command_line import quiet_as_the_command
from clinops_prefect.tasks import open_store, worth_retrying
from flows.icu.catalogue import load_catalogue
from flows.icu.counts import Counts, add_counts
from flows.icu.disclosure import about, told
from flows.icu.events import clean
from flows.icu.hashing import shard_of
from flows.icu.quality import count_features
from flows.icu.raw import split_into_shards
from flows.icu.windows import window_features
from flows.running import artifacts
from flows.running.partition import Partition
from flows.running.source_store import open_source
from flows.running.trend import read_trend, trend_row
from flows.sources.folder import Events, ingest_events, load_codes, read_stays, superseded_observations

# The raw rows of all shards that are kept in memory before they are written.
_BUFFERED_ROWS = 1_000_000
_SAY_EVERY_ROWS = 1_000_000
# The run's progress looks at the notes equally often.
_NOTE_EVERY_SECONDS = 3.0
# A worker process imports this module before it runs a task. Without this line, it would print tracebacks.
quiet_as_the_command()
# No tags: for a task with a tag, Prefect asks its server whether the tag has a concurrency limit, every 5 s. The answer
# waits for the server's database, about 2 s while the server records task runs, and no task begins meanwhile.
RETRIES: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": exponential_backoff(5),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": worth_retrying,
}


@task(name="make-cohort", task_run_name="make-cohort", **RETRIES)
def make_cohort(source: str, store: str, partition: Partition, fhir: str) -> None:
    """Read and check the stays, and store them and their outcomes."""
    target = open_store(store)
    cohort = read_stays(open_source(source), load_codes(fhir))
    target.upload(cohort.outcomes, partition.staged("outcomes"), metadata={"run": partition.run})
    target.upload(cohort.stays, partition.staged("cohort"), metadata={"run": partition.run})
    partition.write_note(target, "cohort", cohort.counts)
    for warning in cohort.warnings:
        get_run_logger().warning("%s", warning)
    get_run_logger().info("cohort: %s stays", told(len(cohort.stays)))


@task(name="find-versions", task_run_name="find-versions", **RETRIES)
def find_observation_versions(source: str, store: str, partition: Partition) -> None:
    """Find the Observations that a later version, in any file, supersedes."""
    target, step = open_store(store), "versions"
    if partition.read_note(target, step) is None:
        partition.write_note(target, step, superseded_observations(open_source(source)))


@task(name="ingest-events", task_run_name="ingest-{events.name}", **RETRIES)
def ingest_file(
    source: str, store: str, partition: Partition, events: Events, shards: int, catalogue: str, fhir: str
) -> None:
    """Stream a file of events, and store the rows of the catalogue's items by the shard of their subject."""
    logger, target, step = get_run_logger(), open_store(store), f"ingest-{events.name}"
    table = events.table
    if partition.read_note(target, step) is not None:
        logger.info("%s: ingested by an earlier try of this run; kept", events.name)
        return
    # These zeros count a table that has a header and no rows.
    counts: Counts = {table: {"rows_in": 0, "not_in_catalogue": 0, "passed_on": 0}}
    parts: list[list[str]] = [[] for _ in range(shards)]
    held: list[pd.DataFrame] = []
    rows = said = 0
    next_note = time.monotonic() + _NOTE_EVERY_SECONDS

    def store_held() -> None:
        if not held:
            return
        # Join the batches before splitting: to split each batch for each shard would take rows times shards.
        together = pd.concat(held, ignore_index=True)
        held.clear()
        for shard, part in split_into_shards(together, shards).items():
            name = partition.raw(events.name, shard, len(parts[shard]))
            target.upload(part.reset_index(drop=True), name)
            parts[shard].append(name)

    superseded = partition.read_note(target, "versions") or {}
    known, codes = load_catalogue(catalogue), load_codes(fhir)
    for frame, seen in ingest_events(events, open_source(source), known, codes, superseded):
        counts = add_counts(counts, seen)
        held.append(frame)
        rows += len(frame)
        if rows >= _BUFFERED_ROWS:
            store_held()
            rows = 0
        if time.monotonic() > next_note:
            partition.write_note(target, f"{step}-rows", {"rows": counts[table]["rows_in"]})
            next_note = time.monotonic() + _NOTE_EVERY_SECONDS
        if (read := counts[table]["rows_in"]) // _SAY_EVERY_ROWS > said:
            said = read // _SAY_EVERY_ROWS
            logger.info(
                "%s: %s rows read, %s of the catalogue", events.name, about(read), about(counts[table]["passed_on"])
            )
    store_held()
    partition.write_note(target, step, {"counts": counts, "parts": parts})
    logger.info("%s: %s rows ingested", events.name, about(counts[table]["rows_in"]))


@task(name="preprocess-shard", task_run_name="preprocess-shard-{shard:03d}", **RETRIES)
def preprocess_shard(store: str, partition: Partition, shard: int, files: list[str], catalogue: str) -> None:
    """Clean a shard's raw rows: drop rows, each for one reason, convert units, check ranges, remove duplicates."""
    target, name = open_store(store), partition.staged(f"events/shard-{shard:03d}")
    step = f"events-{shard:03d}"
    if partition.read_note(target, step) is not None:
        get_run_logger().info("shard %d: preprocessed by an earlier try of this run; kept", shard)
        return
    stays = target.download(partition.staged("cohort"))
    notes = [partition.read_note(target, f"ingest-{file}") or {} for file in files]
    parts = (part for note in notes for part in note["parts"][shard])
    cleaned = clean((target.download(part) for part in parts), stays, load_catalogue(catalogue))
    target.upload(cleaned.events, name, metadata={"run": partition.run})
    partition.write_note(target, step, cleaned.counts)
    get_run_logger().info("shard %d: %s events", shard, told(len(cleaned.events)))


@task(name="features-shard", task_run_name="features-shard-{shard:03d}", **RETRIES)
def features_shard(
    store: str,
    partition: Partition,
    shard: int,
    shards: int,
    catalogue: str,
    window_hours: int,
    horizon_hours: int,
) -> None:
    """Make the window features of a shard's stays."""
    target, name = open_store(store), partition.staged(f"features/shard-{shard:03d}")
    step = f"features-{shard:03d}"
    if partition.read_note(target, step) is not None:
        get_run_logger().info("shard %d: features made by an earlier try of this run; kept", shard)
        return
    known = load_catalogue(catalogue)
    stays = target.download(partition.staged("cohort"))
    stays = stays[shard_of(stays["subject_id"].to_numpy("int64"), shards) == shard]
    frame = window_features(
        target.download(partition.staged(f"events/shard-{shard:03d}")),
        stays,
        known,
        window_hours=window_hours,
        horizon_hours=horizon_hours,
    )
    target.upload(frame, name, metadata={"run": partition.run})
    partition.write_note(target, step, count_features(frame, known))
    get_run_logger().info("shard %d: %s windows", shard, told(len(frame)))


class Published:
    """A published artifact.

    It is not a dict: Prefect remembers a dict's values by their addresses, and would confuse them with later objects
    at the same addresses.
    """

    def __init__(self, artifact: dict[str, Any]) -> None:
        self.artifact = artifact


@task(name="publish-artifact", task_run_name="publish-{name}", **RETRIES)
def publish_artifact(store: str, partition: Partition, name: str, made_from: list[str]) -> Published:
    """Publish a complete artifact, and record its lineage."""
    target = open_store(store)
    partition.check_claim(target)
    target.copy_artifact(partition.staged(name), partition.final(name))
    info = target.stat(partition.final(name))
    for upstream in made_from:
        assets.read(upstream)
    assets.wrote(info)
    return Published({"name": partition.final(name), "uri": info.uri, "rows": info.rows, "bytes": info.bytes})


@task(name="write-quality", task_run_name="write-quality", **RETRIES)
def write_quality(store: str, partition: Partition, document: dict[str, Any]) -> str:
    """Write the quality report, as JSON, as one page, and as Prefect artifacts."""
    # Here, since worker processes import this module and draw nothing: matplotlib takes them a third of a second each.
    from flows.reports.quality_page import quality_page

    target = open_store(store)
    partition.check_claim(target)
    target.write_bytes(partition.final("quality.json"), json.dumps(document, indent=1).encode())
    trend = [*read_trend(target, partition.date), trend_row(partition.date, document)]
    page = quality_page(document, f"ICU features of {partition.date}: data quality", trend)
    uri = target.write_bytes(partition.final("quality.html"), page.encode())
    link = target.browser_url(partition.final("quality.html"))
    artifacts.quality_artifact(document, target, partition.date, uri, link)
    return uri


@task(name="finish", task_run_name="finish", **RETRIES)
def finish(store: str, partition: Partition, manifest: dict[str, Any]) -> str:
    """Remove artifacts of earlier runs, then write the manifest as the last step."""
    target = open_store(store)
    partition.check_claim(target)
    stale = partition.remove_stale(target, {artifact["name"] for artifact in manifest["artifacts"]})
    if stale:
        get_run_logger().info("removed %d artifacts of an earlier run of %s", stale, partition.date)
    uri = target.write_bytes(partition.final("manifest.json"), json.dumps(manifest, indent=1).encode())
    partition.clear(target)
    return uri
