"""FrameInputs: equal inputs have the same key, whatever their memory layout. Different inputs have different keys."""

import copy
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given
from prefect import task
from prefect.cache_policies import INPUTS, NO_CACHE, RUN_ID, TASK_SOURCE

from clinops_prefect import FrameInputs, LocalPipelineStore, UnsupportedFrameError
from tests.gallery import FRAMES
from tests.property.strategies import frames


def key(*args: Any, policy: Any = None, **inputs: Any) -> str:
    found = (policy or FrameInputs()).compute_key(None, dict(zip("pqrs", args, strict=False)) | inputs, {})
    assert isinstance(found, str)
    return found


def base() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "f": [0.0, np.nan, 2.5],
            "i": [1, 2, 3],
            "s": pd.Series(["a", None, "c"], dtype="str"),
            "o": pd.Series(["a", None, "c"], dtype=object),
            "k": pd.Categorical(["x", "y", "x"], categories=["x", "y", "z"]),
            "n": pd.array([1, None, 3], dtype="Int64"),
            "t": pd.to_datetime(["2110-01-01", None, "2110-01-03"]),
            "z": pd.date_range("2110", periods=3, tz="Europe/Berlin"),
            "p": pd.period_range("2110-01", periods=3, freq="M"),
            "l": pd.Series([[1], [], [2, 3]], dtype=object),
            "a": pd.Series([[1], None, [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        }
    ).set_axis(pd.Index([7, 8, 9], name="stay"))


def _set(column: str, row: int, value: Any) -> Callable[[pd.DataFrame], None]:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[frame.index[row], column] = value

    return change


CHANGES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "a float": _set("f", 2, 2.6),
    "the sign of a zero": _set("f", 0, -0.0),
    "an integer": _set("i", 0, 5),
    "a text": _set("s", 0, "b"),
    "missing or empty": _set("s", 1, ""),
    "None or NaN": _set("o", 1, np.nan),
    "None or NA": _set("o", 1, pd.NA),
    "an object": _set("o", 0, 1),
    "a category": _set("k", 0, "y"),
    "a nullable": _set("n", 0, 9),
    "missing or zero": _set("n", 1, 0),
    "a time": _set("t", 1, pd.Timestamp("2110-01-02")),
    "a zoned time": _set("z", 0, pd.Timestamp("2111-01-01", tz="Europe/Berlin")),
    "the order of categories": lambda f: f.assign(k=f["k"].cat.reorder_categories(["y", "x", "z"])),
    "an unused category": lambda f: f.assign(k=f["k"].cat.remove_unused_categories()),
    "ordered": lambda f: f.assign(k=f["k"].cat.as_ordered()),
    "a dtype": lambda f: f.astype({"i": "int32"}),
    "a storage": lambda f: f.astype({"s": "string"}),
    "a unit": lambda f: f.assign(t=f["t"].dt.as_unit("ns")),
    "a zone": lambda f: f.assign(z=f["z"].dt.tz_convert("Europe/Paris")),
    "a frequency": lambda f: f.assign(p=f["p"].dt.asfreq("D")),
    "a label": lambda f: f.rename(columns={"f": "g"}),
    "the labels' name": lambda f: f.rename_axis(columns="v"),
    "the order of columns": lambda f: f[f.columns[::-1]],
    "the order of rows": lambda f: f.iloc[::-1],
    "fewer rows": lambda f: f.iloc[:2],
    "the index": lambda f: f.set_axis([7, 8, 10]),
    "the index's name": lambda f: f.rename_axis(index="s"),
    "the index's dtype": lambda f: f.set_axis(f.index.astype("int32")),
    "attrs": lambda f: f.attrs.update(unit="mmHg"),
    "flags": lambda f: f.set_flags(allows_duplicate_labels=False),
    "a list within": lambda f: f.at[7, "l"].append(4),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_difference_gives_another_key(change: str) -> None:
    frame = base()
    changed = CHANGES[change](frame)
    frame = changed if isinstance(changed, pd.DataFrame) else frame
    assert key(frame) != key(base())
    assert key([{"x": frame}]) != key([{"x": base()}])


def test_equal_frames_have_the_same_key_whatever_their_memory_layout() -> None:
    frame = base()
    fragmented = pd.DataFrame(index=frame.index)
    for name in frame:
        fragmented[name] = frame[name]
    chunked = pd.concat([frame.iloc[:1], frame.iloc[1:2], frame.iloc[2:]])
    table = pa.chunked_array([["zz", "a"], [None], ["c", "yy"]], pa.large_string()).slice(1, 3)
    sliced = frame.assign(s=pd.Series(pd.array(table, dtype="str"), index=frame.index))
    odd = frame.assign(f=np.array([0, 0xFFF8000000000001, 0x4004000000000000], dtype="uint64").view("float64"))
    hidden = frame.assign(n=pd.arrays.IntegerArray(np.array([1, 77, 3]), np.array([False, True, False])))
    for other in (frame.copy(), fragmented, chunked, sliced, odd, hidden, pickle.loads(pickle.dumps(frame))):
        pd.testing.assert_frame_equal(other, frame)
        assert key(other) == key(frame)
    values = np.random.default_rng(0).random((500, 40))
    for array in (np.asfortranarray(values), values.repeat(2, axis=0)[::2], values[:, ::-1][:, ::-1]):
        assert key(array) == key(values)
        assert key(pd.DataFrame(array, copy=False)) == key(pd.DataFrame(values))
    assert key(values.T) != key(values)


def test_the_chunks_of_a_large_column_do_not_change_its_key() -> None:
    texts = np.random.default_rng(0).choice(["", "ä", "long" * 9, None], 200_000)
    whole = pa.chunked_array([pa.array(texts, pa.large_string())])
    cut = pa.chunked_array(
        [whole.slice(0, 7), whole.slice(7, 99_000), whole.slice(99_007)][i].chunk(0) for i in range(3)
    )
    assert key(cut) == key(whole)
    assert key(whole.slice(1)) != key(whole)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_that_was_read_back_has_the_key_of_the_original(name: str, tmp_path: Any) -> None:
    store = LocalPipelineStore(str(tmp_path))
    store.upload(FRAMES[name], "x")
    once = store.download("x")
    assert key(once) == key(FRAMES[name].copy())
    store.upload(once, "x")
    assert key(store.download("x")) == key(once)


@given(frame=frames())
def test_any_frame_that_was_read_back_has_the_key_of_the_original(tmp_path_factory: Any, frame: pd.DataFrame) -> None:
    store = LocalPipelineStore(str(tmp_path_factory.getbasetemp() / "keys"))
    try:
        store.upload(frame, "x")
    except UnsupportedFrameError:
        return
    assert key(store.download("x")) == key(frame)


@dataclass
class _Job:
    frame: Any
    name: str = "job"


class _Model(pydantic.BaseModel, arbitrary_types_allowed=True):
    frame: Any


class _Plain:
    def __init__(self, frame: Any) -> None:
        self.held = {"frame": frame, "names": {"b", "a"}}


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "list": lambda x: [1, x],
    "tuple": lambda x: (x, "a"),
    "dict": lambda x: {"x": {"y": [x]}},
    "dataclass": _Job,
    "model": lambda x: _Model(frame=x),
    "object": _Plain,
    "series": lambda x: x["f"],
    "index": lambda x: x.set_index(["i", "t"]).index,
    "polars": lambda x: pl.DataFrame({"a": x["f"].to_numpy(), "b": x["i"].to_numpy()}),
    "polars series": lambda x: pl.Series("a", x["f"].to_numpy()),
    "arrow": lambda x: pa.Table.from_pandas(x[["f", "i", "s"]]),
    "batch": lambda x: pa.RecordBatch.from_pydict({"f": x["f"].to_numpy(), "i": x["i"].to_numpy()}),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_frames_are_hashed_by_content_wherever_they_stand(holder: str) -> None:
    frame, other = base(), base()
    other.loc[9, "f"] = 3.5
    other["i"] += 1
    again = pd.concat([frame.iloc[:1], frame.iloc[1:]])
    assert key(HOLDERS[holder](again)) == key(HOLDERS[holder](frame))
    assert key(HOLDERS[holder](other)) != key(HOLDERS[holder](frame))


def test_kinds_of_frames_have_different_keys() -> None:
    stamp = dt.datetime(2110, 1, 1)
    values: list[Any] = [
        None, 1, 1.0, True, "1", b"1", (1,), [1], {1}, frozenset({1}), {1: 1}, {"1": 1}, np.int64(1), np.int32(1), -0.0,
        0.0, float("nan"), pd.NA, pd.NaT, stamp, stamp.date(), pd.Timestamp(stamp), stamp.replace(tzinfo=dt.UTC),
        np.array([1]), np.array([[1]]), np.array([1.0]), pd.Series([1]), pd.Series([1]).to_frame(), pd.Index([1]),
        pd.RangeIndex(1, 2), pd.array([1]), pa.array([1]), pl.Series([1]), pl.DataFrame({"a": [1]}), "", [], {}, (),
        [[]], ["a", "b"], ["ab"], [["a"], "b"], [["a", "b"]], dt.timedelta(1), pd.Timedelta(1, "D"), _Job(1),
        _Job(1, "x"),
    ]  # fmt: skip
    assert len({key(value) for value in values}) == len(values)
    assert key(1, 2) != key(2, 1)
    assert key(a=1) != key(b=1)
    assert key({"a": 1, "b": 2}) == key({"b": 2, "a": 1})


CODE = """if True:
    import numpy as np, pandas as pd
    from clinops_prefect import FrameInputs
    from tests.unit.test_caching import known
    print(FrameInputs().compute_key(None, known(), {}))
"""


def known() -> dict[str, Any]:
    frame = pd.DataFrame({"a": [1.5, np.nan], "b": [1, 2], "c": pd.Series(["x", None], dtype=object)})
    return {"frame": frame, "names": {"a", "b", "c"}, "more": [frozenset("xyz"), {"k": (1, None)}, dt.date(2110, 1, 1)]}


def test_the_key_is_the_same_in_every_process_and_version() -> None:
    keys = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", CODE],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        keys.add(done.stdout.strip())
    # Under pandas 2, the labels have another dtype.
    frame = known()["frame"].set_axis(pd.Index(list("abc"), dtype=object), axis=1)
    assert key(frame, known()["names"], known()["more"]) == "a0addb239647970169de8365d7f5d0b3"
    assert keys == {key(**known())}


def _cohort(value: object) -> Any:
    return enum.Enum("Cohort", {"ADULT": value})["ADULT"]


class _Empty(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class _Base:
    name: str


class _Threshold(_Base):
    """Not decorated again, so its threshold is no field."""

    def __init__(self, threshold: float) -> None:
        super().__init__("a")
        self.threshold = threshold


class _Named(list[int]):
    name = ""


class _Units(dict[str, int]):
    name = ""


class _Quantity(np.ndarray[Any, Any]):
    name = ""


def _with_name(value: Any, name: str) -> Any:
    value.name = name
    return value


OTHERS: dict[str, tuple[Any, Any]] = {
    "an enumeration's value": (_cohort(18), _cohort(16)),
    "a flag without any bit": (_Empty(0), _Empty.READ),
    "a dataclass's subclass": (_Threshold(0.5), _Threshold(0.6)),
    "a list's subclass": (_with_name(_Named([1]), "x"), _with_name(_Named([1]), "y")),
    "a dict's subclass": (_with_name(_Units(a=1), "x"), _with_name(_Units(a=1), "y")),
}  # type: ignore[assignment]


@pytest.mark.parametrize("what", OTHERS)
def test_what_a_value_holds_beside_its_items_is_part_of_its_key(what: str) -> None:
    one, other = OTHERS[what]
    assert key(one) != key(other)
    assert key(one) == key(copy.deepcopy(one))


def test_the_attributes_of_an_array_are_part_of_its_key() -> None:
    one, same, other = (_with_name(np.arange(3).view(_Quantity), unit) for unit in ("mmol/L", "mmol/L", "mg/dL"))
    assert key(one) == key(same) != key(other)


def test_a_cached_property_does_not_change_the_key() -> None:
    class Site(pydantic.BaseModel):
        name: str

        @functools.cached_property
        def lock(self) -> Any:
            return threading.Lock()

    read, fresh = Site(name="A"), Site(name="A")
    assert read.lock is read.lock
    assert key(read) == key(fresh) != key(Site(name="B"))


def test_what_is_stored_in_another_form_has_the_same_key(tmp_path: Path) -> None:
    """pandas makes categories of a range a RangeIndex, and Arrow names the values of a map."""
    store = LocalPipelineStore(str(tmp_path))
    scores = pd.DataFrame({"gcs": [15, 3]}).astype({"gcs": pd.CategoricalDtype(range(3, 16), ordered=True)})
    store.upload(scores, "scores")
    assert key(store.download("scores")) == key(scores)
    maps = pa.table({"a": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))})
    store.upload(maps, "maps")
    assert key(store.download("maps", as_="arrow")) == key(maps)
    assert key(maps) != key(pa.table({"a": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32()))}))


