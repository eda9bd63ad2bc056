"""The fast steps against the slow oracle, and laws that hold for any input."""

import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.icu.catalogue import load_catalogue
from flows.icu.cohort import build_cohort
from flows.icu.counts import add_counts
from flows.icu.events import clean
from flows.icu.hashing import shard_of
from flows.icu.raw import RAW_DTYPES, split_into_shards
from flows.icu.windows import feature_columns, window_features

sys.path.append(str(Path(__file__).parent))  # importlib mode: neighbours are not importable by themselves
import itertools

import icu_oracle as oracle

CATALOGUE = load_catalogue()
START = datetime(2150, 3, 1, 7, 30)
# Few distinct times, items and values, so that ties, duplicates and boundaries are the rule and not the exception.
MINUTES = st.one_of(
    st.sampled_from([-1, 0, 1, 59, 60, 119, 120, 180, 359, 360, 361, 720, 1440, 1560, 1800, 2880]),
    st.integers(-30, 3000),
)
ITEMS = st.sampled_from(
    [220045, 211, 220050, 225309, 220179, 51, 678, 223761, 676, 220621, 225664, 807, 999, 220277, 50971, 50822, 51222]
)
UNITS = st.sampled_from([None, "mg/dL", "MG / DL", "mmol/L", "mmol/l ", "?F", "\u00b5g", "mg", ""])
VALUES = st.one_of(
    st.none(),
    st.sampled_from([0.0, 1.0, 5.5, 20.0, 20.0, 98.6, 98.6, 100.0, 113.0, 300.0, 300.5, 11647.0, -8.0, float("inf")]),
    st.floats(-10, 400).map(lambda value: round(value, 2)),
)
SUBJECTS = [11, 22, 33]


@st.composite
def inputs(draw):
    stays = {}
    for stay_id in range(101, 101 + draw(st.integers(0, 4))):
        begins = START + timedelta(hours=draw(st.integers(0, 30)))
        ends = draw(st.none() | st.sampled_from([-60, 0, 1, 359, 360, 361, 1440, 2880, 4000]) | st.integers(0, 4000))
        if ends is not None and ends < 0:
            ends = None  # no stay at all: the cohort leaves it out
        subject = draw(st.sampled_from(SUBJECTS))
        stays[stay_id] = (subject, begins, None if ends is None else begins + timedelta(minutes=ends))
    rows = []
    for _ in range(draw(st.integers(0, 40))):
        stay_id = draw(st.sampled_from([101, 101, 102, 103, 104, 999, None]))
        subject, begins, _ = stays.get(stay_id, (11, START, None))
        chart = draw(st.one_of(MINUTES, MINUTES, MINUTES, st.none()))
        delay = draw(st.sampled_from([None, 0, 0, 1, 60, 90, -5, 700]))
        charttime = None if chart is None else begins + timedelta(minutes=chart)
        rows.append(
            {
                "table": draw(st.sampled_from(["chartevents", "chartevents", "labevents"])),
                "subject_id": draw(st.sampled_from([subject] * 8 + [22, 44, None])),
                "stay_id": stay_id,
                "itemid": draw(ITEMS),
                "charttime": charttime,
                "storetime": None if delay is None else (charttime or begins) + timedelta(minutes=delay),
                "valuenum": draw(VALUES),
                "valueuom": draw(UNITS),
            }
        )
    window = draw(st.sampled_from([1, 2, 4, 6, 12, 24, 36]))
    return rows, stays, window, window * draw(st.integers(1, 4))


def raw_frame(rows):
    return pd.DataFrame(rows, columns=list(RAW_DTYPES), dtype=object).astype(RAW_DTYPES)


def cohort_of(stays):
    frame = pd.DataFrame(
        [(subject, stay, begins, ends) for stay, (subject, begins, ends) in stays.items()],
        columns=["subject_id", "stay_id", "intime", "outtime"],
    ).astype({"subject_id": "Int64", "stay_id": "Int64", "intime": "datetime64[us]", "outtime": "datetime64[us]"})
    return build_cohort(frame.assign(hadm_id=pd.array([pd.NA] * len(frame), "Int64"), first_careunit=None)).stays


