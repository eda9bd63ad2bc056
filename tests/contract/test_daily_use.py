"""What users do with a downloaded frame: edit it, compute with it, upload it again."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import DataFrameSerializer, PipelineStore, StorageFormat
from tests.doors import Door
from tests.gallery import FRAMES, NOT_IN_CSV, assert_same


def stays(rows: int) -> pd.DataFrame:
    """A frame with every dtype that pipelines use."""
    random = np.random.default_rng(rows)
    missing = random.random(rows) < 0.2
    frame = pd.DataFrame(
        {
            "stay_id": np.arange(rows) + 30_000_000,
            "hr": np.where(missing, np.nan, random.normal(80, 10, rows).round(1)),
            "sbp": random.normal(120, 10, rows),
            "spo2": random.random(rows, dtype="float32"),
            "alive": random.random(rows) < 0.5,
            "at": pd.date_range("2110-01-01", periods=rows, freq="s"),
            "seen": pd.date_range("2110-01-01", periods=rows, freq="s", tz="Europe/Berlin"),
            "after": pd.to_timedelta(np.arange(rows), unit="s"),
            "unit": pd.Categorical.from_codes(np.arange(rows) % 3, ["micu", "sicu", "ccu"]),
            "code": pd.Series(random.choice(["007", "4280", "I50"], rows), dtype="str"),
            "n": pd.Series(np.arange(rows) % 7, dtype="Int64").mask(missing),
            "ventilated": pd.Series(missing, dtype="boolean"),
            "dose": pd.Series(random.random(rows), dtype="Float64").mask(missing),
            "note": pd.Series(random.choice(["a", "b"], rows), dtype="object"),
            "month": pd.PeriodIndex.from_ordinals(np.arange(rows) % 900, freq="M"),
        }
    )
    frame.attrs = {"source": "mimic-iv"}
    return frame


def edit(frame: pd.DataFrame) -> None:
    """Edit each column in place, in every way that pandas has. Each edit copies the last row's value to the first."""
    last = len(frame) - 1
    for position, label in enumerate(frame.columns):
        value = frame.iloc[last, position]
        if isinstance(value, list | dict | np.ndarray):
            continue  # pandas would treat the value as several values
        frame.iloc[0, position] = value
        frame.iat[0, position] = value
        if frame.index.is_unique:
            frame.at[frame.index[0], label] = value
            frame.loc[frame.index[0], label] = value
        mask = np.zeros(len(frame), dtype=bool)
        mask[0] = True
        frame.loc[mask, label] = value
        if frame.dtypes.iloc[position].kind in "iuf":
            frame.iloc[:, position] += frame.iloc[:, position].dtype.type(0)
            frame[label] += 0
    if frame.columns.is_unique and frame.index.is_unique and frame.columns.nlevels == 1:
        frame.update(frame.iloc[1:2])


def use(frame: pd.DataFrame) -> list[Any]:
    """The results of a typical analysis."""
    by_unit = frame.groupby("unit", observed=True)["hr"].agg(["mean", "count"])
    ordered = frame.sort_values(["unit", "sbp"], ignore_index=True)
    merged = frame.merge(frame[["stay_id", "code"]].head(1000), on="stay_id", suffixes=("", "_2"))
    table = frame.head(1000).pivot_table(index="unit", columns="code", values="sbp", observed=True)
    filled = frame.assign(hr=frame["hr"].fillna(0.0), n=frame["n"].fillna(0))
    return [by_unit, ordered, merged, table, filled, frame.set_index("at").resample("1D")["sbp"].mean()]


def _whole(store: PipelineStore) -> pd.DataFrame:
    return store.download("x")


def _columns(store: PipelineStore) -> pd.DataFrame:
    return store.download("x", columns=list(stays(3).columns))


def _filters(store: PipelineStore) -> pd.DataFrame:
    return store.download("x", filters=[("stay_id", ">=", 0)])


def _batches(store: PipelineStore) -> pd.DataFrame:
    (frame,) = store.iter_batches("x", rows=10**9)
    return frame


WAYS: dict[str, Callable[[PipelineStore], pd.DataFrame]] = {
    "whole": _whole,
    "columns": _columns,
    "filters": _filters,
    "batches": _batches,
}


