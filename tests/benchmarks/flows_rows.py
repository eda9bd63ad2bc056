"""How long ten million chart rows take from csv.gz to features, in one process and without a store.

    python tests/benchmarks/flows_rows.py DIR     # made by: python -m flows.synthetic --out DIR --stays 10000

Prints the seconds of each step, the total and the peak memory.
"""

import resource
import sys
import time

import pandas as pd

from flows.catalogue import load_catalogue
from flows.cohort import read_cohort
from flows.counts import add_counts
from flows.events import clean
from flows.hashing import shard_of
from flows.ingest import ingest, split_into_shards
from flows.windows import window_features

SHARDS = 8


def main(source: str) -> None:
    """Run the steps and print what they took."""
    began, cpu = time.perf_counter(), time.process_time()
    catalogue = load_catalogue()
    stays = read_cohort(source).stays
    parts: dict[int, list[pd.DataFrame]] = {shard: [] for shard in range(SHARDS)}
    ingested = {}
    for rows, counts in ingest(source, "chartevents", catalogue):
        ingested = add_counts(ingested, counts)
        for shard, part in split_into_shards(rows, SHARDS).items():
            parts[shard].append(part)
    read = time.perf_counter()
    shard_of_stay = shard_of(stays["subject_id"].to_numpy("int64"), SHARDS)
    cleaning = windowing = 0.0
    events = windows = 0
    for shard in range(SHARDS):
        start = time.perf_counter()
        cleaned = clean(iter(parts.pop(shard)), stays, catalogue)
        middle = time.perf_counter()
        features = window_features(cleaned.events, stays[shard_of_stay == shard], catalogue)
        cleaning, windowing = cleaning + middle - start, windowing + time.perf_counter() - middle
        events, windows = events + len(cleaned.events), windows + len(features)
    total = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"rows {ingested['chartevents']}, events {events:,}, windows {windows:,}")
    print(f"ingest {read - began:.2f} s, clean {cleaning:.2f} s, features {windowing:.2f} s")
    print(f"total {total:.2f} s, CPU {time.process_time() - cpu:.2f} s, peak {peak:.2f} GiB")


if __name__ == "__main__":
    main(sys.argv[1])
