"""Datasets of many shards on a network with latency: the whole, a few columns, one stay's rows; and in batches.

Few files have many names, so that the server's page cache holds them: see `many_names`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tests import memory
from tests.benchmarks.case import Bench, Case, Goal, Outcome, at_least, at_most
from tests.benchmarks.meter import CONTROL, Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.servers import BUCKET, Server
from tests.emulators import free_port, running

LATENCY_MS = 25
OURS, OURS_POLARS = "clinops_prefect", "clinops_prefect, scan()"
POLARS, POLARS_PANDAS, ARROW = "polars scan_parquet", "polars, to pandas", "pyarrow dataset, to pandas"
_DISTINCT = 20
_COLUMNS = [f"feature_{number}" for number in range(5, 1000, 100)]
_STAY, _ROWS_PER_STAY = 30_000_007, 50
_NARROW_BYTES, _WIDE_BYTES = 44, 8_008  # of a row
_NOTE = (
    "20 files under so many names. Each measurement is a process of its own, in turn: read the ratios, and the seconds "
    "of CPU beside the time. Of ten columns of 200 parts, the SDK's own time for its 2,200 requests is more than half: "
    "1.7 milliseconds of CPU each, under Python's lock. A part's footer of 1,001 columns takes 2.5 milliseconds."
)


def narrow(number: int, megabytes: int) -> pd.DataFrame:
    """A shard of six columns, sorted by stay."""
    random, rows = np.random.default_rng(number), _rows("narrow", megabytes)
    return pd.DataFrame(
        {
            "stay_id": np.sort(random.integers(0, 500, rows)) + 30_000_000 + 1_000 * number,
            "minute": random.integers(0, 10_000, rows, dtype="int32"),
            **{f"value_{name}": random.normal(80, 10, rows) for name in "abcd"},
        }
    )


def wide(number: int, megabytes: int) -> pd.DataFrame:
    """A shard of 1,000 columns, sorted by stay; three values of ten are missing."""
    random, rows = np.random.default_rng(number), _rows("wide", megabytes)
    values = random.normal(size=(rows, 1_000))
    values[random.random(values.shape) < 0.3] = np.nan
    df = pd.DataFrame(values, columns=[f"feature_{column}" for column in range(1_000)])
    df.insert(0, "stay_id", np.arange(rows) // _ROWS_PER_STAY + 30_000_000 + 1_000 * number)
    return df


def _rows(kind: str, megabytes: int) -> int:
    return megabytes * 1_000_000 // {"narrow": _NARROW_BYTES, "wide": _WIDE_BYTES}[kind]


def read(
    meter: Meter, endpoint: str, way: str, prefix: str, columns: list[str] | None, stay: int | None, rows: int
) -> None:
    """Read a frame: pandas' but where the way is polars' own."""
    make = {OURS: _ours, OURS_POLARS: _scanned, POLARS: _polars, POLARS_PANDAS: _polars_to_pandas, ARROW: _arrow}[way]
    ready = make(endpoint, prefix, columns, stay)
    with meter():
        found = ready()
    if len(found) != rows:
        raise AssertionError(f"{way} gave {len(found)} rows, not {rows}")


def batches(meter: Meter, endpoint: str, prefix: str, rows: int) -> None:
    """Read a dataset in batches, and count its rows."""
    store, found = _store(endpoint), 0
    with meter():
        for batch in store.dataset(prefix).iter_batches():
            found += len(batch)
    meter.note(peak=memory.peak())
    if found != rows:
        raise AssertionError(f"{found} rows, not {rows}")


def _ours(endpoint: str, prefix: str, columns: Any, stay: Any) -> Callable[[], Any]:
    store, filters = _store(endpoint), [("stay_id", "==", stay)] if stay else None
    return lambda: store.dataset(prefix).download(columns=columns, filters=filters)


def _scanned(endpoint: str, prefix: str, columns: Any, stay: Any) -> Callable[[], Any]:
    import clinops_prefect.dataset.scan  # noqa: F401

    store = _store(endpoint)
    return lambda: _selected(store.dataset(prefix).scan(), columns, stay)


def _polars(endpoint: str, prefix: str, columns: Any, stay: Any) -> Callable[[], Any]:
    import polars as pl

    login = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench"}
    options = {**login, "aws_endpoint_url": endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}
    pattern = f"s3://{BUCKET}/{prefix}/*.parquet"
    return lambda: _selected(pl.scan_parquet(pattern, storage_options=options), columns, stay)


def _polars_to_pandas(endpoint: str, prefix: str, columns: Any, stay: Any) -> Callable[[], Any]:
    ready = _polars(endpoint, prefix, columns, stay)
    return lambda: ready().to_pandas()


def _arrow(endpoint: str, prefix: str, columns: Any, stay: Any) -> Callable[[], Any]:
    import pyarrow.compute as pc
    from pyarrow import dataset, fs

    files = fs.S3FileSystem(access_key="bench", secret_key="bench", endpoint_override=endpoint, region="us-east-1")
    wanted = None if stay is None else pc.field("stay_id") == stay
    path = f"{BUCKET}/{prefix}"
    return lambda: dataset.dataset(path, filesystem=files).to_table(columns=columns, filter=wanted).to_pandas()


def _selected(lazy: Any, columns: Any, stay: Any) -> Any:
    import polars as pl

    lazy = lazy.filter(pl.col("stay_id") == stay) if stay else lazy
    return (lazy.select(columns) if columns else lazy).collect()


def _store(endpoint: str) -> Any:
    import clinops_prefect.dataset.artifact_dataset  # noqa: F401
    from clinops_prefect import S3PipelineStore

    store = S3PipelineStore(BUCKET, endpoint_url=endpoint, region="us-east-1")
    store.exists("nothing")  # a client, and what is imported for it
    return store


@contextmanager
def _served(bench: Bench) -> Iterator[Server]:
    """A server with this bench's shards, which are made the first time."""
    from clinops_prefect import LocalPipelineStore

    folder = bench.scratch / f"shards-{bench.shard_mb}"
    for kind, make in (("narrow", narrow), ("wide", wide)):
        store = LocalPipelineStore(folder / kind)
        for number in range(_DISTINCT):
            if not store.exists(f"{number:02d}"):
                store.upload(make(number, bench.shard_mb), f"{number:02d}")
    url = f"http://127.0.0.1:{(port := free_port())}"
    control = f"{url}/__ctl"
    command = [sys.executable, "-m", "tests.benchmarks.many_names", str(port), str(folder)]
    login = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
    server = Server(url, "an S3 stub with few files under many names", {**login, CONTROL: control}, control)
    with running(command, control):
        server.network(LATENCY_MS)
        yield server