@pytest.mark.parametrize("rows", [3, 1_000, 120_000])
@pytest.mark.parametrize("way", WAYS)
def test_a_frame_is_edited_used_and_uploaded_again(door: Door, format: str, way: str, rows: int) -> None:
    if rows > 20_000 and door.scheme != "file":
        rows = 20_000  # enough for several row groups, which are joined in the same way on every store
    store, expected = door.store(format=format), stays(rows)
    store.upload(expected, "x")
    found = WAYS[way](store)
    assert_same(found, expected)
    for before, after in zip(use(expected), use(found), strict=True):
        _same(before, after)
    edit(found)
    edit(expected)
    assert_same(found, expected)
    assert_same(pickle.loads(pickle.dumps(found)), expected)
    store.upload(found, "y")
    again = store.download("y")
    assert_same(again, expected)
    edit(again)
    edit(expected)
    assert_same(again, expected)


def _same(before: Any, after: Any) -> None:
    compare = pd.testing.assert_frame_equal if isinstance(before, pd.DataFrame) else pd.testing.assert_series_equal
    compare(after, before)


@pytest.mark.parametrize("way", ["whole", "columns"])
@pytest.mark.parametrize("door", ["local", "s3"], indirect=True)
def test_a_large_one_too(door: Door, way: str) -> None:
    expected = stays(1_500_000).drop(columns=["note", "code", "month"])
    store = door.store()
    store.upload(expected, "x")
    found = store.download("x", columns=None if way == "whole" else list(expected.columns))
    edit(found)
    edit(expected)
    assert_same(found, expected)


@pytest.mark.parametrize("name", [name for name in FRAMES if len(FRAMES[name]) > 1])
@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_every_kind_of_frame_is_edited_as_the_original_is(door: Door, format: str, name: str) -> None:
    if format == "csv" and name in NOT_IN_CSV:
        return
    store, original = door.store(format=format), FRAMES[name]
    store.upload(original, "x")
    serializer = DataFrameSerializer()
    for found in (store.download("x"), next(store.iter_batches("x")), serializer.loads(serializer.dumps(original))):
        expected = original.copy()
        edit(found)
        edit(expected)
        assert_same(found, expected)
        # The index becomes a column, which must be equal too.
        if not set(expected.index.names) & set(expected.columns) and expected.columns.nlevels == 1:
            found, expected = found.reset_index(), expected.reset_index()
            edit(found)
            edit(expected)
            pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_frames_of_other_programs_are_edited_too(door: Door, tmp_path: Path) -> None:
    frame = stays(1_000).drop(columns=["month"])
    frame.to_parquet(tmp_path / "frame.parquet")
    door.put("x.parquet", (tmp_path / "frame.parquet").read_bytes())
    door.put("x.csv", frame.to_csv(index=False).encode())
    for format in StorageFormat:
        store = door.store(format=format)
        some = ["hr", "code", "alive", "stay_id"]
        for ask in ({}, {"columns": some}, {"filters": [("stay_id", ">", 0)]}):
            found = store.download("x", **ask)
            expected = found.copy()
            edit(found)
            edit(expected)
            assert_same(found, expected)
        found, expected = next(store.iter_batches("x")), next(store.iter_batches("x")).copy()
        edit(found)
        edit(expected)
        assert_same(found, expected)


def test_what_is_in_a_result_is_edited_too() -> None:
    serializer = DataFrameSerializer()
    frame, array = stays(1_000), np.arange(6.0).reshape(2, 3)
    held = {"frame": frame, "series": frame["hr"], "nameless": frame["sbp"].rename(None), "list": [array, frame["n"]]}
    found = serializer.loads(serializer.dumps(held))
    edit(found["frame"])
    edit(frame)
    assert_same(found["frame"], frame)
    for series in (found["series"], found["nameless"], found["list"][1]):
        expected = series.copy()
        for each in (series, expected):
            each.iloc[0] = each.iloc[999]
            each.loc[each > 3] += 1
        pd.testing.assert_series_equal(series, expected)
    found["list"][0][0, 0] = 7.0
    assert found["list"][0][0, 0] == 7.0


def test_a_browser_finds_a_report(door: Door, format: str) -> None:
    """For another service than the cloud's own, this is the object's URL, and for a folder the file's."""
    store = door.store(format=format)
    uri = store.write_bytes("icu/a b.html", b"<p>")
    url = store.browser_url("icu/a b.html")
    if url.startswith("file:"):
        assert url == uri
    else:
        assert url.startswith("http")
        assert url.endswith(f"/{uri.partition('://')[2].replace(' ', '%20')}")
