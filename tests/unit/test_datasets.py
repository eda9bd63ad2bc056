"""Datasets of parts of every kind: which parts fit together, which index results, and which folders are read."""

import datetime as dt
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dask
import dask.dataframe as dd
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from clinops_prefect import (
    ArtifactColumnError,
    ArtifactDecodeError,
    ArtifactNotFoundError,
    LocalPipelineStore,
    ServiceUnavailableError,
)
from clinops_prefect.frames.conversion import layout
from clinops_prefect.frames.parquet.known_schemas import schema_bytes
from tests.gallery import assert_same

FRAME = pd.DataFrame(
    {
        "x": [1, 2, 3, 4],
        "y": [0.5, np.nan, 1.5, 2.5],
        "text": ["007", None, "b", "c"],
        "time": pd.date_range("2024-01-01", periods=4, tz="UTC"),
    }
)


@pytest.fixture
def store(tmp_path: Path) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path / "store"))


def upload(store: LocalPipelineStore, *frames: pd.DataFrame, name: str = "d") -> list[pd.DataFrame]:
    for number, frame in enumerate(frames):
        store.upload(frame, f"{name}/part-{number:02d}")
    return list(frames)


def put(store: LocalPipelineStore, name: str, table: pa.Table, **options: Any) -> None:
    path = Path(store.directory) / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)


# --- index ---


@pytest.mark.parametrize(
    "index",
    [
        lambda n: pd.Index([10 * n + i for i in range(4)], name="stay_id"),
        lambda n: pd.Index([f"{n}{i}" for i in range(4)]),
        lambda n: pd.RangeIndex(4 * n, 4 * n + 4),
        lambda n: pd.RangeIndex(4 * n, 4 * n + 4, name="row"),
        lambda n: pd.RangeIndex(5 + n, 9 + n),
        lambda n: pd.MultiIndex.from_product([[n, n + 1], ["a", "b"]], names=["stay", "what"]),
        lambda n: pd.date_range("2024", periods=4, freq="h") + pd.Timedelta(n, "D"),
    ],
    ids=["named", "text", "ranges in a row", "named ranges", "ranges that overlap", "levels", "times"],
)
def test_an_index_keeps_its_values(store: LocalPipelineStore, index: Callable[[int], Any]) -> None:
    frames = upload(store, *(FRAME.set_index(index(number)) for number in range(3)))
    dataset = store.dataset("d")
    expected = pd.concat(frames)
    if isinstance(expected.index, pd.DatetimeIndex):
        expected.index.freq = None
    assert_same(dataset.download(), expected)
    assert_same(pd.concat(list(dataset.iter_batches(rows=5))), expected)
    assert_same(dataset.download(filters=[("x", ">", 2)]), expected[expected["x"] > 2])
    assert dataset.download(as_="arrow").num_rows == 12


def test_default_row_numbers_continue_over_the_parts(store: LocalPipelineStore) -> None:
    frames = upload(store, FRAME, FRAME.head(0), FRAME.head(2))
    expected = pd.concat(frames, ignore_index=True)
    assert_same(store.dataset("d").download(), expected)
    assert_same(pd.concat(list(store.dataset("d").iter_batches(rows=4))), expected)
    # An index with a name has values, which are kept.
    named = [frame.rename_axis("row") for frame in frames]
    upload(store, *named, name="named")
    assert_same(store.dataset("named").download(), pd.concat(named))


@pytest.mark.parametrize(
    "other",
    [
        FRAME.set_index(pd.Index([7, 8, 11, 10])),
        FRAME.rename_axis("row"),
        FRAME.set_index(pd.MultiIndex.from_product([[1, 2], [3, 4]])),
    ],
    ids=["values", "name", "levels"],
)
def test_indexes_of_two_kinds_are_refused(store: LocalPipelineStore, other: pd.DataFrame) -> None:
    upload(store, FRAME, other)
    with pytest.raises(ArtifactDecodeError, match=r"part-01\.parquet has an index of another kind"):
        store.dataset("d").download()


def test_a_dataset_of_one_part_equals_the_part(store: LocalPipelineStore) -> None:
    frame = FRAME.set_index(pd.date_range("2024", periods=4, freq="h"))
    frame.attrs = {"source": "mimic"}
    upload(store, frame)
    assert_same(store.dataset("d").download(), frame)
    assert store.dataset("d").download().attrs == frame.attrs


# --- what fits together ---

