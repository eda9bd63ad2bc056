"""A backfill computes every date that it can. A drift report compares comparable dates, and fails if told to."""

import datetime as dt
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.orchestration import get_client

from clinops_prefect import ArtifactNotFoundError, PipelineStore
from flows.backfill import BackfillError, backfill
from flows.backfill import main as backfill_command
from flows.icu.catalogue import CatalogueError, load_catalogue
from flows.icu_features import icu_features
from flows.quality_report import DriftError, NotComparableError, quality_report
from flows.quality_report import main as quality_report_command
from flows.running.artifacts import key
from flows.running.failed_dates import told_failures
from flows.sources.files import TableNotFoundError
from flows.synthetic.tables import generate


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each date. The folder of the second date is missing."""
    root = tmp_path_factory.mktemp("sources")
    for day in (1, 3):
        generate(root / f"2024-05-0{day}", 120, rows=60_000, seed=day, catalogue_share=0.8)
    return root


@pytest.fixture(scope="module")
def store(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with both dates, computed by a backfill in which one date failed."""
    root = tmp_path_factory.mktemp("store")
    days = [dt.date(2024, 5, day) for day in (1, 2, 3)]
    with pytest.raises(BackfillError, match=r"1 of 3 dates failed.*2024-05-02 \(TableNotFoundError\)"):
        backfill(f"{sources}/{{date}}", str(root), days, shards=2)
    with get_client(sync_client=True) as client:
        filter = {"artifacts": {"key": {"any_": [key("icu-backfill-progress", PipelineStore.from_uri(root))]}}}
        (card,) = client.request("POST", "/artifacts/filter", json=filter).json()
    assert re.fullmatch(r"ended in \d+ (s|min): 2 of 3 dates done, 1 failed", card["description"])
    return root


def test_a_date_that_fails_stops_no_other_date_and_the_next_run_computes_only_that_one(
    sources: Path, store: Path
) -> None:
    done = backfill(f"{sources}/{{date}}", str(store), [dt.date(2024, 5, 3), dt.date(2024, 5, 1)], shards=2)
    assert [(row["date"], row["state"]) for row in done] == [
        ("2024-05-03", "complete before"),
        ("2024-05-01", "complete before"),
    ]
    assert all(row["windows"] > 100 for row in done)


def test_a_date_that_is_computed_while_the_clock_is_set_back_is_told_as_computed(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SetBack(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> "SetBack":
            return cls.fromtimestamp(super().now(tz).timestamp() - 3600, tz)

    def states() -> list[str]:
        return [row["state"] for row in backfill(f"{sources}/{{date}}", str(tmp_path), [dt.date(2024, 5, 1)], shards=1)]

    with monkeypatch.context() as patched:
        patched.setattr("flows.icu_features.dt", SimpleNamespace(datetime=SetBack, UTC=dt.UTC))
        assert states() == ["computed"]
    assert states() == ["complete before"]


def test_a_drift_report_writes_a_page_and_fails_only_if_told_to(store: Path) -> None:
    document = quality_report(str(store), "2024-05-01", "2024-05-03")
    opened = PipelineStore.from_uri(store)
    assert json.loads(opened.read_bytes("icu/2024-05-03/drift/2024-05-01.json")) == document
    assert b"<svg" in opened.read_bytes("icu/2024-05-03/drift/2024-05-01.html")
    # Two samples of one distribution. Only a few windows have a laboratory's value, so its index is mostly chance.
    psi = {name: variable["psi"] for name, variable in document["variables"].items() if variable["psi"] is not None}
    vitals = [psi[name] for name in load_catalogue().names[:8] if name in psi]
    assert len(vitals) > 4
    assert max(vitals) < 0.25
    quality_report(str(store), "2024-05-01", "2024-05-03", max_psi=max(psi.values()), max_missing_change=0.2)
    with pytest.raises(DriftError, match=r"beyond the limits: .*\(psi\).*2024-05-01\.html"):
        quality_report(str(store), "2024-05-01", "2024-05-03", max_psi=1e-9)


def test_a_date_has_not_drifted_from_itself(store: Path) -> None:
    document = quality_report(str(store), "2024-05-01", "2024-05-01", max_psi=0.0, max_missing_change=0.0)
    assert {variable["psi"] for variable in document["variables"].values()} <= {0.0, None}


def test_dates_that_were_computed_differently_are_not_compared(sources: Path, store: Path) -> None:
    with pytest.raises(ArtifactNotFoundError):
        quality_report(str(store), "1999-01-01", "2024-05-01")
    icu_features(f"{sources}/2024-05-01", str(store), "2024-05-09", shards=1, window_hours=12)
    with pytest.raises(NotComparableError, match="window_hours 12"):
        quality_report(str(store), "2024-05-09", "2024-05-01")


def test_the_command_lines_print_what_they_did(
    sources: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--store", str(store)]
    dates = ["2024-05-01", "2024-05-03..2024-05-03"]
    monkeypatch.setattr(
        sys, "argv", ["backfill", *common, "--source", f"{sources}/{{date}}", "--shards", "2", "--dates", *dates]
    )
    backfill_command()
    assert capsys.readouterr().out.count("complete before") == 2
    compared = [*common, "--date", "2024-05-03", "--reference", "2024-05-01"]
    monkeypatch.setattr(sys, "argv", ["quality_report", *compared])
    quality_report_command()
    assert "heart_rate" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["quality_report", *compared, "--max-psi", "0.000000001"])
    with pytest.raises(SystemExit) as stopped:
        quality_report_command()
    assert "DriftError" in str(stopped.value)


def test_a_failed_date_is_reported_with_the_reason_and_without_a_value() -> None:
    days = [dt.date(2024, 5, day) for day in range(1, 6)]
    failed = [
        TableNotFoundError("/raw/icu/icustays: no such table"),
        ValueError("cannot convert 'Jane Doe' to a number"),
        OSError(28, "No space left on device", "/srv/store"),
        ValueError("x"),
        KeyError("Jane Doe"),
    ]
    first, *lines = told_failures(dict(zip(days, failed, strict=True)), 9).splitlines()
    assert first.startswith("5 of 9 dates failed, each is as it was: 2024-05-01 (TableNotFoundError), 2024-05-02 (Va")
    assert lines[0] == "2024-05-01: /raw/icu/icustays: no such table"
    assert "flows.icu_features --date 2024-05-02 --debug" in lines[1]
    assert lines[2] == "2024-05-03: No space left on device: /srv/store"
    assert "other 2" in lines[3]
    assert "Jane" not in " ".join((first, *lines))


def test_a_fault_that_every_date_shares_is_reported_once(tmp_path: Path) -> None:
    days = [dt.date(2024, 5, 1), dt.date(2024, 5, 2)]
    with pytest.raises(CatalogueError, match="No such file; give the path of a catalogue"):
        backfill(str(tmp_path / "{date}"), str(tmp_path / "store"), days, catalogue=str(tmp_path / "absent"))
    assert not (tmp_path / "store").exists()
