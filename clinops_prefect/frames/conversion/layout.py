"""DataFrame <-> Arrow table, without losing what Arrow has no place for.

pyarrow's pandas metadata lets `pandas.read_parquet` open our files, and loses much: `object` beside `str`, the order of
categories, `datetime64[s]`, a frequency, the type of labels. What it would lose is written beside it, under a metadata
key of our own, and put back on reading. What cannot be put back is refused, naming the column.
"""

import json
from collections import Counter
from collections.abc import Hashable
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames.conversion import columns, objects, pandas_blocks
from clinops_prefect.frames.conversion.from_pandas import table_of
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY, UNREADABLE, index_fields, layout_of
from clinops_prefect.frames.decoding import decoding

# What pandas 3 calls `str`, and pandas 2 has too, but takes that name for objects.
_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)

_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError, KeyError)


def to_arrow(df: pd.DataFrame, *, numbered: bool = False) -> pa.Table:
    """The frame as an Arrow table whose schema says how to get exactly the frame back.

    Args:
        df: The frame.
        numbered: Whether a range as index is no more than the number of each row: so it is in batches of a whole.

    Raises:
        UnsupportedFrameError: No table would give the frame back; the message names the column and what to do.
    """
    _check_frame(df)
    attrs = _json_attrs(df.attrs)
    try:
        named = columns.storable(df)
        # A range that does not begin at 0 says something about its rows, and filters must find it beside them.
        is_label = isinstance(df.index, pd.RangeIndex) and (df.index.start, df.index.step) != (0, 1) and not numbered
        # pyarrow writes a level that happens to be a range as a description without values.
        is_stored = is_label or isinstance(df.index, pd.MultiIndex)
        table = table_of(named, preserve_index=True if is_stored else None)
    except _CONVERSION_ERRORS:
        # `from None`: Arrow's message quotes the cell.
        raise _refusal(df) from None
    # One entry a level; the description of a default index, which has no field, is a dictionary.
    descriptors: Any = table.schema.pandas_metadata["index_columns"]
    index: list[str] = [field for field in descriptors if isinstance(field, str)]
    fields: list[str] = table.column_names[: len(df.columns)]
    # Labels may differ and their texts not: ("hr", 1) and ("hr", "1") are one field.
    # Older versions of pyarrow do not make the name of an index's field unique.
    _refuse_duplicates([*fields, *index])
    notes = {}
    for position, (field, dtype) in enumerate(zip(fields, df.dtypes, strict=True)):
        if columns.is_plain(dtype):
            continue  # without a look at each of a thousand
        where = f"column {df.columns[position]!r}"
        if found := columns.note(df.iloc[:, position], table.column(field), where):
            notes[field] = found
    for level, (field, level_values) in enumerate(zip(index, columns.levels(df.index) if index else [], strict=True)):
        if found := columns.note(columns.series_of(level_values), table.column(field), f"the index (level {level})"):
            notes[field] = found
    layout = {
        "columns": notes,
        "labels": labels_note(df.columns, fields),
        "index": index_note(df.index, index),
        "rows": len(df),
        "width": len(df.columns),
        "attrs": attrs,
        "duplicates": df.flags.allows_duplicate_labels,
    }
    # Last, because pandas may rearrange the blocks while it converts the frame.
    if arranged := pandas_blocks.note_of(df):
        layout["blocks"] = arranged
    metadata = {**table.schema.metadata, LAYOUT_KEY: json.dumps(layout).encode()}
    return table.replace_schema_metadata(metadata)


def fields_by_label(schema: pa.Schema) -> dict[Hashable, str]:
    """Column label -> field name, in column order."""
    index = set(index_fields(schema))
    fields = [name for name in schema.names if name not in index]
    layout = layout_of(schema)
    with decoding(UNREADABLE):
        labels = fields if layout is None else list(labels_of(layout["labels"], fields))
        return dict(zip(labels, fields, strict=True))


def index_note(index: "pd.Index[Any]", fields: list[str]) -> dict[str, Any]:
    """What restores an index from these fields."""
    for name in index.names:
        if name is not None and type(name) not in (str, int, float, bool):
            raise UnsupportedFrameError(f"an index name is of type {type(name).__name__}; make it text")
    levels = columns.levels(index)
    note: dict[str, Any] = {
        "fields": fields,
        "names": list(index.names),
        "multi": isinstance(index, pd.MultiIndex),
        "freqs": [columns.frequency(level, f"the index (level {number})") for number, level in enumerate(levels)],
    }
    if isinstance(index, pd.RangeIndex):
        note["range"] = [index.start, index.stop, index.step]
    return note


def index_of(
    layout: dict[str, Any], arrays: list[Any], rows: int, *, whole: bool = True, offset: int = 0
) -> "pd.Index[Any]":
    """The frame's index.

    Args:
        layout: The stored layout.
        arrays: The arrays of the index, one a level; none for an index that is not stored.
        rows: How many rows the frame has.
        whole: Whether no row was filtered away. If one may have been, a default index is renumbered.
        offset: How many rows come before these, for a default index.
    """
    note = layout["index"]
    if not arrays:
        name = note["names"][0]
        start, stop, step = note.get("range", (0, 0, 1))
        stored = pd.RangeIndex(start, stop, step, name=name)
        if whole and offset + rows <= len(stored):
            return _part(stored, offset, rows)
        return pd.RangeIndex(offset, offset + rows, name=name)
    if "range" in note and whole:
        start, stop, step = note["range"]
        stored = pd.RangeIndex(start, stop, step, name=note["names"][0])
        if offset + rows <= len(stored):
            return _part(stored, offset, rows)
    levels: list[Any] = [pd.Index(array, dtype=array.dtype, copy=False) for array in arrays]
    if whole and rows == layout["rows"]:
        for level, freq in zip(levels, note["freqs"], strict=True):
            if freq:
                level.freq = freq
    if note["multi"]:
        return pd.MultiIndex.from_arrays(levels, names=note["names"])
    return cast("pd.Index[Any]", levels[0].rename(note["names"][0]))