KINDS: dict[str, tuple[Any, Any]] = {
    "dtype": ([1, 2], [1.5, 2.5]),
    "width": (np.array([1, 2], "int32"), np.array([1, 2], "int64")),
    "unit": (pd.to_datetime(["2024", "2025"]).as_unit("us"), pd.to_datetime(["2024", "2025"]).as_unit("ns")),
    "zone": (pd.to_datetime(["2024"] * 2, utc=True), pd.to_datetime(["2024"] * 2).tz_localize("Europe/Berlin")),
    "nullable": (pd.array([1, 2], "Int64"), [1, 2]),
    "text and numbers": (["a", "b"], [1, 2]),
    "text and objects": (["a", "b"], pd.Series(["a", "b"], dtype=object)),
    "ordered": (pd.Categorical(["a", "b"], ordered=True), pd.Categorical(["b", "c"], ordered=True)),
    "categories of two types": (pd.Categorical(["a", "b"]), pd.Categorical([1, 2])),
    "category and text": (pd.Categorical(["a", "b"]), ["a", "b"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_differs_is_refused_by_name_and_other_columns_can_be_read(
    store: LocalPipelineStore, kind: str
) -> None:
    one, other = (pd.DataFrame({"x": [1, 2], "odd": values}) for values in KINDS[kind])
    upload(store, one, one, other)
    dataset = store.dataset("d")
    for read in (lambda: dataset.download(), lambda: dataset.schema, lambda: next(dataset.iter_batches())):
        with pytest.raises(ArtifactDecodeError, match=r"part-02\.parquet has column 'odd' as .*part-00"):
            read()
    with pytest.raises(ArtifactDecodeError, match="'odd'"):
        dataset.download(columns=["odd"])
    assert dataset.download(columns=["x"])["x"].to_list() == [1, 2] * 3


def test_columns_that_are_missing_or_in_another_order_are_refused(store: LocalPipelineStore) -> None:
    upload(store, FRAME, FRAME.drop(columns="y"), FRAME)
    with pytest.raises(ArtifactDecodeError, match=r"part-01\.parquet has no column 'y'.*part-00"):
        store.dataset("d").download()
    assert len(store.dataset("d").download(columns=["x", "text"])) == 12
    upload(store, FRAME.drop(columns="y"), FRAME, name="more")
    with pytest.raises(ArtifactDecodeError, match=r"part-00\.parquet has no column 'y'"):
        store.dataset("more").download()
    upload(store, FRAME, FRAME[["y", "x", "text", "time"]], name="order")
    with pytest.raises(ArtifactDecodeError, match=r"order/part-01\.parquet has its columns in another order"):
        store.dataset("order").download()
    assert_same(
        store.dataset("order").download(columns=["x", "y"]), pd.concat([FRAME[["x", "y"]]] * 2, ignore_index=True)
    )


def test_unordered_categories_are_joined(store: LocalPipelineStore) -> None:
    frames = [
        pd.DataFrame({"unit": pd.Categorical(["b", "a", None]), "ward": pd.Categorical([1, 2, 1])}),
        pd.DataFrame({"unit": pd.Categorical(["c", "a", "c"]), "ward": pd.Categorical([2, 2, 2])}),
        pd.DataFrame({"unit": pd.Categorical([None] * 3, categories=["z"]), "ward": pd.Categorical([3, 2, None])}),
    ]
    upload(store, *frames)
    found = store.dataset("d").download()
    union = pd.api.types.union_categoricals
    expected = pd.DataFrame({name: union([frame[name] for frame in frames]) for name in ("unit", "ward")})
    assert_same(found, expected)
    # The dtype is the same whichever rows are read.
    few = store.dataset("d").download(filters=[("unit", "==", "c")])
    assert few["unit"].dtype == expected["unit"].dtype
    for batch in store.dataset("d").iter_batches(rows=2):
        assert batch.dtypes.to_list() == expected.dtypes.to_list()


def test_object_columns_without_missing_values_fit_any_missing_value(store: LocalPipelineStore) -> None:
    frames = [
        pd.DataFrame({"o": pd.Series(values, dtype=object)})
        for values in (["a", "b"], ["c", np.nan], [np.nan, np.nan], ["d", "e"])
    ]
    upload(store, *frames)
    assert_same(store.dataset("d").download(), pd.concat(frames, ignore_index=True))
    upload(store, pd.DataFrame({"o": pd.Series(["a", None], dtype=object)}), frames[1], name="two")
    with pytest.raises(ArtifactDecodeError, match="'o'"):
        store.dataset("two").download()


def test_missing_values_of_objects_are_the_same_in_all_parts(store: LocalPipelineStore) -> None:
    """Parts of one schema are compared only once, but the first missing value may be None, and a later one NaN."""
    for place, values in enumerate((["a", "b"], ["c", None], ["d", np.nan])):
        store.upload(pd.DataFrame({"o": pd.Series(values, dtype=object)}), f"d/{place}")
    with pytest.raises(ArtifactDecodeError, match="column 'o' as another kind of objects"):
        store.dataset("d").download()
    store.upload(pd.DataFrame({"o": pd.Series(["d", None], dtype=object)}), "d/2")
    assert store.dataset("d").download()["o"].tolist() == ["a", "b", "c", None, "d", None]


def test_column_labels_need_not_be_text(store: LocalPipelineStore) -> None:
    frame = pd.DataFrame(np.arange(4).reshape(2, 2), columns=pd.MultiIndex.from_tuples([("hr", 1), ("hr", 2)]))
    upload(store, frame, frame)
    assert_same(store.dataset("d").download(), pd.concat([frame, frame], ignore_index=True))
    store.upload(frame, "p/date=1/a")
    with pytest.raises(ArtifactDecodeError, match="labels of columns that are not plain text"):
        store.dataset("p").download()


def test_different_attrs_are_left_out(store: LocalPipelineStore) -> None:
    for name, values in (("same", (1, 1)), ("other", (1, 2))):
        for number, value in enumerate(values):
            frame = FRAME.copy()
            frame.attrs = {"version": value}
            store.upload(frame, f"{name}/{number}")
    assert store.dataset("same").download().attrs == {"version": 1}
    assert store.dataset("other").download().attrs == {}


def test_integers_of_other_programs_are_int64_only_if_no_part_has_a_missing_value(store: LocalPipelineStore) -> None:
    big, kind = 2**62 + 1, pa.list_(pa.int64())
    put(store, "d/a", pa.table({"x": [big, 2], "flag": [True, False], "list": [[1], [2]]}))
    assert store.dataset("d").download()["x"].dtype == np.int64
    put(store, "d/b", pa.table({"x": [None, big], "flag": [None, True], "list": pa.array([[None], None], kind)}))
    found = store.dataset("d").download()
    assert found["x"].dtype == "Int64"
    assert found["x"].to_list() == [big, 2, pd.NA, big]
    assert found["flag"].dtype == "boolean"
    assert list(found["list"].iloc[0]) == [1]
    # Some of the rows have the same dtype as all rows.
    assert next(store.dataset("d").iter_batches(rows=1))["x"].dtype == "Int64"
    assert store.dataset("d").schema["x"] == "Int64"
    put(store, "d/c", pa.table({"x": pa.nulls(2), "flag": [True, True], "list": [[1], [2]]}))
    assert store.dataset("d").download()["x"].to_list() == [big, 2, pd.NA, big, pd.NA, pd.NA]
    put(store, "d/e", pa.table({"x": pa.array([1], pa.int32()), "flag": [True], "list": [[1]]}))
    with pytest.raises(ArtifactDecodeError, match=r"d/e\.parquet has column 'x'"):
        store.dataset("d").download()


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_a_part_that_differs_is_compared_with_one_that_has_values(store: LocalPipelineStore, kind: Any) -> None:
    for name, values in {
        "a": pa.nulls(2),
        "b": pa.nulls(2),
        "c": ["x", None],
        "d": pa.nulls(2),
        "e": [1.5, 2.5],
    }.items():
        put(store, f"d/{name}", pa.table({"n": values}))
    with pytest.raises(
        ArtifactDecodeError, match=r"d/e\.parquet has column 'n' as double, not as (string|text .str.), which .*/d/c\."
    ):
        store.dataset("d").download(as_=kind)


def test_selected_folders_have_the_dtypes_of_the_whole_dataset(store: LocalPipelineStore) -> None:
    put(store, "d/day=0/x", pa.table({"n": [1, 2], "v": pa.nulls(2)}))
    put(store, "d/day=1/x", pa.table({"n": [3, None], "v": [1.5, None]}))
    dataset = store.dataset("d")
    part = dataset.download(filters=[("day", "==", 0)])
    assert (part["n"].dtype, part["v"].dtype) == ("int64", object)
    assert_same(part.astype(dataset.schema), dataset.download().iloc[:2])


def test_dictionary_columns_of_other_programs_have_the_categories_of_all_parts(store: LocalPipelineStore) -> None:
    put(store, "d/a", pa.table({"c": pa.array(["b", "a"]).dictionary_encode()}))
    put(store, "d/b", pa.table({"c": pa.array(["c", None]).dictionary_encode()}))
    dtype = pd.CategoricalDtype(["b", "a", "c"])
    assert_same(store.dataset("d").download(), pd.DataFrame({"c": pd.Categorical(["b", "a", "c", None], dtype=dtype)}))
    assert store.dataset("d").download(filters=[("c", "==", "b")])["c"].dtype == dtype
    assert {batch["c"].dtype for batch in store.dataset("d").iter_batches(rows=1)} == {dtype}


@pytest.mark.parametrize("kind", ["category", pl.Categorical, pl.Enum(["a", "b"])])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_categories_of_a_part_fit_a_part_without_any(
    store: LocalPipelineStore, kind: Any, order: tuple[int, int]
) -> None:
    values: list[list[str | None]] = [["a", "b"], [None, None]]
    for place, number in enumerate(order):
        frame: Any = pl.DataFrame({"c": values[number], "v": [number] * 2})
        if kind == "category":
            path = Path(store.directory) / f"d/{place}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            frame.to_pandas().astype({"c": "category"}).to_parquet(path)
        else:
            store.upload(frame.cast({"c": kind}) if number == 0 else frame, f"d/{place}")
    dataset = store.dataset("d")
    whole = dataset.download()
    assert whole["c"].astype(object).where(whole["c"].notna(), None).tolist() == values[order[0]] + values[order[1]]
    assert whole["c"].cat.categories.tolist() == ["a", "b"]
    assert dataset.download(filters=[("v", "==", 1)])["c"].isna().tolist() == [True, True]
    assert {batch["c"].dtype for batch in dataset.iter_batches(rows=1)} == {whole["c"].dtype}


@pytest.mark.parametrize("values", [["x", "y"], [1, 2], [dt.datetime(2024, 1, 1), None]])
@pytest.mark.parametrize("as_", ["polars", "arrow"])
def test_a_column_without_any_value_takes_the_type_of_the_other_parts(
    store: LocalPipelineStore, values: list[Any], as_: Any
) -> None:
    typed = pl.DataFrame({"a": values})
    nothing = pl.DataFrame({"a": [None, None]})
    for name, parts in {"first": (nothing, typed), "last": (typed, nothing)}.items():
        for place, part in enumerate(parts):
            store.upload(part, f"{name}/{place}")
        expected = pl.concat([part.cast(typed.schema) for part in parts])
        dataset = store.dataset(name)
        assert_frame_equal(pl.DataFrame(dataset.download(as_=as_)), expected)
        assert_frame_equal(pl.concat([pl.DataFrame(batch) for batch in dataset.iter_batches(as_=as_)]), expected)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_frame_that_is_split_anywhere_is_read_as_the_whole_frame(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(0, 12))
    frame = pd.DataFrame(
        {
            "x": np.arange(rows),
            "n": pd.array(data.draw(st.lists(st.none() | st.integers(-9, 9), min_size=rows, max_size=rows)), "Int64"),
            "t": pd.Series(
                data.draw(st.lists(st.none() | st.text("äb", max_size=2), min_size=rows, max_size=rows)), dtype="str"
            ),
            "d": pd.to_datetime(["2024-01-01"] * rows, utc=True),
            "c": pd.Categorical(["u"] * rows, categories=["v", "u"]),
        }
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, rows), max_size=4)))
    store = LocalPipelineStore(str(tmp_path_factory.mktemp("cut")))
    edges = [0, *cuts, rows]
    for number, (begin, end) in enumerate(pairwise(edges)):
        store.upload(frame.iloc[begin:end].reset_index(drop=True), f"d/{number:02d}")
    dataset = store.dataset("d")
    assert_same(dataset.download(), frame)
    assert_same(pd.concat(list(dataset.iter_batches(rows=3))), frame)
    assert dataset.scan().collect().equals(dataset.download(as_="polars"))
    found = dataset.download(filters=[("n", ">", 0)], columns=["t", "n"])
    assert_same(found, frame.loc[frame["n"].fillna(0) > 0, ["t", "n"]].reset_index(drop=True))


