"""Copies in memory that pyarrow owns, for what its own threads read: see slices.py for what happens otherwise."""

from typing import Any

import pyarrow as pa


def native(data: Any) -> pa.Buffer:
    """These bytes; a buffer of pyarrow's is taken for one that owns them."""
    if isinstance(data, pa.Buffer):
        return data
    view = memoryview(data).cast("B")
    copy = pa.allocate_buffer(len(view))
    memoryview(copy).cast("B")[:] = view
    return copy
