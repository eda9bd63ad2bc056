"""Quality: what was read, dropped, converted and found implausible, and what the features look like, as one document.

Each shard is counted apart (`count_features`) and the counts are added (`counts.add_counts`); since a subject is in one
shard only, numbers of subjects add up too. Distributions are counted in fixed bins over each variable's plausible
range, so that the memory is bounded however many windows there are. The document has no value of any one person: see
`disclosure`.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from flows.icu.bins import QUANTILES, count_bins, distribution, resolution, variable_quantiles
from flows.icu.catalogue import Catalogue, Variable
from flows.icu.cohort import COHORT_NOTES, PATIENT_NOTES
from flows.icu.counts import Counts, add_counts
from flows.icu.description import count_course, course_document, delay_document, lost_document
from flows.icu.disclosure import (
    SMALL,
    Account,
    hidden_cells,
    share,
    suppress,
    suppress_cells,
    suppress_part,
    told,
    told_account,
)
from flows.icu.hashing import SPLITS
from flows.icu.raw import OBSERVATIONS
from flows.icu.verdict import quality_verdict

__all__ = ["QUANTILES", "UnaccountedRowsError", "count_features", "quality_document"]

DISTRIBUTED_FEATURES = ("mean", "min", "max", "last", "filled")
_NOTES = (*COHORT_NOTES, *PATIENT_NOTES)
_GROUPS = ("subjects", "stays", "windows")
# These make up the rows that were kept, all variables together.
_VALUES = ("usable", "implausible", "unknown_unit")


class UnaccountedRowsError(ValueError):
    """Rows were lost, or counted twice, between two steps. The message has the table and the counts."""


def count_features(
    features: pd.DataFrame, catalogue: Catalogue, distributed: Sequence[str] = DISTRIBUTED_FEATURES
) -> Counts:
    """Count the features of one shard.

    Args:
        features: As `windows.window_features` returns them; all windows of a subject have to be in the same shard.
        catalogue: What they were made with.
        distributed: Of which features to count distributions.

    Returns:
        `splits`: per split `subjects`, `stays` and `windows`. `features`: per variable `missing` (windows without a
        value of their own), `unfilled` (and without an older one either) and `bins`: what `bins.count_bins` counts of
        each distributed feature. Where all features are distributed also `course`: see `description.count_course`.
    """
    splits = {}
    for split in SPLITS:
        part = features[features["split"] == split]
        splits[split] = {
            "subjects": int(part["subject_id"].nunique()),
            "stays": int(part["stay_id"].nunique()),
            "windows": len(part),
        }
    subject = pd.factorize(features["subject_id"])[0]
    counted = {}
    for variable in catalogue.variables:
        bins = {
            name: count_bins(features[f"{variable.name}_{name}"].to_numpy("float64"), subject, variable)
            for name in distributed
        }
        counted[variable.name] = {
            "missing": int(features[f"{variable.name}_missing"].sum()),
            "unfilled": int(features[f"{variable.name}_filled"].isna().sum()),
            "bins": bins,
        }
    course = {"course": count_course(features, catalogue)} if distributed == DISTRIBUTED_FEATURES else {}
    return {"splits": splits, "features": counted, **course}


def quality_document(
    *,
    ingested: Counts,
    cohort: Counts,
    cleaned: Counts,
    features: Counts,
    catalogue: Catalogue,
    parameters: dict[str, Any],
    description: dict[str, Any] | None = None,
    provenance: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Put the counts of all shards together.

    Args:
        ingested: The sum of what `ingest.ingest` counted.
        cohort: What `cohort.build_cohort` counted.
        cleaned: The sum of what `events.clean` counted.
        features: The sum of what `count_features` counted.
        catalogue: What was measured.
        parameters: What the run was called with, as JSON; taken over as it is.
        description: Who the patients are: what `description.describe_cohort` returns.
        provenance: What the run was made from, when, and by what, as JSON; taken over as it is.

    Returns:
        The document, with its verdict (`verdict.quality_verdict`), all JSON; None stands for a suppressed number. That
        all rows are accounted for is checked here, on the exact counts; in the document, rows in = kept + dropped +
        `hidden`, which is the sum of the hidden ones.

    Raises:
        UnaccountedRowsError: What one step passed on is not what the next one saw.
    """
    tables = _tables(ingested, cleaned)
    variables = _variables(cleaned, tables, features, catalogue)
    hours = parameters.get("window_hours", 1)
    document = {
        "parameters": parameters,
        "provenance": provenance or {},
        "catalogue_sha256": catalogue.sha256,
        "suppressed_below": SMALL,
        "tables": tables,
        "cohort": _cohort(cohort),
        "description": description or {},
        "splits": _splits(features["splits"]),
        "unresolved_references": _references(ingested.get("references", {}), tables),
        "course": course_document(features.get("course", {}), catalogue, hours),
        "variables": variables,
    }
    return {"verdict": quality_verdict(document, catalogue.limits), **document}