def test_frames_of_polars_and_arrow_come_back_equal(store: LocalPipelineStore) -> None:
    frames = [
        pl.DataFrame(
            {
                "x": [1, None],
                "unit": pl.Series(units, dtype=pl.Categorical),
                "ward": pl.Series(["a", "b"], dtype=pl.Enum(["b", "a", "c"])),
                "list": [[1.5], None],
                "day": [dt.date(2024, 1, 1), None],
            }
        )
        for units in (["MICU", "SICU"], ["CCU", None])
    ]
    for number, frame in enumerate(frames):
        store.upload(frame, f"d/part={number}/a")
    found = store.dataset("d").download(as_="polars")
    expected = pl.concat([frame.with_columns(part=pl.lit(number)) for number, frame in enumerate(frames)])
    assert found.schema == expected.with_columns(pl.col("part").cast(pl.Int64)).schema
    assert found.rows() == expected.rows()
    assert store.dataset("d").scan().collect().rows() == expected.rows()
    assert store.dataset("d").download(as_="polars", filters=[("x", "==", 1)])["part"].to_list() == [0, 1]
    assert store.dataset("d").download()["unit"].dtype.categories.to_list() == ["MICU", "SICU", "CCU"]
    other = frames[0].with_columns(pl.col("ward").cast(pl.String).cast(pl.Enum(["a", "b"])))
    store.upload(other, "d/part=2/a")
    for read in (lambda: store.dataset("d").download(as_="polars"), lambda: store.dataset("d").scan()):
        with pytest.raises(ArtifactDecodeError, match=r"part%3D2/a\.parquet has column 'ward'"):
            read()
    table = pa.table({"code": pa.array([7, 8]).dictionary_encode(), "text": pa.array(["a", None], pa.string_view())})
    more = pa.table({"code": pa.array([9, 8]).dictionary_encode(), "text": pa.array(["b", "c"], pa.string_view())})
    store.upload(table, "arrow/0")
    store.upload(more, "arrow/1")
    back = store.dataset("arrow").download(as_="arrow")
    assert back.schema.types == table.schema.types
    assert back.to_pydict() == {"code": [7, 8, 9, 8], "text": ["a", None, "b", "c"]}


