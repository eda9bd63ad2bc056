"""`python -m flows.icu_features`: the flow from the command line, and where its results are."""

import argparse
import sys

from clinops_prefect import PipelineStore
from clinops_prefect.tasks import open_store


def main() -> None:
    """Parse the command line, run the flow, and say what it wrote."""
    from flows.icu_features import icu_features

    parser = argparse.ArgumentParser(
        prog="python -m flows.icu_features", description="From raw MIMIC-IV tables or FHIR to ICU features."
    )
    parser.add_argument("--source", required=True, help="the folder that holds icu/ and hosp/, or FHIR NDJSON")
    parser.add_argument("--store", required=True, help="s3://…, gs://…, file:///…, a folder, or a block's reference")
    parser.add_argument("--date", required=True, help="the partition, YYYY-MM-DD")
    parser.add_argument("--shards", type=int, default=4, help="parts that the subjects are split into (default 4)")
    parser.add_argument("--window-hours", type=int, default=6, help="length of a window (default 6)")
    parser.add_argument("--horizon-hours", type=int, default=48, help="how far windows reach (default 48)")
    parser.add_argument("--catalogue", default="", help="another catalogue of variables, items, units and ranges")
    parser.add_argument("--fhir-table", default="", help="another table of FHIR codes and items")
    parser.add_argument("--engine", default="threads", help="threads[=N], processes[=N] or dask[=ADDRESS]")
    parser.add_argument("--refresh", action="store_true", help="compute also what is complete already")
    arguments = parser.parse_args()
    try:
        manifest = icu_features(**vars(arguments))
    except Exception as error:
        # Prefect has logged the traceback already.
        sys.exit(f"\nThe flow failed; {arguments.date} is as it was before.\n{type(error).__name__}: {error}")
    _say(open_store(arguments.store), arguments.store, arguments.date, manifest)


def _say(store: PipelineStore, reference: str, date: str, manifest: dict[str, object]) -> None:
    names = store.list_artifacts(f"icu/{date}")
    first = next(name for name in names if "/features/" in name)
    frame = store.stat(first)
    page = store.uri(f"icu/{date}/quality").removesuffix(store.format.extension) + ".html"
    features = sum(artifact["rows"] for artifact in manifest["artifacts"] if "/features/" in artifact["name"])  # type: ignore[attr-defined]
    print(
        f"""
{features:,} windows of {len(frame.schema)} columns, in {sum("/features/" in name for name in names)} shards:
  {frame.uri}  …
Quality report (open it in a browser):
  {page}
Look at the features in Python:
  from clinops_prefect import PipelineStore
  store = PipelineStore.from_uri({reference!r})
  store.list_artifacts("icu/{date}")
  store.download("{first}")
"""
    )
