"""Results of version 0.1 stay readable: `stored_results.json` has one result of each kind that its serializer wrote."""

import base64
import datetime as dt
import decimal
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import DataFrameSerializer
from clinops_prefect.results.guard import check_result
from tests.same_value import same
from tests.unit.test_serializer import BERLIN, FRAME

STORED = json.loads((Path(__file__).parent / "stored_results.json").read_text())
SERIES = pd.Series([1.5, None], index=["a", "b"])
EXPECTED: dict[str, Any] = {
    "frame": FRAME, "frame in an envelope": FRAME,
    "frames": {"frames": [FRAME, FRAME.iloc[:0]], "pair": (FRAME, None)},
    "series": SERIES.rename("values"), "series nameless": SERIES, "series tuple": pd.Series([1, 2], name=("a", "b")),
    "array": np.arange(6, dtype="<i2").reshape(2, 3), "array empty": np.array([], "f4"), "array 0-d": np.array(1.5),
    "array times": np.array(["2024-01-01", "NaT"], "M8[h]"),
    "scalar": [np.float32(1.5), np.int8(-3), np.bool_(True), np.datetime64("2024-01-01", "D")],
    "timestamp": [
        pd.Timestamp("2024-01-01 00:00:00.000000001", tz="Europe/Berlin"), pd.Timestamp("2024-01-01").as_unit("s"),
        pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2024-01-01T08:00:00-04:00"),
        pd.Timestamp("2024-10-27T01:30Z").tz_convert("Europe/Berlin"),
    ],
    "timedelta64": [pd.Timedelta(1, "ns"), pd.Timedelta(5, "s").as_unit("s"), pd.Timedelta(-7, "ms").as_unit("ms")],
    "datetime": [
        dt.datetime(2024, 1, 1, tzinfo=BERLIN), dt.datetime(2024, 10, 27, 2, 30),
        dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    ],
    "date": dt.date(2024, 2, 29), "time": [dt.time(23, 59, 59, 999999), dt.time(1, tzinfo=dt.UTC)],
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "decimal": [decimal.Decimal("1.10"), decimal.Decimal("NaN"), decimal.Decimal("-0")], "uuid": uuid.UUID(int=7),
    "bytes": b"\x00\xff", "tuple": (1, "a", (2,)), "set": {1, 2}, "frozenset": frozenset({"a"}), "path": Path("a/b"),
    "float": [float("inf"), float("-inf"), float("nan"), -0.0], "missing": [pd.NA, pd.NaT],
    "dict": {1: "a", (2, 3): "b"}, "tagged": {"__clinops__": "frame", "value": "no frame"},
    "plain": [None, True, 0, -(2**70), 1.5, "", "\x00é\ud7ff", {"a": {"b": [1]}}, "\ud800"],
}  # fmt: skip


def test_there_is_a_stored_result_of_each_kind() -> None:
    assert STORED.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_results_of_version_0_1_are_still_read(name: str) -> None:
    blob = base64.b64decode(STORED[name])
    if name != "frame in an envelope":
        check_result(blob, "memory://")
    assert same(DataFrameSerializer().loads(blob), EXPECTED[name])
