"""Frames larger than memory: in batches, in bounded memory, all or nothing."""

import datetime as dt
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from clinops_prefect import ServiceUnavailableError, UnsupportedFrameError
from tests.doors import Door
from tests.gallery import FRAMES, assert_same

CLINICAL = FRAMES["clinical"]


def _batches(frame: pd.DataFrame, rows: int) -> Iterator[pd.DataFrame]:
    for start in range(0, len(frame), rows):
        yield frame.iloc[start : start + rows]


def test_batches_become_one_artifact_equal_to_the_whole(door: Door, format: str) -> None:
    store = door.store(format=format)
    for frame in (CLINICAL, CLINICAL.set_index(["stay_id", "window_start"]), CLINICAL.set_index("icd_code")):
        for rows in (1, 7, 60, 100):
            store.upload_batches((batch for batch in _batches(frame, rows)), "x")
            assert_same(store.download("x"), frame)
            assert store.stat("x").rows == 60


def test_batches_are_made_in_the_callers_thread(door: Door, format: str, tmp_path: Path) -> None:
    """SQLite cursors need this, and code that looks up its current flow run."""
    store, rows = door.store(format=format), np.random.default_rng(0).random((40_000, 64))
    with closing(sqlite3.connect(tmp_path / "rows.db")) as database:
        pd.DataFrame(rows).add_prefix("c").to_sql("rows", database, index=False)
        store.upload_batches(pd.read_sql("SELECT * FROM rows", database, chunksize=5_000), "x")
    assert_same(store.download("x"), pd.DataFrame(rows).add_prefix("c"))


def test_default_indexes_are_numbered_through(door: Door, format: str) -> None:
    store, batch = door.store(format=format), pd.DataFrame({"a": [1.5, 2.5]})
    store.upload_batches([batch, batch, batch.iloc[:1]], "x")
    assert_same(store.download("x"), pd.DataFrame({"a": [1.5, 2.5, 1.5, 2.5, 1.5]}))


def test_iter_batches_gives_frames_of_so_many_rows_that_make_the_whole(door: Door, format: str) -> None:
    store = door.store(format=format)
    for frame in (CLINICAL, CLINICAL.set_index("stay_id"), CLINICAL.set_index(pd.RangeIndex(10, 190, 3))):
        store.upload(frame, "x")
        for rows in (1, 7, 60, 61, 10**9):
            found = list(store.iter_batches("x", rows=rows))
            assert [len(batch) for batch in found[:-1]] == [rows] * (len(found) - 1)
            assert 0 < len(found[-1]) <= rows
            assert_same(pd.concat(found), frame)
            for batch in found:
                assert batch.dtypes.equals(frame.dtypes)
    with pytest.raises(ValueError, match="rows"):
        next(store.iter_batches("x", rows=0))


