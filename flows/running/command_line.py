"""The command lines of the flows: `python -m flows.icu_features`, `flows.backfill` and `flows.quality_report`.

Each function gets its flow as an argument, so that this module does not import the flows.
"""

import argparse
import datetime as dt
import gc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from clinops_prefect import InvalidStoreError, LocalPipelineStore, PipelineStore, locations
from clinops_prefect.command_line import (
    BEYOND_LIMITS,
    INCOMPLETE,
    LATER,
    UNUSABLE,
    Parser,
    run,
    server_for_a_command,
    stop,
)
from clinops_prefect.tasks import open_store
from flows.icu.acceptance import NotAcceptedError
from flows.icu.catalogue import CatalogueError
from flows.icu.disclosure import told
from flows.running.claim import ClaimLostError, DateClaimedError
from flows.running.parameters import checked_tables, file_in_the_way
from flows.running.source_store import open_source
from flows.sources.fhir_table import FhirTableError
from flows.sources.files import TableError
from flows.sources.folder import find_source
from flows.sources.meds_table import MedsTableError

Codes = Mapping[type[BaseException], int]
CODES: Codes = {
    TableError: UNUSABLE,
    CatalogueError: UNUSABLE,
    FhirTableError: UNUSABLE,
    MedsTableError: UNUSABLE,
    NotAcceptedError: BEYOND_LIMITS,
    DateClaimedError: LATER,
    ClaimLostError: LATER,
}
_STORE = "s3://…, gs://…, az://…, file:///…, a folder, or a block's reference"
SOURCE = "a folder, s3://…, gs://…, az://… or a block's reference, with icu/ and hosp/, FHIR NDJSON or MEDS"
_ENGINE = (
    "threads[=N] (the default: they start at once), processes[=N] (for many millions of rows: each takes seconds to "
    "start), dask[=ADDRESS] or ray[=ADDRESS]"
)
_SOURCE_AND_STORE = "--source demo/mimic-iv-synthetic --store demo/store"


def features_main(icu_features: Callable[..., dict[str, Any]]) -> None:
    """Run `python -m flows.icu_features`: parse the arguments, run the flow, and print what it wrote."""
    text = "From raw MIMIC-IV tables or FHIR to ICU features."
    parser = _features_parser("icu_features", text, f"{_SOURCE_AND_STORE} --date 2024-01-01")
    parser.add_argument("--date", required=True, type=_date, help="the partition, YYYY-MM-DD")
    arguments = _parsed(parser)
    refuse_absent_folder(parser, arguments["source"])
    date = arguments["date"].isoformat()

    def check() -> None:
        tables = checked_tables(**arguments)
        if isinstance(root := open_source(arguments["source"]), Path):
            find_source(root, tables.fhir)

    manifest = _run(icu_features, arguments, f"{date} is as it was before.", check=check)
    _say(open_store(arguments["store"]), arguments["store"], date, manifest)


def backfill_main(backfill: Callable[..., list[dict[str, Any]]], codes: Codes) -> None:
    """Run `python -m flows.backfill`: the same for many dates."""
    text = "ICU features of many dates; started again, it does what is not complete."
    example = "--source 'raw/{date}' --store demo/store --dates 2024-01-01..2024-01-31"
    parser = _features_parser("backfill", text, example)
    parser.add_argument("--dates", required=True, nargs="+", type=_dates, help="dates, and ranges such as A..B")
    parser.add_argument("--concurrency", type=int, default=2, help="how many dates at a time (default 2)")
    arguments = _parsed(parser)
    dates = arguments["dates"] = [date for dates in arguments["dates"] for date in dates]
    absent = {date: _absent_folder(parser, arguments["source"].replace("{date}", f"{date}")) for date in dates}
    if all(absent.values()):
        text = f"there is no folder {absent[dates[0]]}, so {len(absent)} of {len(absent)} dates failed"
        stop(f"{parser.prog}: --source: {text}. Nothing was written.", INCOMPLETE)
    otherwise = "Start it again to go on with what is not complete."
    done = _run(backfill, arguments, otherwise, codes, check=lambda: checked_tables(**arguments))
    for row in done:
        print(f"{row['date']}  {row['state']:<16} {told(row['windows']):>12} windows")
    print(f"\n{_look(arguments['store'], done[-1]['date'])}")


