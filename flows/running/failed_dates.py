"""What a backfill says of the dates that failed."""

import datetime as dt

from clinops_prefect import ClinopsPrefectError
from flows.icu.acceptance import NotAcceptedError
from flows.icu.catalogue import CatalogueError
from flows.icu.quality import UnaccountedRowsError
from flows.running.claim import ClaimLostError, DateClaimedError
from flows.sources.fhir_table import FhirTableError
from flows.sources.files import TableError
from flows.sources.meds_table import MedsTableError

# Their messages name paths, columns and codes, and never a cell. Those of other packages may quote a value.
_OURS = (
    ClinopsPrefectError,
    TableError,
    CatalogueError,
    FhirTableError,
    MedsTableError,
    NotAcceptedError,
    UnaccountedRowsError,
    DateClaimedError,
    ClaimLostError,
)
# The last lines are what a terminal still shows.
_SHOWN = 3


def told_failures(failed: dict[dt.date, Exception], of: int) -> str:
    """Say which dates failed, and of the first ones what was wrong or how to find out.

    Args:
        failed: What each date raised.
        of: How many dates there were.
    """
    kinds = ", ".join(f"{date} ({type(error).__name__})" for date, error in failed.items())
    lines = [f"{len(failed)} of {of} dates failed, each is as it was: {kinds}"]
    lines += [f"{date}: {_told(error, date)}" for date, error in list(failed.items())[:_SHOWN]]
    if len(failed) > _SHOWN:
        lines.append(f"The log of this run has the other {len(failed) - _SHOWN}.")
    return "\n".join(lines)


def _told(error: Exception, date: dt.date) -> str:
    if isinstance(error, _OURS):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"to see why, run python -m flows.icu_features --date {date} --debug, with the same other arguments"
