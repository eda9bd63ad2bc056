"""The measurements as Markdown: a short table that other pages quote, a line for each case, and more cores on paper."""

import datetime as dt
import os
import platform
import re
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.processes import Measured

_PACKAGES = ("pandas", "pyarrow", "boto3", "polars", "google-cloud-storage", "prefect", "prefect-gcp")
_INTRODUCTION = """# Benchmarks

Made by `make bench`; not edited by hand. {when}, {machine}, load average {load}; {packages}.

In each round every contestant runs in a process of its own, in turn with the others. The figures are medians of the
rounds. On a shared machine trust the ratios. *Memory* is the peak of the process's resident memory during the
operation, beyond what it was before: as a share of the frame's memory, or in MiB. The stubs of S3 and Cloud Storage
keep objects in memory and run on the same cores. "25 ms away" is that latency for each request, with 80 MB/s for each
connection.

<!-- check-only: it measures for most of an hour -->
```bash
make bench NULL_S3=path/to/null_s3.cpp                      # all cases; without NULL_S3 on moto's server
make bench CASES=upload-wide,download-wide ROUNDS=5         # some
```

It writes a page like this one, `.bench/benchmarks.md`.

## In short

*Times as fast* is the median, over the rounds, of the other way's time divided by that of clinops_prefect.
"""
_ALL = """
## All cases

The first line of a case is clinops_prefect. *× time* and *× CPU* are multiples of the first line's: medians of the
ratios in each round. Ways without a goal run in every fifth round. The *frames of full precision* are a second
set: floats with all decimals, texts of three words of a large vocabulary, integers with nulls. The first set's floats
have three decimals.
"""
_PAPER = """
## On 8 and 32 cores, on paper

From the seconds W and the CPU seconds C on {cores} cores: if a part S runs on one core and a part P divides among all
cores, then W = S + P / {cores} and C = S + P. So P = {factor}(C - W), S = C - P, and on N cores the time is S + P / N.
"""
_ASSUMPTIONS = """
S is mostly what holds Python's interpreter lock, namely the SDKs' requests and the handling of each column, and what
runs in order, such as the first and the last request. Three assumptions are not measured: P divides without a limit
(neither memory bandwidth nor the number of row groups ends it), the server takes no more time with more cores, and
waiting counts as S, also waiting for the stub, which shares the {cores} cores here.
"""
# Case -> what the short table calls it, and the way to compare with.
QUOTED = {
    "upload-wide": ("upload, wide frame", "pandas + boto3"),
    "upload-wide-precise": ("the same, floats of full precision", "pandas + boto3"),
    "upload-narrow": ("upload, narrow frame", "pandas + boto3"),
    "download-wide-network": ("download, wide frame, 25 ms away", "polars"),
    "download-narrow-network": ("download, narrow frame, 25 ms away", "pandas + boto3"),
    "columns-network": ("ten of 1,000 columns, 25 ms away", "pandas + boto3"),
    "small-down": ("500 frames of 20 kB down, 32 threads", "pandas + boto3"),
    "dataset-columns": ("ten of 1,000 columns of 200 files, 25 ms away", "pyarrow dataset, to pandas"),
    "gcs-upload-wide": ("upload to Cloud Storage, wide frame", "prefect-gcp `GcsBucket`"),
    "result-read-s3": ("a Prefect result of 100 MB read from S3", "Prefect's default"),
    "flow-10m": ("10M chart rows to features", "clinops 0.6.1"),
}
# What README.md, which is to be short, quotes of it.
BRIEF = ("upload-wide", "download-wide-network", "columns-network", "flow-10m")
_ON_PAPER = ("upload-wide", "upload-narrow", "download-wide", "download-narrow", "small-up", "small-down", "flow-10m")
_WAYS_ON_PAPER = ("clinops_prefect", "pandas + boto3", "polars", "clinops 0.6.1")
_CORES = (8, 32)
_BEGIN, _END = "<!-- begin: quoted from the benchmarks -->", "<!-- end: quoted from the benchmarks -->"
_BLOCK = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)


def render(outcomes: dict[str, dict[str, Any]]) -> str:
    """The page."""
    when = sorted({outcome["when"] for outcome in outcomes.values()})
    facts = {
        "packages": _packages(outcomes),
        "when": " to ".join(dict.fromkeys([when[0], when[-1]])),
        "machine": " and ".join(sorted({outcome["machine"] for outcome in outcomes.values()})),
        "load": _load(outcomes),
    }
    rows = [_case(name, outcome) for name, outcome in outcomes.items()]
    header = ["case", "way", "seconds (fastest – slowest)", "CPU s", "× time", "× CPU", "memory", "goal: measured"]
    parts = [_INTRODUCTION.format(**facts), short(outcomes), _ALL, _table(header, rows), _notes(outcomes)]
    return "\n".join([*parts, paper(outcomes, max(outcome["cores"] for outcome in outcomes.values()))])


