"""How the dates of a store follow each other: a few numbers of each quality document."""

import json
from typing import Any

from clinops_prefect import ArtifactNotFoundError, PipelineStore

# So many dates before the one that a page is about.
_DATES = 14


def trend_row(date: str, document: dict[str, Any]) -> dict[str, Any]:
    """What is shown of a date: None is what its quality document hides, or what an older version did not say."""
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
    """Read the rows of the newest dates before this one, the oldest first."""
    dates = sorted(name.split("/")[1] for name in store.list_artifacts("icu") if name.endswith("/cohort"))
    rows = []
    for day in [day for day in dates if day < date and not day.startswith("_")][-_DATES:]:
        try:
            rows.append(trend_row(day, json.loads(store.read_bytes(f"icu/{day}/quality.json"))))
        except (ArtifactNotFoundError, ValueError, KeyError):
            # The date is being made, or was made by a version whose document is another one.
            continue
    return rows
