"""Many small artifacts at once, and listing twenty thousand."""

import http.client
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from tests.benchmarks.case import Bench, Case, Goal, Outcome, at_least, at_most
from tests.benchmarks.frames import small
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.servers import BUCKET
from tests.benchmarks.transfer import ready
from tests.benchmarks.ways_s3 import OURS, REFERENCE

_NUMBER, _THREADS, _BYTES = 500, 32, 20_000
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


_FRAMES_OF = {OURS: OURS, REFERENCE: REFERENCE}
_PRECISE_OF = {OURS: f"{OURS}, precise", REFERENCE: f"{REFERENCE}, precise"}
_PRECISE = {"precise": True}


def _small(direction: str, bench: Bench) -> Outcome:
    contestants = []
    for kind, named, more in (
        ("frames", _FRAMES_OF, {}),
        ("frames", _PRECISE_OF, _PRECISE),
        ("bytes", _BYTES_OF, {}),
    ):
        for way, name in named.items():
            arguments = {"way": way, "endpoint": bench.s3.url, **more}
            contestants.append(Contestant(name, f"{__name__}:{kind}_{direction}", arguments))
            if direction == "down" and f"{kind}/{name}" not in bench.stored:
                bench.compare([Contestant(name, f"{__name__}:{kind}_up", arguments)], bench.s3, rounds=1)
                bench.stored.add(f"{kind}/{name}")
    results = bench.compare(contestants, bench.s3)
    call = "upload_fileobj" if direction == "up" else "download_fileobj"
    goals = [
        at_least(f"`{call}` of frames", 4, results[OURS].times_faster(results[REFERENCE])),
        at_least(
            f"`{call}` of the second set's frames",
            4,
            results[_PRECISE_OF[OURS]].times_faster(results[_PRECISE_OF[REFERENCE]]),
        ),
        at_least(f"`{call}` of bytes", 4, results[_BYTES_OF[OURS]].times_faster(results[_BYTES_OF[REFERENCE]])),
    ]
    if results[OURS].has("requests"):
        each = results[OURS].median("requests") / _NUMBER
        goals.append(Goal("one request an artifact", f"{each:.2f}", each < 1.05))
    title = f"{_NUMBER} artifacts of 20 kB {direction}, {_THREADS} threads"
    bound = results[_BYTES_OF[_BARE]].times_faster(results[_BYTES_OF[REFERENCE]])
    note = f"One bare request of the SDK an object, with nothing of ours, is {bound:.2f}× as fast as `{call}`."
    if direction == "up":
        note += " Of a small frame the rest is its encoding, which looks at each column for what Parquet would lose."
    return Outcome(title, bench.s3.name, results, goals, [note])


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


def _up(bench: Bench) -> Outcome:
    return _small("up", bench)


def _down(bench: Bench) -> Outcome:
    return _small("down", bench)


CASES = [Case("small-up", _up), Case("small-down", _down), Case("listing", _listing)]
