"""Converts a frame to an Arrow table faster, if an equally structured frame was converted before.

For a frame of 20 kB, making the description (pandas' metadata, our layout) takes longer than converting the values. The
thousand artifacts of a run often have the same description, so we remember it. This is done only if the description
depends on the dtypes, labels, number of rows and blocks alone. All other frames are converted by `layout.to_arrow`.
"""

import json
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.frames.conversion import pandas_blocks
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY

# For larger frames, the description is a small part of the work.
_MOST_VALUES: Final = 1_000_000
_MOST_DESCRIPTIONS: Final = 64
_NUMBERS: Final = {np.dtype(code) for code in "?bhilqBHILQfd"}
_TIMES: Final = {np.dtype(f"{kind}8[{unit}]") for kind in "mM" for unit in ("ms", "us", "ns")}
_NULLABLE: Final = {pd.arrays.IntegerArray, pd.arrays.BooleanArray}
_PANDAS_KEY: Final = b"pandas"
# A placeholder for the number of rows. A frame with this text in a label is not remembered.
_ROWS: Final = "\ue000rows\ue000"

_Key = tuple[Any, ...]


class _Description(NamedTuple):
    """The schema, and the two texts of its metadata that contain the number of rows, split at this number."""

    schema: pa.Schema
    pandas: list[str]
    layout: list[str]


_remembered: dict[_Key, _Description] = {}


def table_of(df: pd.DataFrame) -> pa.Table | None:
    """The table that `layout.to_arrow` would make from the frame; None if no such description is remembered."""
    found = _look(df)
    if found is None or (known := _remembered.get(found[0])) is None:
        return None
    schema = known.schema
    arrays = [pa.array(values, from_pandas=True) for values in found[1]]
    if [array.type for array in arrays] != schema.types:
        return None
    rows = str(len(df))
    metadata = {
        _PANDAS_KEY: rows.join(known.pandas),
        LAYOUT_KEY: rows.join(known.layout),
    }
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata(metadata))


def remember(df: pd.DataFrame, table: pa.Table) -> None:
    """Remember the description of a frame.

    Args:
        df: The frame.
        table: The table that `layout.to_arrow` made from the frame, after the check that it comes back equal.
    """
    # Look at the frame only now, because pandas may rearrange the blocks during the conversion. The layout describes
    # the blocks after the conversion.
    found = _look(df)
    metadata = table.schema.metadata
    if found is None or metadata.keys() != {_PANDAS_KEY, LAYOUT_KEY}:
        return
    pandas_metadata, layout = json.loads(metadata[_PANDAS_KEY]), json.loads(metadata[LAYOUT_KEY])
    pandas_metadata["index_columns"][0]["stop"] = _ROWS
    layout["rows"] = layout["index"]["range"][1] = _ROWS
    cut = [json.dumps(text).split(json.dumps(_ROWS)) for text in (pandas_metadata, layout)]
    description = _Description(table.schema.remove_metadata(), *cut)
    if [len(text) for text in cut] != [2, 3]:
        return
    if len(_remembered) >= _MOST_DESCRIPTIONS:
        _remembered.clear()
    _remembered[found[0]] = description


def _look(df: pd.DataFrame) -> tuple[_Key, list[Any]] | None:
    """The key of the frame's description, and the arrays of its columns. None if the description depends on more."""
    if type(df) is not pd.DataFrame or df.attrs or not df.flags.allows_duplicate_labels:
        return None
    index, labels = df.index, df.columns
    rows, width = len(index), len(labels)
    if not width or not 0 < rows * width <= _MOST_VALUES:
        return None
    if type(index) is not pd.RangeIndex or (index.start, index.step, index.stop, index.name) != (0, 1, rows, None):
        return None
    # Labels must be exactly str: a subclass equals its text, but `layout.to_arrow` refuses it.
    if type(labels) is not pd.Index or labels.name is not None or not (texts := _texts(labels)):
        return None
    arrays: list[Any] = [None] * width
    kinds: list[Any] = [None] * width
    arranged = _arrange(df, arrays, kinds)
    return None if arranged is None else ((texts, arranged, *kinds), arrays)


def _texts(labels: "pd.Index[Any]") -> tuple[Any, ...]:
    texts = labels.tolist()
    return (str(labels.dtype), type(labels.array), *texts) if set(map(type, texts)) == {str} else ()


def _arrange(df: pd.DataFrame, arrays: list[Any], kinds: list[Any]) -> Any:
    """Fill in each column's array and its kind.

    Returns:
        A key for the arrangement of the blocks. None if the description of a column depends on more than its dtype.
    """
    held: Any = getattr(df, "_mgr", None)
    arranged: list[Any] = []
    has_times, is_numpy = False, True
    for block in getattr(held, "blocks", ()):
        values, positions = block.values, list(block.mgr_locs)
        dtype = values.dtype
        each: Any = (values,)
        if type(values) is np.ndarray and dtype in _NUMBERS:
            each = values
            arranged.append((*positions, pandas_blocks.is_fortran(values)))
        elif isinstance(dtype, np.dtype) and dtype in _TIMES:
            has_times, each = True, values._ndarray
        elif type(values) in _NULLABLE or isinstance(values, pd.arrays.ArrowStringArray):
            is_numpy = False
        else:
            return None
        kind = (str(dtype), getattr(dtype, "storage", ""), getattr(dtype, "na_value", None) is pd.NA)
        for position, array in zip(positions, each, strict=True):
            arrays[position], kinds[position] = array, kind
    if not is_numpy:
        return ()  # the layout of such a frame has no note about blocks
    return json.dumps(pandas_blocks.note_of(df)) if has_times else tuple(arranged)
