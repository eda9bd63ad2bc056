"""Converts one pandas column to an Arrow column and a note of what Arrow would lose, and restores it from both."""

import base64
import sys
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames.conversion import foreign_values, objects, zones

Note = dict[str, Any]

# The kinds of NumPy dtypes that Arrow and Parquet keep exactly, with missing values.
_EXACT_KINDS = "biuf"
_EXACT_UNITS = ("ms", "us", "ns")
# Extension dtypes that pandas itself converts both ways without loss. Columns of other dtypes are read back to check.
_EXACT_NAMES = {"boolean", *(f"{sign}nt{bits}" for sign in ("I", "UI") for bits in (8, 16, 32, 64))}


def is_plain(dtype: Any) -> bool:
    """Whether Arrow and Parquet keep a column of this dtype exactly, so that it needs no note and no check."""
    return isinstance(dtype, np.dtype) and dtype.kind in _EXACT_KINDS and dtype != np.float16


def note(values: "pd.Series[Any]", column: pa.ChunkedArray, where: str) -> Note | None:
    """The note that is needed to restore the column from Arrow; None if the Arrow type is enough.

    Raises:
        UnsupportedFrameError: The column would not come back equal.
    """
    dtype = values.dtype
    if isinstance(dtype, pd.StringDtype):
        # Python storage may hold members of an enumeration and other subclasses of str, which would be restored as str.
        # We ask the array for its storage, because the dtype of `pd.arrays.StringArray` does not tell it.
        is_arrow = isinstance(values.array, pd.arrays.ArrowStringArray)
        if not is_arrow and not set(map(type, values.dropna().to_numpy(dtype=object))) <= {str}:
            raise UnsupportedFrameError(f"{where} {objects.complaint(values)}")
        return {"string": [dtype.storage, "NA" if dtype.na_value is pd.NA else "nan"]}
    if isinstance(dtype, pd.CategoricalDtype):
        texts = {"texts": _texts(dtype)} if is_kept_as_text(dtype) else {}
        return {
            "category": pack(dtype.categories, f"{where}, its categories"),
            "ordered": bool(dtype.ordered),
            **texts,
        }
    if isinstance(dtype, pd.ArrowDtype):
        return {"arrow": True}
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _zoned_note(dtype, where)
    if not isinstance(dtype, np.dtype):
        return {"dtype": str(dtype)}
    if dtype.kind == "O":
        return {"object": objects.kind_of(values, column, where)}
    if dtype.kind in _EXACT_KINDS or (dtype.kind in "mM" and np.datetime_data(cast(Any, dtype))[0] in _EXACT_UNITS):
        return None
    return {"numpy": dtype.str}


def is_kept_as_text(dtype: Any) -> bool:
    """Whether a column of this dtype is stored as a category of texts, since Parquet has no dictionary of its values.

    This applies to categories of intervals, as `pd.cut` and `pd.qcut` make them, and of periods.
    """
    return isinstance(dtype, pd.CategoricalDtype) and isinstance(
        dtype.categories.dtype, pd.IntervalDtype | pd.PeriodDtype
    )


def series_of(index: "pd.Index[Any]") -> "pd.Series[Any]":
    """The values of an index as a column of the same dtype."""
    # The dtype is given, because pandas 2 would otherwise convert objects to times.
    values: pd.Series[Any] = pd.Series(index, dtype=cast(Any, index.dtype))
    return values


def levels(index: "pd.Index[Any]") -> "list[pd.Index[Any]]":
    """The values of each level, without names.

    Raises:
        UnsupportedFrameError: A level has integers or booleans with missing values, for which pandas changes the dtype.
    """
    # Names are removed, because `get_level_values(0)` would otherwise return a level with the name 0.
    nameless = index.set_names([None] * index.nlevels)
    found = [nameless.get_level_values(level) for level in range(index.nlevels)]
    for number, values in enumerate(found):
        if isinstance(index, pd.MultiIndex) and index.levels[number].dtype != values.dtype:
            raise UnsupportedFrameError(
                f"the index (level {number}) has {index.levels[number].dtype} and missing values, which pandas makes "
                f"{values.dtype}; convert it before it becomes the index, with .astype('Int64') for instance"
            )
    return found


