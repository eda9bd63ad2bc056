"""Quality: the rows read, dropped, converted and found implausible, and a description of the features, as one document.

Each shard is counted separately (`count_features`), and the counts are added (`counts.add_counts`). Numbers of subjects
can be added too, since a subject is in one shard only. Distributions are counted in fixed bins over each variable's
plausible range, so memory does not grow with the number of windows. The document reveals no single person's values:
see `disclosure`.
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
# The sum of these over all variables is the number of kept rows.
_VALUES = ("usable", "implausible", "unknown_unit")


class UnaccountedRowsError(ValueError):
    """Rows were lost, or counted twice, between two steps. The message has the table and the counts."""


def count_features(
    features: pd.DataFrame, catalogue: Catalogue, distributed: Sequence[str] = DISTRIBUTED_FEATURES
) -> Counts:
    """The counts of one shard's features.

    Args:
        features: The result of `windows.window_features`. All windows of a subject must be in the same shard.
        catalogue: The catalogue of the features.
        distributed: The features whose distributions are counted.

    Returns:
        `splits` has for each split `subjects`, `stays` and `windows`. `features` has for each variable `missing`
        (windows without a value of their own), `unfilled` (windows that also have no older value) and `bins` (the
        counts of `bins.count_bins` for each distributed feature). If all features are distributed, there is also
        `course`: see `description.count_course`.
    """
    splits, groups = {}, features[["split", "subject_id", "stay_id"]]
    for split in SPLITS:
        part = groups[groups["split"] == split]
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
    """The quality document of all shards.

    Args:
        ingested: The sum of the counts of `ingest.ingest`.
        cohort: The counts of `cohort.build_cohort`.
        cleaned: The sum of the counts of `events.clean`.
        features: The sum of the counts of `count_features`.
        catalogue: The catalogue.
        parameters: The run's parameters as JSON, which are copied unchanged.
        description: A description of the patients: the result of `description.describe_cohort`.
        provenance: The run's inputs, time and code as JSON, which are copied unchanged.

    Returns:
        The document with its verdict (`verdict.quality_verdict`), as JSON. None stands for a hidden number. The exact
        counts are checked: all rows must be accounted for. In the document, rows in = kept + dropped + `hidden`, where
        `hidden` is the sum of the hidden numbers.

    Raises:
        UnaccountedRowsError: The number of rows that a step passed on is not the number that the next step read.
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
        # The reasons of ingest come first, since rows are checked for them before cleaning.
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
    """The difference of two counts as text. Small differences are hidden, and the counts, which would reveal them."""
    return f"{told(abs(found - expected))} rows {'more' if found > expected else 'fewer'}"


def _references(kinds: Counts, tables: dict[str, Any]) -> dict[str, int | None]:
    """The numbers of Observations without a known subject, by the kind of reference (`fhir_table.unresolved`)."""
    if kinds and tables[OBSERVATIONS]["dropped"]["unresolved_reference"] is None:
        return dict.fromkeys(kinds)  # their sum would reveal a number that the account hides
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
    # If a split has few patients, its stays and windows are hidden too, since they belong to these patients.
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
        **({"label": variable.label} if variable.label else {}),
        "unit": variable.unit,
        "plausible": [variable.low, variable.high],
        **rows,
        "missing_rate": share(counted["missing"], windows),
        "unfilled_rate": share(counted["unfilled"], windows),
        "quantiles": found,
        # Quantiles are interpolated within a bin, so no quantile of the means has a larger error than this.
        "quantile_resolution": resolution(found["mean"], variable),
        "distribution_of_mean": distribution(counted["bins"]["mean"], variable),
    }
