"""Computes ICU features of many dates, a few at once. When started again, it computes only incomplete dates.

python -m flows.backfill --source 'DIR/{date}' --store URI_OR_BLOCK --dates 2024-01-01..2024-01-31
"""

import datetime as dt
from typing import Any

from prefect import flow, get_run_logger, runtime, task

from clinops_prefect.command_line import INCOMPLETE
from clinops_prefect.tasks import open_store
from flows.icu_features import icu_features
from flows.running import artifacts
from flows.running.command_line import backfill_main
from flows.running.engines import DEFAULT_ENGINE, task_runner
from flows.running.failed_dates import told_failures
from flows.running.parameters import checked_tables
from flows.running.progress import Step, following


class BackfillError(RuntimeError):
    """Some dates failed. The message names them, and what was wrong with each. All other dates are complete."""


@task(name="backfill-date", task_run_name="backfill-{date}")
def backfill_date(date: dt.date, source: str, store: str, options: dict[str, Any]) -> dict[str, Any]:
    """Compute one date, unless it is complete."""
    run = icu_features(source.replace("{date}", date.isoformat()), store, date, **options, return_state=True)
    manifest = run.result()
    # Not by the time at which it was made: a clock can be set back, and a date can take less than its resolution.
    made_by_run = manifest["flow_run"] == str(run.state_details.flow_run_id)
    return {
        "date": date.isoformat(),
        "state": "computed" if made_by_run else "complete before",
        "windows": sum(artifact["rows"] for artifact in manifest["artifacts"] if "/features/" in artifact["name"]),
    }


def _run_name() -> str:
    given = sorted(str(date) for date in runtime.flow_run.parameters.get("dates") or [])
    return f"icu-backfill-{given[0]}..{given[-1]}" if given else "icu-backfill"


@flow(
    name="icu-backfill",
    flow_run_name=_run_name,
    description="ICU features of many dates, a few at a time; resumable.",
    validate_parameters=True,
)
def backfill(
    source: str,
    store: str,
    dates: list[dt.date],
    concurrency: int = 2,
    shards: int = 4,
    window_hours: int = 6,
    horizon_hours: int = 48,
    catalogue: str = "",
    fhir_table: str = "",
    meds_table: str = "",
    engine: str = DEFAULT_ENGINE,
    refresh: bool = False,
    accept_empty: bool = False,
) -> list[dict[str, Any]]:
    """Compute the features of each date that is not complete.

    Args:
        source: As in `icu_features`. `{date}` in the text is replaced by the date. Without `{date}`, all dates are made
            from the same data, and a warning says so.
        store: As in `icu_features`.
        dates: The dates, in the order in which they are begun.
        concurrency: How many dates are computed at once. Each date has its own engine, so the number of threads or
            processes is multiplied by this. Dates on one Dask cluster share the cluster's workers.
        shards: This and all further parameters are as in `icu_features`.
        window_hours: …
        horizon_hours: …
        catalogue: …
        fhir_table: …
        meds_table: …
        engine: …
        refresh: …
        accept_empty: …

    Returns:
        For each date its `state` (`computed` or `complete before`) and its number of `windows`.

    Raises:
        BackfillError: Some dates failed. All other dates were computed first.
        ValueError: There is no date, `concurrency` is below 1, or a parameter of every date is wrong.
    """
    logger, dates = get_run_logger(), list(dict.fromkeys(dates))
    if not dates or concurrency < 1:
        raise ValueError("a backfill needs at least one date, and a concurrency of 1 or more")
    if len(dates) > 1 and "{date}" not in source:
        logger.warning(
            "the source has no {date} in it: all %d dates are made from the same data; write it as 'DIR/{date}'",
            len(dates),
        )
    options: dict[str, Any] = {
        "shards": shards,
        "window_hours": window_hours,
        "horizon_hours": horizon_hours,
        "catalogue": catalogue,
        "fhir_table": fhir_table,
        "meds_table": meds_table,
        "engine": engine,
        "refresh": refresh,
        "accept_empty": accept_empty,
    }
    # A parameter that is wrong for every date is reported here once, and not by each date.
    checked_tables(**options)
    common = {"source": source, "store": store, "options": options}
    steps = [Step(date.isoformat(), 1, kind="dates done") for date in dates]
    target = open_store(store)
    key = artifacts.key("icu-backfill-progress", target)
    with task_runner(f"threads={concurrency}") as runner, following(key, "backfill", steps) as progress:
        futures = [runner.submit(backfill_date, {"date": date, **common}) for date in dates]
        progress.follow({date.isoformat(): future for date, future in zip(dates, futures, strict=True)})
        results = {date: future.result(raise_on_failure=False) for date, future in zip(dates, futures, strict=True)}
        failed = {date: result for date, result in results.items() if isinstance(result, Exception)}
        progress.end(failed=len(failed))
    done = [result for date, result in results.items() if date not in failed]
    artifacts.backfill_artifact(done, target)
    computed = sum(row["state"] == "computed" for row in done)
    logger.info("%d dates computed, %d complete before, %d failed", computed, len(done) - computed, len(failed))
    if failed:
        raise BackfillError(told_failures(failed, len(dates)))
    return done


def main() -> None:
    """Run the command line."""
    backfill_main(backfill, {BackfillError: INCOMPLETE})


if __name__ == "__main__":
    main()
