"""The predicates of Arrow's texts: each type is a text, a text as a view, bytes, or none of these."""

import pyarrow as pa
import pytest

from clinops_prefect.frames.text_types import is_text, is_text_or_bytes, is_text_or_view

TEXTS = [pa.string(), pa.large_string()]
VIEWS = [pa.string_view()]
BYTES = [pa.binary(), pa.large_binary(), pa.binary_view()]
OTHERS = [
    *(pa.null(), pa.int8(), pa.float64(), pa.bool_(), pa.binary(4), pa.list_(pa.string()), pa.uuid()),
    pa.dictionary(pa.int32(), pa.string()),
]


@pytest.mark.parametrize("kind", [*TEXTS, *VIEWS, *BYTES, *OTHERS], ids=str)
def test_each_predicate_accepts_its_types(kind: pa.DataType) -> None:
    assert is_text(kind) is (kind in TEXTS)
    assert is_text_or_view(kind) is (kind in [*TEXTS, *VIEWS])
    assert is_text_or_bytes(kind) is (kind in [*TEXTS, *VIEWS, *BYTES])
