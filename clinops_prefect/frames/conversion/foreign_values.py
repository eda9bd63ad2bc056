"""Restores columns of another program's file that need more than a dtype of NumPy or pandas."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.conversion.arrow_frames import categories_of, leaves, unpacked


def restore(column: pa.ChunkedArray, note: dict[str, Any]) -> Any:
    """The values of a column with a note by `foreign_schema`.

    Raises:
        ArtifactDecodeError: pandas and Python cannot represent the values. The message names the column and its type.
    """
    way = note["as"]
    if way == "category":
        return _categorical(column, note)
    if pa.types.is_dictionary(column.type):
        raise ValueError("decoded, a dictionary may take any amount of memory")
    try:
        if way == "python":
            for leaf in (leaf for chunk in column.chunks for leaf in leaves(chunk)):
                if leaf.type == pa.time64("ns"):
                    leaf.cast(pa.time64("us"))  # raises if Python's time would silently lose nanoseconds
            values = np.empty(len(column), dtype=object)
            for position, value in enumerate(column.to_pylist()):
                values[position] = value
            return values
        if way == "pandas":
            return column.to_pandas().astype(object).to_numpy()
    except (pa.ArrowException, ArithmeticError, LookupError, NotImplementedError, TypeError, ValueError):
        pass
    raise ArtifactDecodeError(
        f"{note['uri']}: column {note['column']!r} is of type {note['type']}, of which pandas or Python cannot hold "
        "every value; leave it out with columns=, or have it written otherwise",
        uri=note["uri"],
    )


def _categorical(column: pa.ChunkedArray, note: dict[str, Any]) -> pd.Categorical:
    packed = note.get("categories")
    known = unpacked(packed) if packed else categories_of([column], column.type.value_type)
    dtype = pd.CategoricalDtype(pd.Index(known.to_pandas()), ordered=bool(note["ordered"]))
    codes = [np.array([], dtype="int8")]
    for chunk in column.chunks:
        places = pc.index_in(chunk.dictionary, value_set=known)
        codes.append(pc.fill_null(places.take(chunk.indices), -1).to_numpy(zero_copy_only=False))
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype)