def _tables(ingested: Counts, cleaned: Counts) -> dict[str, Any]:
    tables = {}
    for table, before in ((name, counts) for name, counts in ingested.items() if name in cleaned["tables"]):
        after = cleaned["tables"][table]
        if before["passed_on"] != after["rows_in"]:
            raise UnaccountedRowsError(
                f"{table}: cleaning saw {_apart(after['rows_in'], before['passed_on'])} than ingest passed on"
            )
        # What ingest dropped comes first: its reasons are judged before those of cleaning.
        reasons = {key: rows for key, rows in before.items() if key not in ("rows_in", "passed_on")}
        dropped = add_counts(reasons, after["dropped"])
        if before["rows_in"] != after["kept"] + sum(dropped.values()):
            accounted = after["kept"] + sum(dropped.values())
            raise UnaccountedRowsError(
                f"{table}: {_apart(accounted, before['rows_in'])} kept and dropped than were read"
            )
        tables[table] = _told(told_account(after["kept"], dropped), "kept")
    return tables


def _apart(found: int, expected: int) -> str:
    """How far apart two counts are, small differences hidden: of both counts, one could work them out."""
    return f"{told(abs(found - expected))} rows {'more' if found > expected else 'fewer'}"


def _references(kinds: Counts, tables: dict[str, Any]) -> dict[str, int | None]:
    """Why the subject of an Observation cannot be told (`fhir_table.unresolved`), by kind."""
    if kinds and tables[OBSERVATIONS]["dropped"]["unresolved_reference"] is None:
        return dict.fromkeys(kinds)  # their sum would tell what the account hides
    return suppress_cells(kinds)


def _told(account: Account, kept: str) -> dict[str, Any]:
    return {"rows_in": account.total, kept: account.kept, "dropped": account.dropped, "hidden": account.hidden}


def _cohort(counts: Counts) -> dict[str, Any]:
    dropped = {key: number for key, number in counts.items() if key not in ("rows_in", "stays", *_NOTES)}
    if counts["rows_in"] != counts["stays"] + sum(dropped.values()):
        accounted = counts["stays"] + sum(dropped.values())
        raise UnaccountedRowsError(f"stays: {_apart(accounted, counts['rows_in'])} kept and left out than were read")
    notes = {key: suppress_part(counts.get(key, 0), counts["stays"]) for key in COHORT_NOTES}
    patients = {key: suppress(counts.get(key, 0)) for key in PATIENT_NOTES}
    return {**_told(told_account(counts["stays"], dropped), "stays"), **notes, **patients}


def _splits(splits: Counts) -> dict[str, Any]:
    # Few people in a split hide all that is told of it: its stays and windows are theirs.
    hidden = hidden_cells([splits[split]["subjects"] for split in SPLITS])
    document: dict[str, Any] = {
        split: dict.fromkeys(_GROUPS) if hide else splits[split] for split, hide in zip(SPLITS, hidden, strict=True)
    }
    total = {group: sum(splits[split][group] for split in SPLITS) for group in _GROUPS}
    few = suppress(total["subjects"]) is None
    return {"total": dict.fromkeys(_GROUPS) if few else total, **document}


def _variables(cleaned: Counts, tables: dict[str, Any], features: Counts, catalogue: Catalogue) -> dict[str, Any]:
    rows, unknown_texts = cleaned["variables"], cleaned.get("unknown_texts", {})
    lost = lost_document(cleaned.get("lost", {}), tables, catalogue.names)
    cells = suppress_cells({f"{v} {key}": rows[v][key] for v in catalogue.names for key in _VALUES})
    told = {
        v: {
            "converted": suppress_part(rows[v]["converted"], rows[v]["usable"]),
            **{key: cells[f"{v} {key}"] for key in _VALUES},
            "no_storetime": suppress_part(rows[v].get("no_storetime", 0), rows[v]["usable"]),
            "unknown_texts": {text: n for text, n in sorted(unknown_texts.get(v, {}).items()) if n >= SMALL},
            "dropped": lost[v],
            "delay": delay_document(cleaned.get("delays", {}).get(v)),
        }
        for v in catalogue.names
    }
    return {variable.name: _variable(variable, told[variable.name], features) for variable in catalogue.variables}


def _variable(variable: Variable, rows: dict[str, Any], features: Counts) -> dict[str, Any]:
    counted = features["features"][variable.name]
    windows = sum(split["windows"] for split in features["splits"].values())
    found = {name: variable_quantiles(counted["bins"][name], variable) for name in DISTRIBUTED_FEATURES}
    return {
        "unit": variable.unit,
        "plausible": [variable.low, variable.high],
        **rows,
        "missing_rate": share(counted["missing"], windows),
        "unfilled_rate": share(counted["unfilled"], windows),
        "quantiles": found,
        # Linear interpolation within a bin: no quantile of the means is further off than this.
        "quantile_resolution": resolution(found["mean"], variable),
        "distribution_of_mean": distribution(counted["bins"]["mean"], variable),
    }
