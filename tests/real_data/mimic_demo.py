"""Every figure that the definition of the ICU features gives for the MIMIC-III demo, in MIMIC-IV layout.

The data are not in the repository, so this is not collected by default (its name is no test's). Run it with

    CLINOPS_MIMIC_DEMO=/path/to/mimic-demo python -m pytest tests/real_data/mimic_demo.py
"""

import os

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
    assert (raw[1]["chartevents"]["rows_in"], raw[1]["chartevents"]["not_in_catalogue"]) == (758_355, 655_796)
    assert cleaned.counts["tables"]["chartevents"] == {
        "rows_in": 102_559,
        "kept": 102_073,
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
    assert (table["rows_in"], table["kept"], table["hidden"]) == (758_355, 102_073, 112 + 5 + 1)
    assert [reason for reason, rows in table["dropped"].items() if rows is None] == [
        *("no_number", "after_stay", "duplicate")
    ]
    assert table["dropped"]["before_stay"] == 368


def test_the_lab_rows(document):
    table = document["tables"]["labevents"]
    assert (table["rows_in"], table["kept"], table["dropped"]["not_in_catalogue"]) == (76_074, 0, 76_074)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("converted", {"temperature": 3_614}),
        ("unknown_unit", {"glucose": 830}),
        (
            "implausible",
            {"heart_rate": 14, "resp_rate": 89, "spo2": 16, "sbp": 35, "dbp": 32, "map": 26},
        ),
        (
            "usable",
            {
                "heart_rate": 15_411,
                "resp_rate": 15_921,
                "spo2": 15_227,
                "sbp": 15_524,
                "dbp": 15_519,
                "map": 15_495,
                "temperature": 4_648,
                "glucose": 3_286,
            },
        ),
    ],
)
def test_the_values(document, what, expected):
    assert {name: v[what] for name, v in document["variables"].items() if v[what]} == expected


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
    # Stay ids have six digits, so they are not met by chance in numbers or in coordinates.
    assert not [stay for stay in cohort.stays["stay_id"] if str(stay) in text]
