"""No error of ours leads to an error that quotes a cell, neither as its cause nor as its context."""

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import LocalPipelineStore, StorageFormat
from clinops_prefect.errors import ArtifactColumnError, ArtifactDecodeError, ClinopsPrefectError, UnsupportedFrameError
from tests.faults.canaries import led_to

SECRET = "MRN 4471123"


class _Odd:
    def __repr__(self) -> str:
        return SECRET

    def __eq__(self, other: object) -> bool:
        raise ValueError(SECRET)

    __hash__ = object.__hash__


REFUSED = {
    "two types": [1, SECRET],
    "an object": [_Odd()],
    "a frame": [pd.DataFrame({"b": [SECRET]})],
    "a list of two types": [[1, SECRET]],
    "a surrogate": [f"{SECRET}\ud800"],
    "a set": [{SECRET}],
}


def check(error: ClinopsPrefectError) -> None:
    assert not [one for one in led_to(error) if SECRET in f"{one!r} {one}"]


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("format", StorageFormat)
def test_a_frame_that_is_refused(name: str, format: StorageFormat, tmp_path: Path) -> None:
    df = pd.DataFrame({"note": pd.Series(REFUSED[name], dtype=object)})
    store = LocalPipelineStore(str(tmp_path), format=format)
    with pytest.raises(UnsupportedFrameError) as caught:
        store.upload(df, "a")
    check(caught.value)
    with pytest.raises(UnsupportedFrameError) as caught:
        store.upload_batches([df.iloc[:0], df], "a")
    check(caught.value)


_FAR = np.array([1_600_000_000_000_000_001, 0], "M8[s]")
FAR = {
    "a column": pd.DataFrame({"x": _FAR}),
    "an index": pd.DataFrame({"x": [1, 2]}, index=pd.Index(_FAR)),
    "zoned": pd.DataFrame({"x": pd.Series(_FAR).dt.tz_localize("UTC")}),
    "categories": pd.DataFrame({"x": pd.Categorical(pd.Series(_FAR))}),
}


@pytest.mark.parametrize("name", FAR)
@pytest.mark.parametrize("format", StorageFormat)
def test_seconds_too_far_for_milliseconds(name: str, format: StorageFormat, tmp_path: Path) -> None:
    store = LocalPipelineStore(str(tmp_path), format=format)
    for upload in (lambda: store.upload(FAR[name], "a"), lambda: store.upload_batches([FAR[name]], "a")):
        with pytest.raises(UnsupportedFrameError) as caught:
            upload()
        assert not [one for one in led_to(caught.value) if "1600000000000000001" in f"{one!r} {one}"]
    near = pd.DataFrame({"x": np.array(["9999-01-01", "NaT"], "M8[s]")})
    store.upload(near, "a")
    pd.testing.assert_frame_equal(store.download("a"), near)


@pytest.mark.parametrize("options", [{"dtype": {"note": "int64"}}, {"dtype": {"note": "datetime64[ns]"}}])
def test_a_cell_that_does_not_fit(options: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,note\n1,{SECRET}\n")
    store = LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV)
    with pytest.raises(ArtifactDecodeError) as caught:
        store.download("a", csv_options=options)
    check(caught.value)


@pytest.mark.parametrize("as_", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize("column", ["time", "day", "number"])
def test_a_filter_that_is_refused(column: str, as_: Any, tmp_path: Path) -> None:
    store = LocalPipelineStore(str(tmp_path))
    day = dt.date(2180, 1, 1)
    store.upload(pd.DataFrame({"time": [pd.Timestamp(day)], "day": [day], "number": [1]}), "a")
    with pytest.raises(ArtifactColumnError) as caught:
        store.download("a", filters=[(column, "==", SECRET)], as_=as_)
    check(caught.value)


def test_an_error_that_is_not_raised_from_none_keeps_its_context() -> None:
    def damaged() -> None:
        try:
            raise KeyError("x")
        except KeyError:
            raise ArtifactDecodeError("damaged")  # noqa: B904 - the context is what is tested

    with pytest.raises(ArtifactDecodeError) as caught:
        damaged()
    assert isinstance(caught.value.__context__, KeyError)
    # As contextlib sets it.
    caught.value.__context__ = None
    assert caught.value.__context__ is None
