"""`as_=`: every artifact can be read as pandas, polars and Arrow, whichever of them wrote it."""

import asyncio
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from clinops_prefect import ArtifactColumnError, LocalPipelineStore, StorageFormat, UnsupportedFrameError

ROWS = 5


@pytest.fixture(params=list(StorageFormat))
def store(tmp_path: Path, request: pytest.FixtureRequest) -> LocalPipelineStore:
    return LocalPipelineStore(str(tmp_path), format=request.param)


def stays() -> pd.DataFrame:
    index = pd.Index([11, 12, 13, 14, 15], name="stay_id")
    times = pd.to_datetime([datetime(2024, 1, day, tzinfo=UTC) for day in range(1, ROWS + 1)])
    return pd.DataFrame({"lactate": [1.5, None, 2.5, 0.5, 9.0], "unit": list("ababa"), "at": times}, index=index)


def of_polars() -> pl.DataFrame:
    frame = pl.from_pandas(stays().reset_index())
    return frame.select("lactate", "unit", "at", "stay_id")


def test_a_pandas_frame_is_read_as_polars_and_arrow_with_its_index_as_a_column(store: LocalPipelineStore) -> None:
    store.upload(stays(), "stays")
    found = store.download("stays", as_="polars")
    assert isinstance(found, pl.DataFrame)
    assert_frame_equal(found, of_polars(), check_dtypes=False)
    table = store.download("stays", as_="arrow")
    assert table.column_names == ["lactate", "unit", "at", "stay_id"]
    assert table.column("lactate").null_count == 1
    # The notes about the stored file are not returned. The metadata of pandas are.
    assert not any(key.startswith(b"clinops.") for key in table.schema.metadata)
    pd.testing.assert_frame_equal(table.to_pandas(), stays(), check_dtype=False)
    assert isinstance(store.download("stays", as_="pandas"), pd.DataFrame)


def test_columns_and_filters_choose_an_index_level_by_its_name(store: LocalPipelineStore) -> None:
    store.upload(stays(), "stays")
    asked = {"columns": ["unit", "stay_id"], "filters": [("stay_id", ">", 13)]}
    expected = pl.DataFrame({"unit": ["b", "a"], "stay_id": [14, 15]})
    assert_frame_equal(store.download("stays", as_="polars", **asked), expected)
    assert store.download("stays", as_="arrow", columns=["unit"]).column_names == ["unit"]
    found = store.download("stays", as_="arrow", filters=pc.field("lactate") > 2)
    assert found.column("stay_id").to_pylist() == [13, 15]
    with pytest.raises(ArtifactColumnError, match=r"'stays_id'.*stay_id"):
        store.download("stays", as_="polars", columns=["stays_id"])


def test_batches_of_each_kind_add_up_to_the_whole(store: LocalPipelineStore) -> None:
    store.upload(stays(), "stays")
    frames = list(store.iter_batches("stays", rows=2, as_="polars"))
    assert [frame.height for frame in frames] == [2, 2, 1]
    assert_frame_equal(pl.concat(frames), store.download("stays", as_="polars"))
    tables = list(store.iter_batches("stays", rows=2, as_="arrow"))
    assert pa.concat_tables(tables).equals(store.download("stays", as_="arrow"))

    async def batches() -> list[pl.DataFrame]:
        return [frame async for frame in store.aiter_batches("stays", rows=2, as_="polars")]

    assert_frame_equal(pl.concat(asyncio.run(batches())), pl.concat(frames))
    assert_frame_equal(asyncio.run(store.adownload("stays", as_="polars")), pl.concat(frames))


def test_an_empty_result_has_the_kind_and_an_unknown_kind_is_refused(store: LocalPipelineStore) -> None:
    store.upload(stays().iloc[:0], "stays")
    (empty,) = store.iter_batches("stays", as_="polars")
    assert empty.columns == ["lactate", "unit", "at", "stay_id"]
    assert not len(empty)
    for call in (store.download, lambda name, as_: next(store.iter_batches(name, as_=as_))):
        with pytest.raises(TypeError, match=r"as_='spark'.*'pandas', 'polars', 'arrow'"):
            call("stays", as_="spark")