def _part(index: pd.RangeIndex, offset: int, rows: int) -> "pd.Index[Any]":
    # The whole is not sliced: a slice of a range may end elsewhere (7 instead of 8), which a pickle of it shows.
    return index if (offset, rows) == (0, len(index)) else index[offset : offset + rows]


def labels_note(labels: "pd.Index[Any]", fields: list[str]) -> dict[str, Any]:
    """What restores the labels of the columns that these fields hold."""
    names = list(labels.names)
    for name in names:
        if name is not None and type(name) not in (str, int, float, bool):
            raise UnsupportedFrameError(f"the name of df.columns is of type {type(name).__name__}; make it text")
    if isinstance(labels, pd.RangeIndex):
        return {"names": names, "fields": fields, "range": [labels.start, labels.stop, labels.step]}
    plain = {np.dtype(object): "object", _TEXT: "str"}.get(labels.dtype)
    if plain and labels.nlevels == 1 and list(labels) == fields and set(map(type, labels)) <= {str}:
        return {"names": names, "dtype": plain}
    # Labels that are not plain text are kept as a table of their own, one column a level.
    packed = [columns.pack(level, "df.columns") for level in columns.levels(labels)]
    return {"names": names, "fields": fields, "levels": packed, "multi": isinstance(labels, pd.MultiIndex)}


def labels_of(note: dict[str, Any], fields: list[str]) -> "pd.Index[Any]":
    """The labels of the columns that these fields hold, from the layout's note about labels."""
    if "dtype" in note:
        dtype = _TEXT if note["dtype"] == "str" else note["dtype"]
        plain: pd.Index[Any] = pd.Index(fields, dtype=dtype, name=note["names"][0])
        return plain
    labels: pd.Index[Any]
    if "range" in note:
        start, stop, step = note["range"]
        labels = pd.RangeIndex(start, stop, step, name=note["names"][0])
    elif note["multi"]:
        labels = pd.MultiIndex.from_arrays([columns.unpack(packed) for packed in note["levels"]], names=note["names"])
    else:
        labels = columns.unpack(note["levels"][0]).rename(note["names"][0])
    if fields == note["fields"]:
        return labels
    positions = {field: position for position, field in enumerate(note["fields"])}
    chosen: pd.Index[Any] = labels[[positions[field] for field in fields]]
    return chosen


def _check_frame(df: pd.DataFrame) -> None:
    # A subclass (a GeoDataFrame, say) would come back as another type.
    if type(df) is not pd.DataFrame:
        raise UnsupportedFrameError(f"a pandas DataFrame is needed, not a {_type_name(df)}{_remedy(df)}")
    _refuse_duplicates([str(label) for label in df.columns])
    if not df.columns.is_unique:  # times of one instant in two zones are equal, and their texts are not
        raise UnsupportedFrameError("two column labels are equal although they look different; rename one of them")
    # pyarrow warns about these, then turns them into text.
    if df.columns.nlevels == 1 and df.columns.inferred_type.startswith("mixed"):
        raise UnsupportedFrameError("column labels mix types; use df.columns = df.columns.astype(str)")


def _type_name(value: Any) -> str:
    """`polars.DataFrame`, not `DataFrame`: several packages have a class of that name."""
    package = type(value).__module__.partition(".")[0]
    return type(value).__name__ if package == "builtins" else f"{package}.{type(value).__name__}"


def _remedy(value: Any) -> str:
    """How to make a pandas DataFrame of it, where that is known."""
    if isinstance(value, pd.Series | pd.Index):
        return "; pass its .to_frame()"
    if isinstance(value, pd.DataFrame):
        return ", which would come back as a plain one; pass pd.DataFrame(df)"
    # By name, without importing packages that the caller may not have. A lazy frame is computed first.
    for method, remedy in (
        ("collect", ".collect().to_pandas()"),
        ("compute", ".compute()"),
        ("to_pandas", ".to_pandas()"),
    ):
        if callable(getattr(value, method, None)):
            return f"; pass its {remedy}"
    if isinstance(value, dict | list):
        return "; pass pd.DataFrame(…) of it"
    return ""


def _refuse_duplicates(names: list[str]) -> None:
    if len(set(names)) < len(names):
        shown = ", ".join(sorted(repr(name) for name, count in Counter(names).items() if count > 1)[:5])
        raise UnsupportedFrameError(f"duplicate names of columns or index levels: {shown}; rename all but one of each")


def _refusal(df: pd.DataFrame) -> UnsupportedFrameError:
    for position, label in enumerate(df.columns):
        try:
            pa.Table.from_pandas(df.iloc[:, [position]], preserve_index=False)
        except _CONVERSION_ERRORS:
            return UnsupportedFrameError(f"column {label!r} {objects.complaint(df.iloc[:, position])}")
    return UnsupportedFrameError(f"the index {objects.complaint(columns.series_of(columns.levels(df.index)[0]))}")


def _json_attrs(attrs: dict[Hashable, Any]) -> dict[Hashable, Any]:
    try:
        if objects.same(attrs, json.loads(json.dumps(attrs))):
            return attrs
    except (TypeError, ValueError):
        pass
    raise UnsupportedFrameError("df.attrs holds what JSON cannot keep; clear it with df.attrs = {}")
