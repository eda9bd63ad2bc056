"""Frames of polars and Arrow as results, and in tasks."""

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal
from prefect import flow, task

from clinops_prefect import ArtifactExistsError, DataFrameSerializer, LocalPipelineStore, UnsupportedResultError
from clinops_prefect.tasks import download_artifact, upload_artifact

FRAME = pl.DataFrame({"id": [1, 2], "grade": pl.Series(["a", None], dtype=pl.Enum(["b", "a"])), "l": [[1], None]})
TABLE = pa.table({"id": pa.array([1, 2], pa.int8()), "unit": pa.array(["a", "b"], pa.string_view())})


def again(value: Any) -> Any:
    serializer = DataFrameSerializer()
    return serializer.loads(serializer.dumps(value))


def test_a_result_comes_back_as_the_kind_that_it_was() -> None:
    assert_frame_equal(again(FRAME), FRAME)
    assert again(TABLE).equals(TABLE)
    found = again({"polars": [FRAME], "arrow": (TABLE, 1), "pandas": pd.DataFrame({"a": [1]})})
    assert_frame_equal(found["polars"][0], FRAME)
    assert found["arrow"][0].equals(TABLE)
    assert isinstance(found["pandas"], pd.DataFrame)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (FRAME.lazy(), "value.collect()"),
        (TABLE.to_batches()[0], "pa.Table.from_batches"),
        (TABLE.to_reader(), "value.read_all()"),
        (FRAME["id"], "value.to_frame()"),
    ],
)
def test_a_result_that_would_come_back_as_something_else_is_refused(value: Any, remedy: str) -> None:
    with pytest.raises(UnsupportedResultError) as caught:
        again({"labs": value})
    assert "result['labs']" in str(caught.value)
    assert remedy in str(caught.value)


def test_tasks_take_and_give_every_kind(tmp_path: Path) -> None:
    store = LocalPipelineStore(str(tmp_path / "store"))

    @task
    def labs() -> pl.DataFrame:
        return FRAME

    @flow
    def daily() -> Any:
        upload_artifact(store, labs(), "polars", overwrite=False)
        upload_artifact(store, FRAME.lazy(), "lazy")
        upload_artifact(store, TABLE, "arrow")
        upload_artifact(store, TABLE.to_reader(), "reader", overwrite=False)
        return [download_artifact(store, name, as_=kind) for name, kind in (("polars", "polars"), ("arrow", "arrow"))]

    frame, table = daily()
    assert_frame_equal(frame, FRAME)
    assert table.equals(TABLE)
    assert_frame_equal(store.download("lazy", as_="polars"), FRAME)
    assert store.download("reader", as_="arrow").equals(TABLE)
    with pytest.raises(ArtifactExistsError):
        upload_artifact(store, FRAME, "polars", overwrite=False)
