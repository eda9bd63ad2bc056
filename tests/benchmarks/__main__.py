"""Runs the cases and writes a page of what they took: `make bench`; with `PUBLISH=1` those of the documentation."""

import argparse
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

from tests.benchmarks import (
    datasets,
    flow,
    gcs,
    imports,
    partial_reads,
    prefect_results,
    record,
    references,
    report,
    small,
    transfer,
    whole_flow,
)
from tests.benchmarks.case import Bench

_FAMILIES = (transfer, partial_reads, small, prefect_results, references, datasets, gcs, imports, whole_flow, flow)
CASES = {case.name: case for family in _FAMILIES for case in family.CASES}


def main(arguments: list[str] | None = None) -> None:
    """Run what is asked for; a published case that is not keeps what an earlier run measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--cases", default="", help=f"some of them, with commas: {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=0, help="of each case; 0: as many as the case says")
    parser.add_argument("--minutes", type=float, default=0, help="no case begins later than this; 0: all run")
    parser.add_argument("--null-s3", default="", help="the source of the S3 stub; empty: moto's server")
    parser.add_argument("--peers-python", default="", help="a Python with peers.txt; empty: awswrangler is left out")
    parser.add_argument("--clinops-python", default="", help="a Python with clinops 0.6.1 (3.12 or later)")
    parser.add_argument("--shard-mb", type=int, default=50, help="of a dataset's shard, in memory")
    parser.add_argument("--shards", type=int, default=0, help="of a dataset; 0: as many as the case says")
    parser.add_argument("--dataset-gb", type=int, default=30, help="of the dataset that is read in batches")
    parser.add_argument("--scratch", default=".bench", help="frames, data and measurements are kept here")
    parser.add_argument("--out", default="", help="the page; without: benchmarks.md in the scratch folder")
    published = "write the documentation's pages too; its other cases stay as they were measured"
    parser.add_argument("--publish", action="store_true", help=published)
    options = parser.parse_args(arguments)
    names = [name for name in options.cases.split(",") if name] or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    scratch = Path(options.scratch).absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    page = Path(options.out) if options.out else scratch / "benchmarks.md"
    measured: record.Outcomes = {}
    failed = []
    with ExitStack() as servers:
        bench = Bench(options.rounds, scratch, options.null_s3, options.peers_python, options.clinops_python, servers)
        bench.shard_mb, bench.shards, bench.dataset_gb = options.shard_mb, options.shards, options.dataset_gb
        start = time.monotonic()
        for name in names:
            began = time.monotonic()
            if options.minutes and began - start > options.minutes * 60:
                failed.append(f"{name} (no time)")
                continue
            print(f"{name} …", file=sys.stderr, flush=True)
            bench.rounds = options.rounds or CASES[name].rounds
            try:
                measured[name] = CASES[name].run(bench).document() | report.circumstances()
            except Exception:
                # One that fails must not cost the hour of the others.
                failed.append(name)
                print(f"  failed: {traceback.format_exc()}", file=sys.stderr, flush=True)
                continue
            # After each: a run that is cut short leaves what it has.
            page.write_text(report.render(measured))
            if options.publish:
                record.publish(measured, list(CASES))
            for goal in measured[name]["goals"]:
                verdict = "yes" if goal["reached"] else "NO"
                print(f"  {goal['reach']}: {goal['measured']}: {verdict}", file=sys.stderr, flush=True)
            print(f"  ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)
    if measured:
        print(page, file=sys.stderr)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
