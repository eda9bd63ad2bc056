"""Artifacts as earlier versions wrote them, and under either pandas: committed, and read again by every test run.

`python -m tests.archive NAME` writes `NAME.zip` with the versions at hand. What is in an archive is never made again.
"""

import datetime as dt
import decimal
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
from dateutil import tz

FOLDER = Path(__file__).parent
_BERLIN = "Europe/Berlin"
# Each dtype of text is said in full: what "str" stands for depends on the version of pandas.
TEXTS = {
    "object": np.dtype(object),
    "str": pd.StringDtype("pyarrow", na_value=np.nan),
    "str, python": pd.StringDtype("python", na_value=np.nan),
    "string": pd.StringDtype("pyarrow", na_value=pd.NA),
    "string, python": pd.StringDtype("python", na_value=pd.NA),
}


def _index(values: object, dtype: object = None, name: object = None) -> pd.Index:
    return pd.Index(values, dtype=dtype, name=name)  # type: ignore[call-overload,no-any-return]


def _stamps(unit: str, zone: str | None = None) -> pd.Series:
    stamps = pd.Series(pd.DatetimeIndex(["1970-01-01", None, "2110-06-30 23:59:59"])).dt.as_unit(unit)
    return stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)


def _values() -> pd.DataFrame:
    columns: dict[str, object] = {
        **{kind: pd.Series([0, 1, 100], dtype=kind) for kind in ("int8", "uint16", "int32", "int64", "uint64")},
        **{kind: pd.Series([0.5, np.nan, -0.0], dtype=kind) for kind in ("float16", "float32", "float64")},
        **{kind: pd.Series([1, pd.NA, 100], dtype=kind) for kind in ("Int8", "UInt32", "Int64", "Float64")},
        "bool": [True, False, True],
        "boolean": pd.Series([True, pd.NA, False], dtype="boolean"),
        **{name: pd.Series(["007", "", None], dtype=dtype) for name, dtype in TEXTS.items()},
        **{f"datetime64[{unit}]": _stamps(unit) for unit in ("s", "ms", "us", "ns")},
        "in Berlin": _stamps("ns", _BERLIN),
        "in UTC": _stamps("us", "UTC"),
        "at an offset": _stamps("s", "+05:30"),
        **{
            f"timedelta64[{unit}]": pd.Series(pd.to_timedelta([0, -90, None], unit="s")).dt.as_unit(unit)
            for unit in ("s", "ms", "us", "ns")
        },
        **{
            f"category of {name}": pd.Series(
                ["b", None, "a"], dtype=pd.CategoricalDtype(_index(["b", "a", "unused"], dtype))
            )
            for name, dtype in TEXTS.items()
        },
        "ordered category": pd.Series([3, 1, 3], dtype=pd.CategoricalDtype(_index([3, 2, 1], "int64"), ordered=True)),
        "category of times": pd.Series(pd.Categorical.from_codes([1, -1, 0], pd.DatetimeIndex(_stamps("us")[[2, 0]]))),
        "period": pd.Series(pd.period_range("2110-01", periods=3, freq="M")),
        "bools as objects": pd.Series([True, False, None], dtype=object),
        "ints as objects": pd.Series([1, 2**62, None], dtype=object),
        "dates": pd.Series([dt.date(2110, 1, 1), dt.date(1899, 12, 31), None], dtype=object),
        "times of day": pd.Series([dt.time(1, 2, 3, 4), dt.time(0), None], dtype=object),
        "decimals": pd.Series([decimal.Decimal("1.50"), decimal.Decimal("-2.25"), None], dtype=object),
        "moments": pd.Series([dt.datetime(2110, 1, 1, 2), dt.datetime(1800, 1, 1), None], dtype=object),
        "text with nan": pd.Series(["007", "x", np.nan], dtype=object),
        "text with NA": pd.Series(["007", "x", pd.NA], dtype=object),
        "arrow text": pd.Series(["007", "", None], dtype=pd.ArrowDtype(pa.string())),
        "arrow int": pd.Series([1, 2, None], dtype=pd.ArrowDtype(pa.int32())),
        "arrow date": pd.Series([dt.date(2110, 1, 1), None, None], dtype=pd.ArrowDtype(pa.date32())),
    }
    return pd.DataFrame(columns, columns=_index(list(columns), TEXTS["str"]))


