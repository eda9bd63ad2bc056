"""The artifacts of a run in Prefect: the quality of the data, and what was written. Counts and URIs only."""

import hashlib
import re
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from clinops_prefect import PipelineStore
from flows.icu.disclosure import suppress
from flows.reports.summary import drift_markdown, quality_markdown

_END_CHARACTERS = 24


def key(name: str, store: PipelineStore) -> str:
    """The key of a Prefect artifact. Each store has its own, so that the artifact is a timeline of the store's dates.

    Args:
        name: The artifact's subject, in lower-case letters, digits and dashes.
        store: The store. The key contains the end of its URI, and a digest of the whole URI.
    """
    uri = store.uri("icu").removesuffix(store.format.extension).removesuffix("/icu")
    words = re.sub(r"[^a-z0-9]+", "-", uri.casefold())
    end = words[-_END_CHARACTERS:]
    if len(words) > len(end) and "-" not in (words[-_END_CHARACTERS - 1], end[0]):
        # The end begins within a word, which is left out. A single long word stays.
        end = end.partition("-")[2].strip("-") or end
    end = end.strip("-")
    return f"{name}-{end}-{hashlib.sha256(uri.encode()).hexdigest()[:6]}"


def quality_artifact(document: dict[str, Any], store: PipelineStore, date: str, page: str, link: str) -> None:
    """Write the quality document as a Prefect artifact: the verdict, its counts, the variables, and the report's link.

    Args:
        document: The result of `quality.quality_document`.
        store: The store of the date.
        date: The partition's date.
        page: The URI of the whole report.
        link: The URL of the report for a browser.
    """
    # The verdict comes first: a card of Prefect's UI cuts off the end of a description.
    said = f"{document['verdict']['level'].capitalize()}: data quality of {date}"
    text = quality_markdown(document, date, page, link)
    create_markdown_artifact(text, key=key("icu-quality", store), description=said)


def written_artifact(published: list[dict[str, Any]], store: PipelineStore, date: str) -> None:
    """Write a table of what a run published, as a Prefect artifact."""
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
    """Write a table of the dates of a backfill, as a Prefect artifact."""
    rows = [row | {"windows": _cell(suppress(row["windows"]))} for row in done]
    create_table_artifact(rows, key=key("icu-backfill", store), description="Dates that are complete")


def drift_artifact(document: dict[str, Any], store: PipelineStore, page: str, link: str) -> None:
    """Write the verdict on a drift and each variable's numbers, as a Prefect artifact.

    Args:
        document: The document that `quality_report` writes.
        store: The store of the dates.
        page: The URI of the whole report.
        link: The URL of the report for a browser.
    """
    date, reference = document["date"], document["reference"]
    text = drift_markdown(document, date, reference, page, link)
    said = f"{document['verdict']['level'].capitalize()}: drift of {date} from {reference}"
    create_markdown_artifact(text, key=key("icu-drift", store), description=said)


def _cell(number: int | None) -> str:
    return "hidden" if number is None else f"{number:,}"
