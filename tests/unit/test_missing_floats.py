"""Floats are copied from Arrow's memory as pyarrow would copy them, bit for bit."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinops_prefect.frames.conversion import missing_floats


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([2, 4, 8]),
    rows=st.integers(0, 3_000) | st.integers(0, 70_000),
    begin=st.integers(0, 40),
    cut=st.integers(0, 40),
    share=st.sampled_from([0.0, 0.01, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_values_keep_their_bits_and_missing_values_are_numpys_nan(
    size: int, rows: int, begin: int, cut: int, share: float, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    # Random bits: each kind of NaN, both zeros and infinities, also in the places of missing values.
    stored = chance.integers(0, 256, rows * size, dtype=np.uint8).view(f"f{size}")
    there = chance.random(rows) >= share
    validity = pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    whole = pa.Array.from_buffers(
        pa.from_numpy_dtype(stored.dtype), rows, [validity, pa.py_buffer(stored.tobytes())], -1
    )
    part = whole.slice(begin, max(rows - begin - cut, 0))
    there, stored = there[begin : begin + len(part)], stored[begin : begin + len(part)]
    column = pa.chunked_array([part.slice(0, len(part) // 16 * 8), part.slice(len(part) // 16 * 8)])
    place = np.zeros(len(part), stored.dtype)
    missing_floats.fill(place, column)
    expected = stored.copy()
    expected[~there] = np.nan
    assert _bits(place) == _bits(expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_row_of_a_block_is_filled_in_place(order: Any) -> None:
    block = np.zeros((3, 5), "f8", order=order)
    missing_floats.fill(block[1], pa.chunked_array([[1.5, None, -0.0], [None, 2.5]]))
    assert _bits(block[1]) == _bits(np.array([1.5, np.nan, -0.0, np.nan, 2.5]))
    assert not block[[0, 2]].any()


def _bits(values: "np.ndarray[Any, Any]") -> bytes:
    return np.ascontiguousarray(values).tobytes()