def test_the_policy_can_be_combined_with_others_as_inputs_can() -> None:
    policy = FrameInputs()
    without = policy - "store"
    assert key(frame=base(), store=1, policy=without) == key(frame=base(), store=threading.Lock(), policy=without)
    assert key(frame=base(), store=1, policy=without - "frame") == key(frame=2, store=3, policy=without - "frame")
    assert policy.compute_key(None, {}, {}) is None  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        policy - 3  # type: ignore[operator]
    stored = policy.configure(key_storage="s3-pipeline-store/keys")
    assert stored.key_storage == "s3-pipeline-store/keys"
    assert policy.key_storage is None

    @task
    def one(frame: Any, store: Any) -> None: ...

    @task
    def two(frame: Any, store: Any) -> int:
        return 1

    def of(policy: Any, which: Any = one, **inputs: Any) -> str:
        context: Any = type("context", (), {"task": which, "task_run": type("run", (), {"flow_run_id": 1})})
        return policy.compute_key(context, {"frame": base(), "store": 1} | inputs, {})

    for both in (
        policy + TASK_SOURCE,
        TASK_SOURCE + policy,
        policy + TASK_SOURCE + RUN_ID,
        TASK_SOURCE + RUN_ID + policy,
    ):
        assert of(both) != of(both, two)
        assert of(both) != of(both, frame=base().assign(f=1.0))
        assert of(both) == of(both, frame=base().copy())
        assert of(both.configure(key_storage="x")) == of(both)
    for left_out in (
        (policy + TASK_SOURCE) - "store",
        TASK_SOURCE + RUN_ID + (policy - "store"),
        policy + INPUTS - "store",
    ):
        assert of(left_out) == of(left_out, store=2)
        assert of(left_out) != of(left_out, frame=1)
    assert (policy + NO_CACHE) == policy
    assert (policy + stored).key_storage == stored.key_storage