def storable(df: pd.DataFrame) -> pd.DataFrame:
    """The frame for storage: index names, and categories that Parquet does not have, are replaced by texts.

    The result shares its data with the given frame, which is not changed.
    """
    index = df.index
    if any(name is not None and not isinstance(name, str) for name in index.names):
        index = index.set_names([None if name is None else str(name) for name in index.names])
    if any(is_kept_as_text(level.dtype) for level in levels(index)):
        arrays = [_as_text(level, level) if is_kept_as_text(level.dtype) else level for level in levels(index)]
        index = (
            pd.MultiIndex.from_arrays(arrays, names=index.names) if len(arrays) > 1 else arrays[0].rename(index.name)
        )
    positions = [position for position, dtype in enumerate(df.dtypes) if is_kept_as_text(dtype)]
    if index is df.index and not positions:
        return df
    df = df.copy(deep=False)  # instead of rename_axis, for which pandas 2 copies the data
    df.index = index
    for position in positions:
        values = df.iloc[:, position]
        df.isetitem(position, _as_text(values, values.cat))
    return df


def needs_proof(values: "pd.Series[Any]") -> bool:
    """Whether the values must be read back to check that they come back equal. For other dtypes, this is known."""
    dtype = values.dtype
    # Parquet has no seconds, and far ones have no milliseconds.
    if str(getattr(dtype, "categories", values).dtype).startswith("datetime64[s"):
        return True
    if isinstance(dtype, np.dtype):
        return dtype == np.float16 or (dtype.kind == "O" and pd.api.types.infer_dtype(values) != "string")
    if isinstance(dtype, pd.DatetimeTZDtype):
        return str(dtype.tz) != "UTC"
    if isinstance(dtype, pd.CategoricalDtype):
        # The codes are exact, but a dictionary may lose more in Parquet than a column of the same type.
        return not (isinstance(dtype.categories.dtype, np.dtype | pd.StringDtype) or is_kept_as_text(dtype))
    return not (isinstance(dtype, pd.StringDtype) or str(dtype) in _EXACT_NAMES)


def restore(column: pa.ChunkedArray, note: Note) -> Any:
    """Restore the values that pandas had: an array of the noted dtype, shape (rows,).

    Raises:
        ValueError: `note` did not write this note for such a column.
    """
    if "foreign" in note:
        return foreign_values.restore(column, note["foreign"])
    if pa.types.is_dictionary(column.type) and not {"category", "arrow"} & note.keys():
        raise ValueError("decoded, a dictionary may take any amount of memory, and its note is another's")
    if "numpy" in note:
        # A forged note could name a dtype of any width (`V1000000000`), or one that makes objects.
        if np.dtype(note["numpy"]).kind not in "mM":
            raise ValueError("a dtype that is kept otherwise")
        return column.to_pandas().to_numpy().astype(note["numpy"])
    if "string" in note:
        storage, missing = note["string"]
        # pandas' own text is interned. If this one were not, the frame's pickle, and so Prefect's cache key, would
        # differ.
        storage = sys.intern(storage)
        text = cast(Any, pd.StringDtype(storage, na_value=pd.NA if missing == "NA" else np.nan))
        if storage == "python":
            # In pandas 2.3, `__from_arrow__` returns another array class with another missing value.
            return pd.array(column.to_numpy(zero_copy_only=False), dtype=text)
        return text.__from_arrow__(column)
    if "category" in note:
        return _categorical(column, note)
    if "arrow" in note:
        return pd.arrays.ArrowExtensionArray(column)
    if "object" in note:
        return objects.restore(column, note["object"])
    if "zone" in note:
        return pd.DatetimeTZDtype(note["unit"], zones.restore(note["zone"])).__from_arrow__(column)
    return pd.api.types.pandas_dtype(note["dtype"]).__from_arrow__(column)  # type: ignore[union-attr]


def owned(values: Any) -> Any:
    """These values, or a copy if they are in Arrow's memory, which is read-only."""
    return values if _is_writable(values) else values.copy()


