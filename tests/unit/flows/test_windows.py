"""Features, rule by rule, on a stay computed by hand."""

import numpy as np
import pandas as pd
import pytest

from flows.icu.catalogue import load_catalogue
from flows.icu.windows import feature_columns, window_features

CATALOGUE = load_catalogue()
INTIME = pd.Timestamp("2150-01-01 08:00")


def hours(number):
    return INTIME + pd.Timedelta(hours=number)


def stays(*lengths):
    return pd.DataFrame(
        {
            "subject_id": np.arange(len(lengths), dtype="int64") + 1,
            "stay_id": np.arange(len(lengths), dtype="int64") + 10,
            "intime": pd.Series([INTIME] * len(lengths), dtype="datetime64[us]"),
            "outtime": pd.Series([None if n is None else hours(n) for n in lengths], dtype="datetime64[us]"),
            "split": pd.Series(["train"] * len(lengths), dtype="str"),
        }
    )


def events(*rows, stay=10):
    """Rows: (hours of time, value), or (hours of time, value, item, hours of charttime)."""
    full = [(*row, 220045, row[0]) if len(row) == 2 else row for row in rows]
    return pd.DataFrame(
        {
            "subject_id": np.full(len(full), stay - 9, dtype="int64"),
            "stay_id": np.full(len(full), stay, dtype="int64"),
            "itemid": np.array([row[2] for row in full], dtype="int64"),
            "variable": pd.Categorical(["heart_rate"] * len(full), categories=CATALOGUE.names),
            "charttime": pd.Series([hours(row[3]) for row in full], dtype="datetime64[us]"),
            "time": pd.Series([hours(row[0]) for row in full], dtype="datetime64[us]"),
            "value": np.array([row[1] for row in full], dtype="float64"),
        }
    )


def heart(frame, feature):
    return [None if pd.isna(value) else value for value in frame[f"heart_rate_{feature}"]]


@pytest.mark.parametrize(
    ("length", "windows"), [(-5, 1), (0, 1), (0.001, 1), (6, 1), (6.001, 2), (47, 8), (48, 8), (48.5, 8), (None, 8)]
)
def test_a_stay_has_a_window_for_each_six_hours_up_to_48(length, windows):
    frame = window_features(events(), stays(length), CATALOGUE)
    assert frame["window"].to_list() == list(range(windows))
    assert frame["window_end"].iloc[-1] == hours(6 * windows)  # not cut at outtime


def test_the_features_of_a_stay_equal_those_computed_by_hand():
    some = events((0, 80), (1, 100), (5.99, 90), (6, 70), (13, np.nan), (19, 60), (24, 50))
    frame = window_features(some, stays(30), CATALOGUE)
    assert heart(frame, "mean") == [90, 70, None, 60, 50]
    assert heart(frame, "min") == [80, 70, None, 60, 50]
    assert heart(frame, "max") == [100, 70, None, 60, 50]
    assert heart(frame, "last") == [90, 70, None, 60, 50]
    assert heart(frame, "filled") == [90, 70, 70, 60, 50]
    assert heart(frame, "lag1") == [None, 90, 70, 70, 60]
    assert heart(frame, "lag2") == [None, None, 90, 70, 70]
    assert heart(frame, "count") == [3, 1, 0, 1, 1]
    assert heart(frame, "missing") == [0, 0, 1, 0, 0]


def test_a_value_fills_windows_that_end_within_24_hours():
    # Window 4 ends at 30 h: a value that is known at 6 h is just recent enough, and a value known before is not.
    just, old = events((6, 80)), events((5.999, 80))
    assert heart(window_features(just, stays(48), CATALOGUE), "filled")[:6] == [None, 80, 80, 80, 80, None]
    assert heart(window_features(old, stays(48), CATALOGUE), "filled")[:6] == [80, 80, 80, 80, None, None]


def test_the_last_value_of_a_long_window_fills_it_however_old():
    frame = window_features(events((1, 80)), stays(48), CATALOGUE, window_hours=48)
    assert heart(frame, "filled") == [80]


@pytest.mark.parametrize(
    ("some", "last"),
    [
        ([(2, 80, 220045, 1), (2, 90, 211, 1)], 90),  # the lower item counts as last
        ([(2, 80, 220045, 2), (2, 90, 211, 1)], 80),  # charted later, though known together
        ([(2, 80, 220045, 1), (3, 90, 220045, 1)], 90),
        ([(2, 80, 220045, 2), (3, 90, 220045, 1)], 90),  # known later, though charted earlier
    ],
)
def test_the_last_value_is_known_last_or_charted_last_or_of_the_lower_item(some, last):
    for order in (some, some[::-1]):
        assert heart(window_features(events(*order), stays(6), CATALOGUE), "last") == [last]


def test_nothing_is_taken_from_another_stay_or_from_before_it():
    some = pd.concat([events((40, 80), (-1, 60)), events((-1, 70), (7, 90), stay=11)])
    frame = window_features(some, stays(48, 12), CATALOGUE)
    assert heart(frame[frame["stay_id"] == 11], "filled") == [None, 90]
    assert heart(frame[frame["stay_id"] == 10], "filled")[0] is None
    assert heart(frame[frame["stay_id"] == 10], "filled")[-2:] == [80, 80]


def test_the_mean_uses_only_the_values_of_the_window():
    # With a running total over the stay, the huge value would destroy the digits of the next window's mean.
    frame = window_features(events((1, 1e17), (7, 0.1)), stays(12), CATALOGUE)
    assert heart(frame, "mean") == [1e17, 0.1]


@pytest.mark.parametrize("lengths", [(), (30,)], ids=["no stay", "no event"])
def test_an_empty_shard_has_the_same_schema(lengths):
    frame = window_features(events(), stays(*lengths), CATALOGUE)
    assert frame.dtypes.to_dict() == feature_columns(CATALOGUE)
    assert list(frame.columns) == list(feature_columns(CATALOGUE))
    assert frame["heart_rate_missing"].eq(1).all()


def test_the_columns_are_in_the_order_of_the_definition():
    columns = list(feature_columns(CATALOGUE))
    assert columns[:6] == ["subject_id", "stay_id", "window", "window_start", "window_end", "split"]
    features = ["mean", "min", "max", "last", "filled", "lag1", "lag2", "count", "missing"]
    assert columns[6:15] == [f"heart_rate_{feature}" for feature in features]
    assert len(columns) == 6 + 32 * 9


@pytest.mark.parametrize(
    ("window", "horizon", "message"),
    [
        (6, 47, "not a multiple"),
        (0, 48, "window"),
        (6, 0, "horizon"),
        (1.5, 48, "window"),
        (6, -6, "horizon"),
        (True, 48, "window"),
    ],
)
def test_hours_that_do_not_fit_are_refused(window, horizon, message):
    with pytest.raises(ValueError, match=message):
        window_features(events(), stays(30), CATALOGUE, window_hours=window, horizon_hours=horizon)


def test_events_of_an_unknown_stay_are_an_error():
    with pytest.raises(ValueError, match="1 stays of the events are not among the stays given"):
        window_features(events((1, 80), stay=77), stays(30), CATALOGUE)
