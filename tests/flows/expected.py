"""What a run has to have stored, by the pure steps."""

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
    """The features by the pure steps, in one piece; `as_fhir`, as the same rows have them when FHIR tells them."""
    catalogue, stays = load_catalogue(), read_cohort(source).stays
    rows = [frame for table in tables for frame, _ in ingest(source, table, catalogue)]
    for frame in rows if as_fhir else []:
        # A row that names no stay of the cohort is judged by its time, as a laboratory's row is.
        frame.loc[~frame["stay_id"].isin(stays["stay_id"]), "table"] = "labevents"
    return window_features(clean(rows, stays, catalogue).events, stays, catalogue)


def stored_features(store: PipelineStore, date: str = DATE) -> pd.DataFrame:
    names = store.list_artifacts(f"icu/{date}/features")
    return pd.concat([store.download(name) for name in names]).sort_values(["stay_id", "window"], ignore_index=True)


def assert_adds_up(account: dict[str, Any]) -> None:
    """Of an account in a quality document: to the row where its total is told, and no cell is small."""
    cells = [account["kept"], *account["dropped"].values()]
    assert [number for number in cells if number and number < 10] == []
    if account["rows_in"] is not None:
        assert account["rows_in"] == sum(number or 0 for number in cells) + account["hidden"]


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
