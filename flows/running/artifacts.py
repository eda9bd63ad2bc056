"""What a run shows in Prefect: progress, the quality of the data, and what was written. Counts and URIs only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.futures import PrefectFuture, as_completed

from flows.icu.disclosure import suppress
from flows.reports.summary import drift_markdown, quality_markdown


class Progress:
    """A progress artifact of the run that is under way."""

    def __init__(self, artifact: UUID) -> None:
        self._artifact = artifact

    def follow(self, futures: list[PrefectFuture[Any]]) -> None:
        """Show how many of the futures are done, until all are."""
        for done, _ in enumerate(as_completed(futures), start=1):
            update_progress_artifact(self._artifact, progress=100 * done / len(futures))


@contextmanager
def progress(key: str) -> Iterator[Progress]:
    """Show progress under `key`, which may have lower-case letters, digits and dashes."""
    artifact = create_progress_artifact(0.0, key=f"{key}-progress", description="Steps that are done")
    assert isinstance(artifact, UUID)  # it is a coroutine only in async code
    yield Progress(artifact)


def quality_artifacts(document: dict[str, Any], date: str, page: str, link: str) -> None:
    """The quality document as Prefect artifacts: the verdict with its counts, and a table of the variables.

    Args:
        document: As `quality.quality_document` returns it.
        date: The partition's date.
        page: The URI of the whole report.
        link: Where a browser opens it.
    """
    text = quality_markdown(document, date, page, link)
    said = f"Data quality of {date}: {document['verdict']['level']}"
    create_markdown_artifact(text, key=f"icu-quality-{date}", description=said)
    create_link_artifact(link, key=f"icu-report-{date}", link_text=page, description=f"{said}; with plots")
    rows = [
        {
            "variable": name,
            "unit": variable["unit"],
            **{
                key.replace("_", " "): _cell(variable[key])
                for key in ("usable", "converted", "unknown_unit", "implausible")
            },
            "missing": _share(variable["missing_rate"]),
            "unfilled": _share(variable["unfilled_rate"]),
        }
        for name, variable in document["variables"].items()
    ]
    text = (
        f"Variables of {date}: values; windows without one (missing), and without one in the 24 hours "
        "before their end either (unfilled)"
    )
    create_table_artifact(rows, key=f"icu-variables-{date}", description=text)


def written_artifacts(published: list[dict[str, Any]], date: str) -> None:
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
    create_table_artifact(rows, key=f"icu-artifacts-{date}", description=f"Artifacts of {date}")


def backfill_artifact(done: list[dict[str, Any]]) -> None:
    """The dates of a backfill, as a table."""
    rows = [row | {"windows": _cell(suppress(row["windows"]))} for row in done]
    create_table_artifact(rows, key="icu-backfill", description="Dates that are complete")


def drift_artifact(document: dict[str, Any], page: str, link: str) -> None:
    """The verdict on the drift of a date from another, and each variable's numbers.

    Args:
        document: As `quality_report` writes it.
        page: The URI of the whole report.
        link: Where a browser opens it.
    """
    date, reference = document["date"], document["reference"]
    text = drift_markdown(document, date, reference, page, link)
    said = f"Drift from {reference}: {document['verdict']['level']}"
    create_markdown_artifact(text, key=f"icu-drift-{date}", description=said)


def _cell(number: int | None) -> str:
    return "hidden" if number is None else f"{number:,}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
