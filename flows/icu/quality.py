"""Quality: what was read, dropped, converted and found implausible, and what the features look like, as one document.

Each shard is counted apart (`count_features`) and the counts are added (`counts.add_counts`); since a subject is in one
shard only, numbers of subjects add up too. Distributions are counted in fixed bins over each variable's plausible
range, so that the memory is bounded however many windows there are. The document has no value of any one person: see
`disclosure`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flows.icu.catalogue import Catalogue, Variable
from flows.icu.cohort import COHORT_NOTES, PATIENT_NOTES
from flows.icu.counts import Counts, add_counts
from flows.icu.disclosure import (
    SMALL,
    Account,
    hidden_cells,
    share,
    suppress,
    suppress_cells,
    suppress_part,
    told_account,
)
from flows.icu.hashing import SPLITS
from flows.icu.raw import OBSERVATIONS

BINS = 400
# Bins per bar of a distribution: coarse enough that a bar has ten people behind it in data of ordinary size.
_BINS_PER_BAR = 4
DISTRIBUTED_FEATURES = ("mean", "min", "max", "last", "filled")
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
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
        value of their own), `unfilled` (and without an older one either) and `bins`: per distributed feature, over
        `BINS` equal bins of the plausible range, the `windows` in each bin and the subjects whose `lowest` and
        `highest` value is in it, and the `subjects` with any value in each bar of the plots.
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
        bins = {name: _count_bins(features[f"{variable.name}_{name}"], subject, variable) for name in distributed}
        counted[variable.name] = {
            "missing": int(features[f"{variable.name}_missing"].sum()),
            "unfilled": int(features[f"{variable.name}_filled"].isna().sum()),
            "bins": bins,
        }
    return {"splits": splits, "features": counted}


def quality_document(
    *,
    ingested: Counts,
    cohort: Counts,
    cleaned: Counts,
    features: Counts,
    catalogue: Catalogue,
    parameters: dict[str, Any],
) -> dict[str, Any]:
    """Put the counts of all shards together.

    Args:
        ingested: The sum of what `ingest.ingest` counted.
        cohort: What `cohort.build_cohort` counted.
        cleaned: The sum of what `events.clean` counted.
        features: The sum of what `count_features` counted.
        catalogue: What was measured.
        parameters: What the run was called with, as JSON; taken over as it is.

    Returns:
        The document, all JSON; None stands for a suppressed number. That all rows are accounted for is checked here, on
        the exact counts; in the document, rows in = kept + dropped + `hidden`, which is the sum of the hidden ones.

    Raises:
        UnaccountedRowsError: What one step passed on is not what the next one saw.
    """
    tables = _tables(ingested, cleaned)
    return {
        "parameters": parameters,
        "catalogue_sha256": catalogue.sha256,
        "suppressed_below": SMALL,
        "tables": tables,
        "cohort": _cohort(cohort),
        "splits": _splits(features["splits"]),
        "unresolved_references": _references(ingested.get("references", {}), tables),
        "variables": _variables(cleaned["variables"], cleaned.get("unknown_texts", {}), features, catalogue),
    }


def _tables(ingested: Counts, cleaned: Counts) -> dict[str, Any]:
    tables = {}
    for table, before in ((name, counts) for name, counts in ingested.items() if name in cleaned["tables"]):
        after = cleaned["tables"][table]
        if before["passed_on"] != after["rows_in"]:
            raise UnaccountedRowsError(
                f"{table}: ingest passed on {before['passed_on']} rows and cleaning saw {after['rows_in']}"
            )
        # What ingest dropped comes first: its reasons are judged before those of cleaning.
        reasons = {key: rows for key, rows in before.items() if key not in ("rows_in", "passed_on")}
        dropped = add_counts(reasons, after["dropped"])
        if before["rows_in"] != after["kept"] + sum(dropped.values()):
            raise UnaccountedRowsError(f"{table}: {before['rows_in']} rows in are not the rows kept and dropped")
        tables[table] = _told(told_account(after["kept"], dropped), "kept")
    return tables


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
        raise UnaccountedRowsError(f"stays: {counts['rows_in']} rows in are not the stays and what was left out")
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


def _variables(rows: Counts, unknown_texts: Counts, features: Counts, catalogue: Catalogue) -> dict[str, Any]:
    cells = suppress_cells({f"{v} {key}": rows[v][key] for v in catalogue.names for key in _VALUES})
    told = {
        v: {
            "converted": suppress_part(rows[v]["converted"], rows[v]["usable"]),
            **{key: cells[f"{v} {key}"] for key in _VALUES},
            "no_storetime": suppress_part(rows[v].get("no_storetime", 0), rows[v]["usable"]),
            "unknown_texts": {text: n for text, n in sorted(unknown_texts.get(v, {}).items()) if n >= SMALL},
        }
        for v in catalogue.names
    }
    return {variable.name: _variable(variable, told[variable.name], features) for variable in catalogue.variables}


def _variable(variable: Variable, rows: dict[str, Any], features: Counts) -> dict[str, Any]:
    counted = features["features"][variable.name]
    windows = sum(split["windows"] for split in features["splits"].values())
    return {
        "unit": variable.unit,
        "plausible": [variable.low, variable.high],
        **rows,
        "missing_rate": share(counted["missing"], windows),
        "unfilled_rate": share(counted["unfilled"], windows),
        "quantiles": {name: _quantiles(counted["bins"][name], variable) for name in DISTRIBUTED_FEATURES},
        # Linear interpolation within a bin: no quantile is further off than this.
        "quantile_resolution": (variable.high - variable.low) / BINS,
        "distribution_of_mean": distribution(counted["bins"]["mean"], variable),
    }


def _count_bins(values: "pd.Series[float]", subject: np.ndarray[Any, np.dtype[np.intp]], variable: Variable) -> Counts:
    there = values.notna().to_numpy()
    number, subject = values.to_numpy()[there], subject[there]
    place = (number - variable.low) / (variable.high - variable.low) * BINS
    # The highest plausible value belongs to the last bin.
    bins = pd.Series(np.clip(place.astype(np.int64), 0, BINS - 1))
    extremes = bins.groupby(subject).agg(["min", "max"])
    bars = pd.DataFrame({"bar": bins // _BINS_PER_BAR, "subject": subject}).drop_duplicates()["bar"]
    return {
        "windows": np.bincount(bins, minlength=BINS).tolist(),
        "lowest": np.bincount(extremes["min"], minlength=BINS).tolist(),
        "highest": np.bincount(extremes["max"], minlength=BINS).tolist(),
        "subjects": np.bincount(bars, minlength=BINS // _BINS_PER_BAR).tolist(),
    }


def _quantiles(bins: Counts, variable: Variable) -> dict[str, float | None]:
    windows = np.array(bins["windows"])
    upto = np.cumsum(windows)
    # Subjects with a value in this bin or a lower one, and in this bin or a higher one.
    below = np.cumsum(bins["lowest"])
    above = np.cumsum(bins["highest"][::-1])[::-1]
    width = (variable.high - variable.low) / BINS
    quantiles: dict[str, float | None] = {}
    for name, quantile in QUANTILES.items():
        place = quantile * upto[-1]
        index = int(np.searchsorted(upto, place))
        # Beyond where ten people are, a quantile would be about one of them.
        if upto[-1] == 0 or below[index] < SMALL or above[index] < SMALL:
            quantiles[name] = None
            continue
        within = (place - (upto[index] - windows[index])) / windows[index]
        quantiles[name] = round(float(variable.low + (index + within) * width), 6)
    return quantiles


def distribution(bins: Counts, variable: Variable) -> dict[str, Any]:
    """The bars of a plot: their `edges`, and the `windows` in each, None where too few people are behind it."""
    windows = np.array(bins["windows"]).reshape(-1, _BINS_PER_BAR).sum(axis=1).tolist()
    edges = np.linspace(variable.low, variable.high, len(windows) + 1)
    hidden = hidden_cells(bins["subjects"])
    return {
        "edges": [round(float(edge), 6) for edge in edges],
        "windows": [None if hide else number for number, hide in zip(windows, hidden, strict=True)],
    }