def _is_writable(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return bool(values.flags.writeable)
    # Private names of pandas, which has no public way to find this out. To copy every column would take twice the
    # memory.
    held = [getattr(values, name, None) for name in ("_ndarray", "_data", "_mask", "_left", "_right")]
    return all(_is_writable(part) for part in held if isinstance(part, np.ndarray | pd.api.extensions.ExtensionArray))


def frequency(index: "pd.Index[Any]", where: str) -> str | None:
    """The frequency of an index of times, as text; None if it has none.

    Raises:
        UnsupportedFrameError: The frequency cannot be restored from its text.
    """
    freq = getattr(index, "freq", None)
    if freq is None or not isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex):
        return None  # a PeriodIndex has its frequency in its dtype
    try:
        is_kept = pd.tseries.frequencies.to_offset(freq.freqstr) == freq
    except ValueError:
        is_kept = False  # such as DateOffset(months=1), whose text pandas cannot read
    if not is_kept:
        raise UnsupportedFrameError(f"{where}: the frequency {freq.freqstr} cannot be kept; set its freq to None")
    return str(freq.freqstr)


def pack(index: "pd.Index[Any]", where: str) -> Note:
    """A few values (categories, labels) as JSON: an Arrow stream in base64, and the note that restores them."""
    values = series_of(index)
    try:
        stored = _as_text(values, values.cat) if is_kept_as_text(index.dtype) else values
        column = pa.chunked_array([pa.array(stored, from_pandas=True)])
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise UnsupportedFrameError(f"{where}: {objects.complaint(values)}") from None
    found = note(values, column, where)
    packed = _packed(column, found, index, where)
    # These values are few, and no other check covers them.
    if not is_plain(index.dtype) and not _same(index, unpack(packed)):
        raise UnsupportedFrameError(f"{where}: {objects.complaint(values)}")
    return packed


def _packed(column: pa.ChunkedArray, note: Note | None, index: "pd.Index[Any]", where: str) -> Note:
    table = pa.table({"values": column})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return {
        "values": base64.b64encode(sink.getvalue()).decode(),
        "note": note,
        "freq": frequency(index, where),
    }


def unpack(packed: Note) -> "pd.Index[Any]":
    """The index that `pack` encoded, without its name."""
    column = _packed_column(packed)
    values: Any = restore(column, packed["note"]) if packed["note"] else column.to_pandas().to_numpy()
    index: Any = pd.Index(owned(values), dtype=values.dtype, copy=False)
    if packed["freq"]:
        index.freq = packed["freq"]
    return cast("pd.Index[Any]", index)


def _same(before: "pd.Index[Any]", after: "pd.Index[Any]") -> bool:
    if before.dtype != after.dtype or len(before) != len(after):
        return False
    return objects.same(before.astype(object).to_numpy(), after.astype(object).to_numpy())


def _packed_column(packed: Note) -> pa.ChunkedArray:
    return pa.ipc.open_stream(base64.b64decode(packed["values"])).read_all().column(0)


def _zoned_note(dtype: pd.DatetimeTZDtype, where: str) -> Note:
    description = zones.describe(dtype.tz)
    if description is None:
        raise UnsupportedFrameError(
            f"{where} has a time zone that has no name to keep it by ({type(dtype.tz).__name__}); convert it, with "
            ".dt.tz_convert('UTC')"
        )
    name = str(dtype)
    try:
        # The dtype's name is enough if pandas makes the same zone from it. pandas 2 makes a zone of pytz.
        if zones.same(cast(pd.DatetimeTZDtype, pd.api.types.pandas_dtype(name)).tz, dtype.tz):
            return {"dtype": name}
    except TypeError:
        pass  # the name does not identify the zone (dateutil, a named offset)
    return {"dtype": name, "unit": dtype.unit, "zone": list(description)}


def _as_text(values: Any, categories: Any) -> Any:
    return categories.rename_categories(_texts(values.dtype))


def _texts(dtype: pd.CategoricalDtype) -> list[str]:
    return [str(category) for category in dtype.categories]


def _categorical(column: pa.ChunkedArray, note: Note) -> pd.Categorical:
    # Use the stored texts, because another version of pandas may have other texts for the same values.
    known = pa.array(note["texts"], pa.string()) if "texts" in note else _packed_column(note["category"])
    dtype = pd.CategoricalDtype(unpack(note["category"]), ordered=note["ordered"])
    codes = [np.array([], dtype="int8")]
    # Each row group may have its own dictionary, in order of first appearance. Map them all to our categories.
    for chunk in column.chunks:
        encoded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        positions = pc.index_in(encoded.dictionary.cast(known.type), value_set=known)
        codes.append(pc.fill_null(positions.take(encoded.indices), -1).to_numpy(zero_copy_only=False))
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=dtype)