def plain(frame):
    """Rows as dicts with None for every null and Python's own types."""
    return [
        {key: None if pd.isna(value) else value for key, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


@given(inputs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_events_and_counts_equal_the_oracle(data):
    rows, stays, _, _ = data
    cleaned = clean([raw_frame(rows)], cohort_of(stays), CATALOGUE)
    events, dropped, variables = oracle.clean(rows, stays)
    for table, reasons in dropped.items():
        account = {"rows_in": sum(row["table"] == table for row in rows), "dropped": reasons}
        account["kept"] = account["rows_in"] - sum(reasons.values())
        assert cleaned.counts["tables"][table] == account
        assert list(cleaned.counts["tables"][table]["dropped"]) == list(oracle.REASONS[table])
    assert sum(cleaned.counts["tables"][table]["kept"] for table in dropped) == len(events)
    assert cleaned.counts["variables"] == variables
    expected = [
        (e["subject_id"], e["stay_id"], e["itemid"], e["variable"], e["charttime"], e["t"], e["value"]) for e in events
    ]
    got = [tuple(row.values()) for row in plain(cleaned.events)]
    # Sorted by stay, and within it as they count as last.
    assert got == sorted(expected, key=lambda e: (e[1], e[5], e[4], -oracle.named(e[2])))


@given(inputs())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_features_equal_the_oracle(data):
    rows, stays, window, horizon = data
    cohort = cohort_of(stays)
    events = clean([raw_frame(rows)], cohort, CATALOGUE).events
    features = window_features(events, cohort, CATALOGUE, window_hours=window, horizon_hours=horizon)
    expected = oracle.features(oracle.clean(rows, stays)[0], stays, window, horizon)
    assert len(features) == len(expected)
    for got, want in zip(plain(features), expected, strict=True):
        for column, value in want.items():
            if column.endswith("_mean") and value is not None:
                # The oracle adds up exactly, the features one by one: the last bits may differ.
                assert got[column] == pytest.approx(value, rel=1e-12), column
            else:
                assert got[column] == value, column


@given(inputs())
@settings(max_examples=60, deadline=None)
def test_the_schema_does_not_depend_on_the_data(data):
    rows, stays, window, horizon = data
    cohort = cohort_of(stays)
    events = clean([raw_frame(rows)], cohort, CATALOGUE).events
    features = window_features(events, cohort, CATALOGUE, window_hours=window, horizon_hours=horizon)
    assert features.dtypes.to_dict() == feature_columns(CATALOGUE)


@given(inputs(), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_shards_together_equal_the_whole(data, shards):
    rows, stays, window, horizon = data
    cohort, raw = cohort_of(stays), raw_frame(rows)
    whole = clean([raw], cohort, CATALOGUE)
    parts = split_into_shards(raw, shards)
    of_stay = shard_of(cohort["subject_id"].to_numpy("int64"), shards)
    hours = {"window_hours": window, "horizon_hours": horizon}
    counts, features = [], []
    for shard in range(shards):
        cleaned = clean([parts[shard]] if shard in parts else [], cohort, CATALOGUE)
        counts.append(cleaned.counts)
        features.append(window_features(cleaned.events, cohort[of_stay == shard], CATALOGUE, **hours))
    together = pd.concat(features).sort_values(["stay_id", "window"], ignore_index=True)
    pd.testing.assert_frame_equal(together, window_features(whole.events, cohort, CATALOGUE, **hours), check_exact=True)
    assert add_counts(*counts) == whole.counts


@given(inputs(), st.lists(st.integers(0, 40), max_size=4), st.randoms())
@settings(max_examples=60, deadline=None)
def test_neither_the_frames_nor_the_order_of_the_rows_matter(data, cuts, random):
    rows, stays, _, _ = data
    cohort = cohort_of(stays)
    once = clean([raw_frame(rows)], cohort, CATALOGUE)
    shuffled = random.sample(rows, len(rows))
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    frames = [raw_frame(shuffled[a:b]) for a, b in itertools.pairwise(bounds)]
    again = clean(iter(frames), cohort, CATALOGUE)
    assert again.counts == once.counts
    pd.testing.assert_frame_equal(again.events, once.events, check_exact=True)


@given(inputs(), MINUTES, st.data())
@settings(max_examples=100, deadline=None)
def test_what_becomes_known_after_a_time_changes_no_window_that_ended_by_then(data, minutes, draw):
    rows, stays, window, horizon = data
    cohort, limit = cohort_of(stays), START + timedelta(minutes=minutes + 600)
    changed = []
    for row in rows:
        if row["charttime"] is None or oracle.known_at(row) < limit:
            changed.append(row)
            continue
        # Later rows may vanish, or say something else; they may not become known earlier.
        fate = draw.draw(st.sampled_from(["vanish", "same", "other"]))
        if fate == "other":
            row = row | {"valuenum": draw.draw(VALUES), "itemid": draw.draw(ITEMS), "valueuom": draw.draw(UNITS)}
        if fate != "vanish":
            changed.append(row)
    tables = []
    for version in (rows, changed):
        events = clean([raw_frame(version)], cohort, CATALOGUE).events
        features = window_features(events, cohort, CATALOGUE, window_hours=window, horizon_hours=horizon)
        tables.append(features[features["window_end"] <= np.datetime64(limit)])
    pd.testing.assert_frame_equal(*tables, check_exact=True)
