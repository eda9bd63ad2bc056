"""Frames with every dtype, index and label that pandas has. Each of them was once changed by some store.

`FRAMES` must come back equal from Parquet. CSV must refuse those in `NOT_IN_CSV`. Both must refuse `REFUSED`.
"""

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from dateutil import tz

from tests.sameness import assert_identical

NAMES = ["a", "b", "c"]
# pandas 3 calls this dtype `str`. In pandas 2.3, `str` means objects.
STR = pd.StringDtype("pyarrow", na_value=np.nan)
_AGES = pd.Series([0.5, np.nan, 64.0])


def _each(**columns: object) -> pd.DataFrame:
    return pd.DataFrame(columns)


def _clinical() -> pd.DataFrame:
    """A frame of typical clinical data: keys, times, many sparse float columns, codes with leading zeros."""
    rng = np.random.default_rng(7)
    values = rng.normal(80, 10, size=(60, 12)).round(1)
    values[rng.random(values.shape) < 0.6] = np.nan
    frame = pd.DataFrame(values, columns=[f"vital_{i}_mean" for i in range(12)])
    frame.insert(0, "stay_id", np.arange(30_000_000, 30_000_060))
    frame.insert(1, "window_start", pd.date_range("2110-01-01", periods=60, freq="6h"))
    frame.insert(2, "icd_code", [f"{i:05d}" for i in range(60)])
    return frame


def _stamps(zone: str | None, unit: str) -> pd.Series:
    stamps = pd.Series(pd.to_datetime(["1970-01-01 00:00:00", "2110-06-30 23:59:59", None])).dt.as_unit(unit)
    return stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)


def _indexed(index: pd.Index) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(len(index), dtype="float64")}, index=index)