def _case(title: str, kind: str, shards: int, columns: list[str] | None, stay: int | None, bench: Bench) -> Outcome:
    shards = bench.shards or shards
    rows = _rows(kind, bench.shard_mb) * shards
    if stay:
        # The stay is in the first file, which has every twentieth name.
        rows = min(_ROWS_PER_STAY, max(0, _rows(kind, bench.shard_mb) - 7 * _ROWS_PER_STAY)) * -(-shards // _DISTINCT)
    asked = {"prefix": f"{kind}-{shards}", "columns": columns, "stay": stay, "rows": rows}
    ways = [OURS, OURS_POLARS, POLARS, POLARS_PANDAS, ARROW]
    with _served(bench) as server:
        asked["endpoint"] = server.url
        results = bench.compare([Contestant(way, f"{__name__}:read", {**asked, "way": way}) for way in ways], server)
    goals: list[Goal] = [
        at_least("pyarrow's dataset, to pandas", 1, results[OURS].times_faster(results[ARROW])),
        at_least("polars, to pandas", 1, results[OURS].times_faster(results[POLARS_PANDAS])),
    ]
    size = f"{shards} shards of {bench.shard_mb} MB, {LATENCY_MS} ms away"
    return Outcome(f"{title} of {size}", server.name, results, goals, [_NOTE])


def _batches(bench: Bench) -> Outcome:
    shards = bench.dataset_gb * 1000 // bench.shard_mb
    rows = _rows("narrow", bench.shard_mb) * shards
    asked = {"prefix": f"narrow-{shards}", "rows": rows}
    with _served(bench) as server:
        reading = Contestant(OURS, f"{__name__}:batches", {**asked, "endpoint": server.url})
        results = bench.compare([reading], server, rounds=1)
    peak = results[OURS].median("peak") / 1e6
    title = f"`iter_batches` of a dataset of {bench.dataset_gb} GB, {shards} shards, {LATENCY_MS} ms away"
    return Outcome(title, server.name, results, [at_most("in the whole process", 1000, peak, " MB")])


CASES = [
    Case("dataset-whole", partial(_case, "The whole", "narrow", 40, None, None), rounds=2),
    Case("dataset-columns", partial(_case, "Ten of 1,000 columns", "wide", 200, _COLUMNS, None)),
    Case("dataset-one-stay", partial(_case, "One stay's rows", "wide", 200, None, _STAY), rounds=2),
    Case("dataset-batches", _batches),
]
