"""Every kind of value in a result comes back equal and of the same type, or is refused when it is stored."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import types
import uuid
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import dateutil.tz
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
import pytz
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed

from clinops_prefect import ArtifactRef, ClinopsPrefectError, UnsupportedFrameError, UnsupportedResultError
from tests.faults.canaries import CELL, PATIENT, SUBJECT
from tests.same_value import same
from tests.unit.test_serializer import SERIALIZER, both_ways

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
ODD = dt.timezone(dt.timedelta(hours=5, minutes=45, seconds=7), "odd")
ZONES = [None, BERLIN, NEW_YORK, ZoneInfo("UTC"), dt.UTC, dt.timezone(dt.timedelta(hours=-4)), ODD]
FOREIGN_ZONES = [
    dateutil.tz.gettz("Europe/Berlin"), dateutil.tz.tzutc(), dateutil.tz.tzlocal(), dateutil.tz.tzoffset("x", 3600),
    pytz.timezone("Europe/Berlin"), pytz.UTC, pytz.FixedOffset(90),
]  # fmt: skip
# The hours that occur twice in Berlin and in New York.
TWICE = [dt.datetime(2024, 10, 27, 2, 30, 0, 1), dt.datetime(2024, 11, 3, 1, 30)]


def comes_back(value: Any) -> None:
    for back in both_ways(value):
        assert same(back, value), f"{back!r} is not {value!r}"


@pytest.mark.parametrize("zone", ZONES, ids=repr)
@pytest.mark.parametrize("fold", [0, 1])
def test_times_keep_their_zone_and_fold(zone: dt.tzinfo | None, fold: int) -> None:
    for time in TWICE:
        comes_back(time.replace(tzinfo=zone, fold=fold))
        comes_back(pd.Timestamp(time.replace(tzinfo=zone, fold=fold)))
    comes_back(dt.time(2, 30, tzinfo=zone, fold=fold))
    comes_back({"visits": [{"at": dt.datetime(2024, 7, 1, 12, tzinfo=zone)}]})


@pytest.mark.parametrize("zone", ZONES, ids=repr)
def test_a_day_added_to_a_restored_time_keeps_the_hour(zone: dt.tzinfo | None) -> None:
    """A user adds a day to a restored datetime. With a fixed offset instead of a zone, this would be an hour wrong."""
    time = dt.datetime(2024, 10, 26, 12, tzinfo=zone)
    (back, _) = both_ways(time)
    assert (back + dt.timedelta(days=2)).isoformat() == (time + dt.timedelta(days=2)).isoformat()
    stamp = pd.Timestamp(time)
    (back, _) = both_ways(stamp)
    assert (back + pd.DateOffset(days=2)).isoformat() == (stamp + pd.DateOffset(days=2)).isoformat()


@pytest.mark.parametrize("zone", FOREIGN_ZONES, ids=repr)
def test_zones_of_other_libraries_come_back_or_are_refused_when_they_are_stored(zone: dt.tzinfo) -> None:
    stamp = pd.Timestamp("2024-10-27 02:30").tz_localize(zone, ambiguous=True)
    for value in (dt.datetime(2024, 1, 1, tzinfo=zone), dt.time(1, tzinfo=zone), stamp):
        refusal = ""
        try:
            comes_back([value])
        except UnsupportedResultError as error:
            refusal = str(error)
        assert not refusal or ("ZoneInfo" in refusal and "result[0]" in refusal)


def test_zones_of_dateutil_and_pytz_come_back_if_their_libraries_can_make_them() -> None:
    for zone in (dateutil.tz.gettz("Europe/Berlin"), dateutil.tz.tzutc(), dateutil.tz.tzoffset("x", 3600)):
        comes_back(dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone))
        comes_back(dt.time(2, 30, tzinfo=zone))
    for name in ("Europe/Berlin", "dateutil/Europe/Berlin"):
        comes_back(pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert(name))
    comes_back(pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert(pytz.timezone("America/New_York")))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_and_timedeltas_keep_their_unit_to_its_limits(unit: str) -> None:
    second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    far = 2**33 * second if unit == "ns" else 6 * 10**10 * second
    for count in (0, 1, -1, far, -far):
        comes_back(pd.Timedelta(np.timedelta64(count, unit)))
        comes_back(pd.Timestamp(np.datetime64(count, unit)))
        comes_back(pd.Timestamp(np.datetime64(count, unit)).tz_localize("UTC").tz_convert(BERLIN))


def test_times_that_pandas_cannot_represent_are_refused() -> None:
    stamp = pd.Timestamp(np.datetime64(-(10**11), "s")).tz_localize("UTC")
    comes_back(stamp.tz_localize(None))
    odd = dt.timezone(dt.timedelta(hours=1, microseconds=9))
    comes_back(dt.datetime(2024, 1, 1, tzinfo=odd))
    for value in (stamp.tz_convert(BERLIN), pd.Timestamp(dt.datetime(2024, 1, 1, tzinfo=odd))):
        with pytest.raises(UnsupportedResultError, match=r"year|time zone"):
            SERIALIZER.dumps(value)


SERIES = pd.Series([1.5, None, 3.0], index=pd.Index(["a", "b", "c"], name="stay"))


@pytest.mark.parametrize(
    "name", [None, "x", "", "0", 0, np.int64(7), 1.5, ("a", 1), pd.Timestamp("2024-01-01", tz=BERLIN)]
)
def test_a_series_keeps_its_name_and_gets_no_attributes(name: Any) -> None:
    comes_back(SERIES.rename(name))


@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series(["a", None, "c"]),
        pd.Series(["a", "b", "a"], dtype="category"),
        pd.Series(pd.date_range("2024-10-26", periods=3, tz="Europe/Berlin", freq="D")),
        pd.Series([], dtype="float64"),
        pd.Series([1, 2, 3], index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["unit", None])),
        pd.Series(pd.timedelta_range(0, periods=3, freq="h")),
    ],
    ids=lambda series: str(series.dtype),
)
def test_a_series_of_any_dtype_comes_back_with_attrs_and_flags_and_can_be_edited(series: pd.Series) -> None:
    series.attrs = {"unit": "mmHg", "limits": [1, 2], "made": dt.date(2024, 1, 1)}
    comes_back(series)
    comes_back(series.set_flags(allows_duplicate_labels=False))
    for back in both_ways({"x": [series]}):
        edited, wanted = back["x"][0], series.copy()
        if len(series):
            edited.iloc[0] = wanted.iloc[0] = series.iloc[-1]
        assert same(edited, wanted)


BASE = np.arange(12, dtype="i4").reshape(3, 4)
ARRAYS = {
    "C order": BASE, "Fortran order": np.asfortranarray(BASE), "transposed": BASE.T, "a slice": BASE[:, ::2],
    "one row": BASE[:1], "big endian": BASE.astype(">i4"), "half": BASE.astype("f2"), "bool": BASE > 3,
    "0-d": np.array(1.5), "empty": np.empty((0, 3), "f8"), "empty columns": np.empty((3, 0), "i2"),
    "dates": np.array(["2024-01-01", "NaT"], "M8[D]"), "odd unit": np.array([1, 2], "m8[25s]"),
    "no unit": np.array(["NaT"], "M8"), "NaN": np.array([np.nan, -0.0, np.inf]),
    "unsigned": np.array([2**64 - 1], "u8"), "3-d Fortran": np.asfortranarray(np.zeros((2, 3, 4))),
}  # fmt: skip


@pytest.mark.parametrize("how", ARRAYS)
def test_arrays_come_back_in_their_memory_order_and_writable(how: str) -> None:
    array = ARRAYS[how]
    array = array if how in ("transposed", "a slice") else array.copy(order="K")
    for back in both_ways({"x": array}):
        assert same(back["x"], array.copy(order="K") if how == "a slice" else array)
        assert back["x"].flags.writeable
    array.flags.writeable = False
    for back in both_ways(array):
        np.testing.assert_array_equal(back, array)
        assert back.flags.writeable, "what comes back is the caller's own"


SCALARS = [
    True,
    np.bool_(True),
    np.float64(1.5),
    np.float32(0.1),
    np.int64(1),
    np.uint8(255),
    np.datetime64("NaT"),
    np.datetime64("NaT", "ns"),
    np.datetime64("2024-01-01T00", "h"),
    np.timedelta64(3, "D"),
    np.timedelta64("NaT", "s"),
    0,
    -1,
    2**63,
    2**64,
    -(2**200),
    10**5_000,
    -(10**20_000),
    -0.0,
    float("-inf"),
    float("nan"),
    5e-324,
    "",
    "\ud800 alone",
    "\ud800\udc00",
    pathlib.PurePosixPath("a\udcff"),
    "\U0001f600",
    "\x00",
    "a\u2028b",
    b"",
    b"\xff" * 1_000,
    decimal.Decimal("NaN"),
    decimal.Decimal("sNaN"),
    decimal.Decimal("-NaN123"),
    decimal.Decimal("-0.00"),
    decimal.Decimal("Infinity"),
    decimal.Decimal("1E+1000"),
    decimal.Decimal("1." + "1" * 100),
    dt.timedelta.max,
    dt.timedelta.min,
    dt.date.min,
    dt.date.max,
    dt.datetime.min,
    dt.datetime.max,
    dt.time.max,
    dt.datetime.max.replace(tzinfo=dt.UTC),
    dt.datetime(1900, 1, 1, tzinfo=BERLIN),
    pd.NA,
    pd.NaT,
    uuid.UUID(int=2**128 - 1),
    pathlib.Path("a/b"),
    pathlib.Path(),
    pathlib.PurePosixPath("/a/b"),
    pathlib.PureWindowsPath(r"C:\a\b"),
    pathlib.PureWindowsPath("a/b"),
]


@pytest.mark.parametrize("value", SCALARS, ids=lambda value: f"{type(value).__name__}")
def test_scalars_come_back_also_inside_containers_and_as_keys(value: Any) -> None:
    comes_back(value)
    comes_back([value, (value, {"x": value})])
    if not (isinstance(value, decimal.Decimal) and value.is_snan()):
        (back, _) = both_ways({value: 1, "b": [2]})
        assert same(list(back), [value, "b"])
        assert same(next(iter(both_ways({value})[0])), value)
        assert same(next(iter(both_ways(frozenset([value]))[0])), value)


CONTAINERS: list[Any] = [
    {},
    [],
    (),
    set(),
    frozenset(),
    [[], {}, ()],
    {"b": 1, "a": 2},
    {1: "a", "1": "b", 1.5: "c", None: "d"},
    {False: 0, 2: 1},
    {("a", (1,)): [1]},
    {frozenset({1}): {2}},
    {"__class__": "os.system", "data": 1},
    {"__exc_type__": 1},
    {"__clinops__": "eval", "value": "1"},
    {"clinops/dataframe": 1, "value": 2},
    {"metadata": {}, "result": "x"},
    {b"x": dt.date(2024, 1, 1)},
    (1, [2, (3, {"x": (4,)})]),
    {(1, 2), (3, 4)},
    [True, 1, 1.0],
]


@pytest.mark.parametrize("value", CONTAINERS, ids=lambda value: f"{value!r:.30}")
def test_containers_keep_their_kinds_their_keys_and_their_order(value: Any) -> None:
    comes_back(value)
    comes_back({"x": [value]})


def test_an_object_in_two_places_comes_back_in_both() -> None:
    inner = {"at": [dt.date(2024, 1, 1)]}
    comes_back([inner, inner, (inner, {"x": inner})])


def cycle_of_lists() -> Any:
    value: list[Any] = [1]
    value.append({"x": (value,)})
    return value


def cycle_of_dicts() -> Any:
    value: dict[Any, Any] = {}
    value["self"] = value
    return value


def cycle_through_attrs() -> Any:
    series = pd.Series([1])
    attrs: dict[Any, Any] = {}
    attrs["x"] = [attrs]
    object.__setattr__(series, "_attrs", attrs)
    return series


@pytest.mark.parametrize("cycle", [cycle_of_lists, cycle_of_dicts, cycle_through_attrs])
def test_a_cycle_is_refused(cycle: Callable[[], Any]) -> None:
    with pytest.raises(UnsupportedResultError, match="holds itself"):
        SERIALIZER.dumps(cycle())


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {1: v}, lambda v: {"x": v}])
def test_a_value_that_is_nested_too_deeply_to_be_read_on_a_deep_stack_is_refused(wrap: Callable[[Any], Any]) -> None:
    deep = nested(100, wrap)

    def below(frames: int, do: Callable[[], Any]) -> Any:
        return do() if not frames else below(frames - 1, do)

    (blob, _) = SERIALIZER.dumps(deep), None
    assert same(below(400, lambda: SERIALIZER.loads(blob)), deep)
    for depth in (101, 500, 100_000):
        with pytest.raises(UnsupportedResultError, match="levels deep"):
            SERIALIZER.dumps(nested(depth, wrap))


class Text(str):
    __slots__ = ()


class Number(float):
    pass


class Mapping(dict):
    pass


class Half(np.float16):
    pass


class Frame(pd.DataFrame):
    pass


class Kind(enum.StrEnum):
    A = "a"


class Flag(enum.IntFlag):
    A = 1


class Model(pydantic.BaseModel):
    who: str = CELL


@dataclasses.dataclass
class Data:
    who: str = CELL


@pydantic.dataclasses.dataclass
class Checked:
    who: str = CELL


class OwnPath(pathlib.PurePosixPath):
    pass


class OwnZone(dt.tzinfo):
    def utcoffset(self, _: Any) -> dt.timedelta:
        return dt.timedelta(0)

    def tzname(self, _: Any) -> str:
        return CELL


Pair = collections.namedtuple("Pair", "a b")
STRUCTURE = np.array([(1, CELL.encode())], dtype=[(PATIENT.replace("-", "_"), "i4"), ("b", "S20")])
REFUSED: dict[str, tuple[Any, str]] = {
    "text subclass": (Text(CELL), r"return str\(value\)"),
    "float subclass": (Number(1), r"return float\(value\)"),
    "dict subclass": (Mapping(x=CELL), r"return dict\(value\)"),
    "default dict": (collections.defaultdict(list), r"dict\(value\)"),
    "ordered": (collections.OrderedDict(a=1), r"dict\(value\)"),
    "counter": (collections.Counter(CELL), r"dict\(value\)"),
    "NumPy subclass": (Half(1), "Half"),
    "frame subclass": (Frame({"a": [CELL]}), r"DataFrame\(value\)"),
    "masked": (np.ma.masked_array([1], [True]), "tolist"),
    "matrix": (np.matrix([[1]]), "asarray"),
    "str enum": (Kind.A, r"value\.value"),
    "flag": (Flag.A, r"value\.value"),
    "named tuple": (Pair(1, CELL), "_asdict"),
    "model": (Model(), "model_dump.*write_bytes"),
    "dataclass": (Data(), "asdict.*write_bytes"),
    "pydantic dataclass": (Checked(), "asdict.*write_bytes"),
    "type": (Model, "write_bytes"),
    "module": (types, "write_bytes"),
    "generator": ((x for x in [CELL]), "write_bytes"),
    "complex": (1j, "real"),
    "range": (range(3), "list"),
    "bytearray": (bytearray(CELL.encode()), "bytes"),
    "memory": (memoryview(b"x"), "bytes"),
    "fraction": (fractions.Fraction(1, 3), "write_bytes"),
    "Ellipsis": (..., "write_bytes"),
    "period": (pd.Period("2024-01"), "pandas"),
    "interval": (pd.Interval(0, 1), "pandas"),
    "offset": (pd.DateOffset(days=1), "pandas"),
    "index": (pd.Index([1]), "Series"),
    "multi-index": (pd.MultiIndex.from_tuples([(1, 2)]), "Series"),
    "categorical": (pd.Categorical([CELL]), "Series"),
    "extension": (pd.array([1, None]), "Series"),
    "objects": (np.array([object()]), "tolist"),
    "texts": (np.array([CELL]), "tolist"),
    "structure": (STRUCTURE, "tolist"),
    "complex array": (np.array([1j]), "tolist"),
    "long double": (np.array([1], np.longdouble), "tolist"),
    "long double scalar": (np.longdouble(1), "item"),
    "text scalar": (np.str_(CELL), "item"),
    "void": (STRUCTURE[0], "item"),
    "complex scalar": (np.complex64(1j), "item"),
    "own path": (OwnPath(CELL), "OwnPath"),
    "own zone": (dt.datetime(2024, 1, 1, tzinfo=OwnZone()), "ZoneInfo"),
    "date subclass": (type("Day", (dt.date,), {})(2024, 1, 1), "Day"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_value_that_would_come_back_changed_is_refused_with_a_remedy(what: str) -> None:
    value, remedy = REFUSED[what]
    for whole, where in (
        (value, r"result:"),
        ({"labs": [1, 2, value]}, r"result\['labs'\]\[2\]:"),
        ((value,), r"result\[0\]:"),
    ):
        with pytest.raises(UnsupportedResultError, match=f"cannot store {where}.*{remedy}") as caught:
            SERIALIZER.dumps(whole)
        assert isinstance(caught.value, TypeError)
        assert isinstance(caught.value, ClinopsPrefectError)
        message = str(caught.value)
        assert "\n" not in message
        assert len(message) < 300
        assert CELL not in message
        assert PATIENT.replace("-", "_") not in message


@pytest.mark.parametrize(
    "value",
    [
        pd.Index([1]),
        pd.MultiIndex.from_tuples([(1, "a")], names=["stay_id", None]),
        pd.Categorical(["a"]),
        pd.array([1, None], dtype="Int64"),
        pa.array([1, None]),
        pa.chunked_array([["a"], ["b"]]).dictionary_encode(),
        pa.record_batch({"a": [1]}),
        pl.Series([1, None]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_returned_as_the_remedy_says_is_stored(value: Any) -> None:
    with pytest.raises(UnsupportedResultError) as caught:
        SERIALIZER.dumps(value)
    (remedy,) = re.findall(r"; return ([^;]+)$", str(caught.value))
    back = SERIALIZER.loads(SERIALIZER.dumps(eval(remedy, {"pd": pd, "pa": pa, "value": value})))
    assert len(back) == len(value)


def test_a_nested_frame_is_refused_with_its_path_and_its_column() -> None:
    bad = pd.DataFrame({"mixed": [1, CELL]})
    for value, where in (
        (bad, "result:"),
        ({"frames": [bad]}, r"result\['frames'\]\[0\]:"),
        (pd.Series([1, CELL]), "result:"),
    ):
        with pytest.raises(UnsupportedFrameError, match=f"cannot store {where} .*mixes types") as caught:
            SERIALIZER.dumps(value)
        assert CELL not in str(caught.value)


def test_the_path_to_a_value_shows_no_key_that_may_identify_a_patient() -> None:
    for key in (SUBJECT, PATIENT, str(SUBJECT), f"stay {SUBJECT}", (SUBJECT, "x"), "Müller\n", "x" * 41):
        with pytest.raises(UnsupportedResultError, match=r"result\[key 1\]\['notes'\]") as caught:
            SERIALIZER.dumps({"a": 1, key: {"notes": object()}})
        assert str(SUBJECT) not in str(caught.value)
        assert PATIENT not in str(caught.value)
    with pytest.raises(UnsupportedResultError, match=r"result\['by stay'\]\.keys\(\)\[0\]:"):
        SERIALIZER.dumps({"by stay": {Kind.A: 1}})
    with pytest.raises(UnsupportedResultError, match=r"result\[0\]\[member 0\]:"):
        SERIALIZER.dumps([{Kind.A}])
    with pytest.raises(UnsupportedResultError, match=r"result\.attrs\['by'\]:"):
        SERIALIZER.dumps(_with_attrs({"by": object()}))
    with pytest.raises(UnsupportedResultError, match=r"result\.name\[0\]:"):
        SERIALIZER.dumps(pd.Series([1], name=(Kind.A, 1)))


def test_a_reference_comes_back_with_its_settings() -> None:
    settings = (("format", "csv"), ("request_payer", True))
    for ref in (
        ArtifactRef("s3://b/x.csv", "x", "v1", "s3://b", settings),
        ArtifactRef("file:///x", "x", "pin:1", "p"),
    ):
        assert both_ways({"frames": [ref]}) == [{"frames": [ref]}] * 2


def test_frames_of_polars_and_arrow_come_back_as_the_same_kind() -> None:
    table = pa.table({"code": ["007", None], "at": [dt.datetime(2024, 1, 1), None]})
    for back in both_ways(table):
        assert (type(back), back.equals(table)) == (pa.Table, True)
    for back in both_ways(pl.from_arrow(table)):
        assert (type(back), back.equals(pl.from_arrow(table))) == (pl.DataFrame, True)


@pytest.mark.parametrize("kind", [Failed, Crashed, Cancelled])
def test_the_failure_of_a_run_that_returns_states_is_stored(kind: Callable[..., State[Any]]) -> None:
    """Prefect raises this failure, and does not return the value of an earlier state."""
    for back in both_ways([Completed(data=1), kind(message="the quality is too low")]):
        assert isinstance(back, Exception)
        assert "the quality is too low" in str(back)


def _with_attrs(attrs: dict[str, Any]) -> pd.Series:
    series = pd.Series([1])
    series.attrs = attrs
    return series
