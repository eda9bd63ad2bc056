"""Whatever JSON-like value is nested, it comes back as it was, and passes for a result that runs no code."""

import datetime as dt
import math
from typing import Any

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from tests.unit.test_serializer import both_ways

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids()
    | st.dates() | st.times() | st.timedeltas() | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.none() | st.just(dt.UTC))
)  # fmt: skip
FRAMES = st.builds(
    lambda values, text: pd.DataFrame({"values": pd.array(values, "Int64"), text: [text] * len(values)}),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: name != "values"),
)
KEYS = st.text() | st.integers() | st.dates() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    SCALARS | FRAMES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["metadata", "result", "serializer", "__clinops__", "value"]), inner)
    ),
    max_leaves=8,
)


def same(left: Any, right: Any) -> bool:
    """Equality of values and types, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, pd.DataFrame):
        assert_frame_equal(left, right)
        return True
    if isinstance(left, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


@given(VALUES)
def test_whatever_is_nested_comes_back_as_it_was(value: Any) -> None:
    for back in both_ways(value):
        assert same(value, back)
