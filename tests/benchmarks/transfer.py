"""Whole frames to S3 and back, a wide one and a narrow one; and a frame larger than memory."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from tests.benchmarks.case import Bench, Case, Outcome, at_least, at_most
from tests.benchmarks.frames import DESCRIPTIONS, batches, frame, frame_bytes, size_of, small
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.ways_s3 import OURS, REFERENCE, WAYS

_UPLOAD, _DOWNLOAD = f"{__name__}:upload", f"{__name__}:download"
LATENCY_MS, MB_PER_S = 25, 80
# No download takes more memory than so many frames.
_MOST_MEMORY = 4
_UPLOAD_NOTE = (
    "*its encoding alone* makes the same bytes and throws them away: no way to send them makes an upload shorter. "
    "polars' own writer is asked for LZ4, and keeps neither pandas' metadata nor a checksum. Both cores are busy until "
    "the last row group is encoded, so what remains are CPU seconds. Of a wide frame of full precision (336 MB of "
    "Parquet), this package takes 2.9 and polars 1.9 (perf, 2026-11-27). The same encoder takes 1.3 in both. The "
    "difference is boto3's SHA-256, which it computes only over plain HTTP (0.18 to 0.27), two CRC-32, of S3's parts "
    "and of the blocks (0.18), the way from polars through a pipe into parts (0.3), and the conversion from pandas "
    "(0.12). Without boto3's two checksums, and with one copy less, an upload took 1.54 instead of 1.74 seconds; "
    "polars took 1.18. Narrow frames are compressed with Zstandard: it takes longer than the LZ4 of polars or the "
    "Snappy of the reference, and sends a third less, which counts where the bucket is away."
)
_DOWNLOAD_NOTE = (
    "*the frame's memory alone* is written once to as much memory as the frame has. polars decodes everything at once "
    "and then copies it into a frame of pandas; this package decodes a few columns at a time into the frame itself "
    "and compares the checksums, in about two thirds of the memory. Its CPU seconds of a wide frame (perf): 39 % for "
    "decoding and copying in pyarrow and the C library, 28 % in the system (network, first touch of memory), 15 % in "
    "Python, 12 % for NaN in NumPy, 4 % for checksums; 0.04 s are on one core. Before each measurement, four times the "
    "frame's memory is written once and freed: the host of this virtual machine takes free memory back within seconds, "
    "and until it has given it again, a download took up to twice as long (0.3 to 3 s of system time), most of all one "
    "whose process takes longer to start."
)


def ready(way: str, endpoint: str) -> Any:
    """The way, warm: packages imported, connections made."""
    made = WAYS[way](endpoint)
    made.upload(small(), f"warm/{way}")
    made.download(f"warm/{way}")
    return made


def upload(meter: Meter, way: str, endpoint: str, scratch: str, name: str, *, polars: bool = False) -> None:
    """Upload a frame; `polars`: it is one of polars'."""
    made, df = ready(way, endpoint), frame(name, scratch)
    size = size_of(df)
    given: Any = df
    if polars:
        import polars as pl

        given = pl.from_pandas(df)
    del df
    with meter():
        made.upload(given, f"{name}/{way}")
    meter.note(frame=size)


def download(meter: Meter, way: str, endpoint: str, scratch: str, name: str) -> None:
    """Download the whole of a frame that the same way has uploaded."""
    made = ready(way, endpoint)
    with meter(renewed=_MOST_MEMORY * frame_bytes(name, scratch)):
        found = made.download(f"{name}/{way}")
    expected = frame(name, scratch)
    if way == OURS:
        pd.testing.assert_frame_equal(found, expected)
    elif found.shape != expected.shape:
        raise AssertionError(f"{way} gave {found.shape}")
    meter.note(frame=size_of(expected))


def upload_batches(meter: Meter, endpoint: str) -> None:
    """Upload four gigabytes, batch by batch."""
    store = ready(OURS, endpoint).store
    generated = batches()
    with meter():
        store.upload_batches(generated, "batches")
    meter.note(rows=store.stat("batches").rows)


def encode_alone(meter: Meter, scratch: str, name: str) -> None:
    """Encode a frame as an upload does, and throw the bytes away."""
    import polars  # noqa: F401  # as everywhere

    from clinops_prefect import StorageFormat
    from clinops_prefect.frames.encoding import encode_frame

    df = frame(name, scratch)
    for _ in encode_frame(small(), StorageFormat.PARQUET, {}).chunks:
        pass
    with meter():
        for _ in encode_frame(df, StorageFormat.PARQUET, {}).chunks:
            pass


def memory_alone(meter: Meter, scratch: str, name: str) -> None:
    """Write once to as much memory as the frame has, which no download can do without."""
    values = size_of(frame(name, scratch)) // 8
    with meter(renewed=_MOST_MEMORY * frame_bytes(name, scratch)):
        np.ones(values)


def contestants(function: str, bench: Bench, ways: list[str], name: str) -> list[Contestant]:
    """The ways, each with the arguments that all of these functions take."""
    arguments = {"endpoint": bench.s3.url, "scratch": str(bench.scratch), "name": name}
    # awswrangler wants an older pyarrow than ours: it has an environment of its own.
    python = {"awswrangler": bench.peers_python}
    return [
        Contestant(way, function, {"way": way, **arguments}, python.get(way, sys.executable), seldom=way in python)
        for way in ways
    ]


def all_ways(bench: Bench) -> list[str]:
    """What there is to compare with on this machine."""
    return [way for way in WAYS if way != "awswrangler" or bench.peers_python]


def store_once(bench: Bench, name: str, ways: list[str]) -> None:
    """Have each way's object of a frame in the bucket."""
    frame(name, bench.scratch)
    missing = [way for way in ways if f"{name}/{way}" not in bench.stored]
    if missing:
        bench.compare(contestants(_UPLOAD, bench, missing, name), bench.s3, rounds=1)
        bench.stored |= {f"{name}/{way}" for way in missing}


