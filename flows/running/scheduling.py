"""Which date a run is about, where it is not told: a scheduled run's own day, however late it starts."""

import datetime as dt
from typing import Any

from prefect import runtime


def date_of_run(date: dt.date | None) -> dt.date:
    """The date given, or the day (UTC) for which the flow run is scheduled."""
    return date or runtime.flow_run.scheduled_start_time.astimezone(dt.UTC).date()


def run_name() -> str:
    """The flow's name and the date, for `flow_run_name`."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    given = parameters.get("date")
    return f"{runtime.flow_run.flow_name}-{given or date_of_run(None)}"