def test_the_error_about_an_input_that_cannot_be_hashed_names_it_and_quotes_no_value() -> None:
    holding: list[Any] = ["Jane-Doe-MRN-4711"]
    holding.append(holding)
    for value in ({"Jane-Doe-MRN-4711": threading.Lock()}, (n for n in "Jane-Doe-MRN-4711"), holding):
        with pytest.raises(ValueError, match="'patients'") as caught:
            key(patients=value)
        assert "Jane" not in f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"


def test_a_gigabyte_takes_seconds_at_most() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).random((250_000, 125)))
    began = time.process_time()
    key(frame)
    # A quarter of a gigabyte. It takes 0.35 s of CPU time. Hashing value by value would take minutes.
    assert time.process_time() - began < 3


def _pairs() -> dict[str, tuple[Any, Any]]:
    """Equal values with different memory layouts."""
    grades, words = pl.Enum([f"grade {i}" for i in range(40)]), pa.array(["b", "a", "b", None])
    fixed = pa.list_(pa.int8(), 2)
    hidden = pa.FixedSizeListArray.from_arrays(
        pa.array([1, 2, 9, 9], pa.int8()), type=fixed, mask=pa.array([False, True])
    )
    frame = pl.DataFrame({"x": [1, None, 3], "s": ["a", None, "c"], "l": [[1], None, []]})
    table = pa.table(
        {"x": [[("a", 1)], None, [("b", 2), ("c", 3)]]}, schema=pa.schema([("x", pa.map_(pa.string(), pa.int8()))])
    )
    return {
        "chunks of polars": (frame, pl.concat([frame.head(1), frame.slice(1)], rechunk=False)),
        "a slice of polars": (frame, pl.concat([frame, frame]).slice(3)),
        "an enumeration": (pl.Series(["grade 1"], dtype=grades), pl.Series(["grade 1"] * 2, dtype=grades).head(1)),
        "chunks of Arrow": (table, pa.concat_tables([table.slice(0, 1), table.slice(1)])),
        "order of a dictionary": (
            words.dictionary_encode(),
            pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, None], pa.int32()), ["a", "b"]),
        ),
        "under a missing list": (hidden, pa.array([[1, 2], None], fixed)),
        "objects in polars": (
            pl.Series([decimal.Decimal(1), (1,)], dtype=pl.Object),
            pl.Series([decimal.Decimal(1), (1,)], dtype=pl.Object),
        ),
        "wide integers": (pl.Series([2**70], dtype=pl.Int128), pl.Series([2**70, 1], dtype=pl.Int128).head(1)),
    }  # fmt: skip


