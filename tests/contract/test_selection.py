"""`columns=` and `filters=` return the same rows and columns as pandas. For Parquet, only their bytes are read."""

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from clinops_prefect import ArtifactColumnError
from tests.contract.conftest import clouds
from tests.doors import Door
from tests.gallery import FRAMES, assert_same
from tests.proxy import Proxy

CLINICAL = FRAMES["clinical"]


def test_columns_come_in_the_order_asked_with_the_index_kept(door: Door, format: str) -> None:
    store = door.store(format=format)
    for index in (None, "stay_id", ["stay_id", "window_start"]):
        frame = CLINICAL if index is None else CLINICAL.set_index(index)
        store.upload(frame, "x")
        for columns in (["vital_3_mean", "icd_code", "vital_1_mean"], ["icd_code"], [], list(frame.columns)[::-1]):
            assert_same(store.download("x", columns=columns), frame[columns])
            assert_same(store.download("x", columns=tuple(columns)), frame[columns])


def test_labels_of_any_kind_can_be_asked_for(door: Door, format: str) -> None:
    store = door.store(format=format)
    for name in ("labels: multi", "labels: ints", "labels: odd", "labels: stamps", "index: named as a column"):
        frame = FRAMES[name]
        store.upload(frame, "x")
        for label in frame.columns:
            assert_same(store.download("x", columns=[label]), frame.loc[:, [label]])


