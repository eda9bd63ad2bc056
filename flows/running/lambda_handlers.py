"""The ICU steps as three Lambda handlers. Each reads and writes through the pipeline store, and passes on names.

The event is `{"source", "store", "date", "run", "shards", "window_hours", "horizon_hours"}`. Source and store are URIs.
Each handler returns the event with what it made, and this is the event of the next handler. A handler that Step
Functions runs again after an error writes the same artifacts again. The handlers are in one container image (see
`deployments/Dockerfile.lambda`), since pandas and pyarrow are too large for a zip.
"""

import json
from typing import Any

import pandas as pd

from clinops_prefect import PipelineStore, __version__
from flows.icu.acceptance import accept, objections, summary
from flows.icu.catalogue import load_catalogue
from flows.icu.counts import Counts, add_counts
from flows.icu.description import describe_cohort
from flows.icu.events import clean
from flows.icu.hashing import shard_of
from flows.icu.quality import count_features, quality_document
from flows.icu.raw import empty_raw, split_into_shards
from flows.icu.windows import window_features
from flows.reports.quality_page import quality_page
from flows.running.partition import Partition
from flows.running.source_store import open_source
from flows.running.trend import read_trend, trend_row
from flows.sources.files import find_optional_table
from flows.sources.mimic import EVENT_TABLES, read_cohort
from flows.sources.mimic import ingest as read_events

Event = dict[str, Any]


def ingest(event: Event, _context: Any = None) -> Event:
    """Read the raw tables, and store the cohort and each shard's rows of the catalogue's items."""
    store, partition, shards = _open(event)
    catalogue, counts, parts = load_catalogue(), Counts(), [[empty_raw()] for _ in range(shards)]
    root = open_source(event["source"])
    cohort = read_cohort(root)
    for table in (table for table, name in EVENT_TABLES.items() if find_optional_table(root, name)):
        counts = add_counts(counts, {table: {"rows_in": 0, "not_in_catalogue": 0, "passed_on": 0}})
        for frame, seen in read_events(root, table, catalogue):
            counts = add_counts(counts, seen)
            for shard, rows in split_into_shards(frame, shards).items():
                parts[shard].append(rows)
    store.upload(cohort.stays, partition.staged("cohort"))
    store.upload(cohort.outcomes, partition.staged("outcomes"))
    for shard, frames in enumerate(parts):
        store.upload(pd.concat(frames, ignore_index=True), partition.staged(f"raw/shard-{shard:03d}"))
    return event | {"cohort": cohort.counts, "ingested": counts}


def preprocess(event: Event, _context: Any = None) -> Event:
    """Clean each shard's rows."""
    store, partition, shards = _open(event)
    catalogue, stays = load_catalogue(), store.download(partition.staged("cohort"))
    counts: Counts = {}
    for shard in range(shards):
        cleaned = clean([store.download(partition.staged(f"raw/shard-{shard:03d}"))], stays, catalogue)
        store.upload(cleaned.events, partition.staged(f"events/shard-{shard:03d}"))
        counts = add_counts(counts, cleaned.counts)
    return event | {"cleaned": counts}


def features(event: Event, _context: Any = None) -> Event:
    """Make the window features, then publish everything with its quality report."""
    store, partition, shards = _open(event)
    catalogue, stays = load_catalogue(), store.download(partition.staged("cohort"))
    shard_numbers = shard_of(stays["subject_id"].to_numpy("int64"), shards)
    counts: Counts = {}
    names, windows = ["cohort", "outcomes"], 0
    for shard in range(shards):
        frame = window_features(
            store.download(partition.staged(f"events/shard-{shard:03d}")),
            stays[shard_numbers == shard],
            catalogue,
            window_hours=event["window_hours"],
            horizon_hours=event["horizon_hours"],
        )
        store.upload(frame, partition.staged(f"features/shard-{shard:03d}"))
        counts = add_counts(counts, count_features(frame, catalogue))
        names += [f"events/shard-{shard:03d}", f"features/shard-{shard:03d}"]
        windows += len(frame)
    parameters = {key: event[key] for key in ("date", "shards", "window_hours", "horizon_hours")}
    document = quality_document(
        ingested=event["ingested"],
        cohort=event["cohort"],
        cleaned=event["cleaned"],
        features=counts,
        catalogue=catalogue,
        parameters=parameters,
        description=describe_cohort(stays, store.download(partition.staged("outcomes"))),
        provenance={"source": event["source"], "run": partition.run, "version": __version__},
    )
    totals = summary(event["cohort"], event["cleaned"], counts)
    accept(objections(totals, partition.manifest(store).get("summary"), catalogue.limits), accept_empty=False)
    for name in names:
        store.copy_artifact(partition.staged(name), partition.final(name))
    store.write_bytes(partition.final("quality.json"), json.dumps(document, indent=1).encode())
    trend = [*read_trend(store, partition.date), trend_row(partition.date, document)]
    page = quality_page(document, f"ICU features of {partition.date}: data quality", trend)
    store.write_bytes(partition.final("quality.html"), page.encode())
    finals = [partition.final(name) for name in names]
    partition.remove_stale(store, set(finals))
    manifest = {
        "run": partition.run,
        "parameters": parameters,
        "verdict": document["verdict"]["level"],
        "summary": totals,
        "artifacts": sorted(finals),
    }
    store.write_bytes(partition.final("manifest.json"), json.dumps(manifest, indent=1).encode())
    partition.clear(store)
    # The output must stay small for any data: a state's output may have 256 KiB.
    return {"store": event["store"], "date": partition.date, "windows": windows, "artifacts": sorted(finals)}


def _open(event: Event) -> tuple[PipelineStore, Partition, int]:
    return PipelineStore.from_uri(event["store"]), Partition(event["date"], event["run"]), int(event["shards"])
