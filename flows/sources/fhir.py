"""FHIR R4 Observations as raw rows: NDJSON, as a bulk export writes it, plain or compressed.

A row is one value. An Observation without components is one row. Otherwise each component is a row, and so is a value
of the Observation itself. All rows are counted, so that rows in = rows dropped here + rows passed on.
"""

from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import pandas as pd

from flows.icu.catalogue import Catalogue
from flows.icu.counts import Counts
from flows.icu.raw import OBSERVATIONS, RAW_DTYPES
from flows.sources.fhir_resources import read_resources
from flows.sources.fhir_table import FhirTable, reference_id, unresolved
from flows.sources.fhir_versions import find_versions
from flows.sources.files import TableError
from flows.sources.objects import SourcePath

# Statuses of Observations with a result (https://hl7.org/fhir/R4/valueset-observation-status.html). A corrected value
# counts from the correction, whose time is `issued`.
_WITH_RESULT = frozenset({"final", "preliminary", "amended", "corrected"})
_UCUM = "http://unitsofmeasure.org"
_BATCH_ROWS = 50_000
_DROPPED = ("entered_in_error", "no_result", "superseded", "unresolved_reference", "not_in_catalogue")
# The key of the counts of references without a known subject (`fhir_table.unresolved`), separate from the account.
REFERENCES = "references"


def ingest_observations(
    path: SourcePath, catalogue: Catalogue, table: FhirTable, superseded: Set[int] | None = None
) -> Iterator[tuple[pd.DataFrame, Counts]]:
    """Read an Observation file and keep the values of the catalogue's items.

    Args:
        path: NDJSON, plain or compressed.
        catalogue: The items to keep, and their units.
        table: The items of the codes, and the zone of the times.
        superseded: The lines that a later version supersedes (`fhir_versions`). If None, they are found in this file.

    Yields:
        As `mimic.ingest`. Before `not_in_catalogue`, the counts have `entered_in_error`, `no_result` (registered,
        cancelled, unknown), `superseded` and `unresolved_reference` (the subject is not a known Patient; the reasons
        are counted separately as `references`). `charttime` is the effective time, or the end of an effective period,
        since the value is about all of it. A date without a time is null. `storetime` is `issued`. A value that is not
        a number, or has a comparator, is null.

    Raises:
        TableError: A line is not an Observation, or has an invalid time. The message names the line, not its content.
    """
    lines = find_versions([path], "Observation").settled.get(path, set()) if superseded is None else superseded
    wanted = frozenset(catalogue.item_ids)
    rows: list[tuple[Any, ...]] = []
    counts = _no_counts()
    for number, resource in read_resources(path, "Observation"):
        try:
            _add(resource, rows, counts, wanted, table, is_superseded=number in lines)
        except (ValueError, TypeError, AttributeError):
            problem = f"{path}: line {number} has a time or an element that is not of FHIR R4"
        else:
            if len(rows) >= _BATCH_ROWS:
                yield _frame(rows), counts
                rows, counts = [], _no_counts()
            continue
        # Raised outside of the handler, since the original exception quotes the cell.
        raise TableError(problem)
    yield _frame(rows), counts


def _no_counts() -> Counts:
    return {OBSERVATIONS: dict.fromkeys(("rows_in", *_DROPPED, "passed_on"), 0), REFERENCES: {}}


def _add(
    resource: dict[str, Any],
    rows: list[tuple[Any, ...]],
    counted: Counts,
    wanted: frozenset[int],
    table: FhirTable,
    *,
    is_superseded: bool,
) -> None:
    counts = counted[OBSERVATIONS]
    components = resource.get("component", [])
    has_own = not components or any(key.startswith("value") for key in resource)
    parts = [*([resource] if has_own else []), *components]
    counts["rows_in"] += len(parts)
    status = resource.get("status")
    if status not in _WITH_RESULT:
        counts["entered_in_error" if status == "entered-in-error" else "no_result"] += len(parts)
        return
    if is_superseded:
        counts["superseded"] += len(parts)
        return
    who = reference_id(resource.get("subject"), "Patient")
    if who is None:
        counts["unresolved_reference"] += len(parts)
        why = unresolved(resource.get("subject"))
        counted[REFERENCES][why] = counted[REFERENCES].get(why, 0) + len(parts)
        return
    items = [(table.item(part.get("code")), part) for part in parts]
    known = [(item, part) for item, part in items if item is not None and item in wanted]
    counts["not_in_catalogue"] += len(parts) - len(known)
    counts["passed_on"] += len(known)
    if not known:
        return
    stay = reference_id(resource.get("encounter"), "Encounter")
    period = resource.get("effectivePeriod", {})
    effective = resource.get("effectiveDateTime", resource.get("effectiveInstant", period.get("end")))
    charttime, storetime = table.time(effective), table.time(resource.get("issued"))
    if "issued" in resource and storetime is None:
        raise ValueError  # an instant must have a time of day
    rows.extend((who, stay, item, charttime, storetime, *_value(part)) for item, part in known)


def _value(part: dict[str, Any]) -> tuple[float | None, str | None]:
    if "valueInteger" in part:
        return float(part["valueInteger"]), None
    quantity = part.get("valueQuantity", {})
    # A comparator makes "<5" of 5, which is not a number.
    number = None if "comparator" in quantity else quantity.get("value")
    # The code is UCUM only if the system says so. Without a system, use `unit`, which is often UCUM too.
    code = quantity.get("code")
    unit = code if code is not None and quantity.get("system") == _UCUM else quantity.get("unit", code)
    return None if number is None else float(number), unit


def _frame(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    who, stay, item, charttime, storetime, number, unit = zip(*rows, strict=True) if rows else [()] * 7
    columns = {
        "table": [OBSERVATIONS] * len(rows),
        "subject_id": who,
        "stay_id": stay,
        "itemid": item,
        "charttime": np.array(charttime, dtype="datetime64[us]"),
        "storetime": np.array(storetime, dtype="datetime64[us]"),
        "valuenum": np.array(number, dtype="float64"),
        "valueuom": unit,
    }
    return pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in RAW_DTYPES.items()})  # type: ignore[call-overload]