@contextmanager
def network(bench: Bench, *, away: bool) -> Iterator[str]:
    """Move the S3 server away, if it is to be, for as long as the `with` lasts. Yields how a title says it."""
    if not away:
        yield ""
        return
    bench.s3.network(LATENCY_MS, MB_PER_S)
    try:
        yield f", {LATENCY_MS} ms away"
    finally:
        bench.s3.network()


def _upload(name: str, faster: float, memory: float, bench: Bench, *, networked: bool = False) -> Outcome:
    ways = all_ways(bench)
    frame(name, bench.scratch)
    arguments = {"scratch": str(bench.scratch), "name": name}
    bound = Contestant("its encoding alone", f"{__name__}:encode_alone", arguments, seldom=True)
    with network(bench, away=networked) as where:
        results = bench.compare([*contestants(_UPLOAD, bench, ways, name), bound], bench.s3)
    bench.stored |= {f"{name}/{way}" for way in ways}
    ours = results[OURS]
    size = int(ours.median("frame"))
    goals = [
        at_least(REFERENCE, faster, ours.times_faster(results[REFERENCE])),
        at_least("polars", 0.95, ours.times_faster(results["polars"])),
        at_most("the frame", memory, ours.memory / size),
    ]
    title = f"Upload, {DESCRIPTIONS[name]}{where}"
    return Outcome(title, bench.s3.name, results, goals, [_UPLOAD_NOTE], frame_bytes=size)


def _download(name: str, networked: bool, memory: float, bench: Bench) -> Outcome:
    ways = all_ways(bench)
    store_once(bench, name, ways)
    arguments = {"scratch": str(bench.scratch), "name": name}
    bound = Contestant("the frame's memory alone", f"{__name__}:memory_alone", arguments, seldom=True)
    with network(bench, away=networked) as where:
        results = bench.compare([*contestants(_DOWNLOAD, bench, ways, name), bound], bench.s3)
    ours = results[OURS]
    size = int(ours.median("frame"))
    others = {way: ours.times_faster(results[way]) for way in ways if way != OURS}
    fastest = min(others, key=lambda way: others[way])
    if name.startswith("wide"):
        wanted, least = (1.1, 1.04) if networked else (0.9, 0.65)
        goals = [at_least("polars", wanted, others["polars"], least)]
    else:
        goals = [at_least(f"the fastest of the others ({fastest})", 1, others[fastest], 0.9)]
    goals.append(at_most("the frame", memory, ours.memory / size))
    title = f"Download, {DESCRIPTIONS[name]}{where}"
    return Outcome(title, bench.s3.name, results, goals, [_DOWNLOAD_NOTE], frame_bytes=size)


def _upload_polars(bench: Bench) -> Outcome:
    name = "narrow-precise"
    frame(name, bench.scratch)
    asked = contestants(_UPLOAD, bench, [OURS, REFERENCE, "polars"], name)
    asked = [replace(each, arguments={**each.arguments, "polars": True}) for each in asked]
    results = bench.compare(asked, bench.s3)
    bench.stored |= {f"{name}/{way}" for way in results}
    ours, size = results[OURS], int(results[OURS].median("frame"))
    goals = [
        at_least(REFERENCE, 2, ours.times_faster(results[REFERENCE])),
        at_least("polars", 0.95, ours.times_faster(results["polars"])),
        at_most("the frame", 0.5, ours.memory / size),
    ]
    note = (
        "The reference converts the frame to one of pandas first. Of 1.5 CPU seconds, encoding takes 1.1; Zstandard "
        "takes 0.13 more than LZ4 would, for a file of 124 instead of 197 MB."
    )
    return Outcome(f"Upload, polars: {DESCRIPTIONS[name]}", bench.s3.name, results, goals, [note], frame_bytes=size)


def _batches(bench: Bench) -> Outcome:
    results = bench.compare([Contestant(OURS, f"{__name__}:upload_batches", {"endpoint": bench.s3.url})], bench.s3, 1)
    memory = results[OURS].memory / 2**20
    goals = [at_most("of extra memory", 256, memory, " MiB")]
    note = "50 batches of 80 MB; the memory is that of the batch in work and of the parts on their way."
    return Outcome("`upload_batches`, 4 GB", bench.s3.name, results, goals, [note])


CASES = [
    Case("upload-wide", partial(_upload, "wide", 2.5, 0.35), rounds=9),
    Case("upload-narrow", partial(_upload, "narrow", 2.0, 0.5), rounds=9),
    Case("upload-wide-precise", partial(_upload, "wide-precise", 2.5, 0.35), rounds=5),
    Case("upload-narrow-precise", partial(_upload, "narrow-precise", 2.0, 0.5), rounds=5),
    Case("upload-wide-network", partial(_upload, "wide", 2.0, 0.5, networked=True), rounds=5),
    Case("upload-narrow-network", partial(_upload, "narrow", 1.0, 0.6, networked=True), rounds=5),
    Case("upload-narrow-polars", _upload_polars, rounds=5),
    Case("upload-batches", _batches, rounds=1),
    Case("download-wide", partial(_download, "wide", False, 1.5), rounds=9),
    Case("download-narrow", partial(_download, "narrow", False, 1.6), rounds=5),
    Case("download-wide-precise", partial(_download, "wide-precise", False, 1.5), rounds=5),
    Case("download-narrow-precise", partial(_download, "narrow-precise", False, 1.6), rounds=5),
    Case("download-wide-network", partial(_download, "wide", True, 1.5), rounds=9),
    Case("download-narrow-network", partial(_download, "narrow", True, 1.6), rounds=9),
]
