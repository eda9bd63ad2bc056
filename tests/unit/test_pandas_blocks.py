"""A frame comes back with the same blocks, so that its pickle, and with it Prefect's cache key, is the same."""

import io
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.cache_policies import INPUTS
from prefect.utilities.hashing import hash_objects

from clinops_prefect import DataFrameSerializer, LocalPipelineStore
from clinops_prefect.frames.conversion import pandas_blocks


def _events(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(rows)
    return pd.DataFrame(
        {
            "hr": np.where(random.random(rows) < 0.3, np.nan, random.random(rows)),
            "stay_id": np.arange(rows),
            "sbp": random.random(rows),
            "alive": random.random(rows) < 0.5,
            "at": pd.date_range("2110-01-01", periods=rows, freq="s"),
            "since": pd.to_timedelta(np.arange(rows), unit="s"),
            "day": np.arange(rows).astype("datetime64[s]"),
            "n": np.arange(rows).astype("int32"),
            "f": random.random(rows, dtype="float32"),
        }
    )


def _wide(rows: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(rows).random((rows, 12)))


MADE: dict[str, Callable[[int], pd.DataFrame]] = {
    "of a dictionary": _events,
    "of an array": _wide,
    "of an array, not copied": lambda rows: pd.DataFrame(np.random.default_rng(0).random((rows, 12)), copy=False),
    "copied": lambda rows: _events(rows).copy(),
    "with one column more": lambda rows: _events(rows).assign(more=1.5),
    "with one column more, copied": lambda rows: _events(rows).assign(more=1.5).copy(),
    "some columns": lambda rows: _events(rows)[["alive", "sbp", "hr", "at"]],
    "rows joined": lambda rows: pd.concat([_events(rows), _events(rows)], ignore_index=True),
    "columns joined": lambda rows: pd.concat([_events(rows), _events(rows).add_suffix("_2")], axis=1),
    "merged": lambda rows: _events(rows).merge(_events(rows)[["stay_id", "sbp"]], on="stay_id", suffixes=("", "_2")),
    "sorted": lambda rows: _events(rows).sort_values("sbp"),
    "sorted, renumbered": lambda rows: _events(rows).sort_values("sbp", ignore_index=True),
    "without missing": lambda rows: _events(rows).dropna(),
    "grouped": lambda rows: _events(rows).groupby(np.arange(rows) % 3)[["hr", "sbp"]].mean(),
    "aggregated": lambda rows: _events(rows).groupby("alive", as_index=False).agg(hr=("hr", "mean"), n=("hr", "size")),
    "computed": lambda rows: _wide(rows) * 2 + 1,
    "transposed": lambda rows: _wide(min(rows, 40)).T,
    "pivoted": lambda rows: (
        _events(rows).assign(k=np.arange(rows) % 3, j=np.arange(rows) // 3).pivot(index="j", columns="k", values="sbp")
    ),
    "read from text": lambda rows: pd.read_csv(
        io.StringIO(_events(rows).drop(columns=["at", "since", "day"]).to_csv())
    ),
    "by times": lambda rows: _wide(rows).set_index(pd.date_range("2110-01-01", periods=rows, freq="min")),
    "by times of a column": lambda rows: _events(rows).set_index("at"),
    "resampled": lambda rows: _events(rows).set_index("at")[["hr", "sbp"]].resample("2s").mean(),
    "of one zone": lambda rows: _events(rows)[["at", "hr"]].assign(at=lambda f: f["at"].dt.tz_localize("UTC")),
    "of several zones": lambda rows: _events(rows)[["hr"]].assign(
        a=pd.date_range("2110", periods=rows, freq="s", tz="UTC"),
        b=pd.date_range("2110", periods=rows, freq="s", tz="UTC"),
        c=pd.date_range("2110", periods=rows, freq="s").tz_localize("Europe/Berlin"),
    ),
    "of times of times": lambda rows: _events(rows).assign(
        late=lambda f: f["at"] + pd.Timedelta("6h"),
        seen=pd.date_range("2110", periods=rows, freq="s", tz="UTC"),
        left=lambda f: f["seen"] + pd.Timedelta("6h"),
        longer=lambda f: f["since"] * 2,
    ),
    "a range": lambda rows: _events(rows).iloc[::2].copy(),
    "by text": lambda rows: _wide(rows).set_index(pd.Index([f"p{i}" for i in range(rows)], name="patient")),
    "labelled by numbers": lambda rows: _wide(rows).rename_axis(columns="lag"),
}


@pytest.fixture(params=["store", "result"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Store a frame, and return the frame that is read back."""
    store, serializer = LocalPipelineStore(str(tmp_path)), DataFrameSerializer()

    def stored(frame: pd.DataFrame) -> pd.DataFrame:
        store.upload(frame, "x")
        return store.download("x")

    return stored if request.param == "store" else lambda frame: serializer.loads(serializer.dumps(frame))


def _key(frame: pd.DataFrame) -> str | None:
    return INPUTS.compute_key(None, {"df": frame}, {})  # type: ignore[arg-type]


# Frames from sixteen megabytes on are read in another way.
_SIZES = [(made, rows) for made in MADE for rows in (3, 1_000)] + [
    (made, 300_000) for made in ("of a dictionary", "rows joined", "pivoted", "by times")
]


@pytest.mark.parametrize(("made", "rows"), _SIZES)
def test_the_pickle_of_a_frame_that_was_read_back_equals_the_originals(
    made: str, rows: int, again: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    frame = MADE[made](rows)
    once = again(frame)
    twice = again(once)
    keys = [_key(each) for each in (frame, once, twice)]
    assert keys == keys[:1] * 3, "Prefect's INPUTS"
    assert cloudpickle.dumps(frame) == cloudpickle.dumps(once) == cloudpickle.dumps(twice)
    hashes = [hash_objects({"frames": [each]}) for each in (frame, once, twice)]
    assert hashes == hashes[:1] * 3
    # This is last, because the comparison fills caches of the arrays, which are pickled with them.
    pd.testing.assert_frame_equal(twice, frame)


def test_the_pickle_of_a_large_frame_that_was_read_back_equals_the_originals(
    again: Callable[[pd.DataFrame], pd.DataFrame],
) -> None:
    for frame in (_events(1_500_000), pd.concat([_events(900_000)] * 2).reset_index(drop=True)):
        once = again(frame)
        assert pickle.dumps(once) == pickle.dumps(frame)
        assert _key(once) == _key(frame)


def test_without_a_note_the_frame_has_the_blocks_that_pandas_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Artifacts of earlier versions have no note."""
    store, frame = LocalPipelineStore(str(tmp_path)), _events(50).assign(more=1.5)
    monkeypatch.setattr(pandas_blocks, "note_of", lambda df: None)
    store.upload(frame, "x")
    found = store.download("x")
    pd.testing.assert_frame_equal(found, frame)
    assert [block.dtype for block in found._mgr.blocks].count(np.dtype("float64")) == 1
    assert found._mgr.is_consolidated()


@given(
    dtypes=st.lists(st.sampled_from(["float64", "int64", "bool", "M8[us]", "f4"]), max_size=9), rows=st.integers(0, 5)
)
def test_no_note_is_written_for_the_usual_blocks(dtypes: list[str], rows: int) -> None:
    columns = {f"c{i}": pd.Series(np.zeros(rows), dtype="float64").astype(dtype) for i, dtype in enumerate(dtypes)}
    # Older versions of pandas sort the blocks of such a frame by dtype.
    note = pandas_blocks.note_of(pd.DataFrame(columns, index=range(rows)))
    assert note is None or note["columns"] != pandas_blocks.default([np.dtype(dtype) for dtype in dtypes])


@pytest.mark.parametrize(
    "columns",
    [[[0, 1]], [[0], [0, 1]], [[0], [1], [2]], [[0, 2], [1], [3]], [["a"]], [[-1, 0]], 7, [[0, 1, 2, 3]]],
    ids=str,
)
def test_a_note_about_another_frame_is_refused(columns: object) -> None:
    note = {"columns": columns, "fortran": [], "interned": [], "asked": {}, "dtypes": {}, "index": []}
    with pytest.raises((ValueError, TypeError)):
        pandas_blocks.Plan(note, [np.dtype("f8"), np.dtype("i8"), np.dtype("i8"), None])


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("rows", [0, 2])
@pytest.mark.parametrize("kinds", [*itertools.product(["f8", "bool", "M8[us]", "m8[us]"], repeat=3)], ids="-".join)
def test_all_columns_are_read_in_any_order(
    kinds: tuple[str, ...], rows: int, format: Literal["parquet", "csv"], tmp_path: Path
) -> None:
    df = pd.DataFrame({str(at): np.arange(rows).astype(kind) for at, kind in enumerate(kinds)})
    store = LocalPipelineStore(tmp_path, format=format)
    store.upload(df, "x")
    for order in itertools.permutations(df.columns):
        pd.testing.assert_frame_equal(store.download("x", columns=list(order)), df[list(order)])
