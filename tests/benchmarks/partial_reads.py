"""Parts of a frame: ten of a thousand columns, and the rows of one stay."""

import json
import urllib.request
from functools import partial

from tests.benchmarks.case import Bench, Case, Goal, Outcome, at_least
from tests.benchmarks.frames import NARROW_ROWS, ROWS_PER_STAY
from tests.benchmarks.meter import Meter
from tests.benchmarks.processes import Contestant
from tests.benchmarks.transfer import all_ways, contestants, network, ready, store_once
from tests.benchmarks.ways_s3 import OURS, REFERENCE

_NOTE = (
    "The first request brings the footer, and column chunks are decoded while others arrive. What is left after two "
    "round trips is the SDK's own time for its requests, 1.4 milliseconds of CPU each under Python's lock: the 40 "
    "requests of ten columns of four row groups take 70 ms with nothing else done. Larger row groups would take fewer, "
    "and an upload more memory. polars makes 11 requests, without Python."
)
_COLUMNS = [f"feature_{number}" for number in range(5, 1000, 100)]
_STAY = 30_000_000 + 7 * 5_000
# Far enough for the waiting to be all that is measured.
_FAR_MS = 250


def columns(meter: Meter, way: str, endpoint: str, scratch: str, name: str) -> None:
    """Ten columns."""
    made = ready(way, endpoint)
    with meter():
        found = made.download(f"{name}/{way}", columns=_COLUMNS)
    if list(found.columns) != _COLUMNS:
        raise AssertionError(f"{way} gave other columns")


def one_stay(meter: Meter, way: str, endpoint: str, scratch: str, name: str) -> None:
    """The rows of one stay, by its id."""
    made = ready(way, endpoint)
    with meter():
        found = made.download(f"{name}/{way}", filters=[("stay_id", "==", _STAY)])
    if len(found) != ROWS_PER_STAY:
        raise AssertionError(f"{way} gave {len(found)} rows")


def round_trips(meter: Meter, endpoint: str, control: str, scratch: str, name: str) -> None:
    """How many times ten columns wait for the server, one after the other: what latency costs, over the latency."""
    made = ready(OURS, endpoint)
    for latency in (0, _FAR_MS):
        with urllib.request.urlopen(f"{control}?lat={latency}") as answer:
            json.load(answer)
        with meter():
            made.download(f"{name}/{OURS}", columns=_COLUMNS)
        meter.note(**{f"at_{latency}": meter.measured["seconds"]})
    meter.note(round_trips=(meter.measured[f"at_{_FAR_MS}"] - meter.measured["at_0"]) * 1000 / _FAR_MS)


def _columns(networked: bool, bench: Bench) -> Outcome:
    ways = all_ways(bench)
    store_once(bench, "wide", ways)
    with network(bench, away=networked) as where:
        results = bench.compare(contestants(f"{__name__}:columns", bench, ways, "wide"), bench.s3)
    ours = results[OURS]
    goals = []
    if networked:
        goals += [
            at_least(REFERENCE, 3.5, ours.times_faster(results[REFERENCE])),
            at_least("polars", 0.5, ours.times_faster(results["polars"])),
            _trips(bench),
        ]
    if ours.has("bytes_down"):
        share = ours.median("bytes_down") / _whole(bench, OURS)
        goals.append(Goal("≤ 2 % of the bytes", f"{share:.2%}", share <= 0.02))
    return Outcome(f"Ten of a thousand columns{where}", bench.s3.name, results, goals, [_NOTE])


def _trips(bench: Bench) -> Goal:
    arguments = {"endpoint": bench.s3.url, "control": bench.s3.control, "scratch": str(bench.scratch), "name": "wide"}
    contestant = Contestant(OURS, f"{__name__}:round_trips", arguments)
    try:
        trips = bench.compare([contestant], bench.s3, min(bench.rounds, 3))[OURS].median("round_trips")
    finally:
        bench.s3.network()
    return Goal("≤ 3 round trips one after the other", f"{trips:.1f}", trips < 3.5)


def _one_stay(bench: Bench) -> Outcome:
    ways = [OURS, REFERENCE, "polars"]
    store_once(bench, "narrow", ways)
    results = bench.compare(contestants(f"{__name__}:one_stay", bench, ways, "narrow"), bench.s3)
    goals = []
    if results[OURS].has("bytes_down"):
        share = results[OURS].median("bytes_down") / _whole(bench, OURS, "narrow")
        goals.append(Goal("≤ 5 % of the bytes", f"{share:.2%}", share <= 0.05))
    note = f"{ROWS_PER_STAY} of {NARROW_ROWS:,} rows, sorted by stay."
    return Outcome("One stay's rows by `filters=`", bench.s3.name, results, goals, [note])


def _whole(bench: Bench, way: str, name: str = "wide") -> float:
    """How many bytes the whole download of the same object takes."""
    found = contestants("tests.benchmarks.transfer:download", bench, [way], name)
    return bench.compare(found, bench.s3, rounds=1)[way].median("bytes_down")


CASES = [
    Case("columns", partial(_columns, False), rounds=3),
    Case("columns-network", partial(_columns, True), rounds=9),
    Case("one-stay", _one_stay, rounds=5),
]