def _labelled(labels: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(np.arange(2.0 * len(labels)).reshape(2, -1), columns=labels)


def _hours(hours: float, name: str | None = None) -> dt.timezone:
    offset = dt.timedelta(hours=hours)
    return dt.timezone(offset) if name is None else dt.timezone(offset, name)


def _around_a_change(zone: dt.tzinfo | None) -> list[dt.datetime]:
    """A time in the hour that occurs twice on 2023-10-29, once in summer time and once in winter time."""
    assert zone is not None
    return [dt.datetime(2023, 10, 29, 2, 30, tzinfo=zone), dt.datetime(2023, 10, 29, 2, 30, tzinfo=zone, fold=1)]


_OBJECTS: dict[str, list[object]] = {
    "text": ["007", "", None],
    "text with nan": ["007", "x", np.nan],
    "text with NA": ["007", "x", pd.NA],
    "ints": [1, 2**62, None],
    "bools": [True, False, None],
    "floats": [1.5, -0.0, None],
    "dates": [dt.date(2110, 1, 1), dt.date(1899, 12, 31), None],
    "times": [dt.time(1, 2, 3, 4), dt.time(0), None],
    "decimals": [decimal.Decimal("1.50"), decimal.Decimal("-2.25"), None],
    "bytes": [b"\x00\xff", b"", None],
    "all None": [None, None, None],
    "moments": [dt.datetime(2110, 1, 1, 8), dt.datetime(1800, 1, 1), None],
    "moments at an offset": [
        dt.datetime(2110, 1, 1, 8, tzinfo=_hours(-4)),
        dt.datetime(1800, 1, 1, tzinfo=_hours(-4)),
        None,
    ],
    "moments in UTC": [dt.datetime(2110, 1, 1, 8, tzinfo=dt.UTC), None, None],
    "moments in Berlin": [*_around_a_change(ZoneInfo("Europe/Berlin")), None],
    "moments in dateutil's Berlin": [*_around_a_change(tz.gettz("Europe/Berlin")), None],
    "moments at dateutil's offset": [dt.datetime(2110, 1, 1, tzinfo=tz.tzoffset(None, -14_400)), None, None],
    "stamps in Berlin": [*(pd.Timestamp(at).as_unit("us") for at in _around_a_change(ZoneInfo("Europe/Berlin"))), None],
    "stamps": [pd.Timestamp("2110-01-01").as_unit("ms"), pd.NaT, pd.NaT],
    "deltas": [pd.Timedelta(1, "s").as_unit("us"), pd.NaT, pd.NaT],
    "decimals of other scales": [decimal.Decimal("1.5"), decimal.Decimal("98.25"), decimal.Decimal(-7)],
    "numpy floats": [np.float64(1.5), np.float64("nan"), np.float64(-0.0)],
    "numpy ints": [np.int16(7), None, np.int16(-7)],
    "numpy bools": [np.True_, np.False_, None],
    "numpy texts": [np.str_("007"), np.str_(""), None],
}
_NESTED: dict[str, list[object]] = {
    "lists": [[1, 2], [], None],
    "dicts": [{"a": 1}, {"a": 2}, None],
    "arrays": [np.array([1.0, 2.0]), np.array([]), None],
    "lists of moments": [[dt.datetime(2110, 1, 1, tzinfo=_hours(-4))], [], None],
    "dicts of moments": [{"at": dt.datetime(2110, 1, 1, tzinfo=tz.tzutc())}, {"at": None}, None],
}

_DTYPES: dict[str, pd.Series] = {
    **{kind: pd.Series([0, 1, 100], dtype=kind) for kind in ("int8", "int16", "int32", "int64")},
    **{kind: pd.Series([0, 1, 100], dtype=kind) for kind in ("uint8", "uint16", "uint32", "uint64")},
    **{kind: pd.Series([0.0, -1.5, np.nan], dtype=kind) for kind in ("float16", "float32", "float64")},
    **{kind: pd.Series([0, 1, pd.NA], dtype=kind) for kind in ("Int8", "Int16", "Int32", "Int64")},
    **{kind: pd.Series([0, 1, pd.NA], dtype=kind) for kind in ("UInt8", "UInt16", "UInt32", "UInt64")},
    **{kind: pd.Series([0.0, -1.5, pd.NA], dtype=kind) for kind in ("Float32", "Float64")},
    "bool": pd.Series([True, False, True]),
    "boolean": pd.Series([True, False, pd.NA], dtype="boolean"),
    "str": pd.Series(["007", "", None], dtype=STR),
    "str in Python": pd.Series(["007", "", None], dtype=pd.StringDtype("python", na_value=np.nan)),
    "string python": pd.Series(["007", "", pd.NA], dtype=pd.StringDtype("python")),
    "string pyarrow": pd.Series(["007", "", pd.NA], dtype=pd.StringDtype("pyarrow")),
    "awkward text": pd.Series(['a "quoted", one', "two\nlines\r\n", " NaN NULL nan é 漢 \u2028 "], dtype=STR),
    "infinities": pd.Series([np.inf, -np.inf, np.nan]),
    "extremes": pd.Series([np.finfo("float64").tiny, np.finfo("float64").max, 5e-324]),
    "large ints": pd.Series([2**63 - 1, -(2**63), 2**53 + 1]),
    "large uints": pd.Series([2**64 - 1, 2**63, 0], dtype="uint64"),
    **{f"datetime64[{unit}]": _stamps(None, unit) for unit in ("s", "ms", "us", "ns")},
    **{
        f"datetime64[{unit}, {zone}]": _stamps(zone, unit)
        for unit, zone in [("ns", "UTC"), ("us", "Europe/Berlin"), ("s", "America/New_York"), ("ms", "+05:30")]
    },
    **{
        f"timedelta64[{unit}]": pd.Series(pd.to_timedelta([0, -90_000, None], unit="s")).dt.as_unit(unit)
        for unit in ("s", "ms", "us", "ns")
    },
    "category": pd.Series(["b", None, "a"], dtype=pd.CategoricalDtype(["b", "a", "unused"])),
    "ordered category": pd.Series(["mild", "grave", None], dtype=pd.CategoricalDtype(["mild", "grave"], ordered=True)),
    "category of ints": pd.Series([3, 1, 3], dtype=pd.CategoricalDtype([3, 2, 1])),
    "category of stamps": pd.Series(pd.Categorical(pd.to_datetime(["2110-01-01", "2110-01-02", "2110-01-01"]))),
    "category of intervals": pd.cut(_AGES, [0, 18, 65, 120], right=False),
    "category of quantiles": pd.qcut(_AGES, 2),
    "category of intervals of stamps": pd.cut(_stamps(None, "ns"), pd.DatetimeIndex(["1900", "2000", "2200"])),
    "category of closed intervals": pd.Series(
        pd.Categorical.from_codes([1, -1, 0], pd.IntervalIndex.from_breaks([0, 1, 2], closed="both"), ordered=True)
    ),
    "category of periods": pd.Series(pd.Categorical(pd.period_range("2110-01", periods=3, freq="M"))),
    "category of nothing": pd.Series([None, None, None], dtype=pd.CategoricalDtype(["a"])),
    "arrow int": pd.Series([1, 2, None], dtype=pd.ArrowDtype(pa.int32())),
    "arrow text": pd.Series(["007", "", None], dtype=pd.ArrowDtype(pa.string())),
    "arrow date": pd.Series([dt.date(2110, 1, 1), None, dt.date(1970, 1, 1)], dtype=pd.ArrowDtype(pa.date32())),
    "arrow stamp": pd.Series(_stamps(None, "us"), dtype=pd.ArrowDtype(pa.timestamp("us", "Europe/Berlin"))),
    "arrow decimal": pd.Series([decimal.Decimal("1.50"), None, None], dtype=pd.ArrowDtype(pa.decimal128(9, 2))),
}
_OPEN_DTYPES: dict[str, pd.Series] = {
    "period": pd.Series(pd.period_range("2110-01", periods=3, freq="M")),
    "interval": pd.Series(pd.interval_range(0, 3)),
    "interval of stamps": pd.Series(pd.interval_range(pd.Timestamp("2110"), periods=3)),
    "arrow list": pd.Series([[1], [], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
}

_INDEXES: dict[str, pd.Index] = {
    "range": pd.RangeIndex(3),
    "range with a name": pd.RangeIndex(3, name="row"),
    "range from 5 by 3": pd.RangeIndex(5, 14, 3),
    "range backwards": pd.RangeIndex(3, 0, -1),
    "ints": pd.Index([3, 1, 2]),
    "named ints": pd.Index([3, 1, 2], name="stay_id"),
    "ints that repeat": pd.Index([1, 1, 1], name="stay_id"),
    "text": pd.Index(["007", "b", "ä"], name="code"),
    "objects": pd.Index(["007", "b", None], dtype=object),
    "floats": pd.Index([0.5, np.nan, -1.0]),
    "bools": pd.Index([True, False, True]),
    "stamps with a freq": pd.date_range("2110-01-01", periods=4, freq="6h", name="t"),
    "stamps without": pd.DatetimeIndex(["2110-01-01", "2110-01-05", "2110-01-02"]),
    "stamps with a zone": pd.date_range("2110-03-29", periods=3, freq="D", tz="Europe/Berlin"),
    "business days": pd.bdate_range("2110-01-01", periods=4),
    "month ends": pd.date_range("2110-01-31", periods=4, freq="ME"),
    "deltas with a freq": pd.timedelta_range("1h", periods=3, freq="h"),
    "categories": pd.CategoricalIndex(["a", "b", "a"], categories=["b", "a", "c"], ordered=True, name="arm"),
    "nullable": pd.Index([1, None, 3], dtype="Int64"),
    "Python strings": pd.Index(["007", "b"], dtype=pd.StringDtype("python", na_value=np.nan)),
    "moments in Berlin": pd.Index(_around_a_change(ZoneInfo("Europe/Berlin")), dtype=object),
    "age bands": pd.CategoricalIndex(pd.cut([1.0, 70.0], [0, 65, 120]), name="age"),
    "multi of age bands": pd.MultiIndex.from_arrays([pd.cut([1.0, 70.0], [0, 65, 120]), ["a", "b"]], names=["age", 0]),
    "multi": pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")], names=["stay_id", "code"]),
    "multi with the row's number": pd.MultiIndex.from_arrays([["a", "a", "b"], range(3)], names=["stay_id", None]),
    "multi of two ranges": pd.MultiIndex.from_arrays([range(3), range(5, 11, 2)], names=["row", "step"]),
    "multi without names": pd.MultiIndex.from_product([[1, 2], ["x"]]),
    "multi with one name": pd.MultiIndex.from_arrays([[1, 2], [3, 4]], names=[None, "b"]),
    "multi of stamps": pd.MultiIndex.from_product([pd.date_range("2110", periods=2), ["x"]], names=["t", "k"]),
    "named as a column": pd.Index([3, 1, 2], name="x"),
    "multi named by the others' numbers": pd.MultiIndex.from_arrays([["x", "y"], [1, 2]], names=[1, 0]),
    "named by a number": pd.Index([3, 1, 2], name=0),
}
_OPEN_INDEXES: dict[str, pd.Index] = {
    "periods": pd.period_range("2110-01", periods=3, freq="M", name="month"),
    "intervals": pd.IntervalIndex.from_breaks([0, 1, 2], closed="left", name="bin"),
}

_LABELS: dict[str, pd.Index] = {
    "odd": pd.Index(["", " ", "a b", "a.b", "a,b", '"', "ä 漢", "\u00a0", "index", "__index_level_0__"]),
    "case": pd.Index(["a", "A"]),
    "objects": pd.Index(["a", "b"], dtype=object),
    "ints": pd.Index([3, 1]),
    "range": pd.RangeIndex(2),
    "range from 5": pd.RangeIndex(5, 9, 2),
    "floats": pd.Index([0.5, 1.5]),
    "stamps": pd.DatetimeIndex(["2110-01-01", "2110-02-01"]),
    "named": pd.Index(["a", "b"], name="variable"),
    "multi": pd.MultiIndex.from_product([["hr", "sbp"], ["mean", "max"]], names=["variable", None]),
    "multi named by the others' numbers": pd.MultiIndex.from_arrays([["hr", "sbp"], ["x", "y"]], names=[1, 0]),
    "multi of numbers": pd.MultiIndex.from_product([["hr"], [6, 12]]),
    "categories": pd.CategoricalIndex(["a", "b"]),
    "Python strings": pd.Index(["a", "b"], dtype=pd.StringDtype("python")),
    "Python strings with nan": pd.Index(["a", "b"], dtype=pd.StringDtype("python", na_value=np.nan)),
    "pyarrow strings": pd.Index(["a", "b"], dtype=pd.StringDtype("pyarrow")),
    "age bands": pd.CategoricalIndex(pd.cut([1.0, 70.0], [0, 65, 120])),
    "intervals": pd.IntervalIndex.from_breaks([0.0, 1.0, 2.5], closed="both"),
    "intervals of stamps": pd.interval_range(pd.Timestamp("2110"), periods=2),
    "periods": pd.period_range("2110", periods=2, freq="Y"),
    "moments": pd.Index(
        [dt.datetime(2110, 1, 1, tzinfo=_hours(-4)), dt.datetime(2111, 1, 1, tzinfo=_hours(-4))], dtype=object
    ),
}

FRAMES: dict[str, pd.DataFrame] = {
    "clinical": _clinical(),
    **{f"dtype: {name}": _each(a=values, b=range(3)) for name, values in (_DTYPES | _OPEN_DTYPES).items()},
    **{
        f"objects: {name}": _each(a=pd.Series(values, dtype=object), b=range(3))
        for name, values in (_OBJECTS | _NESTED).items()
    },
    **{f"index: {name}": _indexed(index) for name, index in (_INDEXES | _OPEN_INDEXES).items()},
    **{f"labels: {name}": _labelled(labels) for name, labels in _LABELS.items()},
    "empty: no rows": _clinical().iloc[:0],
    "empty: no rows, all dtypes": pd.DataFrame({k: v.iloc[:0] for k, v in _DTYPES.items()}),
    "empty: no columns": pd.DataFrame(index=pd.RangeIndex(3)),
    "empty: only an index": pd.DataFrame(index=pd.Index(["a", "b"], name="k")),
    "empty: nothing": pd.DataFrame(),
    "empty: nothing, labels of text": pd.DataFrame(columns=pd.Index([], dtype="str")),
    "one row": _clinical().iloc[:1],
    "a slice with its index": _clinical().iloc[10:20],
    "not in memory order": _clinical()[["vital_3_mean", "stay_id", "icd_code"]].iloc[::-1],
    "attrs": None,  # type: ignore[dict-item]
}
_with_attrs = _clinical().iloc[:2].copy()
_with_attrs.attrs = {"source": "mimic-iv", "window_hours": 6}
FRAMES["attrs"] = _with_attrs

NOT_IN_CSV = {
    "objects: bytes", "objects: lists", "objects: dicts", "objects: arrays",
    "objects: lists of moments", "objects: dicts of moments",
    "dtype: interval", "dtype: interval of stamps", "dtype: arrow list", "index: intervals",
}  # fmt: skip


class _Arm(enum.Enum):
    A = 1


class _FrameOfAnotherKind(pd.DataFrame):
    pass


SECRET = "Jane-Doe-MRN-4711"


def _mixed() -> pd.DataFrame:
    return _each(ok=[1, 2], lactate=pd.Series([SECRET, 4711_0815], dtype=object))


# From what is wrong to the frame, and the text that the message must contain.
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "duplicate column": (lambda: pd.DataFrame([[1, SECRET]], columns=["hr", "hr"]), "hr"),
    "mixed types": (_mixed, "lactate"),
    "text and bytes": (lambda: _each(lactate=pd.Series([SECRET, SECRET.encode()], dtype=object)), "lactate"),
    "int and text deep": (lambda: _each(lactate=pd.Series([[SECRET], [1]], dtype=object)), "lactate"),
    "bool and int": (lambda: _each(lactate=pd.Series([True, 4711_0815], dtype=object)), "lactate"),
    "int and float": (lambda: _each(lactate=pd.Series([1.5, 4711_0815], dtype=object)), "lactate"),
    "None and nan": (lambda: _each(lactate=pd.Series([SECRET, None, np.nan], dtype=object)), "lactate"),
    "two markers": (lambda: _each(lactate=pd.Series([SECRET, pd.NaT, pd.NA], dtype=object)), "lactate"),
    "signalling NaN": (lambda: _each(lactate=pd.Series([decimal.Decimal("sNaN4711"), None], dtype=object)), "lactate"),
    "huge ints": (lambda: _each(lactate=pd.Series([2**70, 1], dtype=object)), "lactate"),
    "lone surrogate": (lambda: _each(lactate=pd.Series([f"{SECRET}\ud800"], dtype=object)), "lactate"),
    "enum members": (lambda: _each(lactate=pd.Series([_Arm.A], dtype=object)), "lactate"),
    "any object": (lambda: _each(lactate=pd.Series([object()], dtype=object)), "lactate"),
    "sets": (lambda: _each(lactate=pd.Series([{SECRET}], dtype=object)), "lactate"),
    "complex": (lambda: _each(lactate=[4711 + 815j]), "lactate"),
    "sparse": (lambda: _each(lactate=pd.arrays.SparseArray([0.0, 4711.0])), "lactate"),
    "duplicate level names as labels": (
        lambda: pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("hr", "a"), ("hr", "a")])),
        "hr",
    ),
    "labels 1 and '1'": (lambda: pd.DataFrame([[1, 2]], columns=pd.Index([1, "1"], dtype=object)), "1"),
    "mixed index": (lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index([SECRET, 1], dtype=object)), "index"),
    "attrs": (lambda: _frame_with(attrs={"x": {1, 2}}), "attrs"),
    "a series": (lambda: pd.Series([1], name="hr"), "Series"),
    "a subclass": (lambda: _FrameOfAnotherKind({"a": [1]}), "_FrameOfAnotherKind"),
    "a dictionary": (lambda: {"a": [1]}, "dict"),
    "nothing": (lambda: None, "NoneType"),
    "a polars series": (lambda: pl.Series("lactate", [SECRET]), "a polars.Series, .* pass its .to_frame"),
    "objects in polars": (lambda: pl.DataFrame({"lactate": pl.Series([{SECRET}], dtype=pl.Object)}), "'lactate'"),
    "an Arrow array": (lambda: pa.chunked_array([[SECRET]]), "a pyarrow.ChunkedArray, which has no columns"),
    "an Arrow union": (
        lambda: pa.table({"lactate": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([SECRET])])}),
        "'lactate'",
    ),
    "a list": (lambda: [{"lactate": SECRET}], "pass pd.DataFrame"),
    "NaN of a Decimal": (
        lambda: _each(lactate=pd.Series([decimal.Decimal("NaN"), None], dtype=object)),
        "'lactate' marks missing values with a Decimal",
    ),
    "only NaN of a Decimal": (lambda: _each(lactate=[decimal.Decimal("NaN"), decimal.Decimal(1)]), "with a Decimal"),
    "NaT of NumPy beside text": (
        lambda: _each(lactate=pd.Series([SECRET, np.datetime64("NaT")], dtype=object)),
        "'lactate' marks missing values with a datetime64",
    ),
}