def circumstances() -> dict[str, Any]:
    """When and with what a case was measured, and what else the machine was doing, this suite included."""
    return {
        "when": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 2,
        "load": round(os.getloadavg()[1], 1),
        "versions": {"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }


def short(outcomes: dict[str, dict[str, Any]], names: Iterable[str] = QUOTED) -> str:
    """The table of these cases that other pages quote, with its marks."""
    rows = []
    for name in names:
        title, way = QUOTED[name]
        if (outcome := outcomes.get(name)) is None or way not in outcome["results"]:
            continue
        results = _measured(outcome)
        ours, theirs, size = next(iter(results.values())), results[way], outcome["frame_bytes"]
        rows.append(
            [
                *[title, way, f"{_number(ours.seconds)} s against {_number(theirs.seconds)} s"],
                *[f"{ours.times_faster(theirs):.1f}×", f"{ours.times_faster(theirs, 'cpu'):.1f}×"],
                f"{_memory(ours, size)} against {_memory(theirs, size)}",
            ]
        )
    header = ["", "compared with", "time", "times as fast", "in CPU seconds", "memory (of the frame)"]
    return f"{_BEGIN}\n{_table(header, rows)}{_END}"


def quote(block: str, page: Path) -> None:
    """Put the short table in the place of the one that a page quotes."""
    page.write_text(_BLOCK.sub(lambda _: block, page.read_text()))


def quoted(page: Path) -> str:
    """What a page quotes, or says.

    Raises:
        ValueError: It has no such table.
    """
    if (found := _BLOCK.search(page.read_text())) is None:
        raise ValueError(f"{page} has no table between the marks")
    return found[0]


def paper(outcomes: dict[str, dict[str, Any]], cores: int) -> str:
    """The same operations on more cores, computed from their serial and parallel parts."""
    rows = []
    for name in _ON_PAPER:
        if (outcome := outcomes.get(name)) is None:
            continue
        results = {way: measured for way, measured in _measured(outcome).items() if way in _WAYS_ON_PAPER}
        parts = {way: split(each.seconds, each.median("cpu"), cores) for way, each in results.items()}
        row = [
            outcome["title"],
            _lines(results),
            *(_lines(_number(part[at]) for part in parts.values()) for at in (0, 1)),
        ]
        row.append(_lines(_number(each.seconds) for each in results.values()))
        row += [_lines(_number(serial + rest / n) for serial, rest in parts.values()) for n in _CORES]
        rows.append(row)
    header = ["case", "way", "S", "P", f"{cores} cores, measured", *(f"{n} cores" for n in _CORES)]
    text = _PAPER.format(cores=cores, factor=f"{cores / (cores - 1):g} ")
    return f"{text}\n{_table(header, rows)}{_ASSUMPTIONS.format(cores=cores)}"


def split(seconds: float, cpu: float, cores: int) -> tuple[float, float]:
    """The seconds of the serial part, waiting included, and the CPU seconds of the part that divides among cores."""
    # CPU seconds are counted in ticks, so they may exceed what the cores have by a little.
    parallel = min(cpu, max(0.0, cpu - seconds) * cores / (cores - 1))
    return max(0.0, seconds - parallel / cores), parallel


def _case(name: str, outcome: dict[str, Any]) -> list[str]:
    results, size = _measured(outcome), outcome["frame_bytes"]
    first = next(iter(results.values()))
    others = [measured for measured in results.values() if measured is not first]
    rounds = len(first.rounds)
    return [
        f"{outcome['title']}<br>`{name}`, {rounds} round{'s' * (rounds > 1)}",
        _lines(results),
        _lines(_seconds(measured) for measured in results.values()),
        _lines(_number(measured.median("cpu")) for measured in results.values()),
        _lines(["1", *(f"{first.times_faster(other):.2f}" for other in others)]),
        _lines(["1", *(f"{first.times_faster(other, 'cpu'):.2f}" for other in others)]),
        _lines(_memory(measured, size) for measured in results.values()),
        _lines(_goal(goal) for goal in outcome["goals"]),
    ]


def _goal(goal: dict[str, Any]) -> str:
    verdict = "yes" if goal["reached"] else "**no**"
    if not goal["reached"] and goal.get("is_least"):
        verdict = f"**no**, but {goal['least']}"
    return f"{goal['reach']}: {goal['measured']}, {verdict}"


def _notes(outcomes: dict[str, dict[str, Any]]) -> str:
    titles: dict[str, list[str]] = {}
    for name, outcome in outcomes.items():
        for note in outcome["notes"]:
            titles.setdefault(note, []).append(f"`{name}`")
    return "".join(f"- {', '.join(names)}: {note}\n" for note, names in titles.items())


def _load(outcomes: dict[str, dict[str, Any]]) -> str:
    loads = [outcome["load"] for outcome in outcomes.values()]
    return f"{min(loads):.1f} to {max(loads):.1f}"


def _packages(outcomes: dict[str, dict[str, Any]]) -> str:
    used: dict[str, set[str]] = {}
    for outcome in outcomes.values():
        for name, number in outcome["versions"].items():
            used.setdefault(name, set()).add(number)
    return ", ".join(f"{name} {' and '.join(sorted(numbers))}" for name, numbers in used.items())


def _measured(outcome: dict[str, Any]) -> dict[str, Measured]:
    return {name: Measured(rounds) for name, rounds in outcome["results"].items()}


def _seconds(measured: Measured) -> str:
    seconds = [each["seconds"] for each in measured.rounds]
    spread = f" ({_number(min(seconds))} – {_number(max(seconds))})" if len(seconds) > 1 else ""
    return f"{_number(measured.seconds)}{spread}"


def _memory(measured: Measured, frame_bytes: int) -> str:
    if not measured.has("memory"):
        return ""
    return f"{measured.memory / frame_bytes:.2f}×" if frame_bytes else f"{measured.memory / 2**20:,.0f} MiB"


def _number(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:#.3g}".rstrip(".")


def _lines(cells: Any) -> str:
    return "<br>".join(cells)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
