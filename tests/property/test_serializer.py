"""Whatever is nested, it comes back as it was, and passes for a result that runs no code."""

import datetime as dt
import zoneinfo
from pathlib import PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from tests.same_value import same
from tests.unit.test_serializer import both_ways

OFFSETS = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
ZONES = (
    st.none() | st.just(dt.UTC) | OFFSETS.map(dt.timezone) | st.builds(dt.timezone, OFFSETS, st.text(max_size=5))
    | st.sampled_from(sorted(zoneinfo.available_timezones())).map(zoneinfo.ZoneInfo)
)  # fmt: skip
DATETIMES = st.datetimes(timezones=ZONES, allow_imaginary=True)
FOLDED = st.builds(lambda time, fold: time.replace(fold=fold), DATETIMES, st.sampled_from([0, 1]))
# Within nanoseconds, in zones that pandas knows to the second.
STAMPS = st.builds(
    lambda time, unit, zone: pd.Timestamp(time).as_unit(unit).tz_localize("UTC").tz_convert(zone),
    st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    st.sampled_from(["s", "ms", "us", "ns"]),
    st.sampled_from(sorted(zoneinfo.available_timezones())).map(zoneinfo.ZoneInfo),
)
DTYPES = (
    of_numpy.boolean_dtypes() | of_numpy.integer_dtypes(endianness="?")
    | of_numpy.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | of_numpy.datetime64_dtypes(endianness="?") | of_numpy.timedelta64_dtypes(endianness="?")
)  # fmt: skip
ARRAYS = of_numpy.arrays(DTYPES, of_numpy.array_shapes(min_dims=0, min_side=0, max_side=3))
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(categories=["Cs"]))
    | st.binary() | st.uuids() | st.dates() | st.times(timezones=ZONES) | st.timedeltas() | st.decimals()
    | FOLDED | STAMPS | ARRAYS | DTYPES.flatmap(lambda dtype: of_numpy.arrays(dtype, ())).map(lambda array: array[()])
    | st.sampled_from([pd.NA, pd.NaT, 2**3_000]) | st.text("ab/\\: ").map(PurePosixPath)
    | st.text("ab/\\: ").map(PureWindowsPath)
)  # fmt: skip
FRAMES = st.builds(
    lambda values, text: pd.DataFrame({"values": pd.array(values, "Int64"), text: [text] * len(values)}),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "values"),
)
KEYS = st.text() | st.integers() | st.dates() | st.tuples(st.integers(), st.text()) | FOLDED


def _series(values: list[float], name: object, attrs: dict[str, object], duplicates: bool) -> pd.Series:
    series = pd.Series(values, name=name, dtype="float64")
    series.attrs = attrs
    return series.set_flags(allows_duplicate_labels=duplicates)


SERIES = st.builds(
    _series,
    st.lists(st.floats(), max_size=3),
    st.none() | KEYS,
    st.dictionaries(st.text(), SCALARS, max_size=2),
    st.booleans(),
)
VALUES = st.recursive(
    SCALARS | FRAMES | SERIES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(KEYS, max_size=3)
        | st.frozensets(KEYS, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "result", "serializer", "__clinops__", "__class__", "__exc_type__", "value"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(VALUES)
def test_whatever_is_nested_comes_back_as_it_was(value: object) -> None:
    for back in both_ways(value):
        assert same(value, back)


@given(st.lists(FOLDED | STAMPS | st.times(timezones=ZONES), max_size=8))
def test_times_of_every_zone_show_the_same(times: list[object]) -> None:
    for back in both_ways(times):
        assert same(times, back)


@given(ARRAYS)
def test_arrays_of_every_dtype_and_shape_come_back(array: np.ndarray) -> None:
    for back in both_ways(array):
        assert same(array, back)