@pytest.mark.parametrize("pair", _pairs())
def test_polars_and_arrow_frames_have_the_same_key_whatever_their_memory_layout(pair: str) -> None:
    one, other = _pairs()[pair]
    assert key(one) == key(other)


def test_values_that_polars_arrow_or_objects_distinguish_have_different_keys() -> None:
    many = [f"grade {i}" for i in range(40)]
    other = [*many[:20], "another", *many[21:]]
    one = pa.array([0, 1], pa.int8())
    values: list[Any] = [
        pl.Series(["grade 1"], dtype=pl.Enum(many)), pl.Series(["grade 1"], dtype=pl.Enum(other)),
        pl.Series([["grade 1"]], dtype=pl.List(pl.Enum(many))), pl.Series([["grade 1"]], dtype=pl.List(pl.Enum(other))),
        pa.DictionaryArray.from_arrays(one, ["a", "b"], ordered=True),
        pa.DictionaryArray.from_arrays(one, ["a", "b", "c"], ordered=True),
        pd.Series([1], dtype=object), pd.Series([np.int64(1)], dtype=object), pd.Series([np.int32(1)], dtype=object),
        pl.Series([(1,)], dtype=pl.Object), pl.Series([(2,)], dtype=pl.Object), pl.Series([1], dtype=pl.Int128),
    ]  # fmt: skip
    assert len({key(value) for value in values}) == len(values)
