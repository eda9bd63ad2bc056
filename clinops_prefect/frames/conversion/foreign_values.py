"""The values of a column of another program's file that NumPy and pandas' dtypes do not have as they are."""

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.errors import ArtifactDecodeError


def restore(column: pa.ChunkedArray, note: dict[str, Any]) -> Any:
    """The values of a column that has a note of this module.

    Raises:
        ArtifactDecodeError: pandas and Python have no such values; the message names the column and its type.
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
                    leaf.cast(pa.time64("us"))  # fails where Python's time would silently lose nanoseconds
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


def leaves(array: pa.Array) -> list[pa.Array]:
    """The arrays of what is inside, at any depth; of an array that is not nested, itself."""
    kind = array.type
    if pa.types.is_struct(kind):
        return [leaf for child in array.flatten() for leaf in leaves(child)]
    if pa.types.is_map(kind):
        return leaves(array.keys) + leaves(array.items)
    return leaves(array.flatten()) if pa.types.is_nested(kind) else [array]


def categories_of(columns: Iterable[pa.ChunkedArray], kind: pa.DataType) -> pa.Array:
    """The categories of dictionary columns of one type, in the order in which they come up."""
    # Without their rows, so that no column is kept while the next one is made.
    parts = [chunk.slice(0, 0) for column in columns for chunk in column.chunks]
    if not parts:
        return pa.array([], kind.value_type)
    return pa.chunked_array(parts, kind).unify_dictionaries().chunk(0).dictionary


def packed(categories: pa.Array) -> str:
    """Categories as text, for the note of a column of which not every row is read."""
    sink = pa.BufferOutputStream()
    table = pa.table({"categories": categories})
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue()).decode()


def _categorical(column: pa.ChunkedArray, note: dict[str, Any]) -> pd.Categorical:
    if "categories" in note:
        table = pa.ipc.open_stream(base64.b64decode(note["categories"])).read_all()
        known = table.column(0).combine_chunks()
    else:
        known = categories_of([column], column.type)
    dtype = pd.CategoricalDtype(pd.Index(known.to_pandas()), ordered=bool(note["ordered"]))
    codes = [np.array([], dtype="int8")]
    for chunk in column.chunks:
        places = pc.index_in(chunk.dictionary, value_set=known)
        codes.append(pc.fill_null(places.take(chunk.indices), -1).to_numpy(zero_copy_only=False))
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype)
