"""The number of rows of a file, estimated from its beginning."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flows.sources.sizes import estimated_rows


@pytest.mark.parametrize("rows", [100, 150_000])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.bz2", "a.csv.zst", "a.parquet", "a.ndjson.gz"])
def test_rows_are_estimated(name: str, rows: int, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"id": random.integers(1e7, 2e7, rows), "value": random.normal(80, 9, rows)})
    path = tmp_path / name
    if name == "a.parquet":
        frame.to_parquet(path)
    else:
        text = frame.to_csv(index=False) if "csv" in name else "".join(f"{json.dumps([n])}\n" for n in frame["value"])
        with pa.output_stream(str(path)) as file:
            file.write(text.encode())
    assert estimated_rows(path) == pytest.approx(rows, rel=0.25)


def test_there_is_no_estimate_for_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no")
    (tmp_path / "a.csv").touch()
    assert estimated_rows(tmp_path / "a.parquet") == estimated_rows(tmp_path / "a.csv") == 0
    assert estimated_rows(tmp_path / "nothing.csv") == 0