# --- partitions ---


def test_partitions_become_columns_typed_as_cells_of_csv(store: LocalPipelineStore) -> None:
    folders = {"year=2023/ward=007/dose=0.5": 1, "year=2024/ward=12/dose=1": 2, "year=2024/ward=x/dose=2.25": 3}
    for folder, value in folders.items():
        store.upload(pd.DataFrame({"x": [value]}), f"d/{folder}/a")
    found = store.dataset("d").download()
    assert_same(
        found,
        pd.DataFrame(
            {"x": [1, 2, 3], "year": [2023, 2024, 2024], "ward": ["007", "12", "x"], "dose": [0.5, 1.0, 2.25]}
        ),
    )
    assert store.dataset("d").schema == {
        "x": "int64",
        "year": "int64",
        "ward": str(found["ward"].dtype),
        "dose": "float64",
    }
    # The folder names of all parts decide the type, whichever parts are read.
    assert store.dataset("d").download(filters=[("ward", "==", "12")]).dtypes.to_list() == found.dtypes.to_list()
    assert store.dataset("d/year=2024").download()["ward"].to_list() == ["12", "x"]
    for filters, expected in {
        (("year", "==", 2024),): [2, 3],
        (("year", ">", 2023), ("dose", "<", 2)): [2],
        (("year", "==", 2023), ("x", "==", 2)): [],
        (("dose", "in", (0.5, 2.25)),): [1, 3],
        (("ward", "!=", "x"),): [1, 2],
    }.items():
        assert store.dataset("d").download(filters=list(filters))["x"].to_list() == expected
    either = [[("year", "==", 2023)], [("x", "==", 3)]]
    assert store.dataset("d").download(filters=either)["x"].to_list() == [1, 3]
    expression = (pa.compute.field("year") == 2024) & (pa.compute.field("x") < 3)
    assert store.dataset("d").download(filters=expression)["x"].to_list() == [2]
    with pytest.raises(ArtifactColumnError, match="'year'"):
        store.dataset("d").download(filters=[("year", "==", "2024")])
    with pytest.raises(ArtifactColumnError, match="'yearr'"):
        store.dataset("d").download(filters=[("yearr", "==", 2024)])
    assert_same(store.dataset("d").download(columns=["dose", "x"]), found[["dose", "x"]])


def test_partition_values_are_decoded_and_the_default_partition_is_a_missing_value(store: LocalPipelineStore) -> None:
    values = ["a b", "ä/ö", "x=y", "100%", None]
    for number, value in enumerate(values):
        folder = "__HIVE_DEFAULT_PARTITION__" if value is None else quote(value, safe="")
        store.upload(pd.DataFrame({"x": [number]}), f"d/{quote('the ward')}={folder}/a")
    found = store.dataset("d").download().sort_values("x")
    assert [None if pd.isna(value) else value for value in found["the ward"]] == values
    assert store.dataset("d").download(filters=[("the ward", "is null")])["x"].to_list() == [4]
    assert store.dataset("d").download(filters=[("the ward", "==", "ä/ö")])["x"].to_list() == [1]
    store.upload(pd.DataFrame({"x": [1]}), "n/k=1/a")
    store.upload(pd.DataFrame({"x": [1]}), "n/k=__HIVE_DEFAULT_PARTITION__/a")
    assert store.dataset("n").download()["k"].dtype == "Int64"


def test_parts_in_folders_with_different_partition_names_are_refused(store: LocalPipelineStore) -> None:
    store.upload(FRAME, "d/date=1/a")
    store.upload(FRAME, "d/day=1/a")
    with pytest.raises(ArtifactDecodeError, match=r"d/day%3D1/a\.parquet lies in day=…"):
        store.dataset("d")
    store.upload(FRAME, "e/a")
    store.upload(FRAME, "e/date=1/a")
    with pytest.raises(ArtifactDecodeError, match="no partition folder"):
        store.dataset("e")


def test_a_column_that_is_in_the_parts_and_in_the_folders_must_have_equal_values(store: LocalPipelineStore) -> None:
    table = pa.table({"date": [dt.date(2024, 1, 1)] * 2, "x": [1, 2]})
    put(store, "d/date=2024-01-01/a", table)
    assert store.dataset("d").download()["date"].to_list() == [dt.date(2024, 1, 1)] * 2
    put(store, "d/date=2024-01-02/a", table)
    with pytest.raises(ArtifactDecodeError, match=r"date%3D2024-01-02/a\.parquet has values of 'date' that differ"):
        store.dataset("d").download()
    assert store.dataset("d").download(columns=["x"])["x"].to_list() == [1, 2, 1, 2]


# --- folders that other programs wrote ---

ROWS = pd.DataFrame(
    {"stay": [1, 2, 3, 4, 5, 6], "hr": [60.0, None, 80.5, 90.0, 1.0, 2.0], "ward": ["a", "b", "a", None, "c", "b"]}
)


def _by_dask(folder: Path) -> None:
    with dask.config.set({"dataframe.convert-string": False}):
        dd.from_pandas(ROWS, npartitions=2).to_parquet(folder, write_metadata_file=True, write_index=False)


def _by_dask_partitioned(folder: Path) -> None:
    with dask.config.set({"dataframe.convert-string": False}):
        frame = ROWS.fillna({"ward": "none"})
        dd.from_pandas(frame, npartitions=2).to_parquet(folder, partition_on=["ward"], write_index=False)


def _by_polars(folder: Path) -> None:
    pl.from_pandas(ROWS).write_parquet(folder, partition_by="ward", mkdir=True)


def _by_duckdb(folder: Path) -> None:
    rows = ROWS
    duckdb.sql(f"COPY rows TO '{folder}' (FORMAT PARQUET, PARTITION_BY (ward))")
    del rows


