"""What a run shows in Prefect: progress, the quality of the data, and what was written. Counts and URIs only."""

import hashlib
import re
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from clinops_prefect import PipelineStore
from flows.icu.disclosure import suppress
from flows.reports.summary import drift_markdown, quality_markdown


def key(name: str, store: PipelineStore) -> str:
    """An artifact's key: one a store, so that it is a timeline of its dates, and no other store's run is in it.

    Args:
        name: What it shows, in lower-case letters, digits and dashes.
        store: The store that it is about. The end of its URI is in the key, and a digest of the whole.
    """
    uri = store.uri("icu").removesuffix(store.format.extension).removesuffix("/icu")
    end = re.sub(r"[^a-z0-9]+", "-", uri.casefold())[-24:].strip("-")
    return f"{name}-{end}-{hashlib.sha256(uri.encode()).hexdigest()[:6]}"


def quality_artifact(document: dict[str, Any], store: PipelineStore, date: str, page: str, link: str) -> None:
    """The quality document as a Prefect artifact: the verdict with its counts, the variables, and the report's link.

    Args:
        document: As `quality.quality_document` returns it.
        store: Where the date is.
        date: The partition's date.
        page: The URI of the whole report.
        link: Where a browser opens it.
    """
    said = f"Data quality of {date}: {document['verdict']['level']}"
    text = quality_markdown(document, date, page, link)
    create_markdown_artifact(text, key=key("icu-quality", store), description=said)


def written_artifact(published: list[dict[str, Any]], store: PipelineStore, date: str) -> None:
    """What a run wrote, as a table."""
    rows = [
        {
            "name": artifact["name"],
            "rows": _cell(suppress(artifact["rows"])),
            "bytes": _cell(artifact["bytes"]),
            "uri": artifact["uri"],
        }
        for artifact in published
    ]
    create_table_artifact(rows, key=key("icu-artifacts", store), description=f"Artifacts of {date}")


def backfill_artifact(done: list[dict[str, Any]], store: PipelineStore) -> None:
    """The dates of a backfill, as a table."""
    rows = [row | {"windows": _cell(suppress(row["windows"]))} for row in done]
    create_table_artifact(rows, key=key("icu-backfill", store), description="Dates that are complete")


def drift_artifact(document: dict[str, Any], store: PipelineStore, page: str, link: str) -> None:
    """The verdict on the drift of a date from another, and each variable's numbers.

    Args:
        document: As `quality_report` writes it.
        store: Where the dates are.
        page: The URI of the whole report.
        link: Where a browser opens it.
    """
    date, reference = document["date"], document["reference"]
    text = drift_markdown(document, date, reference, page, link)
    said = f"Drift of {date} from {reference}: {document['verdict']['level']}"
    create_markdown_artifact(text, key=key("icu-drift", store), description=said)


def _cell(number: int | None) -> str:
    return "hidden" if number is None else f"{number:,}"
