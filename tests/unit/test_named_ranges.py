"""The values of an index with a name are stored, also if they are consecutive: pandas 3 makes them a range."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactDecodeError, LocalPipelineStore, StorageFormat
from clinops_prefect.frames.conversion import layout
from clinops_prefect.frames.parquet.checksums import CHECKSUMS_KEY
from clinops_prefect.frames.parquet.reader import ParquetReader
from clinops_prefect.frames.parquet.row_labels import with_labels
from tests.gallery import assert_same

HOURS = pd.DataFrame(
    {"mean": [71.0, 72.5, None, 74.0, 75.5, 76.0], "unit": pd.Categorical(list("abcabc"))},
    index=pd.RangeIndex(6, name="hour"),
)
LATER = HOURS.set_index(pd.RangeIndex(30, 18, -2, name="hour"))


def _ours(store: LocalPipelineStore, name: str, frame: pd.DataFrame) -> None:
    store.upload(frame, name)


def _by_pandas(store: LocalPipelineStore, name: str, frame: pd.DataFrame) -> None:
    path = Path(store.directory, f"{name}.parquet")
    path.parent.mkdir(exist_ok=True)
    frame.to_parquet(path, row_group_size=2)
    assert pq.read_schema(path).names == ["mean", "unit"]


def _by_an_older_version(store: LocalPipelineStore, name: str, frame: pd.DataFrame) -> None:
    """Store a named range from 0 as older versions did: only as a note."""
    uri = store.upload(frame.reset_index(drop=True), name)
    path = Path(uri.removeprefix("file://"))
    table = pq.read_table(path)
    metadata: dict[bytes, Any] = {key: value for key, value in table.schema.metadata.items() if key != CHECKSUMS_KEY}
    layout, notes = json.loads(metadata[b"clinops.layout"]), json.loads(metadata[b"pandas"])
    limits = [frame.index.start, frame.index.stop, frame.index.step]
    layout["index"] |= {"names": ["hour"], "range": limits}
    notes["index_columns"][0] |= {"name": "hour", **dict(zip(("start", "stop", "step"), limits, strict=True))}
    metadata |= {b"clinops.layout": json.dumps(layout), b"pandas": json.dumps(notes)}
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=2)


WRITERS = [_ours, _by_pandas, _by_an_older_version]


@pytest.fixture
def store(tmp_path: Path) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path))


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("frame", [HOURS, LATER], ids=["from 0", "backwards"])
def test_filtered_rows_keep_their_labels(store: LocalPipelineStore, write: Any, frame: pd.DataFrame) -> None:
    write(store, "d/x", frame)
    assert_same(store.download("d/x"), frame)
    assert_same(store.download("d/x", columns=["mean"]), frame[["mean"]])
    assert_same(pd.concat(store.iter_batches("d/x", rows=4)), frame)
    for name, condition in (("mean", frame["mean"] > 72), ("hour", frame.index > 21)):
        kept = frame[condition]
        filters = [(name, ">", 72 if name == "mean" else 21)]
        for found in (
            store.download("d/x", filters=filters),
            store.dataset("d").download(filters=filters),
            pd.concat(store.iter_batches("d/x", rows=1, filters=filters)),
        ):
            pd.testing.assert_frame_equal(found, kept, check_index_type="equiv")


@pytest.mark.parametrize("write", WRITERS)
def test_the_labels_are_a_column_of_polars_and_arrow(store: LocalPipelineStore, write: Any) -> None:
    write(store, "d/x", LATER)
    write(store, "d/y", HOURS)
    polars = store.download("d/x", as_="polars")
    assert polars["hour"].to_list() == LATER.index.tolist()
    assert polars.columns == ["mean", "unit", "hour"]
    arrow = store.download("d/x", as_="arrow")
    assert arrow["hour"].to_pylist() == LATER.index.tolist()
    assert arrow.to_pandas().index.equals(LATER.index)
    one = store.download("d/x", as_="arrow", columns=["hour"], filters=[("hour", "in", [20, 30])])
    assert one.to_pydict() == {"hour": [30, 20]}
    both = [*LATER.index, *HOURS.index]
    assert store.dataset("d").download(as_="polars")["hour"].to_list() == both
    found = store.dataset("d").scan().filter(pl.col("hour") >= 28).select("hour", "mean").collect()
    assert found.rows() == [(30, 71.0), (28, 72.5)]
    assert store.dataset("d").download().index.tolist() == both
    assert store.dataset("d").to_dask().compute().index.tolist() == both


@pytest.mark.parametrize("write", WRITERS)
def test_parts_with_and_without_a_range_form_one_dataset(store: LocalPipelineStore, write: Any) -> None:
    write(store, "d/x", HOURS)
    store.upload(HOURS.set_index(pd.Index([7, 9, 8, 3, 1, 2], name="hour")), "d/y")
    expected = [*range(6), 7, 9, 8, 3, 1, 2]
    assert store.dataset("d").download(columns=["mean"]).index.tolist() == expected
    assert store.dataset("d").download(as_="polars", columns=["hour"])["hour"].to_list() == expected


def test_batches_keep_their_labels(store: LocalPipelineStore) -> None:
    store.upload_batches([HOURS.iloc[3:], HOURS.iloc[:3], HOURS.iloc[[5, 1]]], "x")
    assert store.download("x").index.tolist() == [3, 4, 5, 0, 1, 2, 5, 1]
    assert store.download("x").index.name == "hour"


@pytest.mark.parametrize("format", [StorageFormat.PARQUET, StorageFormat.CSV])
def test_an_arrow_table_of_pandas_comes_back_without_a_new_column(tmp_path: Path, format: StorageFormat) -> None:
    store = LocalPipelineStore(str(tmp_path), format=format)
    table = pa.Table.from_pandas(LATER)
    store.upload(table, "d/x")
    for found in (store.download("d/x", as_="arrow"), store.dataset("d").download(as_="arrow")):
        assert found.schema.names == table.schema.names
    assert store.download("d/x", as_="arrow").schema.equals(table.schema, check_metadata=True)
    filters = [("mean", ">", 75)]
    assert store.download("d/x", filters=filters).index.tolist() == [22, 20]
    assert store.dataset("d").download(filters=filters).index.tolist() == [22, 20]
    assert pd.concat(store.iter_batches("d/x", rows=1, filters=filters)).index.tolist() == [22, 20]
    assert store.dataset("d").to_dask(filters=filters).compute().index.tolist() == [22, 20]


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
@pytest.mark.parametrize("by", ["ours", "pandas", "polars", "arrow"])
def test_a_frame_without_columns_keeps_its_number_of_rows(store: LocalPipelineStore, by: str, kind: Any) -> None:
    frame = pl.DataFrame({"a": [1, 2, 3]})
    if by == "ours":
        store.upload(frame.to_pandas(), "x")
    elif by == "arrow":
        store.upload(frame.to_arrow(), "x")
    elif by == "polars":
        frame.write_parquet(Path(store.directory) / "x.parquet")
    else:
        frame.to_pandas().to_parquet(Path(store.directory) / "x.parquet")
    assert store.download("x", columns=[], as_=kind).shape == (3, 0)
    assert store.download("x", columns=[], filters=[("a", ">", 1)], as_=kind).shape == (2, 0)
    assert [batch.shape for batch in store.iter_batches("x", rows=2, columns=[], as_=kind)] == [(2, 0), (1, 0)]
    assert store.dataset("").download(columns=[], as_=kind).shape == (3, 0)


def _is_label_before(index: Any, *, numbered: bool) -> bool:
    return isinstance(index, pd.RangeIndex) and (index.start, index.step) != (0, 1) and not numbered


@pytest.mark.parametrize("format", [StorageFormat.PARQUET, StorageFormat.CSV])
@pytest.mark.parametrize("name", ["hour", "", "mean", 5, 1.5, True, 'a.b "c"\n'], ids=repr)
def test_an_artifact_of_an_older_version_is_read_like_one_of_this_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, format: StorageFormat
) -> None:
    """The name may be a number, or the name of a column."""
    store = LocalPipelineStore(str(tmp_path), format=format)
    frame = HOURS.set_index(pd.RangeIndex(6, name=name))
    store.upload(frame, "new/x")
    with monkeypatch.context() as older:
        older.setattr(layout, "_is_label", _is_label_before)
        store.upload(frame, "old/x")
        store.upload(frame, "both/x")
    store.upload(frame, "both/y")
    filters = [("unit", "in", ["b", "c"])]
    for options in ({}, {"filters": filters}, {"columns": ["unit"]}, {"columns": ["unit"], "filters": filters}):
        for as_ in ("pandas", "polars", "arrow"):
            for read in (
                store.download,
                lambda at, **more: store.dataset(at.partition("/")[0]).download(**more),
                lambda at, **more: next(store.iter_batches(at, rows=9, **more)),
            ):
                old, new = (read(f"{kind}/x", as_=as_, **options) for kind in ("old", "new"))
                if as_ == "pandas":
                    pd.testing.assert_frame_equal(old, new, check_index_type="equiv")
                else:
                    assert old.equals(new)
    assert store.download("old/x", filters=filters).index.tolist() == [1, 2, 4, 5]
    assert_same(store.download("old/x"), frame)
    assert store.dataset("both").download(filters=filters).index.tolist() == [1, 2, 4, 5, 1, 2, 4, 5]
    assert store.dataset("both").scan().collect().rows() == 2 * store.download("new/x", as_="polars").rows()


@pytest.mark.parametrize(
    "limits", [(2**70, 2**70 + 3, 1), (0, 3 * 2**64, 2**64), (0.5, 3.5, 1), ("0", "3", "1"), (0, 3, 0), (0, 2, 1)]
)
def test_an_invalid_range_in_a_note_makes_no_column(store: LocalPipelineStore, limits: Any) -> None:
    table = pa.Table.from_pandas(HOURS[:3])
    notes = json.loads(table.schema.metadata[b"pandas"])
    notes["index_columns"][0] |= dict(zip(("start", "stop", "step"), limits, strict=True))
    metadata = {b"pandas": json.dumps(notes)}
    pq.write_table(table.replace_schema_metadata(metadata), Path(store.directory) / "x.parquet")
    for read in (store.download, lambda _, **options: store.dataset("").download(**options)):
        assert read("x", as_="polars").columns == ["mean", "unit"]
        assert read("x", as_="arrow", filters=[("mean", ">", 72)]).num_rows == 1
        with suppress(ArtifactDecodeError):
            assert len(read("x", filters=[("mean", ">", 72)])) == 1


def test_an_index_and_a_column_may_have_the_same_name(store: LocalPipelineStore) -> None:
    table = pa.Table.from_pandas(LATER)
    fields = [pa.field("a", kind) for kind in table.schema.types]
    twice = pa.Table.from_arrays(table.columns, schema=pa.schema(fields))
    pq.write_table(twice.replace_schema_metadata(table.schema.metadata), Path(store.directory) / "x.parquet")
    assert store.download("x", as_="arrow").column_names == ["a", "a", "hour"]
    assert [batch.column_names for batch in store.iter_batches("x", as_="arrow")] == [["a", "a", "hour"]]
    assert store.download("x").index.equals(LATER.index)
    with pytest.raises(ArtifactDecodeError, match="several columns of one name"):
        store.download("x", as_="polars")
    for as_ in ("polars", "arrow"):
        with pytest.raises(ArtifactDecodeError, match=r"x.parquet has several columns of one name.*one by one"):
            store.dataset("").download(as_=as_)


@pytest.mark.parametrize("format", [StorageFormat.PARQUET, StorageFormat.CSV])
def test_a_dataset_of_frames_without_columns_keeps_the_number_of_rows(tmp_path: Path, format: StorageFormat) -> None:
    store = LocalPipelineStore(str(tmp_path), format=format)
    for part, rows in enumerate((6, 0, 3)):
        store.upload(pd.DataFrame(index=range(rows)), f"d/{part}")
    dataset = store.dataset("d")
    for as_ in ("pandas", "arrow"):
        assert dataset.download(as_=as_).shape == (9, 0)
        assert [batch.shape for batch in dataset.iter_batches(as_=as_, rows=4)] == [(4, 0), (4, 0), (1, 0)]


@pytest.mark.parametrize("write", [_ours, _by_an_older_version])
@pytest.mark.parametrize("values", [[7, 9, 8, 3, 1, 2], [0, 1, 2, 3, 4, 5], list("abcdef")], ids=str)
def test_a_first_part_without_rows_changes_no_index(store: LocalPipelineStore, write: Any, values: list[Any]) -> None:
    """For example on the first day of a pipeline."""
    frame = HOURS.set_index(pd.Index(values, name="hour"))
    write(store, "d/0", HOURS[:0])
    store.upload(frame[:0], "d/1")
    store.upload(frame[:4], "d/2")
    store.upload(frame[:0], "d/3")
    store.upload(frame[4:], "d/4")
    dataset = store.dataset("d")
    pd.testing.assert_frame_equal(dataset.download(), frame, check_index_type="equiv")
    assert dataset.download(filters=[("mean", ">", 72)]).index.tolist() == frame.index[frame["mean"] > 72].tolist()
    if not isinstance(values[0], str):  # polars has no index, so the parts must agree on the column
        assert dataset.download(as_="polars")["hour"].to_list() == values
        assert dataset.scan().filter(pl.col("hour") > 2).collect()["hour"].to_list() == [n for n in values if n > 2]


@pytest.mark.parametrize("name", ["id", "n", ".n", "m n", "[n]", "é", ""])
def test_statistics_of_other_columns_still_skip_row_groups(tmp_path: Path, name: str) -> None:
    """Also if their names contain the name of the index."""
    frame = pd.DataFrame({"stay_id": range(10)}, index=pd.RangeIndex(100, 110, name=name))
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=2)
    reader = with_labels(ParquetReader.of((tmp_path / "x.parquet").read_bytes(), "x"))
    other, label = pc.field("stay_id") > 7, pc.field(name) > 103
    if name:
        assert reader.groups(other) == [4]
    for expression in (
        label,
        ~label & other,
        other | label.is_valid(),
        pc.field(name).isin([100]),
        label.cast("int8") == 1,
    ):
        assert reader.groups(expression, reader.schema) == [0, 1, 2, 3, 4]