def _by_spark(folder: Path) -> None:
    """A folder as Spark leaves it, with its notes, its checksums and the files of a failed task."""
    for ward, rows in ROWS.groupby("ward", dropna=False):
        name = "__HIVE_DEFAULT_PARTITION__" if pd.isna(ward) else ward
        below = folder / f"ward={name}"
        below.mkdir(parents=True, exist_ok=True)
        file = below / "part-00000-1f3f8f5e-a2a5-4b9c-9d5c-8a0d6c6f0b4e.c000.snappy.parquet"
        pq.write_table(
            pa.Table.from_pandas(rows.drop(columns="ward"), preserve_index=False).replace_schema_metadata(), file
        )
        (below / f".{file.name}.crc").write_bytes(b"crc")
    (folder / "_SUCCESS").touch()
    (folder / "._SUCCESS.crc").touch()
    dead = folder / "_temporary" / "0" / "_temporary" / "attempt_1" / "ward=a"
    dead.mkdir(parents=True)
    shutil.copy(file, dead / "part-00001.parquet")


@pytest.mark.parametrize("write", [_by_dask, _by_dask_partitioned, _by_polars, _by_duckdb, _by_spark])
def test_folders_of_other_programs_are_read(store: LocalPipelineStore, write: Callable[[Path], None]) -> None:
    folder = Path(store.directory) / "d"
    folder.parent.mkdir(parents=True, exist_ok=True)
    write(folder)
    dataset = store.dataset("d")
    found = dataset.download()
    assert found["stay"].dtype == np.int64
    found = found.sort_values("stay").reset_index(drop=True)[["stay", "hr", "ward"]]
    found["ward"] = found["ward"].astype(object).where(found["ward"].notna() & (found["ward"] != "none"), None)
    expected = ROWS.assign(ward=ROWS["ward"].astype(object).where(ROWS["ward"].notna(), None))
    pd.testing.assert_frame_equal(found, expected)
    assert sorted(dataset.download(filters=[("ward", "==", "b")])["stay"]) == [2, 6]
    assert sorted(dataset.download(filters=[("stay", ">", 4), ("ward", "in", ["c", "b"])])["stay"]) == [5, 6]
    assert dataset.scan().filter(pl.col("ward") == "b").select(pl.col("stay").sum()).collect().item() == 8


def test_a_missing_partition_is_found(store: LocalPipelineStore) -> None:
    for name, write in {"p": _by_polars, "q": _by_duckdb, "s": _by_spark}.items():
        Path(store.directory).mkdir(parents=True, exist_ok=True)
        write(Path(store.directory) / name)
        assert store.dataset(name).download(filters=[("ward", "is null")])["stay"].to_list() == [4]


@pytest.mark.parametrize(
    ("file", "known"),
    [
        ("_delta_log/00000000000000000000.json", "Delta Lake"),
        ("metadata/v1.metadata.json", "Iceberg"),
        (".hoodie/hoodie.properties", "Hudi"),
    ],
)
def test_a_table_with_a_transaction_log_is_refused(store: LocalPipelineStore, file: str, known: str) -> None:
    upload(store, FRAME, FRAME)
    path = Path(store.directory) / "d" / file
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(ArtifactDecodeError, match=f"table of {known}"):
        store.dataset("d")


def test_the_error_about_a_prefix_without_parts_says_what_is_there(store: LocalPipelineStore) -> None:
    with pytest.raises(ArtifactNotFoundError, match="there is nothing below"):
        store.dataset("d")
    store.write_bytes("d/report.html", b"")
    csv = LocalPipelineStore(store.directory, format="csv")
    csv.upload(FRAME, "d/a")
    with pytest.raises(ArtifactNotFoundError, match=r"1 \.csv.*format='csv' reads"):
        store.dataset("d")
    store.upload(FRAME, "one")
    with pytest.raises(ArtifactNotFoundError, match=r"one\.parquet is one artifact"):
        store.dataset("one")
    # Each store reads the parts of its own format.
    store.upload(FRAME, "d/a")
    assert (len(store.dataset("d")), len(csv.dataset("d"))) == (1, 1)
    assert_same(csv.dataset("d").download(), FRAME)


def test_csv_parts_of_other_programs_are_read(tmp_path: Path) -> None:
    store = LocalPipelineStore(str(tmp_path), format="csv")
    (tmp_path / "d" / "day=1").mkdir(parents=True)
    (tmp_path / "d" / "day=2").mkdir()
    (tmp_path / "d" / "day=1" / "a.csv").write_text("x;id\n1;007\n")
    (tmp_path / "d" / "day=2" / "a.csv").write_text("x;id\n;8\n")
    with pytest.raises(ArtifactDecodeError, match="looks delimited"):
        store.dataset("d").download()
    options = {"delimiter": ";"}
    with pytest.raises(ArtifactDecodeError, match=r"day%3D2/a\.csv has column 'id' as .*day%3D1"):
        store.dataset("d").download(csv_options=options)
    options["dtype"] = {"id": "str"}
    found = store.dataset("d").download(csv_options=options)
    assert found["id"].to_list() == ["007", "8"]
    assert found["x"].to_list() == [1, pd.NA]
    assert found["day"].to_list() == [1, 2]


def test_a_damaged_part_is_named(store: LocalPipelineStore) -> None:
    upload(store, FRAME, FRAME)
    path = Path(store.directory) / "d" / "part-01.parquet"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactDecodeError, match=r"part-01\.parquet is damaged"):
        store.dataset("d").download()
    path.write_text("no Parquet")
    with pytest.raises(ArtifactDecodeError, match=r"part-01\.parquet"):
        store.dataset("d").download()


