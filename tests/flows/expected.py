"""What a run must have stored, computed by the pure steps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from clinops_prefect import PipelineStore
from flows.icu.catalogue import load_catalogue
from flows.icu.events import clean
from flows.icu.windows import window_features
from flows.sources.mimic import EVENT_TABLES, ingest, read_cohort

DATE = "2024-01-15"


def expected_features(
    source: Path, tables: Iterable[str] = tuple(EVENT_TABLES), *, as_fhir: bool = False
) -> pd.DataFrame:
    """The features of all shards together, computed by the pure steps.

    Args:
        source: The source.
        tables: The event tables to read.
        as_fhir: Judge rows as the flow does when the same rows come as FHIR.
    """
    catalogue, stays = load_catalogue(), read_cohort(source).stays
    rows = [frame for table in tables for frame, _ in ingest(source, table, catalogue)]
    for frame in rows if as_fhir else []:
        # A row whose stay is not in the cohort is assigned to a stay by its time, as a row of `labevents` is.
        frame.loc[~frame["stay_id"].isin(stays["stay_id"]), "table"] = "labevents"
    return window_features(clean(rows, stays, catalogue).events, stays, catalogue)


def stored_features(store: PipelineStore, date: str = DATE) -> pd.DataFrame:
    names = store.list_artifacts(f"icu/{date}/features")
    return pd.concat([store.download(name) for name in names]).sort_values(["stay_id", "window"], ignore_index=True)


def assert_adds_up(account: dict[str, Any]) -> None:
    """Check an account of a quality document: its rows add up if it shows a total, and no small number is shown."""
    cells = [account["kept"], *account["dropped"].values()]
    assert [number for number in cells if number and number < 10] == []
    if account["rows_in"] is not None:
        assert account["rows_in"] == sum(number or 0 for number in cells) + account["hidden"]


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
