"""Synthetic data: reproducible, in the layout of MIMIC-IV, with every fault that real data have."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from flows.icu.catalogue import load_catalogue
from flows.icu.counts import add_counts
from flows.icu.events import LAB_REASONS, REASONS, clean
from flows.sources.mimic import ingest, read_cohort
from flows.synthetic.tables import FORMATS, generate

CHART = [
    "subject_id",
    "hadm_id",
    "stay_id",
    "caregiver_id",
    "charttime",
    "storetime",
    "itemid",
    "value",
    "valuenum",
    "valueuom",
    "warning",
]
STAY = ["subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit", "intime", "outtime", "los"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "small"
    generate(out, 30, rows=4000, seed=7)
    return out


def read(folder, name, **options):
    return pd.read_csv(folder / f"{name}.csv.gz", low_memory=False, **options)


def run(folder):
    catalogue, cohort = load_catalogue(), read_cohort(folder)
    frames, ingested = [], {}
    for table in ("chartevents", "labevents"):
        for frame, counts in ingest(folder, table, catalogue):
            frames.append(frame)
            ingested = add_counts(ingested, counts)
    return ingested, clean(frames, cohort.stays, catalogue), cohort


def test_the_columns_are_those_of_mimic_iv(folder):
    assert list(read(folder, "icu/chartevents").columns) == CHART
    assert list(read(folder, "icu/icustays").columns) == STAY
    assert len(read(folder, "icu/chartevents")) == 4000
    assert len(read(folder, "hosp/labevents")) == 400


def test_the_data_say_that_they_are_synthetic(folder):
    assert "no patient is in it" in (folder / "SYNTHETIC.txt").read_text()


def test_small_data_have_every_fault(folder):
    ingested, cleaned, cohort = run(folder)
    dropped = cleaned.counts["tables"]["chartevents"]["dropped"]
    assert {reason for reason in REASONS if dropped[reason]} == set(REASONS) - {"not_in_catalogue"}
    assert ingested["chartevents"]["not_in_catalogue"] > 2000
    labs = cleaned.counts["tables"]["labevents"]
    assert {reason for reason in LAB_REASONS if labs["dropped"][reason]} == set(LAB_REASONS) - {"not_in_catalogue"}
    assert ingested["labevents"]["not_in_catalogue"]
    totals = add_counts(*cleaned.counts["variables"].values())
    assert all(totals.values())
    assert cohort.counts["no_outtime"]
    chart = read(folder, "icu/chartevents")
    assert chart["valuenum"].isna().mean() == pytest.approx(0.57, abs=0.05)
    assert chart["storetime"].isna().any()
    assert {"?F", "Deg. F", "\u00b5g/kg/min", "\u03bcg/kg/min"} <= set(chart["valueuom"])
    assert chart["value"].str.contains("\n").any()
    assert cohort.stays.groupby("subject_id").size().max() == 15


def test_both_charting_systems_occur(folder):
    items = read(folder, "icu/chartevents", usecols=["itemid"])["itemid"]
    items = items[items.isin(load_catalogue().item_ids)]
    assert 0.1 < (items < 220000).mean() < 0.9


def test_a_sixth_of_the_rows_is_stored_more_than_an_hour_late(folder):
    chart = read(folder, "icu/chartevents", parse_dates=["charttime", "storetime"])
    late = (chart["storetime"] - chart["charttime"]) > pd.Timedelta(hours=1)
    assert late.mean() == pytest.approx(0.17, abs=0.05)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_the_same_rows(tmp_path, folder, format):
    generate(tmp_path / "other", 30, rows=4000, seed=7, format=format)
    expected, got = run(folder), run(tmp_path / "other")
    assert got[0] == expected[0]
    assert got[1].counts == expected[1].counts
    pd.testing.assert_frame_equal(got[1].events, expected[1].events)
    pd.testing.assert_frame_equal(got[2].stays, expected[2].stays)


def test_the_same_seed_makes_the_same_bytes_and_another_does_not(tmp_path, folder):
    generate(tmp_path / "same", 30, rows=4000, seed=7)
    generate(tmp_path / "other", 30, rows=4000, seed=8)
    name = "icu/chartevents.csv.gz"
    assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()


def test_tables_longer_than_a_chunk_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.synthetic.tables._CHUNK_ROWS", 300)
    generate(tmp_path / "csv", 5, rows=1000)
    generate(tmp_path / "parquet", 5, rows=1000, format="parquet")
    chart = pd.read_parquet(tmp_path / "parquet/icu/chartevents.parquet")
    assert len(chart) == len(read(tmp_path / "csv", "icu/chartevents")) == 1000


@pytest.mark.parametrize("stays", [1, 2, 16, 17])
def test_any_size_can_be_made(tmp_path, stays):
    generate(tmp_path / "out", stays, rows=0)
    assert read_cohort(tmp_path / "out").counts["stays"] == stays


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such format"):
        generate(tmp_path / "out", 1, format="xlsx")
    with pytest.raises(ValueError, match="has to be a stay"):
        generate(tmp_path / "out", 0)
    (tmp_path / "note").touch()
    with pytest.raises(FileExistsError, match="is not empty"):
        generate(tmp_path, 1)


def test_the_command_line_writes_the_data(tmp_path):
    command = [sys.executable, "-m", "flows.synthetic", "--out", str(tmp_path / "out"), "--stays", "2", "--rows", "20"]
    root = Path(__file__).parents[3]
    subprocess.run(command, check=True, cwd=root)
    assert len(read(tmp_path / "out", "icu/chartevents")) == 20
    again = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert again.returncode == 3
    assert "is not empty" in again.stderr
