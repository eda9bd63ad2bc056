"""The message of a backfill about the dates that failed."""

import datetime as dt

from clinops_prefect import ClinopsPrefectError
from flows.icu.acceptance import NotAcceptedError
from flows.icu.catalogue import CatalogueError
from flows.icu.quality import UnaccountedRowsError
from flows.running.claim import ClaimLostError, DateClaimedError
from flows.sources.fhir_table import FhirTableError
from flows.sources.files import TableError
from flows.sources.meds_table import MedsTableError

# Messages of these errors name paths, columns and codes, but never a cell. Other packages' messages may quote a value.
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
# How many dates the message explains, so that it fits on a terminal.
_SHOWN = 3


def told_failures(failed: dict[dt.date, Exception], of: int) -> str:
    """A text that names the failed dates, and says for the first ones what was wrong or how to find out.

    Args:
        failed: The error of each failed date.
        of: The number of all dates.
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
