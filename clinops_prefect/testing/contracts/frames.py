"""Laws of a store: a frame comes back equal, whole or in part."""

import io
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import pandas as pd
import pytest

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.store import PipelineStore
from clinops_prefect.testing.contracts.access import DirectAccess


class MakeStore(Protocol):
    """The type of the fixture `make_store`."""

    def __call__(self, **fields: object) -> PipelineStore:
        """A store of the test's bucket, with these fields."""
        ...


def clinical() -> pd.DataFrame:
    """A frame of typical clinical data: keys, times, many sparse float columns, codes with leading zeros."""
    values = np.random.default_rng(7).normal(80, 10, size=(60, 12)).round(1)
    values[values > 85] = np.nan
    frame = pd.DataFrame(values, columns=[f"vital_{number}_mean" for number in range(12)])
    frame.insert(0, "stay_id", np.arange(30_000_000, 30_000_060))
    frame.insert(1, "window_start", pd.date_range("2110-01-01", periods=60, freq="6h"))
    frame.insert(2, "icd_code", [f"{number:05d}" for number in range(60)])
    return frame


def frames() -> Iterator[tuple[str, pd.DataFrame]]:
    """Frames of the usual dtypes and indexes, each with its name for messages."""
    yield "clinical", clinical()
    yield "two index levels", clinical().set_index(["stay_id", "window_start"])
    yield "no rows", clinical().iloc[:0]
    yield "no columns", clinical()[[]]
    yield (
        "nullable",
        pd.DataFrame(
            {
                "count": pd.array([1, None, 2**53 + 1], dtype="Int64"),
                "is_dead": pd.array([True, None, False], dtype="boolean"),
                "unit": pd.Categorical(["MICU", None, "SICU"], categories=["SICU", "MICU", "CCU"], ordered=True),
                "seen": pd.DatetimeIndex(["2110-06-30 23:59", pd.NaT, "1970-01-01 00:00"], tz="Europe/Berlin"),
                "waited": pd.to_timedelta([1, None, 3], unit="s"),
            }
        ),
    )


def assert_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Assert that values, dtypes, index, labels and order are exactly equal."""
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


class FrameLaws:
    """See `StoreContract`."""

    def test_a_frame_comes_back_equal(self, make_store: MakeStore, format: str) -> None:
        store = make_store(format=format)
        for what, frame in frames():
            store.upload(frame, "x")
            try:
                assert_equal(store.download("x"), frame)
            except AssertionError as error:
                raise AssertionError(f"{what}: {error}") from error

    def test_a_frame_of_many_parts_comes_back_equal(self, make_store: MakeStore, direct: DirectAccess) -> None:
        frame = pd.DataFrame(np.random.default_rng(1).random((150_000, 20))).add_prefix("c")
        store = make_store()
        store.upload(frame, "x")
        assert len(direct.get("x.parquet")) > 20_000_000
        assert_equal(store.download("x"), frame)
        assert_equal(store.download("x", columns=["c3", "c17"]), frame[["c3", "c17"]])

    def test_other_programs_read_what_was_uploaded_and_write_what_is_downloaded(
        self, make_store: MakeStore, direct: DirectAccess
    ) -> None:
        store, frame = make_store(prefix="p"), clinical()
        store.upload(frame, "a/x")
        assert_equal(pd.read_parquet(io.BytesIO(direct.get("p/a/x.parquet"))), frame)
        direct.put("p/a/y.parquet", frame.set_index("stay_id").to_parquet(None, compression="gzip"))
        assert_equal(store.download("a/y"), frame.set_index("stay_id"))
        assert store.stat("a/y").rows == 60

    def test_a_frame_that_would_come_back_changed_is_refused_before_anything_is_written(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store, frame = make_store(format=format), pd.DataFrame({"ok": [1, 2], "mixed": [1, "4711"]})
        ways: list[Callable[[], str]] = [
            lambda: store.upload(frame, "x"), lambda: store.upload_batches([frame], "x")
        ]  # fmt: skip
        for way in ways:
            with pytest.raises(UnsupportedFrameError, match="mixed") as caught:
                way()
            assert "4711" not in str(caught.value)
        assert direct.keys() == []
        assert direct.unfinished() == []

    def test_columns_and_filters_select_from_the_same_frame(self, make_store: MakeStore, format: str) -> None:
        store, frame = make_store(format=format), clinical()
        store.upload(frame, "x")
        found = store.download("x", columns=["icd_code", "vital_3_mean"], filters=[("stay_id", ">=", 30_000_050)])
        expected = frame[["icd_code", "vital_3_mean"]].iloc[50:].reset_index(drop=True)
        assert_equal(found.reset_index(drop=True), expected)

    def test_batches_become_one_artifact_and_are_read_in_batches(self, make_store: MakeStore, format: str) -> None:
        store, frame = make_store(format=format), clinical()
        store.upload_batches((frame.iloc[start : start + 7] for start in range(0, 60, 7)), "x")
        assert_equal(store.download("x"), frame)
        found = list(store.iter_batches("x", rows=25))
        assert [len(batch) for batch in found] == [25, 25, 10]
        assert_equal(pd.concat(found), frame)

    def test_batches_that_fail_leave_the_old_artifact(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store, failure = make_store(format=format), RuntimeError("the caller's")
        store.upload(clinical(), "x")
        before = {key: direct.get(key) for key in direct.keys()}

        def batches() -> Iterator[pd.DataFrame]:
            yield clinical()
            raise failure

        with pytest.raises(RuntimeError) as caught:
            store.upload_batches(batches(), "x")
        assert caught.value is failure
        assert {key: direct.get(key) for key in direct.keys()} == before
        assert direct.unfinished() == []