def _parquet_only() -> pd.DataFrame:
    columns: dict[str, object] = {
        "bytes": pd.Series([b"\x00\xff", b"", None], dtype=object),
        "lists": pd.Series([[1, 2], [], None], dtype=object),
        "dicts": pd.Series([{"a": 1}, {"a": 2}, None], dtype=object),
        "arrays": pd.Series([np.array([1.0, 2.0]), np.array([]), None], dtype=object),
        "interval": pd.Series(pd.interval_range(0, 3)),
        "interval of times": pd.Series(
            pd.arrays.IntervalArray.from_breaks(pd.DatetimeIndex(["2110", "2111", "2112", "2113"]).as_unit("ns"))
        ),
        "arrow list": pd.Series([[1], [], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    }
    return pd.DataFrame(columns, columns=_index(list(columns), TEXTS["object"]))


def _bands() -> pd.Index:
    return pd.IntervalIndex.from_breaks(_index([0, 18, 65], "int64"), closed="left")


def _values_since() -> pd.DataFrame:
    """What the first version refused, or gave back as something else."""
    moment = dt.datetime(2110, 1, 1, 8)
    zones = {
        "offset": dt.timezone(dt.timedelta(hours=-4)), "named offset": dt.timezone(dt.timedelta(hours=1), "CET"),
        "UTC": dt.UTC, "zoneinfo": ZoneInfo(_BERLIN), "dateutil": tz.gettz(_BERLIN), "dateutil's UTC": tz.tzutc(),
    }  # fmt: skip
    columns: dict[str, object] = {
        "age": pd.Series(pd.Categorical.from_codes([1, -1, 0], _bands(), ordered=True)),
        "month": pd.Series(pd.Categorical.from_codes([1, -1, 0], pd.period_range("2110-01", periods=2, freq="M"))),
        **{name: pd.Series([moment.replace(tzinfo=zone), None, None], dtype=object) for name, zone in zones.items()},
        **{
            f"dtype: {name}": pd.Series(pd.DatetimeIndex([moment, None, None]).as_unit("us").tz_localize(zone))
            # By its name a zone is pytz's with pandas 2, and the standard library's with pandas 3.
            for name, zone in {**zones, "zoneinfo": _BERLIN}.items()
        },
        "stamps": pd.Series([pd.Timestamp(moment).as_unit("ms"), None, None], dtype=object),
        "decimals": pd.Series([decimal.Decimal("1.5"), decimal.Decimal("98.25"), None], dtype=object),
        "numpy": pd.Series([np.float64(1.5), np.float64("nan"), np.float64(-0.0)], dtype=object),
    }
    return pd.DataFrame(columns, columns=_index(list(columns), TEXTS["string, python"]))


def _indexed(index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(np.arange(len(index), dtype="float64"), index=index, columns=_index(["x"], TEXTS["str"]))


def _labelled(labels: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(np.arange(2.0 * len(labels)).reshape(2, -1), columns=labels)


def _times(unit: str, **how: object) -> pd.DatetimeIndex:
    # The unit that a text stands for is another in each version.
    return pd.date_range("2110-01-01", periods=4, unit=unit, **how)  # type: ignore[call-overload,no-any-return]


def _with_attrs() -> pd.DataFrame:
    frame = _indexed(pd.RangeIndex(2, name="row"))
    frame.attrs = {"source": "mimic-iv", "window_hours": 6, "units": ["mmHg", None, 0.5]}
    return frame


FRAMES: dict[str, Callable[[], pd.DataFrame]] = {
    "values": _values,
    "values, no rows": lambda: _values().iloc[:0],
    "parquet only": _parquet_only,
    **{f"index of {n}": lambda dtype=d: _indexed(_index(["007", "b", "ä"], dtype, "code")) for n, d in TEXTS.items()},
    "index by steps": lambda: _indexed(pd.RangeIndex(5, 14, 3)),
    "index with a frequency": lambda: _indexed(_times("ns", freq="6h", name="t")),
    "index by business days": lambda: _indexed(_times("us", freq="B")),
    "index in Berlin": lambda: _indexed(_times("us", freq="D", tz=_BERLIN)),
    "index of periods": lambda: _indexed(pd.period_range("2110-01", periods=3, freq="M", name="month")),
    "index of categories": lambda: _indexed(
        pd.CategoricalIndex(["a", "b"], categories=_index(["b", "a", "c"], TEXTS["str"]), ordered=True, name="arm")
    ),
    "index of levels": lambda: _indexed(
        pd.MultiIndex.from_arrays(
            [
                _index([1, 1, 2], "int64"), *(_index(["a", "b", "a"], dtype) for dtype in TEXTS.values()),
                _times("ns", freq="D")[:3]._with_freq(None),
            ],
            names=["stay_id", *TEXTS, None],
        )
    ),
    **{f"labels of {n}": lambda dtype=d: _labelled(_index(["a", "b"], dtype, "variable")) for n, d in TEXTS.items()},
    "labels of ints": lambda: _labelled(_index([3, 1], "int64")),
    "labels of times": lambda: _labelled(_times("us", freq="D")[:2]),
    "labels of levels": lambda: _labelled(
        pd.MultiIndex.from_product(
            [_index(["hr", "sbp"], TEXTS["str"]), _index(["mean", "max"], TEXTS["object"])], names=["variable", None]
        )
    ),
    "labels of categories": lambda: _labelled(pd.CategoricalIndex(_index(["a", "b"], TEXTS["str"]))),
    "values since": _values_since,
    "labels since": lambda: _labelled(
        pd.MultiIndex.from_arrays(
            [pd.CategoricalIndex(_bands(), ordered=True), _index(["x", "y"], TEXTS["str, python"])], names=[1, 0]
        )
    ),
    "attrs": _with_attrs,
    "nothing": lambda: pd.DataFrame(index=pd.RangeIndex(3), columns=_index([], TEXTS["str"])),
}  # fmt: skip
