"""The date of a run without the parameter: the day for which the run is scheduled, even if it starts late."""

import datetime as dt
from typing import Any

from prefect import runtime


def date_of_run(date: dt.date | None) -> dt.date:
    """The given date, or the day (UTC) for which the flow run is scheduled."""
    return date or runtime.flow_run.scheduled_start_time.astimezone(dt.UTC).date()


def run_name() -> str:
    """The flow's name and the date, for `flow_run_name`."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    given = parameters.get("date")
    return f"{runtime.flow_run.flow_name}-{given or date_of_run(None)}"
