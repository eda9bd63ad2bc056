"""The trend over a store's dates: a few numbers of each date's quality document."""

import json
from typing import Any

from clinops_prefect import ArtifactNotFoundError, PipelineStore

# The number of dates before the date of a page.
_DATES = 14


def trend_row(date: str, document: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a date. None stands for what its quality document hides, or does not have in an older version."""
    rates = [variable["missing_rate"] for variable in document["variables"].values()]
    known = [rate for rate in rates if rate is not None]
    kept = [table["kept"] for table in document["tables"].values()]
    return {
        "date": date,
        "verdict": document.get("verdict", {}).get("level", "\u2013"),
        **document["splits"]["total"],
        "kept": None if None in kept else sum(kept),
        "missing": sum(known) / len(known) if known else None,
    }


def read_trend(store: PipelineStore, date: str) -> list[dict[str, Any]]:
    """The rows of the newest dates before this one, the oldest first."""
    dates = sorted(name.split("/")[1] for name in store.list_artifacts("icu") if name.endswith("/cohort"))
    rows = []
    for day in [day for day in dates if day < date and not day.startswith("_")][-_DATES:]:
        try:
            rows.append(trend_row(day, json.loads(store.read_bytes(f"icu/{day}/quality.json"))))
        except (ArtifactNotFoundError, ValueError, KeyError):
            # The date is being made, or an older version wrote another document.
            continue
    return rows