# --- scan ---


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all reads from disk from now on."""
    from clinops_prefect.storage.local.backend import LocalBackend

    sizes: list[int] = []
    read = LocalBackend._read

    def counting(self: Any, *arguments: Any) -> bytes:
        data = read(self, *arguments)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(LocalBackend, "_read", counting)
    return sizes


def test_scan_reads_only_what_the_query_needs(store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for date in ("2024-01-01", "2024-01-02"):
        for number in range(2):
            wide = pd.DataFrame(rng.normal(size=(40_000, 6)), columns=list("abcdef"))
            wide["stay"] = np.arange(40_000) + 40_000 * number
            store.upload(wide, f"d/date={date}/{number}")
    dataset = store.dataset("d")
    assert dataset.rows == 160_000
    whole = dataset.download(as_="polars")
    frame = dataset.scan()
    sizes = counted(monkeypatch)
    stay, date = pl.col("stay"), pl.col("date")
    queries = {
        "columns": (frame.select("a"), whole.select("a"), 0.35),
        "partition": (frame.filter(date == "2024-01-02"), whole.filter(date == "2024-01-02"), 0.65),
        "any predicate on partitions": (
            frame.filter(date.str.ends_with("02")), whole.filter(date.str.ends_with("02")), 0.65
        ),
        "statistics": (frame.filter(stay > 40_000), whole.filter(stay > 40_000), 0.65),
        "literal first": (frame.filter(stay > 40_000), whole.filter(stay > 40_000), 0.65),
        "both": (
            frame.filter((stay >= 40_000) & (date == "2024-01-01") & (pl.col("a") > 0)).select("b"),
            whole.filter((stay >= 40_000) & (date == "2024-01-01") & (pl.col("a") > 0)).select("b"),
            0.35,
        ),
        "in": (frame.filter(stay.is_in([1, 2])), whole.filter(stay.is_in([1, 2])), 0.65),
        "or": (frame.filter((stay < 5) | (stay > 79_990)), whole.filter((stay < 5) | (stay > 79_990)), 1.1),
        "first rows": (frame.head(5), whole.head(5), 1.1),
        "count": (frame.select(pl.len()), whole.select(pl.len()), 0.35),
        "a sum by date": (
            frame.group_by("date").agg(pl.col("a").sum()).sort("date"),
            whole.group_by("date").agg(pl.col("a").sum()).sort("date"),
            0.35,
        ),
    }  # fmt: skip
    for name, (query, expected, share) in queries.items():
        sizes.clear()
        found = query.collect()
        if name != "a sum by date":
            assert found.equals(expected), name
        assert sum(sizes) < share * dataset.bytes, name


def test_scan_reads_a_frame_that_was_uploaded_in_slices(store: LocalPipelineStore) -> None:
    """Its index is joined over all parts, so a part alone, or the first part, has no such column."""
    whole = pd.DataFrame({"v": range(6)})
    for day, part in enumerate((whole.iloc[:2], whole.iloc[2:4], whole.iloc[4:])):
        store.upload(part, f"d/day={day}/part")
    dataset = store.dataset("d")
    expected = dataset.download(as_="polars")
    assert expected["__index_level_0__"].to_list() == list(range(6))
    scanned = dataset.scan()
    assert_frame_equal(scanned.collect(), expected)
    for predicate in (pl.col("v") > 3, pl.col("day") == 1, pl.col("day") > 5, pl.col("__index_level_0__") == 4):
        assert_frame_equal(scanned.filter(predicate).collect(), expected.filter(predicate))
    assert_frame_equal(scanned.head(3).collect(), expected.head(3))


def test_scan_agrees_with_polars_where_its_rules_differ_from_ours(store: LocalPipelineStore) -> None:
    """In polars, NaN is greater than every number, a missing value equals nothing, and texts are compared by bytes."""
    frames = [
        pl.DataFrame({"f": [1.0, float("nan")], "i": [1, None], "t": ["a", None], "d": [dt.date(2024, 1, 1), None]}),
        pl.DataFrame({"f": [None, 3.0], "i": [2**62, 3], "t": ["é", "Z"], "d": [dt.date(2024, 5, 1), None]}),
    ]
    for number, frame in enumerate(frames):
        put(store, f"d/{number}", frame.to_arrow())
    whole, lazy = pl.concat(frames), store.dataset("d").scan()
    f, i, t, d = pl.col("f"), pl.col("i"), pl.col("t"), pl.col("d")
    for predicate in (
        f > 2, f >= 3, f < 2, f == 1, f != 1, f.is_nan(), f.is_null(), ~(f < 2), f == float("nan"), f > 2.5,
        f.is_in([1.0]),
        i > 2, i == 2**62, i != 1, i.is_null(), i.is_not_null(), i > 1.5, i.is_in([1, None]), i.is_between(2, 4),
        t == "é", t > "Z", t.is_in(["a"]), t.str.len_chars() == 1, d == dt.date(2024, 5, 1), d > dt.date(2024, 1, 1),
        d < dt.datetime(2024, 3, 1), (i > 1) & (t > "a") & (f > 1), pl.lit(True), pl.lit(False),
    ):  # fmt: skip
        assert lazy.filter(predicate).collect().equals(whole.filter(predicate)), str(predicate)


@pytest.mark.parametrize("kind", [pa.duration("ms"), pa.timestamp("ms"), pa.timestamp("us", "+05:30"), pa.date32()])
def test_scan_compares_with_values_that_python_cannot_hold(store: LocalPipelineStore, kind: pa.DataType) -> None:
    most = 2**30 if kind == pa.date32() else 2**62
    store.upload(pa.table({"x": pa.array([1, most], pa.int32() if most < 2**31 else pa.int64()).cast(kind)}), "d/0")
    found = store.dataset("d").download(as_="polars")
    value = pl.lit(most).cast(found.schema["x"])
    for predicate in (pl.col("x") >= value, pl.col("x").is_in(found["x"][1:].implode())):
        assert store.dataset("d").scan().filter(predicate).collect().equals(found[1:])


def test_duckdb_reads_the_results_of_scan_and_batches(store: LocalPipelineStore) -> None:
    upload(store, FRAME, FRAME)
    dataset = store.dataset("d")
    lazy = dataset.scan()
    assert duckdb.sql("SELECT sum(x) FROM lazy").fetchall() == [(20,)]
    tables = dataset.iter_batches(as_="arrow", rows=3)
    first = next(tables)
    reader = pa.RecordBatchReader.from_batches(
        first.schema, (batch for table in (first, *tables) for batch in table.to_batches())
    )
    assert duckdb.sql("SELECT count(*), max(y) FROM reader").fetchall() == [(8, 2.5)]
    del lazy, reader


# --- Dask ---


def test_a_dask_partition_is_one_part(store: LocalPipelineStore) -> None:
    frames = [
        FRAME.assign(unit=pd.Categorical(["a", "b"] * 2)),
        FRAME.assign(unit=pd.Categorical(["c", "b"] * 2)),
        FRAME.assign(unit=pd.Categorical(["c", "b"] * 2)).head(0),
    ]
    upload(store, *frames)
    dataset = store.dataset("d")
    with dask.config.set({"dataframe.convert-string": False}):
        lazy = dataset.to_dask()
        assert lazy.npartitions == 3
        assert_same(lazy.compute(), dataset.download())
        assert lazy["x"].sum().compute() == 20
        assert_same(dataset.to_dask(columns=["unit", "y"]).compute(), dataset.download(columns=["unit", "y"]))
        few = dataset.to_dask(filters=[("x", ">", 3)]).compute()
        assert_same(few.reset_index(drop=True), dataset.download(filters=[("x", ">", 3)]))


@pytest.mark.parametrize("rows", [(6, 0, 3), (0, 3), (0, 0), (0,)], ids=str)
@pytest.mark.parametrize("made", ["bare", "labels", "column"])
def test_empty_parts_add_no_row_to_a_dask_frame(store: LocalPipelineStore, made: str, rows: tuple[int, ...]) -> None:
    for part, count in enumerate(rows):
        frame = pd.DataFrame(index=range(count)) if made == "bare" else FRAME.iloc[[0] * count].set_index("x")
        store.upload(frame[[]] if made == "labels" else frame, f"d/{part}")
    dataset = store.dataset("d")
    with dask.config.set({"dataframe.convert-string": False}):
        for columns in (None, []):
            lazy = dataset.to_dask(columns=columns)
            assert len(lazy) == sum(rows)
            found = lazy.compute()
            expected = dataset.download(columns=columns)
            pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("columns", [["x", "y"], []], ids=str)
def test_parts_without_any_row_keep_the_index(tmp_path: Path, format: str, columns: list[str]) -> None:
    store = LocalPipelineStore(str(tmp_path), format=format)
    for number, index in enumerate(
        (pd.Index([], name="r", dtype="int64"), pd.Index([], dtype="str"), pd.MultiIndex.from_arrays([[], []]))
    ):
        empty = pd.DataFrame({"x": [1], "y": [0.5]})[:0].set_index(index)[columns]
        for part in range(2):
            store.upload(empty, f"{number}/{part}")
        dataset = store.dataset(str(number))
        assert_same(dataset.download(), store.download(f"{number}/0"))
        assert [batch.shape for batch in dataset.iter_batches()] == [(0, len(columns))]
        assert dataset.download(as_="arrow").num_rows == 0
        store.upload(empty.set_axis(empty.index.astype(object)), f"{number}/2")  # with another type
        assert len(store.dataset(str(number)).download()) == 0


def test_a_dataset_can_be_sent_to_another_process(store: LocalPipelineStore, tmp_path: Path) -> None:
    upload(store, FRAME, FRAME)
    dataset = store.dataset("d")
    assert dataset.rows == 8
    file = tmp_path / "dataset.pickle"
    file.write_bytes(pickle.dumps(dataset))
    code = f"import pickle; print(len(pickle.load(open({str(file)!r}, 'rb')).download()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "8"
    # The dataset keeps the parts that were listed.
    store.upload(FRAME, "d/part-00")
    with pytest.raises(ServiceUnavailableError, match="part-00"):
        pickle.loads(file.read_bytes()).download()


# --- parts that are alike, and parts that are not ---


def wide(number: int, rows: int) -> pd.DataFrame:
    frame = pd.DataFrame(np.random.default_rng(number).normal(size=(rows, 700)), columns=[f"f{i}" for i in range(700)])
    frame.insert(0, "stay", number)
    return frame


def test_a_part_that_statistics_rule_out_costs_one_request(
    store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Footers larger than the first fetch, and different numbers of rows, so that the metadata differ.
    frames = upload(store, *(wide(number, 60 + number) for number in range(8)))
    sizes = counted(monkeypatch)
    found = store.dataset("d").download(filters=[("stay", "==", 5)])
    assert_same(found, frames[5].reset_index(drop=True))
    # The first part shows how long a footer is. Adjacent ranges of the part with the rows are read in one request.
    assert len(sizes) <= 8 + 1 + 2
    sizes.clear()
    found = store.dataset("d").download(columns=["stay", "f3"])
    assert_same(found, pd.concat([frame[["stay", "f3"]] for frame in frames], ignore_index=True))
    assert len(sizes) <= 8 + 1 + 8 * 2


def alike() -> dict[str, list[pa.Table]]:
    """Parts that differ from the first part in something that a plan depends on."""
    return {
        "a missing integer in the second": [pa.table({"k": [1, 2]}), pa.table({"k": [2, None]})],
        "no value in the first": [pa.table({"k": pa.nulls(2)}), pa.table({"k": [2, 3]})],
        "no value in the second": [pa.table({"k": [1, 2]}), pa.table({"k": pa.nulls(2)})],
        "longer texts": [pa.table({"k": ["1", "2"]}), pa.table({"k": pa.array(["2"], pa.large_string())})],
        "another order": [pa.table({"k": [1, 2], "x": [1, 2]}), pa.table({"x": [3], "k": [2]})],
        "another column": [pa.table({"k": [1, 2]}), pa.table({"k": [2], "x": [3]})],
        "a struct of the name": [
            pa.table({"k": [1, 2], "s": [{"x": 1}, {"x": 2}]}), pa.table({"k": [2], "t": [{"x": 3}]})
        ],
    }  # fmt: skip


@pytest.mark.parametrize("case", alike())
@pytest.mark.parametrize("as_", ["pandas", "polars", "arrow"])
def test_filters_select_the_same_rows_from_different_parts_as_from_the_whole(
    store: LocalPipelineStore, case: str, as_: Any
) -> None:
    parts = alike()[case]
    for number, table in enumerate(parts):
        put(store, f"d/{number}", table)
    wanted: Any = "2" if case == "longer texts" else 2
    found = store.dataset("d").download(columns=["k"], filters=[("k", "==", wanted)], as_=as_)
    values = [value for table in parts for value in table.column("k").to_pylist() if value == wanted]
    assert (found["k"].to_pylist() if as_ == "arrow" else found["k"].to_list()) == values
    if as_ == "pandas":
        assert found["k"].dtype == store.dataset("d").download(columns=["k"])["k"].dtype


def footer(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = memoryview(sink.getvalue())
    return data[len(data) - 8 - int.from_bytes(data[-8:-4], "little") :]


def test_only_files_with_equal_schemas_share_a_parsed_schema() -> None:
    """Footers begin with the same bytes if and only if their schemas are the same."""
    tables = [
        pa.table({"x": [1]}),
        pa.table({"x": pa.array([1], pa.int32())}),
        pa.table({"x": [1.0]}),
        pa.table({"y": [1]}),
        pa.table({"x": [1], "y": [1]}),
        pa.table({"a": [{"x": 1}]}),
        pa.table({"b": [{"x": 1}]}),
        pa.table({"a": [[1]]}),
        pa.table({"a": pa.array([[(1, 2)]], pa.map_(pa.int64(), pa.int64()))}),
        pa.table({"x": pa.array([1], pa.timestamp("us"))}),
        pa.table({"x": pa.array([1], pa.timestamp("us", "UTC"))}),
        pa.table({"x": pa.array([1], pa.timestamp("ms"))}),
        pa.table({"x": pa.array([1], pa.decimal128(9, 2))}),
        pa.table({"x": pa.array([1], pa.decimal128(9, 3))}),
        pa.table([[1]], pa.schema([pa.field("x", pa.int64(), nullable=False)])),
        pa.table({f"c{number}": [1] for number in range(40)}),
    ]
    starts = [schema_bytes(footer(table)) for table in tables]
    assert all(starts)
    assert len(set(starts)) == len(tables)
    assert [schema_bytes(footer(pa.concat_tables([table] * 3))) for table in tables] == starts
    # Bytes that are no footer have no schema to share.
    assert not any(schema_bytes(memoryview(data)) for data in (b"", b"\x15", b"\x15\x02\x19\xfc\xff", b"\x19\x2c"))


MEMORY = """if True:
    import gc, os, sys
    from pathlib import Path
    import numpy as np, pandas as pd
    from clinops_prefect import LocalPipelineStore
    from tests.memory import forget_peak, peak, resident
    folder, way, kind, parts = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    store, random = LocalPipelineStore(folder), np.random.default_rng(1)
    first = Path(folder, "d", "part-000.parquet")
    store.upload(pd.DataFrame(random.normal(80, 10, (40_000, 32)).round(1)).add_prefix("c"), "d/part-000")
    for number in range(1, parts):
        os.link(first, first.with_name(f"part-{number:03d}.parquet"))
    store.upload(pd.DataFrame({"c0": [1.0]}), "small/part-000")
    small = store.dataset("small")
    small.download(as_=kind), list(small.iter_batches(as_=kind))
    gc.collect()
    before = resident()
    forget_peak()
    if way == "batches":
        rows = sum(len(batch) for batch in store.dataset("d").iter_batches(as_=kind, rows=40_000))
    else:
        rows = len(store.dataset("d").download(as_=kind))
    assert rows == 40_000 * parts
    print((peak() - before) / (parts * 40_000 * 32 * 8))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("way", "kind", "parts", "most"), [("whole", "pandas", 16, 2.5), ("batches", "polars", 80, 0.6)]
)
def test_memory_is_bounded(way: str, kind: str, parts: int, most: float, tmp_path: Path) -> None:
    """Measured as a share of the whole frame. Batches hold a few parts in memory, however many parts there are."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path), way, kind, str(parts)]

    def measured() -> float:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    # Again if it is more: on a busy machine, more parts are in memory before they can be decoded.
    assert any(measured() < most for _ in range(3))


def test_decimals_of_any_size_are_one_column_of_batches_and_parts(store: LocalPipelineStore) -> None:
    """Rows of a database have decimals of one number of places and any number of digits."""
    texts = [["0.00", "1.25"], ["10.00", None], ["-12345678901234567890.12", "7.50"]]
    frames = [
        pd.DataFrame({"d": [text and Decimal(text) for text in part]}, index=pd.Index([Decimal(at), Decimal(at + 9)]))
        for at, part in enumerate(texts)
    ]
    whole = pd.concat(frames)
    for at, frame in enumerate(frames):
        store.upload(frame, f"parts/p{at}")
        pd.testing.assert_frame_equal(store.download(f"parts/p{at}"), frame)
    pd.testing.assert_frame_equal(store.dataset("parts").download(), whole)
    assert store.dataset("parts").download(filters=[("d", ">", Decimal("1.3"))])["d"].tolist() == [
        Decimal("10.00"),
        Decimal("7.50"),
    ]
    store.upload_batches(iter(frames), "batches")
    pd.testing.assert_frame_equal(store.download("batches"), whole)
    store.upload_batches(store.iter_batches("batches", rows=1), "again")
    pd.testing.assert_frame_equal(store.download("again"), whole)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_a_part_whose_decimals_have_the_digits_of_its_largest_value_joins_the_others(
    kind: Any, store: LocalPipelineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As artifacts from before 2026-11-27 do."""
    frames = [pd.DataFrame({"d": [Decimal(text)]}) for text in ("1.25", "12345.50", "-7.75")]
    with monkeypatch.context() as earlier:
        earlier.setattr(layout, "_with_wide_decimals", lambda table, field, note: table)
        for at, frame in enumerate(frames[:2]):
            store.upload(frame, f"x/p{at}")
    store.upload(frames[2], "x/p2")
    types = [store.download(f"x/p{at}", as_="arrow").schema.field("d").type for at in range(3)]
    assert types == [pa.decimal128(3, 2), pa.decimal128(7, 2), pa.decimal128(38, 2)]
    dataset, expected = store.dataset("x"), [frame["d"][0] for frame in frames]

    def decimals(frame: Any) -> list[Decimal]:
        return [*frame["d"].to_pylist()] if kind == "arrow" else [*frame["d"]]

    assert decimals(dataset.download(as_=kind)) == expected
    assert decimals(dataset.download(filters=[("d", ">", Decimal("1.3"))], as_=kind)) == [Decimal("12345.50")]
    assert [value for batch in dataset.iter_batches(as_=kind) for value in decimals(batch)] == expected
    if kind == "polars":
        assert decimals(dataset.scan().collect()) == expected


def test_parts_whose_decimals_have_other_places_say_so(store: LocalPipelineStore) -> None:
    for at, text in enumerate(("1.5", "1.25")):
        store.upload(pd.DataFrame({"d": [Decimal(text)]}), f"x/p{at}")
    with pytest.raises(ArtifactDecodeError, match=r"objects \(decimal128\(38, 2\)\), not as .*128\(38, 1\)"):
        store.dataset("x").download()
