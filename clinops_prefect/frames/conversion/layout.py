"""Converts pandas frames to Arrow tables and back without loss, by a note (the layout) of what Arrow cannot hold.

With pyarrow's pandas metadata, `pandas.read_parquet` can open our files. But this metadata loses much: `object` versus
`str`, the order of categories, `datetime64[s]`, a frequency, the type of labels. We store these under our own metadata
key, and restore them on reading. A frame that cannot be restored is refused with an error that names the column.
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

# The dtype that pandas 3 calls `str`. pandas 2 also has it, but there the name `str` means objects.
_TEXT = pd.StringDtype("pyarrow", na_value=np.nan)

_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError, KeyError)


def pandas_frame(frame: object) -> pd.DataFrame:
    """Return the frame if it is a pandas DataFrame.

    Raises:
        UnsupportedFrameError: It is not one, or it is of a subclass such as GeoDataFrame, which would be restored as a
            plain DataFrame.
    """
    if type(frame) is not pd.DataFrame:
        raise UnsupportedFrameError(
            f"a DataFrame or an Arrow table is needed, not a {_type_name(frame)}{_remedy(frame)}"
        )
    return frame


def to_arrow(df: pd.DataFrame, *, numbered: bool = False) -> pa.Table:
    """The frame as an Arrow table whose schema has all that is needed to restore the frame exactly.

    Args:
        df: The frame.
        numbered: Whether a range index only numbers the rows, as in the batches of one frame.

    Raises:
        UnsupportedFrameError: The frame cannot be restored exactly. The message names the column and the remedy.
    """
    _check_frame(df)
    attrs = _json_attrs(df.attrs)
    try:
        named = columns.storable(df)
        # Otherwise pyarrow would write a level that is a range as a description without values.
        is_stored = _is_label(df.index, numbered=numbered) or isinstance(df.index, pd.MultiIndex)
        table = table_of(named, preserve_index=True if is_stored else None)
    except _CONVERSION_ERRORS:
        # `from None`, because Arrow's message quotes the cell value.
        raise _refusal(df) from None
    # One entry for each level. A default index has no field, and its entry is a dictionary.
    descriptors: Any = table.schema.pandas_metadata["index_columns"]
    index: list[str] = [field for field in descriptors if isinstance(field, str)]
    fields: list[str] = table.column_names[: len(df.columns)]
    # Different labels may have the same text: ("hr", 1) and ("hr", "1") would be the same field. And older versions of
    # pyarrow may give an index field the name of a column.
    _refuse_duplicates([*fields, *index])
    notes = {}
    for position, (field, dtype) in enumerate(zip(fields, df.dtypes, strict=True)):
        if columns.is_plain(dtype):
            continue  # saves time on frames with a thousand columns
        where = f"column {df.columns[position]!r}"
        if found := columns.note(df.iloc[:, position], table.column(field), where):
            notes[field] = found
            table = _with_wide_decimals(table, field, found)
    for level, (field, level_values) in enumerate(zip(index, columns.levels(df.index) if index else [], strict=True)):
        if found := columns.note(columns.series_of(level_values), table.column(field), f"the index (level {level})"):
            notes[field] = found
            table = _with_wide_decimals(table, field, found)
    layout = {
        "columns": notes,
        "labels": labels_note(df.columns, fields),
        "index": index_note(df.index, index),
        "rows": len(df),
        "width": len(df.columns),
        "attrs": attrs,
        "duplicates": df.flags.allows_duplicate_labels,
    }
    # This comes last, because pandas may rearrange the blocks while it converts the frame.
    if arranged := pandas_blocks.note_of(df):
        layout["blocks"] = arranged
    metadata = {**table.schema.metadata, LAYOUT_KEY: json.dumps(layout).encode()}
    return table.replace_schema_metadata(metadata)


def _with_wide_decimals(table: pa.Table, field: str, note: dict[str, Any]) -> pa.Table:
    """The table with all digits for a column of `Decimal` objects."""
    wide = objects.wide_decimal(table.schema.field(field).type) if "object" in note else None
    if wide is None:
        return table
    position = table.schema.get_field_index(field)
    return table.set_column(position, table.schema.field(field).with_type(wide), table.column(field).cast(wide))


def fields_by_label(schema: pa.Schema) -> dict[Hashable, str]:
    """Column label -> field name, in column order."""
    index = set(index_fields(schema))
    fields = [name for name in schema.names if name not in index]
    layout = layout_of(schema)
    with decoding(UNREADABLE):
        labels = fields if layout is None else list(labels_of(layout["labels"], fields))
        return dict(zip(labels, fields, strict=True))


def index_note(index: "pd.Index[Any]", fields: list[str]) -> dict[str, Any]:
    """The note that restores an index from these fields."""
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
        arrays: The arrays of the index, one per level; empty for an index that is not stored.
        rows: Number of rows of the frame.
        whole: Whether the rows are unfiltered. If not, a default index is renumbered.
        offset: Number of rows before these, for a default index.
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
    # A whole range is not sliced, because the slice may have another stop (7 instead of 8), so that its pickle differs.
    return index if (offset, rows) == (0, len(index)) else index[offset : offset + rows]


def labels_note(labels: "pd.Index[Any]", fields: list[str]) -> dict[str, Any]:
    """The note that restores the column labels of these fields."""
    names = list(labels.names)
    for name in names:
        if name is not None and type(name) not in (str, int, float, bool):
            raise UnsupportedFrameError(f"the name of df.columns is of type {type(name).__name__}; make it text")
    if isinstance(labels, pd.RangeIndex):
        return {"names": names, "fields": fields, "range": [labels.start, labels.stop, labels.step]}
    plain = {np.dtype(object): "object", _TEXT: "str"}.get(labels.dtype)
    if plain and labels.nlevels == 1 and list(labels) == fields and set(map(type, labels)) <= {str}:
        return {"names": names, "dtype": plain}
    # Labels that are not plain text are stored as a table, with one column per level.
    packed = [columns.pack(level, "df.columns") for level in columns.levels(labels)]
    return {"names": names, "fields": fields, "levels": packed, "multi": isinstance(labels, pd.MultiIndex)}


def labels_of(note: dict[str, Any], fields: list[str]) -> "pd.Index[Any]":
    """The column labels of these fields, from the note of `labels_note`."""
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


def _is_label(index: "pd.Index[Any]", *, numbered: bool) -> bool:
    """Whether a range identifies the rows, so that it is stored with them and stays with filtered rows."""
    if not isinstance(index, pd.RangeIndex):
        return False
    # A name means values: in pandas 3, `set_index("hour")` makes a range of hours that count up, even from 0.
    return index.name is not None or ((index.start, index.step) != (0, 1) and not numbered)


def _check_frame(df: pd.DataFrame) -> None:
    pandas_frame(df)
    _refuse_duplicates([str(label) for label in df.columns])
    if not df.columns.is_unique:  # checked on the labels too: equal times in two zones have different texts
        raise UnsupportedFrameError("two column labels are equal although they look different; rename one of them")
    # pyarrow would only warn about mixed labels and turn them into text.
    if df.columns.nlevels == 1 and df.columns.inferred_type.startswith("mixed"):
        raise UnsupportedFrameError("column labels mix types; use df.columns = df.columns.astype(str)")


def _type_name(value: Any) -> str:
    """The qualified name, such as `polars.DataFrame`, because several packages have a class `DataFrame`."""
    package = type(value).__module__.partition(".")[0]
    return type(value).__name__ if package == "builtins" else f"{package}.{type(value).__name__}"


def _remedy(value: Any) -> str:
    """How to convert the value to a pandas DataFrame, if that is known."""
    if isinstance(value, pd.Series | pd.Index):
        return "; pass its .to_frame()"
    if isinstance(value, pd.DataFrame):
        return ", which would come back as a plain one; pass pd.DataFrame(df)"
    # Check for methods by name, so that no package is imported. `collect` comes first, because a lazy frame needs it.
    for method, remedy in (
        ("collect", ".collect().to_pandas()"),
        ("compute", ".compute()"),
        ("to_arrow_reader", ".to_arrow_reader()"),
        ("fetch_record_batch", ".fetch_record_batch()"),
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
