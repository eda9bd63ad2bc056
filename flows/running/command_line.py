"""The command lines of the flows: `python -m flows.icu_features`, `flows.backfill` and `flows.quality_report`.

Each is handed its flow, so that a flow knows its command line and not the other way.
"""

import argparse
import datetime as dt
import sys
from collections.abc import Callable
from typing import Any

from clinops_prefect import InvalidStoreError, PipelineStore, locations
from clinops_prefect.tasks import open_store

_STORE = "s3://…, gs://…, file:///…, a folder, or a block's reference"
_ENGINE = "threads[=N], processes[=N], dask[=ADDRESS] or ray[=ADDRESS]"


def features_main(icu_features: Callable[..., dict[str, Any]]) -> None:
    """`python -m flows.icu_features`: parse, run the flow, and say what it wrote."""
    parser = _features_parser("icu_features", "From raw MIMIC-IV tables or FHIR to ICU features.")
    parser.add_argument("--date", required=True, help="the partition, YYYY-MM-DD")
    arguments = _parsed(parser)
    manifest = _run(lambda: icu_features(**vars(arguments)), f"{arguments.date} is as it was before.")
    _say(open_store(arguments.store), arguments.store, arguments.date, manifest)


def backfill_main(backfill: Callable[..., list[dict[str, Any]]]) -> None:
    """`python -m flows.backfill`: likewise, for many dates."""
    parser = _features_parser("backfill", "ICU features of many dates; started again, it does what is not complete.")
    parser.add_argument("--dates", required=True, nargs="+", type=_dates, help="dates, and ranges such as A..B")
    parser.add_argument("--concurrency", type=int, default=2, help="how many dates at a time (default 2)")
    arguments = vars(_parsed(parser))
    arguments["dates"] = [date for dates in arguments["dates"] for date in dates]
    done = _run(lambda: backfill(**arguments), "Start it again to go on with what is not complete.")
    for row in done:
        print(f"{row['date']}  {row['state']:<16} {row['windows']:>12,} windows")


def quality_report_main(quality_report: Callable[..., dict[str, Any]]) -> None:
    """`python -m flows.quality_report`: compare two dates; ends with 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.quality_report", description="How far a date's features have drifted from another's."
    )
    parser.add_argument("--store", required=True, help=_STORE)
    parser.add_argument("--date", required=True, help="the date to look at, YYYY-MM-DD")
    parser.add_argument("--reference", required=True, help="the date to compare with, YYYY-MM-DD")
    parser.add_argument("--max-psi", type=float, help="fail above this population stability index, such as 0.25")
    parser.add_argument(
        "--max-missing-change", type=float, help="fail above this change of a missing rate, such as 0.1"
    )
    parser.add_argument("--catalogue", default="", help="the catalogue that both were made with")
    parser.add_argument("--engine", default="threads", help=_ENGINE)
    arguments = _parsed(parser)
    document = _run(
        lambda: quality_report(**vars(arguments)), "A limit is exceeded, or the two dates could not be compared."
    )
    for name, variable in document["variables"].items():
        psi, change = variable["psi"], variable["missing_change"]
        print(f"{name:<16} PSI {_number(psi)}   missing rate changed by {_number(change)}")


def _features_parser(module: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m flows.{module}", description=description)
    more = "; {date} in it stands for the date" if module == "backfill" else ""
    parser.add_argument("--source", required=True, help=f"the folder that holds icu/ and hosp/, or FHIR NDJSON{more}")
    parser.add_argument("--store", required=True, help=_STORE)
    parser.add_argument("--shards", type=int, default=4, help="parts that the subjects are split into (default 4)")
    parser.add_argument("--window-hours", type=int, default=6, help="length of a window (default 6)")
    parser.add_argument("--horizon-hours", type=int, default=48, help="how far windows reach (default 48)")
    parser.add_argument("--catalogue", default="", help="another catalogue of variables, items, units and ranges")
    parser.add_argument("--fhir-table", default="", help="another table of FHIR codes and items")
    parser.add_argument("--meds-table", default="", help="another table of MEDS codes, items and stays")
    parser.add_argument("--engine", default="threads", help=_ENGINE)
    parser.add_argument("--refresh", action="store_true", help="compute also what is complete already")
    parser.add_argument("--accept-empty", action="store_true", help="publish also what has no values, or lost some")
    return parser


def _parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    arguments = parser.parse_args()
    try:
        # Before Prefect starts, which takes seconds, and before anything is written.
        locations.parse(arguments.store)
    except InvalidStoreError as error:
        sys.exit(f"--store: {error}")
    return arguments


def _dates(text: str) -> list[dt.date]:
    first, _, last = text.partition("..")
    begin, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last or first)
    if end < begin:
        raise argparse.ArgumentTypeError(f"{text} ends before it begins")
    return [begin + dt.timedelta(days) for days in range((end - begin).days + 1)]


def _run(flow: Callable[[], Any], otherwise: str) -> Any:
    try:
        return flow()
    except Exception as error:
        # Prefect has logged the traceback already.
        sys.exit(f"\nThe flow failed. {otherwise}\n{type(error).__name__}: {error}")


def _number(number: float | None) -> str:
    return "    -" if number is None else f"{number:5.3f}"


def _say(store: PipelineStore, reference: str, date: str, manifest: dict[str, object]) -> None:
    names = store.list_artifacts(f"icu/{date}")
    first = next(name for name in names if "/features/" in name)
    frame = store.stat(first)
    saved = isinstance(locations.parse(reference), locations.BlockReference)
    page = store.uri(f"icu/{date}/quality").removesuffix(store.format.extension) + ".html"
    features = sum(artifact["rows"] for artifact in manifest["artifacts"] if "/features/" in artifact["name"])  # type: ignore[attr-defined]
    print(
        f"""
{features:,} windows of {len(frame.schema)} columns, in {sum("/features/" in name for name in names)} shards:
  {frame.uri}  …
Quality report (open it in a browser):
  {page}
Look at the features in Python:
  {"from clinops_prefect.tasks import open_store" if saved else "from clinops_prefect import PipelineStore"}
  store = {"open_store" if saved else "PipelineStore.from_uri"}({reference!r})
  store.list_artifacts("icu/{date}")
  store.download("{first}")
"""
    )
