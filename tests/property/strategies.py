"""Frames, names and selections at random."""

import datetime as dt
import enum
import string
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from dateutil import tz
from hypothesis import strategies as st

SEGMENT = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), min_size=1, max_size=12)
# Also what no store accepts: whether a name is one is for the code under test to say.
ANY_NAME = st.lists(SEGMENT | st.sampled_from(["", ".", "..", "a=b", "ä", "x.parquet"]), min_size=1, max_size=4).map(
    "/".join
)

_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# Nothing shows these.
INVISIBLE = "\u00ad\u034f\u180e\u200b\u2060\u2061\u2062\u2063\u2064\u3164\ufeff\uffa0"
_CLEAN = st.text(
    st.characters(exclude_characters=f"/{_BIDI}{INVISIBLE}", exclude_categories=("Cs", "Cc", "Zl", "Zp")),
    min_size=1,
    max_size=8,
)
GOOD_NAME = st.lists(
    (_CLEAN | st.sampled_from(["a=b", "ä", "x.parquet", ".a"])).filter(lambda segment: segment not in (".", "..")),
    min_size=1,
    max_size=4,
).map("/".join)

TEXTS = st.text(max_size=8) | st.sampled_from(["007", "", "NA", "nan", "null", "true", "1e5", " ", "a,b", '"', "\r\n"])
STAMPS = st.datetimes(dt.datetime(1800, 1, 1), dt.datetime(2200, 1, 1))
_ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "+05:30"])
STORAGES = [pd.StringDtype(storage, na_value=na) for storage in ("python", "pyarrow") for na in (pd.NA, np.nan)]
_UNITS = st.sampled_from(["s", "ms", "us", "ns"])
# In few zones, so that a column has now one of them, now several.
MOMENTS = st.sampled_from(
    [dt.UTC, dt.timezone(dt.timedelta(hours=-4)), ZoneInfo("Europe/Berlin"), tz.gettz("Europe/Berlin")]
).flatmap(lambda zone: st.datetimes(dt.datetime(2023, 10, 29), dt.datetime(2023, 10, 30), timezones=st.just(zone)))


class Unit(enum.StrEnum):
    """What `==` takes for text."""

    BPM = "bpm"


def _column(
    draw: st.DrawFn, elements: st.SearchStrategy, rows: int, dtype: object, missing: object = None
) -> pd.Series:
    values = st.lists(elements if missing is None else elements | st.just(missing), min_size=rows, max_size=rows)
    return pd.Series(draw(values), dtype=dtype)


@st.composite
def column(draw: st.DrawFn, rows: int) -> pd.Series:
    """A column of any dtype, shape (rows,)."""
    kind = draw(st.sampled_from(sorted(_KINDS)))
    return _KINDS[kind](draw, rows)


def _integers(draw: st.DrawFn, rows: int) -> pd.Series:
    dtype = draw(st.sampled_from(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]))
    limits = np.iinfo(dtype)
    return _column(draw, st.integers(int(limits.min), int(limits.max)), rows, dtype)


def _nullable(draw: st.DrawFn, rows: int) -> pd.Series:
    dtype = draw(st.sampled_from(["Int8", "Int64", "UInt16", "boolean", "Float32", "Float64"]))
    elements = st.booleans() if dtype == "boolean" else st.integers(0, 100)
    return _column(draw, elements, rows, dtype, pd.NA)


def _floats(draw: st.DrawFn, rows: int) -> pd.Series:
    width = draw(st.sampled_from([16, 32, 64]))
    return _column(draw, st.floats(width=width), rows, f"float{width}")


def _strings(draw: st.DrawFn, rows: int) -> pd.Series:
    dtype = draw(st.sampled_from([*STORAGES, "object"]))
    return _column(draw, TEXTS, rows, dtype, draw(st.sampled_from([None, np.nan, pd.NA])))


def _times(draw: st.DrawFn, rows: int) -> pd.Series:
    stamps = pd.Series(draw(st.lists(STAMPS | st.none(), min_size=rows, max_size=rows)), dtype="datetime64[us]")
    stamps = stamps.dt.as_unit(draw(_UNITS))
    return stamps.dt.tz_localize("UTC").dt.tz_convert(draw(_ZONES)) if draw(st.booleans()) else stamps


def _deltas(draw: st.DrawFn, rows: int) -> pd.Series:
    # Thousands, so that seconds are exact in every unit.
    seconds = draw(st.lists(st.integers(-(10**9), 10**9) | st.none(), min_size=rows, max_size=rows))
    return pd.Series(pd.to_timedelta(pd.Series(seconds, dtype="float64"), unit="s")).dt.as_unit(draw(_UNITS))


def _categories(draw: st.DrawFn, rows: int) -> pd.Series:
    choices: st.SearchStrategy = draw(st.sampled_from([TEXTS, st.integers(-5, 5), st.booleans(), STAMPS]))
    categories = pd.Index(draw(st.lists(choices, unique=True, min_size=1, max_size=4)))
    if draw(st.booleans()):
        breaks = draw(st.sampled_from([range(len(categories) + 1), pd.date_range("2110", periods=len(categories) + 1)]))
        closed = draw(st.sampled_from(["left", "right", "both", "neither"]))
        categories = pd.IntervalIndex.from_breaks(breaks, closed=closed)
    codes = draw(st.lists(st.integers(-1, len(categories) - 1), min_size=rows, max_size=rows))
    return pd.Series(pd.Categorical.from_codes(codes, categories, ordered=draw(st.booleans())))