# A store may keep or refuse these frames, but must not return another frame.
EITHER: dict[str, Callable[[], pd.DataFrame]] = {
    "uuids": lambda: _each(a=pd.Series([uuid.UUID(int=7)], dtype=object)),
    "timestamps as objects": lambda: _each(a=pd.Series([pd.Timestamp("2110-01-01"), None], dtype=object)),
    "zoned timestamps as objects": lambda: _each(
        a=pd.Series([pd.Timestamp("2110-01-01", tz="UTC"), pd.Timestamp("2110", tz="Asia/Tokyo")], dtype=object)
    ),
    "datetimes as objects": lambda: _each(a=pd.Series([dt.datetime(2110, 1, 1)], dtype=object)),
    "dates and datetimes": lambda: _each(a=pd.Series([dt.date(2110, 1, 1), dt.datetime(2110, 1, 1)], dtype=object)),
    "timedeltas as objects": lambda: _each(a=pd.Series([dt.timedelta(days=1)], dtype=object)),
    "tuples": lambda: _each(a=pd.Series([(1, 2), (3,)], dtype=object)),
    "nested lists": lambda: _each(a=pd.Series([[[1], [2, 3]], [[]]], dtype=object)),
    "dicts of other keys": lambda: _each(a=pd.Series([{"a": 1}, {"b": 2}], dtype=object)),
    "all nan": lambda: _each(a=pd.Series([np.nan, np.nan], dtype=object)),
    "all NaT": lambda: _each(a=pd.Series([pd.NaT, pd.NaT], dtype=object)),
    "decimals of other scales": lambda: _each(
        a=pd.Series([decimal.Decimal("1.5"), decimal.Decimal("1.50")], dtype=object)
    ),
    "decimal infinity": lambda: _each(a=pd.Series([decimal.Decimal("Infinity")], dtype=object)),
    "numpy scalars": lambda: _each(a=pd.Series([np.int8(1), np.int8(2)], dtype=object)),
    "numpy ints of two sizes": lambda: _each(a=pd.Series([np.int8(1), np.int64(2)], dtype=object)),
    "periods as objects": lambda: _each(a=pd.Series([pd.Period("2110-01", "M")], dtype=object)),
    "intervals as objects": lambda: _each(a=pd.Series([pd.Interval(0, 1)], dtype=object)),
    "category of mixed": lambda: _each(a=pd.Categorical([1, "a"])),
    "category of floats": lambda: _each(a=pd.Categorical([0.1, np.nan, 0.3])),
    "category of bools": lambda: _each(a=pd.Categorical([True, False])),
    "category of dates": lambda: _each(a=pd.Categorical([dt.date(2110, 1, 1), None])),
    "category of zoned stamps": lambda: _each(a=pd.Categorical(pd.date_range("2110", periods=2, tz="Europe/Paris"))),
    "zone that moved": lambda: _each(a=pd.date_range("1890-01-01", periods=3, freq="YE", tz="Europe/Amsterdam")),
    "ambiguous hour": lambda: _each(
        a=pd.DatetimeIndex(["2023-10-29 00:30", "2023-10-29 01:30"], tz="UTC").tz_convert("Europe/Berlin")
    ),
    "fixed offset object": lambda: _each(
        a=pd.DatetimeIndex(["2110-01-01"]).tz_localize(dt.timezone(dt.timedelta(hours=-3, minutes=-30)))
    ),
    "dateutil zone": lambda: _each(a=pd.date_range("2110", periods=2, tz="dateutil/Europe/Berlin")),
    "odd offset": lambda: _each(
        a=pd.DatetimeIndex(["2110-01-01"]).tz_localize(dt.timezone(dt.timedelta(seconds=3723)))
    ),
    "dates far away": lambda: _each(a=np.array(["9999-12-31", "0001-01-01"], dtype="datetime64[s]")),
    "float16 nan": lambda: _each(a=np.array([1.1, np.nan, 65504], dtype="float16")),
    "arrow float16": lambda: _each(a=pd.Series([1.0], dtype=pd.ArrowDtype(pa.float16()))),
    "arrow duration": lambda: _each(a=pd.Series([1], dtype="int64").astype(pd.ArrowDtype(pa.duration("s")))),
    "arrow time": lambda: _each(a=pd.Series([dt.time(1)], dtype=pd.ArrowDtype(pa.time64("ns")))),
    "arrow binary": lambda: _each(a=pd.Series([b"x"], dtype=pd.ArrowDtype(pa.binary()))),
    "arrow fixed binary": lambda: _each(a=pd.Series([b"xy"], dtype=pd.ArrowDtype(pa.binary(2)))),
    "arrow large string": lambda: _each(a=pd.Series(["x"], dtype=pd.ArrowDtype(pa.large_string()))),
    "arrow dictionary": lambda: _each(
        a=pd.Series(["x", "y"], dtype=pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())))
    ),
    "arrow null": lambda: _each(a=pd.Series([None], dtype=pd.ArrowDtype(pa.null()))),
    "arrow struct": lambda: _each(a=pd.Series([{"x": 1}], dtype=pd.ArrowDtype(pa.struct({"x": pa.int64()})))),
    "arrow stamp in seconds": lambda: _each(a=pd.Series(_stamps(None, "s"), dtype=pd.ArrowDtype(pa.timestamp("s")))),
    "arrow decimal256": lambda: _each(a=pd.Series([decimal.Decimal(1)], dtype=pd.ArrowDtype(pa.decimal256(50, 2)))),
    "strings with NUL": lambda: _each(a=["a\x00b", "\x00"]),
    "strings of controls": lambda: _each(a=["\r", "\n", "\t", "\x1b", "\ufeff", "\x7f"]),
    "first text with a BOM": lambda: pd.DataFrame({"\ufeffa": ["\ufeff"]}),
    "empty texts in one column": lambda: _each(a=["", "", ""]),
    "missing in one column": lambda: _each(a=pd.Series(["x", None, "y", None], dtype="str")),
    "all missing in one column": lambda: _each(a=pd.Series([None, None], dtype="str")),
    "empty categories": lambda: _each(a=pd.Categorical([None, None], categories=[])),
    "index of all None": lambda: pd.DataFrame({"a": [1]}, index=pd.Index([None], dtype=object)),
    "multi with NaN": lambda: _indexed(pd.MultiIndex.from_arrays([[1.0, np.nan], ["a", None]])),
    "multi of categories": lambda: _indexed(
        pd.MultiIndex.from_arrays([pd.Categorical(["b", "a"], categories=["b", "a"]), [1, 2]])
    ),
    "multi with unused levels": lambda: _indexed(pd.MultiIndex.from_product([[1, 2], ["a", "b"]])).iloc[:2],
    "multi with one name twice": lambda: _indexed(pd.MultiIndex.from_arrays([[1, 2], [3, 4]], names=["k", "k"])),
    "multi of one level": lambda: _indexed(pd.MultiIndex.from_arrays([[1, 2]], names=["k"])),
    "index with a tuple name": lambda: _indexed(pd.Index([1], name=("a", "b"))),
    "index called index": lambda: _indexed(pd.Index([1, 2], name="index")),
    "index called __index_level_0__": lambda: _indexed(pd.Index([5, 2], name="__index_level_0__")),
    "index with an empty name": lambda: _indexed(pd.Index([5, 2], name="")),
    "index of float16": lambda: _indexed(pd.Index(np.array([1, 2], dtype="float32"))),
    "labels of tuples": lambda: _labelled(pd.Index([("a", 1), ("b", 2)], tupleize_cols=False)),
    "labels with None": lambda: _labelled(pd.Index(["a", None], dtype=object)),
    "labels of bools": lambda: _labelled(pd.Index([True, False])),
    "labels of bytes": lambda: _labelled(pd.Index([b"a", b"b"])),
    "labels of dates": lambda: _labelled(pd.Index([dt.date(2110, 1, 1), dt.date(2110, 1, 2)], dtype=object)),
    "labels of periods": lambda: _labelled(pd.period_range("2110", periods=2, freq="Y")),
    "labels of intervals": lambda: _labelled(pd.interval_range(0, 2)),
    "labels of stamps with a freq": lambda: _labelled(pd.date_range("2110", periods=3, freq="D")),
    "labels of nullable ints": lambda: _labelled(pd.Index([1, 2], dtype="Int64")),
    "labels of Python strings": lambda: _labelled(pd.Index(["a", "b"], dtype=pd.StringDtype("python"))),
    "labels of arrow strings": lambda: _labelled(pd.Index(["a", "b"], dtype=pd.ArrowDtype(pa.string()))),
    "labels like fields": lambda: _labelled(pd.Index(["a", "0", "__index_level_0__", "None"])).set_index(
        pd.Index([3, 4])
    ),
    "labels with newlines": lambda: _labelled(pd.Index(["a\nb", "c\rd", "\x00"])),
    "range labels of a part": lambda: _labelled(pd.RangeIndex(4)).iloc[:, 1:3],
    "multi labels with an empty part": lambda: _labelled(pd.MultiIndex.from_tuples([("a", ""), ("a", "b")])),
    "multi labels that join alike": lambda: _labelled(pd.MultiIndex.from_tuples([("a", "1"), ("a", 1)])),
    "range of no rows": lambda: pd.DataFrame({"a": [1]}).iloc[:0],
    "range of no rows from 5": lambda: pd.DataFrame({"a": [1]}, index=pd.RangeIndex(5, 6)).iloc[:0],
    "stamps with a freq of no rows": lambda: _indexed(pd.date_range("2110", periods=2, freq="D")).iloc[:0],
    "stamps with one freq row": lambda: _indexed(pd.date_range("2110", periods=1, freq="D")),
    "custom business days": lambda: _indexed(pd.bdate_range("2110", periods=3, freq="C", weekmask="Mon Tue")),
    "no columns, range from 5": lambda: pd.DataFrame(index=pd.RangeIndex(5, 8)),
    "no columns, multi": lambda: pd.DataFrame(index=pd.MultiIndex.from_product([[1], [2, 3]])),
    "no columns, named range": lambda: pd.DataFrame(index=pd.RangeIndex(3, name="row")),
    "no columns, labels of ints": lambda: pd.DataFrame(index=pd.RangeIndex(2), columns=pd.Index([], dtype="int64")),
    "no columns, multi labels": lambda: pd.DataFrame(
        index=pd.RangeIndex(2), columns=pd.MultiIndex.from_arrays([[], []], names=["a", "b"])
    ),
    "attrs with a tuple": lambda: _frame_with(attrs={"x": (1, 2)}),
    "attrs with an int key": lambda: _frame_with(attrs={1: "x"}),
    "attrs with nan": lambda: _frame_with(attrs={"x": float("nan")}),
    "duplicate labels not allowed": lambda: _each(a=[1]).set_flags(allows_duplicate_labels=False),
    "columns of one block, not contiguous": lambda: pd.DataFrame(np.arange(12.0).reshape(3, 4)[:, ::2]),
    "negative zero": lambda: _each(a=[0.0, -0.0]),
    "nan payloads": lambda: _each(a=np.array([0x7FF8000000000001, 0xFFF8000000000000], dtype="uint64").view("float64")),
    "big endian": lambda: _each(a=np.array([1, 2], dtype=">i4")),
    "big endian floats": lambda: _each(a=np.array([1, 2], dtype=">f8")),
    "days": lambda: _each(a=np.array(["2110-01-01"], dtype="datetime64[D]")),
    "longdouble": lambda: _each(a=np.array([1.5], dtype="longdouble")),
    "fixed text": lambda: _each(a=np.array(["ab", "c"])),
    "read-only": lambda: _read_only(),
    "period with a multiple": lambda: _each(a=pd.period_range("2110", periods=2, freq="2M")),
    "interval closed both": lambda: _each(a=pd.arrays.IntervalArray.from_breaks([0.0, 1.0, 2.0], closed="both")),
    "interval with a missing one": lambda: _each(a=pd.arrays.IntervalArray.from_tuples([(0.0, 1.0), None])),
    "period with a missing one": lambda: _each(a=pd.array(["2110-01", None], dtype="period[M]")),
}


def _frame_with(*, attrs: dict[object, object]) -> pd.DataFrame:
    frame = _each(a=[1])
    frame.attrs = attrs  # type: ignore[assignment]
    return frame


def _read_only() -> pd.DataFrame:
    values = np.arange(3.0)
    values.flags.writeable = False
    return pd.DataFrame({"a": values}, copy=False)


def assert_same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Assert that two frames are equal in everything that pandas compares."""
    pd.testing.assert_frame_equal(
        left, right, check_exact=True, check_freq=True, check_index_type="equiv", check_column_type=True
    )
    assert_identical(left, right)
