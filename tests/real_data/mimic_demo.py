"""Every figure that the definition of the ICU features gives for the MIMIC-III demo, in MIMIC-IV layout.

The data are not in the repository, so this is not collected by default (its name is no test's). Run it with

    CLINOPS_MIMIC_DEMO=/path/to/mimic-demo python -m pytest tests/real_data/mimic_demo.py
"""

import os
import re

import pandas as pd
import pytest

from flows.icu.catalogue import load_catalogue
from flows.icu.counts import add_counts
from flows.icu.events import clean
from flows.icu.hashing import shard_of
from flows.icu.quality import count_features, quality_document
from flows.icu.raw import empty_raw, split_into_shards
from flows.icu.windows import window_features
from flows.reports.quality_page import quality_page
from flows.sources.mimic import ingest, read_cohort

CATALOGUE = load_catalogue()
SHARDS = 8


@pytest.fixture(scope="module")
def source():
    return os.environ["CLINOPS_MIMIC_DEMO"]


@pytest.fixture(scope="module")
def cohort(source):
    return read_cohort(source)


@pytest.fixture(scope="module")
def raw(source):
    frames, counts = [empty_raw()], {}
    for table in ("chartevents", "labevents"):
        for frame, frame_counts in ingest(source, table, CATALOGUE):
            frames.append(frame)
            counts = add_counts(counts, frame_counts)
    return pd.concat(frames, ignore_index=True), counts


@pytest.fixture(scope="module")
def cleaned(raw, cohort):
    return clean([raw[0]], cohort.stays, CATALOGUE)


@pytest.fixture(scope="module")
def document(raw, cohort, cleaned):
    features = window_features(cleaned.events, cohort.stays, CATALOGUE)
    return quality_document(
        ingested=raw[1],
        cohort=cohort.counts,
        cleaned=cleaned.counts,
        features=count_features(features, CATALOGUE),
        catalogue=CATALOGUE,
        parameters={},
    )


def test_the_chart_rows(raw, cleaned):
    assert (raw[1]["chartevents"]["rows_in"], raw[1]["chartevents"]["not_in_catalogue"]) == (758_355, 654_392)
    assert cleaned.counts["tables"]["chartevents"] == {
        "rows_in": 103_963,
        "kept": 103_477,
        "dropped": {
            "not_in_catalogue": 0,
            "no_stay": 0,
            "unknown_stay": 0,
            "other_subject": 0,
            "no_time": 0,
            "no_number": 112,
            "before_stay": 368,
            "after_stay": 5,
            "duplicate": 1,
        },
    }


def test_the_document_hides_the_small_numbers_and_adds_up(document):
    table = document["tables"]["chartevents"]
    assert (table["rows_in"], table["kept"], table["hidden"]) == (758_355, 103_477, 112 + 5 + 1)
    assert [reason for reason, rows in table["dropped"].items() if rows is None] == [
        *("no_number", "after_stay", "duplicate")
    ]
    assert table["dropped"]["before_stay"] == 368


def test_the_lab_rows(raw, cleaned):
    assert (raw[1]["labevents"]["rows_in"], raw[1]["labevents"]["not_in_catalogue"]) == (76_074, 38_732)
    assert cleaned.counts["tables"]["labevents"] == {
        "rows_in": 37_342,
        "kept": 19_015,
        "dropped": {
            "not_in_catalogue": 0,
            "unknown_subject": 0,
            "no_time": 0,
            "no_number": 12,
            "outside_stays": 18_315,
            "duplicate": 0,
        },
    }


def test_the_outcomes(cohort):
    outcomes = cohort.outcomes
    assert len(outcomes) == 136
    assert (outcomes["died_in_hospital"].sum(), outcomes["died_in_icu"].sum()) == (46, 29)
    assert outcomes["death_hours"].notna().sum() == 46


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("converted", {"temperature": 3_614}),
        ("unknown_unit", {"glucose": 830}),
        (
            "implausible",
            {"heart_rate": 14, "resp_rate": 89, "spo2": 16, "sbp": 35, "dbp": 32, "map": 27, "creatinine": 1},
        ),
        (
            "usable",
            {
                "heart_rate": 15_411,
                "resp_rate": 16_439,
                "spo2": 15_227,
                "sbp": 15_819,
                "dbp": 15_814,
                "map": 15_790,
                "temperature": 4_648,
                "glucose": 3_286,
                "lactate": 394,
                "creatinine": 998,
                "bun": 999,
                "sodium": 1_099,
                "potassium": 1_262,
                "chloride": 1_068,
                "bicarbonate": 1_024,
                "calcium": 887,
                "magnesium": 982,
                "phosphate": 888,
                "albumin": 149,
                "bilirubin": 279,
                "alt": 263,
                "ast": 262,
                "alp": 260,
                "hemoglobin": 935,
                "hematocrit": 1_059,
                "platelets": 903,
                "wbc": 859,
                "inr": 668,
                "ptt": 705,
                "ph": 1_053,
                "pco2": 1_009,
                "po2": 1_009,
            },
        ),
    ],
)
def test_the_values(cleaned, what, expected):
    assert {name: v[what] for name, v in cleaned.counts["variables"].items() if v[what]} == expected


def test_the_document_hides_the_one_implausible_value_and_what_it_could_be_worked_out_from(document):
    assert document["variables"]["creatinine"]["implausible"] is None
    assert document["variables"]["heart_rate"]["implausible"] is None
    assert document["variables"]["glucose"]["unknown_texts"] == {"": 40}


def test_the_windows(document):
    assert document["splits"]["total"] == {"subjects": 100, "stays": 136, "windows": 919}


def test_every_stay_has_its_windows(cleaned, cohort):
    features = window_features(cleaned.events, cohort.stays, CATALOGUE, window_hours=6, horizon_hours=48)
    assert features["stay_id"].nunique() == 136
    assert len(features) == 919


def test_eight_shards_equal_the_whole(raw, cohort, cleaned):
    parts = split_into_shards(raw[0], SHARDS)
    of_stay = shard_of(cohort.stays["subject_id"].to_numpy("int64"), SHARDS)
    counts, features = [], []
    for shard in range(SHARDS):
        part = clean([parts[shard]], cohort.stays, CATALOGUE)
        counts.append(part.counts)
        features.append(window_features(part.events, cohort.stays[of_stay == shard], CATALOGUE))
    assert add_counts(*counts) == cleaned.counts
    together = pd.concat(features).sort_values(["stay_id", "window"], ignore_index=True)
    pd.testing.assert_frame_equal(together, window_features(cleaned.events, cohort.stays, CATALOGUE), check_exact=True)


def test_no_identifier_is_on_the_page_or_in_the_document(document, cohort):
    text = quality_page(document) + str(document)
    # As whole numbers: six digits are met by chance among the decimals of a coordinate.
    numbers = set(re.findall(r"(?<![\d.])\d+", text))
    assert not [stay for stay in cohort.stays["stay_id"] if str(stay) in numbers]
