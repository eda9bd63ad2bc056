"""Uploaded frames come back equal, other programs can read them, and their files can be read."""

import io

import numpy as np
import pandas as pd
import polars as pl
import pytest

from clinops_prefect import UnsupportedFrameError
from tests.doors import Door
from tests.gallery import EITHER, FRAMES, NOT_IN_CSV, REFUSED, SECRET, assert_same
from tests.lookalikes import LOOKALIKES


def test_a_frame_comes_back_equal_whatever_its_dtypes_index_and_labels(door: Door, format: str) -> None:
    store = door.store(format=format)
    for name, frame in FRAMES.items():
        if format == "csv" and name in NOT_IN_CSV:
            continue
        original = frame.copy(deep=True)
        store.upload(frame, "x")
        try:
            assert_same(frame, store.download("x"))
            assert_same(frame, original)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_what_csv_has_no_form_for_is_refused_by_column(door: Door) -> None:
    store = door.store(format="csv")
    for name in NOT_IN_CSV:
        with pytest.raises(UnsupportedFrameError, match=r"column|index"):
            store.upload(FRAMES[name], "x")
    assert door.keys() == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EITHER)
@pytest.mark.parametrize("door", ["local"], indirect=True)
def test_an_odd_frame_comes_back_equal_or_is_refused(door: Door, format: str, name: str) -> None:
    store, frame = door.store(format=format), EITHER[name]()
    try:
        store.upload(frame, "x")
    except UnsupportedFrameError:
        assert door.keys() == []
    else:
        assert_same(frame, store.download("x"))


def test_what_cannot_come_back_equal_is_refused_before_anything_is_written(door: Door, format: str) -> None:
    """The message names the column; neither it nor the traceback has a cell's value."""
    store = door.store(format=format)
    for name, (make, named) in (REFUSED | LOOKALIKES).items():
        for way in ("upload", "upload_batches"):
            with pytest.raises(UnsupportedFrameError, match=named) as caught:
                store.upload(make(), "x") if way == "upload" else store.upload_batches([make()], "x")  # type: ignore
            shown = f"{caught.value}{caught.getrepr(style='native')}".replace(repr(make), "")
            # A traceback quotes lines of this file, so the values are made in the gallery.
            assert SECRET not in shown, name
            assert "4711" not in shown, name
    assert door.keys() == []
    assert door.unfinished() == []


def test_pandas_and_polars_read_what_was_uploaded_as_parquet(door: Door) -> None:
    frame = FRAMES["clinical"]
    assert door.store().upload(frame, "a/x").endswith("/a/x.parquet")
    stored = door.get("a/x.parquet")
    assert_same(frame, pd.read_parquet(io.BytesIO(stored)))
    assert pl.read_parquet(stored).shape == frame.shape
    assert pl.read_parquet(stored)["icd_code"].to_list() == frame["icd_code"].to_list()


def test_pandas_reads_what_was_uploaded_as_csv(door: Door) -> None:
    frame = FRAMES["clinical"]
    door.store(format="csv").upload(frame, "a/x")
    stored = door.get("a/x.csv")
    read = pd.read_csv(io.BytesIO(stored), dtype={"icd_code": str}, parse_dates=["window_start"])
    pd.testing.assert_frame_equal(read, frame, check_dtype=False, check_exact=True)


def test_what_pandas_wrote_as_parquet_is_read(door: Door) -> None:
    # The times of the index have no frequency, since pandas' own files would lose it.
    frame = FRAMES["clinical"].iloc[::-1].iloc[[2, 0, 1, *range(3, 60)]].set_index(["stay_id", "window_start"])
    for writer in ({"compression": "gzip"}, {"engine": "pyarrow", "row_group_size": 7}, {"compression": None}):
        door.put("x.parquet", frame.to_parquet(None, **writer))
        store = door.store()
        assert_same(store.download("x"), frame)
        assert_same(store.download("x", columns=["vital_3_mean"]), frame[["vital_3_mean"]])
        assert_same(pd.concat(store.iter_batches("x", rows=11)), frame)
        assert store.stat("x").rows == 60
        assert store.stat("x").schema["icd_code"] == str(frame["icd_code"].dtype)


def test_what_polars_wrote_as_parquet_is_read(door: Door) -> None:
    sink = io.BytesIO()
    pl.DataFrame({"a": [1, 2, None], "s": ["007", None, "x"]}).write_parquet(sink)
    door.put("x.parquet", sink.getvalue())
    # Equal to what pandas reads, except that pandas makes floats of integers with missing values.
    expected = pd.read_parquet(io.BytesIO(sink.getvalue())).astype({"a": "Int64"})
    assert_same(door.store().download("x"), expected)
    assert door.store().list_artifacts() == ["x"]


def test_what_another_program_wrote_as_csv_is_read(door: Door) -> None:
    frame = pd.DataFrame({"a": pd.array([1, 2], dtype="Int64"), "b": [0.5, np.nan], "c": ["x", "y"]})
    door.put("x.csv", frame.to_csv(index=False).encode())
    store = door.store(format="csv")
    assert_same(store.download("x"), frame)
    assert_same(
        store.download("x", columns=["c", "a"], filters=[("a", ">", 1)]),
        frame[["c", "a"]].iloc[1:].reset_index(drop=True),
    )
    assert_same(pd.concat(store.iter_batches("x", rows=1)), frame)
    assert store.stat("x").rows is None
    assert store.stat("x").bytes == len(door.get("x.csv"))


def test_another_program_overwrites_a_csv_and_is_believed(door: Door) -> None:
    """The sidecar then belongs to another text, so it is ignored and types are inferred."""
    store = door.store(format="csv")
    store.upload(pd.DataFrame({"code": ["007"]}), "x")
    door.put("x.csv", b"other\n5\n")
    assert_same(store.download("x"), pd.DataFrame({"other": [5]}, dtype="Int64"))


def test_plain_objects_have_a_content_type(door: Door) -> None:
    store = door.store(prefix="p")
    store.write_bytes("day/report.html", b"1")
    store.write_bytes("x.bin", b"", content_type="application/x-own")
    if door.scheme != "file":
        assert door.content_type("p/day/report.html") == "text/html"
        assert door.content_type("p/x.bin") == "application/x-own"


def test_a_content_type_says_the_format(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(FRAMES["one row"], "x")
    if door.scheme == "file":
        assert door.content_type(f"x.{format}") == ""
    else:
        assert (
            door.content_type(f"x.{format}") == {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}[format]
        )