def quality_report_main(
    quality_report: Callable[..., dict[str, Any]], codes: Codes, check: Callable[..., None]
) -> None:
    """Run `python -m flows.quality_report`: compare two dates. The exit code is 4 if a limit is exceeded."""
    text = "How far a date's features have drifted from another's."
    example = "--store demo/store --date 2024-01-02 --reference 2024-01-01 --max-psi 0.25"
    parser = Parser("flows.quality_report", text, example)
    parser.add_argument("--store", required=True, help=_STORE)
    parser.add_argument("--date", required=True, type=_date, help="the date to look at, YYYY-MM-DD")
    parser.add_argument("--reference", required=True, type=_date, help="the date to compare with, YYYY-MM-DD")
    parser.add_argument("--max-psi", type=float, help="fail above this population stability index, such as 0.25")
    parser.add_argument(
        "--max-missing-change", type=float, help="fail above this change of a missing rate, such as 0.1"
    )
    parser.add_argument("--catalogue", default="", help="the catalogue that both were made with")
    parser.add_argument("--engine", default="threads", help=_ENGINE)
    otherwise = "A limit is exceeded, or the two dates could not be compared."
    arguments = _parsed(parser)
    document = _run(quality_report, arguments, otherwise, codes, check=lambda: check(**arguments))
    for name, variable in document["variables"].items():
        psi, change = variable["psi"], variable["missing_change"]
        print(f"{name:<16} PSI {_number(psi)}   missing rate changed by {_number(change)}")


def _features_parser(module: str, description: str, example: str) -> Parser:
    parser = Parser(f"flows.{module}", description, example)
    more = "; {date} in it stands for the date" if module == "backfill" else ""
    parser.add_argument("--source", required=True, help=f"{SOURCE}{more}")
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


def _parsed(parser: Parser) -> dict[str, Any]:
    arguments = vars(parser.parse_args())
    try:
        # Check the store before Prefect starts, which takes seconds, and before anything is written.
        place = locations.parse(arguments["store"])
    except InvalidStoreError as error:
        parser.error(f"--store: {error}")
    if isinstance(place, locations.Location) and (file := file_in_the_way(arguments["store"])):
        text = f"{file} is a file, where there should be the store's folder; name another folder"
        stop(f"{parser.prog}: --store: {text}. Nothing was written.", UNUSABLE)
    return arguments


def refuse_absent_folder(parser: Parser, source: str) -> None:
    """Exit if the source is a local folder that does not exist, before Prefect starts, which takes seconds."""
    if absent := _absent_folder(parser, source):
        stop(f"{parser.prog}: --source: there is no folder {absent}. Nothing was written.", UNUSABLE)


def _absent_folder(parser: Parser, source: str) -> Path | None:
    try:
        place = locations.parse(source)
    except InvalidStoreError as error:
        parser.error(f"--source: {error}")
    if not isinstance(place, locations.Location) or place.kind.scheme != "file":
        return None
    root = open_source(source)
    return root if isinstance(root, Path) and not root.is_dir() else None


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write it as YYYY-MM-DD") from None


def _dates(text: str) -> list[dt.date]:
    first, _, last = text.partition("..")
    begin, end = _date(first), _date(last or first)
    if end < begin:
        raise argparse.ArgumentTypeError(f"{text} ends before it begins")
    return [begin + dt.timedelta(days) for days in range((end - begin).days + 1)]


def _run(
    flow: Callable[..., Any],
    arguments: dict[str, Any],
    otherwise: str,
    codes: Codes | None = None,
    check: Callable[[], Any] = lambda: None,
) -> Any:
    debug = arguments.pop("debug")

    def work() -> Any:
        check()  # before Prefect starts, which takes seconds
        server_for_a_command()
        return flow(**arguments)

    # What the imports made stays until the end: each full garbage collection would walk its million objects again.
    gc.freeze()
    try:
        return run(work, debug=debug, otherwise=otherwise, codes={**CODES, **(codes or {})})
    finally:
        gc.freeze()  # the interpreter collects several times as it ends, which would take half a second


def _number(number: float | None) -> str:
    return "    -" if number is None else f"{number:5.3f}"


def _say(store: PipelineStore, reference: str, date: str, manifest: dict[str, object]) -> None:
    names = store.list_artifacts(f"icu/{date}")
    first = next(name for name in names if "/features/" in name)
    frame = store.stat(first)
    path = f"icu/{date}/quality.html"
    # For a local store, print a path: not every program can open a file URI.
    is_local = isinstance(store, LocalPipelineStore)
    page = (
        url2pathname(urlsplit(store.browser_url(path)).path)
        if is_local
        else f"{store.uri('x').rpartition('/')[0]}/{path}"
    )
    more = "" if is_local else f"\n  {store.browser_url(path)}"
    features = sum(artifact["rows"] for artifact in manifest["artifacts"] if "/features/" in artifact["name"])  # type: ignore[attr-defined]
    print(
        f"""
{told(features)} windows of {len(frame.schema)} columns, in {sum("/features/" in name for name in names)} shards:
  {frame.uri}  …
Quality report (open it in a browser):
  {page}{more}
{_look(reference, date)}"""
    )


def _look(reference: str, date: str) -> str:
    """Python code that shows the features when pasted, for every kind of store reference."""
    if isinstance(locations.parse(reference), locations.BlockReference):
        lines = ["from clinops_prefect.tasks import open_store", f"store = open_store({reference!r})"]
    else:
        lines = ["from clinops_prefect import PipelineStore", f"store = PipelineStore.from_uri({reference!r})"]
    lines += [f'store.list_artifacts("icu/{date}")', f'store.dataset("icu/{date}/features").download()']
    return "\n  ".join(["Look at the features in Python:", *lines]) + "\n"