def test_the_schema_of_another_file_in_the_metadata_is_kept_as_metadata(tmp_path: Path) -> None:
    """Who copies the metadata of a Parquet file onto a table copies pyarrow's description of its types, too."""
    store = LocalPipelineStore(str(tmp_path))
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"t": pa.array([0], pa.timestamp("us", "UTC")), "n": pa.array([1], pa.duration("us"))}), sink
    )
    for described in (pq.read_metadata(sink).metadata, {b"ARROW:schema": b"abc"}):
        table = pa.table({"t": pa.array([0], pa.timestamp("us", "Europe/Berlin")), "n": [7]})
        table = table.replace_schema_metadata({**described, b"unit": b"mg"})
        store.upload(table, "a")
        store.upload_batches([table, table], "b")
        found = store.download("a", as_="arrow")
        assert found.equals(table, check_metadata=True)
        assert store.download("b", as_="arrow").equals(pa.concat_tables([table, table]), check_metadata=True)


@pytest.mark.parametrize("format", StorageFormat)
def test_run_ends_of_joined_batches_are_counted_anew(format: StorageFormat, tmp_path: Path) -> None:
    store = LocalPipelineStore(str(tmp_path), format=format)
    batches = [pa.table({"x": pc.run_end_encode(pa.array(np.full(20_000, k)), pa.int16())}) for k in range(3)]
    store.upload_batches(batches, "a")
    found = store.download("a", as_="arrow")
    found.validate(full=True)
    assert found.schema == batches[0].schema
    assert pa.chunked_array(map(pc.run_end_decode, found["x"].chunks)).to_pylist() == [*np.repeat(range(3), 20_000)]
    assert sum(batch.num_rows for batch in store.iter_batches("a", as_="arrow")) == 60_000


@pytest.mark.parametrize("freq", [pd.DateOffset(months=1), pd.offsets.Easter()])
def test_a_frequency_that_pandas_cannot_read_is_refused(freq: Any, tmp_path: Path) -> None:
    times = pd.date_range("2020-01-31", periods=3, freq=freq)
    for frame in (pd.DataFrame({"x": [1, 2, 3]}, index=times), pd.DataFrame([[1, 2, 3]], columns=times)):
        with pytest.raises(UnsupportedFrameError, match=r"the frequency .* cannot be kept; set its freq to None"):
            LocalPipelineStore(str(tmp_path)).upload(frame, "a")


def _cells(*cells: Any) -> pd.DataFrame:
    held = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        held[place] = cell
    return pd.DataFrame({"k": range(len(cells)), "x": held})


def test_an_array_of_booleans_in_a_cell_does_not_depend_on_the_other_rows(tmp_path: Path) -> None:
    """pandas makes arrays of objects of all rows if one of them has a missing boolean."""
    store = LocalPipelineStore(str(tmp_path))
    plain, missing = np.array([True, False]), np.array([True, None], dtype=object)
    for whole in (_cells(plain, missing), _cells({"a": plain}, {"a": missing})):
        for name, upload in (("a", store.upload), ("b", store.upload_batches)):
            upload(whole if name == "a" else [whole.iloc[:1], whole.iloc[1:]], name)  # type: ignore[operator]
            read = [store.download(name)["x"].tolist()]
            read += [[store.download(name, filters=[("k", "==", k)])["x"].iloc[0] for k in (0, 1)]]
            for cells in read:
                arrays = [cell["a"] if isinstance(cell, dict) else cell for cell in cells]
                assert [array.dtype for array in arrays] == [bool, object]
                assert [array.tolist() for array in arrays] == [[True, False], [True, None]]
    # No row alone could say that these booleans are objects.
    with pytest.raises(UnsupportedFrameError, match="'x'"):
        store.upload(_cells(missing, plain.astype(object)), "c")
