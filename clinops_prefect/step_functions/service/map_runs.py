"""Which items of a map failed, and why."""

import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from clinops_prefect.errors import ClinopsPrefectError, FailedItem
from clinops_prefect.step_functions.language.merge import RUN_VARIABLE
from clinops_prefect.step_functions.service.errors import translated
from clinops_prefect.step_functions.service.polling import describe

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

logger = logging.getLogger(__name__)

# Each item costs a request, and AWS allows only a few of them a second.
ITEMS_AT_MOST = 50


def failed_items(client: "SFNClient", execution_arn: str) -> list[FailedItem]:
    """The failed items of an execution's newest map run, 50 at most.

    An error of these requests is logged and not raised, since it would hide the failure of the execution.
    """
    found: list[FailedItem] = []
    try:
        for child_arn in _failed_children(client, execution_arn):
            described = describe(client, child_arn)
            item = _item(described.get("input", "null"))
            found.append(FailedItem(item, described.get("error", ""), described.get("cause", ""), child_arn))
    except ClinopsPrefectError as error:
        logger.warning("not all failed items of %s are known: %s", execution_arn, error)
    return found


def _failed_children(client: "SFNClient", execution_arn: str) -> Iterator[str]:
    with translated(execution_arn):
        runs = client.list_map_runs(executionArn=execution_arn)["mapRuns"]
    left = ITEMS_AT_MOST
    for run in sorted(runs, key=lambda run: run["startDate"], reverse=True)[:1]:
        for status in ("FAILED", "TIMED_OUT"):
            if left <= 0:
                return
            with translated(execution_arn):
                page: Any = client.list_executions(
                    mapRunArn=run["mapRunArn"],
                    statusFilter=status,
                    maxResults=left,
                )
            children = [child["executionArn"] for child in page["executions"]][:left]
            left -= len(children)
            yield from children


def _item(text: str) -> Any:
    """The item in a child's input, without the values of the run that the map added."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return given["item"] if isinstance(given, dict) and set(given) == {"item", RUN_VARIABLE} else given
