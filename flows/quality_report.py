"""Compares the features of a date with a reference date: writes a page, and fails if a given limit is exceeded.

python -m flows.quality_report --store URI_OR_BLOCK --date D --reference D [--max-psi 0.25]
"""

import datetime as dt
import json
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.futures import as_completed

from clinops_prefect import ArtifactNotFoundError, PipelineStore, locations
from clinops_prefect.command_line import BEYOND_LIMITS, UNUSABLE
from clinops_prefect.tasks import open_store
from flows.icu.catalogue import DEFAULT_CATALOGUE, Catalogue, load_catalogue
from flows.icu.counts import Counts, add_counts
from flows.icu.drift import drift_document
from flows.icu.quality import count_features
from flows.icu.verdict import one_line
from flows.reports.drift_page import drift_page
from flows.running import artifacts, scheduling
from flows.running.command_line import quality_report_main
from flows.running.engines import DEFAULT_ENGINE, running, task_runner
from flows.running.partition import Partition
from flows.running.tasks import RETRIES
from flows.running.trend import read_trend, trend_row

# How many of the store's dates a message names.
_SHOWN = 3


class DriftError(RuntimeError):
    """Variables exceed the given limits. The message names them. The page was already written."""


class NotComparableError(ValueError):
    """The two dates were made with different catalogues or windows. The message names the difference."""


@task(name="count-shard", task_run_name="count-{name}", **RETRIES)
def count_shard(store: str, name: str, catalogue: str) -> Counts:
    """The counts of one shard of features. Only the columns that are counted are read."""
    known = load_catalogue(catalogue)
    columns = ["subject_id", "stay_id", "split"]
    columns += [f"{variable}_{feature}" for variable in known.names for feature in ("mean", "filled", "missing")]
    return count_features(open_store(store).download(name, columns=columns), known, ["mean"])


@flow(
    name="icu-quality-report",
    flow_run_name=scheduling.run_name,
    description="Drift of a date's ICU features from a reference date's.",
    validate_parameters=True,
)
def quality_report(
    store: str,
    reference: dt.date,
    date: dt.date | None = None,
    max_psi: float | None = None,
    max_missing_change: float | None = None,
    catalogue: str = "",
    engine: str = DEFAULT_ENGINE,
) -> dict[str, Any]:
    """Compare the features of two dates, and write a page to the partition of the date.

    Args:
        store: As in `icu_features`.
        reference: The date with which to compare.
        date: The date to judge. If None, the day for which the run is scheduled.
        max_psi: Fail if a variable's population stability index is above this limit. 0.25 is customary.
        max_missing_change: Fail if a variable's missing rate has changed by more than this limit, up or down. 0.1 means
            ten percent of the windows.
        catalogue: The catalogue of both dates. If empty, the default catalogue.
        engine: As in `icu_features`.

    Returns:
        The document, which is stored as `icu/{date}/drift/{reference}.json`. The page has the extension `.html`.

    Raises:
        DriftError: A limit is exceeded.
        NotComparableError: The two dates were made with different catalogues or windows.
        ArtifactNotFoundError: One of the dates has no features.
    """
    logger, target, date = get_run_logger(), open_store(store), scheduling.date_of_run(date)
    catalogue = catalogue or str(DEFAULT_CATALOGUE)
    known = load_catalogue(catalogue)
    manifests = _comparable(target, reference, date, known)
    # Each shard's counts are added as they arrive, since they take a few megabytes.
    counts: dict[dt.date, Counts] = {day: {} for day in manifests}
    with running(engine) as runner:
        futures = {
            runner.submit(count_shard, {"store": store, "name": artifact["name"], "catalogue": catalogue}): day
            for day, manifest in manifests.items()
            for artifact in manifest["artifacts"]
            if "/features/" in artifact["name"]
        }
        for future in as_completed(list(futures)):
            counts[futures[future]] = add_counts(counts[futures[future]], future.result())
    limits = {"max_psi": max_psi, "max_missing_change": max_missing_change}
    document = {
        "date": date.isoformat(),
        "reference": reference.isoformat(),
        "runs": {"date": manifests[date]["run"], "reference": manifests[reference]["run"]},
        **drift_document(counts[reference], counts[date], known, **limits),
    }
    path = f"icu/{date}/drift/{reference}"
    target.write_bytes(f"{path}.json", json.dumps(document, indent=1).encode())
    trend = _trend(target, date)
    page = target.write_bytes(f"{path}.html", drift_page(document, f"{date}", f"{reference}", trend).encode())
    artifacts.drift_artifact(document, target, page, target.browser_url(f"{path}.html"))
    logger.info("the drift of %s from %s is in %s", date, reference, page)
    logger.info("verdict on %s: %s", date, one_line(document["verdict"]))
    drifted = {name: variable["exceeds"] for name, variable in document["variables"].items() if variable["exceeds"]}
    if drifted:
        named = ", ".join(f"{name} ({', '.join(exceeds)})" for name, exceeds in drifted.items())
        raise DriftError(f"{len(drifted)} variables of {date} are beyond the limits: {named}; see {page}")
    return document


