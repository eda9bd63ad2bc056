"""The measurements as Markdown."""

import datetime as dt
import os
import platform
from importlib.metadata import version
from typing import Any

from tests.benchmarks.processes import Measured

_PACKAGES = ("pandas", "pyarrow", "boto3", "polars", "google-cloud-storage", "prefect", "prefect-gcp")
_INTRODUCTION = """# Benchmarks

Made by `make bench`; not edited by hand. {when}, {machine}; Python {python}, {packages}.

Every contestant runs in a fresh process, in every round, in turn with the others; what is shown are medians, of as
many rounds as each case says. Times on a shared machine are noisy: trust the ratios. *Extra memory* is the peak of the
process's resident memory during the operation, beyond what it was before. The S3 stub keeps objects in memory, checks
nothing, counts bytes and requests, and can be as slow as a network.

A downloaded frame is writable, in the blocks that it had: nothing of it is Arrow's memory. That costs next to nothing.
Before and after, on a local disk (medians of three, 2026-11-26): 240 MB of floats, peak 1.19× and 1.17× the frame,
1.12 and 1.02 s of CPU; 261 MB of a narrow frame, 1.55× and 1.58×, 1.47 and 1.58 s.

<!-- check-only: it measures for an hour -->
```bash
make bench NULL_S3=path/to/null_s3.cpp                      # all cases; without NULL_S3 on moto's server
make bench CASES=upload-wide,download-wide ROUNDS=5         # some
```
"""


def render(outcomes: dict[str, dict[str, Any]]) -> str:
    """The document: what is to be reached first, then every case."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    when = dt.datetime.now(dt.UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    python = platform.python_version()
    introduction = _INTRODUCTION.format(when=when, machine=machine, python=python, packages=packages)
    parts = [introduction, "## What is to be reached\n", _goals(outcomes), "## The measurements\n"]
    parts += [_case(name, outcome) for name, outcome in outcomes.items()]
    return "\n".join(parts)


def _goals(outcomes: dict[str, dict[str, Any]]) -> str:
    rows = [
        [outcome["title"], goal["reach"], goal["measured"], "yes" if goal["reached"] else "**no**"]
        for outcome in outcomes.values()
        for goal in outcome["goals"]
    ]
    return _table(["case", "reach", "measured", "reached"], rows)


def _case(name: str, outcome: dict[str, Any]) -> str:
    results = {name: Measured(rounds) for name, rounds in outcome["results"].items()}
    first = next(iter(results.values()))
    header = ["", "seconds", "fastest – slowest", "of the first's time", "CPU seconds"]
    header += ["extra memory"] * first.has("memory") + ["of the frame"] * bool(outcome["frame_bytes"])
    header += ["MB down", "MB up", "requests"] * first.has("requests")
    rows = []
    for contestant, measured in results.items():
        seconds = [one["seconds"] for one in measured.rounds]
        row = [contestant, f"{measured.seconds:.3g}", f"{min(seconds):.3g} – {max(seconds):.3g}"]
        row.append("1" if measured is first else f"{first.times_faster(measured):.2f}")
        row.append(f"{measured.median('cpu'):.3g}" if measured.has("cpu") else "")
        if first.has("memory"):
            row.append(f"{measured.memory / 2**20:,.0f} MiB")
        if outcome["frame_bytes"]:
            row.append(f"{measured.memory / outcome['frame_bytes']:.2f}×")
        if first.has("requests"):
            row += [f"{measured.median(key) / 1e6:,.1f}" for key in ("bytes_down", "bytes_up")]
            row.append(f"{measured.median('requests'):,.0f}")
        rows.append(row)
    notes = "".join(f"\n{note}\n" for note in outcome["notes"])
    rounds = f"{len(first.rounds)} rounds" if len(first.rounds) > 1 else "one round"
    if "load" in outcome:
        rounds += f", load average {outcome['load']:.1f}"
    heading = f"### {outcome['title']}\n\n`CASES={name}`, against {outcome['server']}, {rounds}.\n"
    return f"{heading}\n{_table(header, rows)}{notes}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