def test_iter_batches_selects_as_download_does(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload_batches(_batches(CLINICAL, 13), "x")
    ask = {"columns": ["icd_code", "stay_id"], "filters": [("stay_id", ">", 30_000_020)]}
    assert_same(pd.concat(store.iter_batches("x", rows=5, **ask)), store.download("x", **ask))
    assert_same(pd.concat(store.iter_batches("x", rows=5, columns=[])), CLINICAL[[]])


def test_an_empty_artifact_is_one_empty_frame_with_its_columns(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload_batches([CLINICAL.iloc[:0]], "x")
    (found,) = store.iter_batches("x")
    assert_same(found, CLINICAL.iloc[:0])
    store.upload_batches([CLINICAL.iloc[:0], CLINICAL, CLINICAL.iloc[:0]], "x")
    assert_same(store.download("x"), CLINICAL)


def test_categories_are_one_set_over_all_batches(door: Door, format: str) -> None:
    store, dtype = door.store(format=format), pd.CategoricalDtype(["c", "b", "a"], ordered=True)
    frames = [pd.DataFrame({"arm": pd.Series(values, dtype=dtype)}) for values in (["a"], ["b", None], ["c", "a"])]
    store.upload_batches(frames, "x")
    assert_same(store.download("x"), pd.concat(frames, ignore_index=True))


def test_no_batch_at_all_is_refused(door: Door, format: str) -> None:
    with pytest.raises(UnsupportedFrameError):
        door.store(format=format).upload_batches([], "x")
    assert door.keys() == []


FIRST = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (FIRST.astype({"a": "float64"}), "'a'"),
        (FIRST.astype({"b": object}), "'b'"),
        (FIRST.astype({"b": "category"}), "'b'"),
        (FIRST[["b", "a"]], "order"),
        (FIRST[["a"]], "columns"),
        (FIRST.assign(c=1), "columns"),
        (FIRST.set_index("a"), "columns"),
        (FIRST.set_index(pd.Index(["p", "q"])), "columns|index"),
        (FIRST.assign(b=[1, "x"]), "'b'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("door", ["local", "s3"], indirect=True)
def test_a_batch_that_does_not_fit_the_first_is_refused_and_nothing_written(
    door: Door, format: str, other: pd.DataFrame, named: str
) -> None:
    store = door.store(format=format)
    with pytest.raises(UnsupportedFrameError, match=named):
        store.upload_batches([FIRST, FIRST, other], "x")
    assert door.keys() == []


@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_batches_of_two_kinds_are_refused_by_their_number(door: Door, format: str) -> None:
    with pytest.raises(UnsupportedFrameError, match=r"batch 3 is a frame of another kind.*to_pandas"):
        door.store(format=format).upload_batches([FIRST, FIRST, pl.from_pandas(FIRST)], "x")
    assert door.keys() == []


OBJECTS = {
    "text": ["007", "008"],
    "dates": [dt.date(2024, 1, 15), dt.date(2024, 1, 16)],
    "decimals": [Decimal("1.50"), Decimal("2.25")],
    "times": [pd.Timestamp("2024-01-15", tz="Europe/Berlin"), pd.Timestamp("2024-01-16", tz="Europe/Berlin")],
    "floats": [np.float32(1.5), np.float32(2.5)],
    "lists": [[1, 2], [3]],
}


@pytest.mark.parametrize("door", ["local"], indirect=True)
@pytest.mark.parametrize("kind", OBJECTS)
def test_a_batch_whose_objects_are_all_missing_or_filtered_away_fits(door: Door, format: str, kind: str) -> None:
    if (kind, format) == ("lists", "csv"):
        pytest.skip("lists have no form in CSV")
    one, two = (pd.DataFrame({"hr": [70.0], "o": pd.Series([value], dtype=object)}) for value in OBJECTS[kind])
    none = one.assign(o=pd.Series([None], dtype=object))
    store = door.store(format=format)
    for number, batches in enumerate(
        (
            [one, none, two],
            [one, one.head(0), two, none],
            [one.head(0), two.head(0), one, none.head(0), two],
            [one.set_index("o"), two.set_index("o").head(0), two.set_index("o")],
            [pd.concat([none, one], ignore_index=True), two],
        )
    ):
        store.upload_batches(iter(batches), f"x{number}")
        whole = pd.concat([batch for batch in batches if len(batch)], ignore_index=batches[0].index.name is None)
        if whole.index.name:
            whole.index = whole.index.astype(object)  # concat makes texts of objects
        same = store.download(f"x{number}")
        pd.testing.assert_frame_equal(same, whole)
        if "o" in whole:
            assert list(map(type, same["o"])) == list(map(type, whole["o"]))
    rewritten = store.iter_batches("x1", rows=1)
    store.upload_batches((batch[batch["hr"] > 0] for batch in rewritten), "again")
    pd.testing.assert_frame_equal(store.download("again"), store.download("x1"))


@pytest.mark.parametrize("door", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("first", "other", "why"),
    [
        (["x"], [float("nan")], r"marks missing values with nan, and the first batch with None.*df\[c\]"),
        ([None], ["x"], r"holds objects.*first batch has no value there.*astype"),
        ([Decimal("1.5")], [Decimal("100.55")], r"holds objects of another kind than in the first batch.*ArrowDtype"),
        (["x"], [b"x"], r"holds objects of another kind than in the first batch"),
    ],
)
def test_objects_of_another_kind_are_refused_with_what_helps(
    door: Door, format: str, first: list[Any], other: list[Any], why: str
) -> None:
    one, two = (pd.DataFrame({"o": pd.Series(values, dtype=object)}) for values in (first, other))
    with pytest.raises(UnsupportedFrameError, match=f"batch 2: column 'o' {why}|has no form in CSV"):
        door.store(format=format).upload_batches([one, two], "x")
    assert door.keys() == []


class _Boom(Exception):
    pass


def _failing(error: BaseException, megabytes: int) -> Iterator[pd.DataFrame]:
    rng = np.random.default_rng(0)
    for _ in range(megabytes):
        yield pd.DataFrame(rng.random((16_384, 8))).rename(columns=str)
    raise error


@pytest.mark.parametrize("megabytes", [1, 20])
@pytest.mark.parametrize(
    "error", [_Boom("x"), FileNotFoundError("theirs"), ConnectionError("theirs"), KeyboardInterrupt()]
)
def test_batches_that_fail_leave_the_old_artifact_and_no_unfinished_upload(
    door: Door, format: str, error: BaseException, megabytes: int
) -> None:
    """The error of the batches is raised, not an error of the store."""
    if format == "csv" and megabytes > 1:
        megabytes = 3  # a CSV text is complete before its first byte is sent
    store = door.store(format=format)
    store.upload(CLINICAL, "x")
    before = {key: door.get(key) for key in door.keys()}
    with pytest.raises(type(error)) as caught:
        store.upload_batches(_failing(error, megabytes), "x")
    assert caught.value is error
    assert {key: door.get(key) for key in door.keys()} == before
    assert door.unfinished() == []
    assert_same(store.download("x"), CLINICAL)


def test_an_artifact_that_is_overwritten_while_it_is_iterated_is_not_mixed(door: Door) -> None:
    store = door.store()
    old = pd.DataFrame({"v": np.zeros(400_000), "r": np.random.default_rng(0).random(400_000)})
    store.upload(old, "x")
    batches = store.iter_batches("x", rows=10_000)
    seen = [next(batches)]
    store.upload(old.assign(v=1.0), "x")
    with pytest.raises(ServiceUnavailableError, match="overwritten"):
        seen.extend(batches)
    assert {value for batch in seen for value in batch["v"].unique()} == {0.0}


_BOUNDED = """
import sys
import numpy as np, pandas as pd
from clinops_prefect import PipelineStore
from tests.memory import peak
uri, format, fields = sys.argv[1], sys.argv[2], eval(sys.argv[3])
store = PipelineStore.from_uri(uri, format=format, **fields)
rng = np.random.default_rng(0)
store.upload(pd.DataFrame({"a": [1.0]}), "warm"); store.download("warm")
before, batches, rows = peak(), int(sys.argv[4]), 131072
def frames():
    for _ in range(batches):
        if format == "csv":
            yield pd.DataFrame({c: rng.integers(10**15, 10**16, rows).astype(str).astype("U16") for c in "abcd"}) * 5
        else:
            yield pd.DataFrame(rng.random((rows, 40)).round(2)).rename(columns=str)
store.upload_batches(frames(), "x")
written = peak() - before
total = sum(len(batch) for batch in store.iter_batches("x", rows=50_000))
assert total == batches * rows, total
print(written / 2**20, (peak() - before) / 2**20)
"""


@pytest.mark.parametrize(
    ("door", "format", "batches"),
    # CSV is tested on one backend, since it is made and read in the same way on all. Parquet tests the transfer.
    [("local", "parquet", 15), ("s3", "parquet", 15), ("gcs", "parquet", 15), ("local", "csv", 15)],
    indirect=["door"],
)
def test_memory_is_bounded_by_batches_and_not_by_the_sum(door: Door, format: str, batches: int) -> None:
    """600 MB of floats as Parquet, 630 MB of text as CSV, whose batches take several times their size to make."""
    fields = {} if door.scheme == "file" else {"endpoint_url": door.endpoint}  # type: ignore[attr-defined]
    command = [sys.executable, "-c", _BOUNDED, door.uri(), format, repr(fields), str(batches)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    written, both = (float(word) for word in done.stdout.split())
    assert written < 380
    assert both < 380