def _objects(draw: st.DrawFn, rows: int) -> pd.Series:
    kinds = [st.integers(-(2**40), 2**40), st.booleans(), st.floats(), st.dates(), st.times(), st.binary(max_size=4)]
    kinds += [st.decimals(-100, 100, places=2), st.lists(st.integers(0, 9), max_size=3), STAMPS]
    kinds += [MOMENTS, MOMENTS.map(lambda moment: [moment]), st.times() | st.times(timezones=st.just(dt.UTC))]
    kinds += [MOMENTS.map(pd.Timestamp), st.sampled_from(Unit) | st.just("bpm"), st.integers(-9, 9).map(np.int32)]
    kinds += [st.one_of(st.integers(0, 5), st.text(max_size=3)), st.timedeltas(), st.tuples(st.integers(0, 3))]
    return _column(draw, draw(st.sampled_from(kinds)), rows, object, draw(st.sampled_from([None, np.nan, pd.NaT])))


def _others(draw: st.DrawFn, rows: int) -> pd.Series:
    if draw(st.booleans()):
        return pd.Series(pd.period_range("2110-01", periods=rows, freq=draw(st.sampled_from(["M", "D", "Y", "h"]))))
    closed = draw(st.sampled_from(["left", "right", "both", "neither"]))
    return pd.Series(pd.arrays.IntervalArray.from_arrays(range(rows), range(1, rows + 1), closed=closed))


_KINDS = {
    "integers": _integers,
    "nullable": _nullable,
    "floats": _floats,
    "strings": _strings,
    "times": _times,
    "deltas": _deltas,
    "categories": _categories,
    "objects": _objects,
    "others": _others,
}

_LABELS = st.text(max_size=6) | st.sampled_from(["index", "__index_level_0__", "a.b", "0", "", "level_0"])


@st.composite
def labels(draw: st.DrawFn, columns: int) -> pd.Index:
    """Column labels of any kind."""
    of: st.SearchStrategy = draw(
        st.sampled_from([_LABELS, _LABELS, _LABELS, st.integers(), st.dates(), st.tuples(_LABELS, st.integers(0, 3))])
    )
    found = pd.Index(draw(st.lists(of, min_size=columns, max_size=columns, unique=True)))
    if of is _LABELS:
        found = found.astype(draw(st.sampled_from([object, *STORAGES])))
    name = draw(st.none() | st.text(max_size=4))
    return found.rename(name) if found.nlevels == 1 else found


@st.composite
def index(draw: st.DrawFn, rows: int) -> pd.Index:
    """A row index of any kind."""
    name = draw(st.none() | _LABELS)
    kind = draw(st.sampled_from(["range", "range", "freq", "column", "column", "multi"]))
    if kind == "range":
        start, step = draw(st.integers(-5, 5)), draw(st.integers(-3, 3).filter(bool))
        return pd.RangeIndex(start, start + step * rows, step, name=name)
    if kind == "freq":
        freq = draw(st.sampled_from(["D", "6h", "B", "ME", "15min", "W-TUE", "QS"]))
        return pd.date_range("2110-03-01", periods=rows, freq=freq, tz=draw(st.none() | _ZONES), name=name)
    if kind == "column":
        return pd.Index(draw(column(rows)), name=name)
    levels = [draw(column(rows)) for _ in range(draw(st.integers(1, 3)))]
    names = draw(st.lists(st.none() | _LABELS, min_size=len(levels), max_size=len(levels)))
    return pd.MultiIndex.from_arrays(levels, names=names)


@st.composite
def frames(draw: st.DrawFn, max_rows: int = 6, max_columns: int = 4) -> pd.DataFrame:
    """A frame of any dtypes, labels and index."""
    rows, columns = draw(st.integers(0, max_rows)), draw(st.integers(0, max_columns))
    made = {number: draw(column(rows)).reset_index(drop=True) for number in range(columns)}
    frame = pd.DataFrame(made, index=range(rows))
    frame.columns = draw(labels(columns)) if columns else pd.RangeIndex(0)
    try:
        frame.index = draw(index(rows))
    except (TypeError, ValueError, NotImplementedError):
        # Some columns are no index for pandas itself (lists cannot be hashed, float16 has no index).
        frame.index = pd.RangeIndex(rows)
    return frame


WORD = st.text(string.ascii_lowercase, min_size=1, max_size=3)


@st.composite
def plain_frames(draw: st.DrawFn, rows: int) -> pd.DataFrame:
    """A frame as pipelines have them, to select from: text labels, columns that compare."""
    return pd.DataFrame(
        {
            "stay_id": pd.Series(draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows)), dtype="int64"),
            "hr": _column(draw, st.sampled_from([60.0, 80.5, 1e9]), rows, "float64", np.nan),
            "code": _column(draw, st.sampled_from(["007", "a", ""]), rows, STORAGES[-1], None),
            "n": _column(draw, st.integers(0, 3), rows, "Int64", pd.NA),
            "t": pd.Series(draw(st.lists(STAMPS, min_size=rows, max_size=rows)), dtype="datetime64[us]"),
        }
    )