def test_filters_keep_the_rows_that_pandas_would(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(CLINICAL, "x")
    ids, vital = CLINICAL["stay_id"], CLINICAL["vital_3_mean"]
    some = [30_000_003, 30_000_050]
    for filters, rows in [
        ([("stay_id", "==", 30_000_007)], ids == 30_000_007),
        ([("stay_id", ">=", 30_000_050), ("vital_3_mean", ">", 70.0)], (ids >= 30_000_050) & (vital > 70)),
        ([[("stay_id", "<", 30_000_002)], [("icd_code", "==", "00059")]], (ids < 30_000_002) | (ids == 30_000_059)),
        ([("stay_id", "in", some)], ids.isin(some)),
        ([("stay_id", "not in", some)], ~ids.isin(some)),
        ([("icd_code", "!=", "00000")], ids > 30_000_000),
        ([("window_start", "<", pd.Timestamp("2110-01-03"))], CLINICAL["window_start"] < "2110-01-03"),
        (pc.field("vital_3_mean").is_null(), vital.isna()),
        (
            (pc.field("stay_id") > 30_000_055) | (pc.field("stay_id") == 30_000_001),
            (ids > 30_000_055) | (ids == 30_000_001),
        ),
        ([("stay_id", "==", -1)], ids < 0),
    ]:
        expected = CLINICAL[rows].reset_index(drop=True)
        assert_same(store.download("x", filters=filters), expected)
        assert_same(store.download("x", columns=["icd_code"], filters=filters), expected[["icd_code"]])
        assert_same(pd.concat(store.iter_batches("x", filters=filters, rows=7), ignore_index=True), expected)


def test_a_filter_keeps_a_stored_index_and_can_ask_for_it(door: Door, format: str) -> None:
    store, frame = door.store(format=format), CLINICAL.set_index(["stay_id", "window_start"])
    store.upload(frame, "x")
    expected = frame.loc[30_000_010:30_000_019, ["icd_code"]]
    filters = [("stay_id", ">=", 30_000_010), ("stay_id", "<", 30_000_020)]
    assert_same(store.download("x", columns=["icd_code"], filters=filters), expected)


def test_what_was_selected_of_categories_and_times_keeps_its_type(door: Door, format: str) -> None:
    store = door.store(format=format)
    frame = pd.DataFrame(
        {
            "arm": pd.Categorical(["b", "a", "b"], categories=["b", "a", "c"], ordered=True),
            "t": pd.date_range("2110-03-29", periods=3, tz="Europe/Berlin").as_unit("ns"),
            "n": pd.array([1, None, 3], dtype="Int64"),
        },
        index=pd.date_range("2110-01-01", periods=3, freq="6h", name="w"),
    )
    store.upload(frame, "x")
    kept = frame[frame["n"].notna()]
    kept.index.freq = None
    assert_same(store.download("x", filters=[("n", ">", 0)]), kept)
    assert_same(store.download("x", filters=[("arm", "==", "b")], columns=["t"]), kept[["t"]])
    assert_same(store.download("x", columns=["arm"]), frame[["arm"]])


@pytest.mark.parametrize("categories", [["mild", "grave"], [3, 2, 1]], ids=["texts", "numbers"])
def test_an_order_of_the_categories_own_is_not_taken_for_that_of_their_values(
    door: Door, format: str, categories: list[object]
) -> None:
    store = door.store(format=format)
    frame = pd.DataFrame({"severity": pd.Categorical([*categories, None], categories=categories, ordered=True)})
    store.upload(frame, "x")
    for sign in ("<", "<=", ">", ">="):
        with pytest.raises(ArtifactColumnError, match=r"'severity'.*list them with 'in'"):
            store.download("x", filters=[("severity", sign, categories[0])])
    found = store.download("x", filters=[("severity", "in", [*categories[1:]])])
    assert found["severity"].tolist() == categories[1:]


def test_a_column_that_is_not_there_is_named_with_the_nearest(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(CLINICAL, "x")
    for ask in (
        {"columns": ["vital_3_men"]}, {"filters": [("vital_3_men", ">", 1)]}, {"filters": pc.field("vital_3_men") > 1},
    ):  # fmt: skip
        for call in (lambda **a: store.download("x", **a), lambda **a: list(store.iter_batches("x", **a))):
            with pytest.raises(ArtifactColumnError, match="vital_3_mean") as caught:
                call(**ask)
            assert isinstance(caught.value, KeyError)
            assert caught.value.uri == store.uri("x")


@pytest.mark.parametrize(
    "ask",
    [
        {"columns": "stay_id"}, {"columns": ["stay_id", "stay_id"]}, {"columns": [None]},
        {"filters": [("stay_id", "==", "Jane Doe")]}, {"filters": [("icd_code", ">", 4711)]}, {"filters": "stay_id"},
        {"filters": [("stay_id", "like", 1)]}, {"filters": [("stay_id", ">")]}, {"filters": {"stay_id": 1}},
        {"filters": pc.field("stay_id") == "Jane Doe"}, {"filters": [[]]},
        {"filters": [("stay_id", "in", 3)]}, {"filters": pc.field("stay_id") + 1},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_a_selection_that_makes_no_sense_is_refused_without_quoting_it(door: Door, format: str, ask: dict) -> None:
    store = door.store(format=format)
    store.upload(CLINICAL, "x")
    with pytest.raises(ArtifactColumnError) as caught:
        store.download("x", **ask)
    shown = str(caught.getrepr(style="short", showlocals=False)).split("E   ")[-1]
    assert "Jane" not in shown
    assert "4711" not in shown


@clouds
def test_ten_of_a_thousand_columns_cost_their_bytes_and_few_requests(door: Door, proxy: Proxy) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(3_000, 1_000))).rename(columns="v{}".format)
    store = door.store(endpoint_url=proxy.url)
    store.upload(frame, "x")
    size = len(door.get("x.parquet"))
    columns = [f"v{i}" for i in range(990, 90, -90)]
    proxy.clear()
    assert_same(store.download("x", columns=columns), frame[columns])
    # Most of these bytes are the footer with its thousand columns.
    assert proxy.answered < size / 20
    assert len(proxy.seen) <= 16


@clouds
def test_a_filter_on_a_sorted_column_skips_row_groups(door: Door, proxy: Proxy) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"stay_id": np.arange(600_000), "v": rng.normal(size=600_000)})
    store = door.store(endpoint_url=proxy.url)
    store.upload(frame, "x")
    size = len(door.get("x.parquet"))
    proxy.clear()
    assert store.download("x", filters=[("stay_id", "==", 555_555)])["stay_id"].tolist() == [555_555]
    assert proxy.answered < size / 3
    proxy.clear()
    assert len(store.download("x", filters=[("stay_id", "<", 0)])) == 0
    assert proxy.answered < 200_000
    proxy.clear()
    assert len(store.download("x", columns=["stay_id"])) == 600_000
    assert proxy.answered < size / 2