def _trend(store: PipelineStore, date: dt.date) -> list[dict[str, Any]]:
    """The trend rows of the dates up to `date`."""
    try:
        document = json.loads(store.read_bytes(f"icu/{date}/quality.json"))
        return [*read_trend(store, date.isoformat()), trend_row(date.isoformat(), document)]
    except (ArtifactNotFoundError, ValueError, KeyError):
        # An older version wrote another document. The drift does not need the trend.
        return []


def _comparable(
    store: PipelineStore, reference: dt.date, date: dt.date, catalogue: Catalogue
) -> dict[dt.date, dict[str, Any]]:
    manifests = {day: _manifest(store, day, catalogue) for day in (reference, date)}
    for key in ("window_hours", "horizon_hours"):
        hours = [manifest["parameters"][key] for manifest in manifests.values()]
        if hours[0] != hours[-1]:
            raise NotComparableError(f"{reference} has {key} {hours[0]}, and {date} has {hours[-1]}")
    return manifests


def _manifest(store: PipelineStore, date: dt.date, catalogue: Catalogue) -> dict[str, Any]:
    manifest = Partition(date.isoformat(), "").manifest(store)
    if not manifest:
        place = store.uri("x").rpartition("/")[0]
        raise ArtifactNotFoundError(
            f"{date} has no features in {place}: run flows.icu_features for it first; {_dates_of(store)}"
        )
    if not manifest.get("run"):
        raise NotComparableError(f"the features of {date} are being replaced, or were by half: run that date again")
    if manifest["parameters"]["catalogue_sha256"] != catalogue.sha256:
        raise NotComparableError(f"the features of {date} were made with another catalogue; pass that one")
    return manifest


def _dates_of(store: PipelineStore) -> str:
    """The store's newest dates as text, for a message."""
    days = sorted({name.split("/")[1] for name in store.list_artifacts("icu") if "/features/" in name})
    days = [day for day in days if not day.startswith("_")]
    more = f"{len(days) - _SHOWN} earlier dates, " if len(days) > _SHOWN else ""
    return f"the store has {more}{', '.join(days[-_SHOWN:])}" if days else "the store has no date"


def main() -> None:
    """Run the command line."""

    def check(store: str, reference: dt.date, date: dt.date, catalogue: str, engine: str, **_: Any) -> None:
        task_runner(engine)
        known = load_catalogue(catalogue or DEFAULT_CATALOGUE)
        # Only Prefect knows saved blocks, and Prefect has not started yet.
        if not isinstance(locations.parse(store), locations.BlockReference):
            _comparable(open_store(store), reference, date, known)

    quality_report_main(quality_report, {DriftError: BEYOND_LIMITS, NotComparableError: UNUSABLE}, check)


if __name__ == "__main__":
    main()
