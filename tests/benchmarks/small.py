"""Many small artifacts at once, and listing twenty thousand."""

import http.client
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

from tests.benchmarks.case import Bench, Case, Goal, Outcome, at_least, at_most
from tests.benchmarks.frames import small
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.servers import BUCKET
from tests.benchmarks.transfer import ready
from tests.benchmarks.ways_s3 import OURS, REFERENCE

_NUMBER, _THREADS, _BYTES = 500, 32, 20_000
_FRAMES_NOTE = (
    "In one thread a frame takes 2.4 milliseconds of CPU: boto3's request 1.0 to 1.1, encoding 0.6 or decoding 0.75. "
    "Most of it holds Python's lock, so 32 threads only wait side by side. Threads take turns to encode and decode, "
    "else a frame takes 120 to 200 context switches instead of 15 to 30."
)
_LISTED = 20_000
# What the SDK's own single request takes: nothing that uses it can be faster.
_BARE = "bare"
_BYTES_OF = {OURS: f"{OURS}, bytes", REFERENCE: "boto3, bytes", _BARE: "boto3, one bare request"}


def frames_up(meter: Meter, way: str, endpoint: str, *, precise: bool = False) -> None:
    """Upload the frames."""
    made, df = ready(way, endpoint), small(precise=precise)
    _all(meter, lambda number: made.upload(df, f"small/{precise}/{way}/{number}"))


def frames_down(meter: Meter, way: str, endpoint: str, *, precise: bool = False) -> None:
    """Download the frames."""
    made = ready(way, endpoint)
    _all(meter, lambda number: made.download(f"small/{precise}/{way}/{number}"))


def bytes_up(meter: Meter, way: str, endpoint: str) -> None:
    """Upload as many bytes, which are no frames."""
    made, data = ready(REFERENCE if way == _BARE else way, endpoint), bytes(_BYTES)
    if way == OURS:
        _all(meter, lambda number: made.store.write_bytes(f"plain/{way}/{number}", data))
    elif way == _BARE:
        _all(meter, lambda number: made.client.put_object(Bucket=BUCKET, Key=f"plain/{way}/{number}", Body=data))
    else:
        _all(meter, lambda number: made.client.upload_fileobj(io.BytesIO(data), BUCKET, f"plain/{way}/{number}"))


def bytes_down(meter: Meter, way: str, endpoint: str) -> None:
    """Download as many bytes."""
    made = ready(REFERENCE if way == _BARE else way, endpoint)
    if way == OURS:
        _all(meter, lambda number: made.store.read_bytes(f"plain/{way}/{number}"))
    elif way == _BARE:
        _all(meter, lambda number: made.client.get_object(Bucket=BUCKET, Key=f"plain/{way}/{number}")["Body"].read())
    else:
        _all(meter, lambda number: made.client.download_fileobj(BUCKET, f"plain/{way}/{number}", io.BytesIO()))


def _all(meter: Meter, work: Callable[[int], object]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        # The threads and their connections are there already, as in a worker that has been running for a while.
        list(pool.map(work, range(_THREADS)))
        with meter():
            list(pool.map(work, range(_NUMBER)))


def listing(meter: Meter, way: str, endpoint: str) -> None:
    """List the names."""
    made = ready(way, endpoint)
    if way == OURS:
        with meter():
            found = made.store.list_artifacts("listed")
    else:
        with meter():
            pages = made.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="listed/")
            found = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    if len(found) != _LISTED:
        raise AssertionError(f"{way} listed {len(found)}")


def _small(kind: str, direction: str, precise: bool, bench: Bench) -> Outcome:
    frames = {OURS: OURS, REFERENCE: REFERENCE}
    named, more = (_BYTES_OF, {}) if kind == "bytes" else (frames, {"precise": True} if precise else {})
    function, contestants = f"{__name__}:{kind}", {}
    for way, name in named.items():
        arguments = {"way": way, "endpoint": bench.s3.url, **more}
        contestants[way] = Contestant(name, f"{function}_{direction}", arguments)
        stored = f"small/{kind}/{way}/{precise}"
        if direction == "down" and stored not in bench.stored:
            bench.compare([Contestant(name, f"{function}_up", arguments)], bench.s3, rounds=1)
            bench.stored.add(stored)
    results = bench.compare(list(contestants.values()), bench.s3)
    ours, theirs = results[named[OURS]], results[named[REFERENCE]]
    # Of bytes the SDK's own request takes the most: see the contestant that does nothing else.
    wanted = 1 if kind == "bytes" else {"up": 1.5, "down": 2.5}[direction]
    goals = [at_least(named[REFERENCE], wanted, ours.times_faster(theirs))]
    if ours.has("requests"):
        each = ours.median("requests") / _NUMBER
        goals.append(Goal("one request an artifact", f"{each:.2f}", each < 1.05))
    what = "artifacts of 20,000 bytes" if kind == "bytes" else f"frames of 20 kB{', full precision' * precise}"
    notes = [] if kind == "bytes" else [_FRAMES_NOTE]
    return Outcome(f"{_NUMBER} {what} {direction}, {_THREADS} threads", bench.s3.name, results, goals, notes)


def _listing(bench: Bench) -> Outcome:
    host = urlsplit(bench.s3.url)
    connection = http.client.HTTPConnection(host.hostname or "", host.port)
    for number in range(_LISTED):
        connection.request("PUT", f"/{BUCKET}/listed/stay-{number:06d}/features.parquet", body=b"-")
        connection.getresponse().read()
    connection.close()
    paginator = "boto3's paginator"
    results = bench.compare(
        [
            Contestant(name, f"{__name__}:listing", {"way": way, "endpoint": bench.s3.url})
            for way, name in ((OURS, OURS), (REFERENCE, paginator))
        ],
        bench.s3,
    )
    took = 1 / results[OURS].times_faster(results[paginator])
    return Outcome(
        f"Listing {_LISTED:,} artifacts", bench.s3.name, results, [at_most("the paginator's time", 1.1, took)]
    )


CASES = [
    *[Case(f"small-{way}", partial(_small, "frames", way, False), rounds=9) for way in ("up", "down")],
    *[Case(f"small-{way}-precise", partial(_small, "frames", way, True), rounds=5) for way in ("up", "down")],
    *[Case(f"bytes-{way}", partial(_small, "bytes", way, False)) for way in ("up", "down")],
    Case("listing", _listing),
]
