"""Polars and Arrow frames as streams of Arrow tables with one schema, in bounded memory.

Polars frames are converted one row group at a time, lazy frames are collected in batches, and an Arrow C stream is read
batch by batch.
"""

import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clinops_prefect.errors import UnsupportedFrameError
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.kinds import Frame

if TYPE_CHECKING:
    from typing_extensions import TypeIs

# The limits of a slice of a polars frame that is converted at once: the bytes limit a wide frame, the rows a narrow
# one.
SLICE_BYTES = 32 << 20
_SLICE_ROWS = 98_304

_read_already: "weakref.WeakSet[Any]" = weakref.WeakSet()
# Objects of other packages whose streams had rows. Some can be read again, such as a query, and some only once. The key
# is the object's `id`, because other objects that are equal have rows of their own.
_had_rows: "weakref.WeakValueDictionary[int, Any]" = weakref.WeakValueDictionary()
_lock = threading.Lock()


@dataclass
class TableStream:
    """A frame as a stream of tables.

    Attributes:
        kind: The kind of frame, "polars" or "arrow".
        schema: The schema of each table.
        tables: The tables, which can be consumed once.
        dtypes: Column -> description of a polars dtype that Arrow does not have.
        dictionaries: Column -> whole dictionary, if it is known before the rows are read.
        frame: The polars frame that the tables are slices of; None if the rows are not one polars frame in memory.
    """

    kind: str
    schema: pa.Schema
    tables: Iterator[pa.Table]
    dtypes: dict[str, Any] = field(default_factory=dict)
    dictionaries: dict[str, pa.Array] = field(default_factory=dict)
    frame: Any = None


def is_pandas(value: object) -> bool:
    """Whether the pandas code handles the value: an object of pandas or a subclass, or no frame at all."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series | pandas.Index):
        return True
    return not (_is_polars(value, "DataFrame", "LazyFrame") or isinstance(value, pa.RecordBatch) or _is_stream(value))


def is_frame(value: object) -> "TypeIs[Frame]":
    """Whether the value is one frame rather than an iterable of frames."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        return True
    return not is_pandas(value)


def is_repeatable(value: object) -> bool:
    """Whether the same rows can be read twice. A reader can be read once, and a lazy frame may compute other rows."""
    return is_pandas(value) or _is_polars(value, "DataFrame") or isinstance(value, pa.Table | pa.RecordBatch)


def stream_of(value: Any) -> TableStream:
    """The frame as a stream.

    Raises:
        UnsupportedFrameError: The value is not a frame, was read already, or has a column that Parquet cannot keep.
    """
    if _is_polars(value, "DataFrame"):
        return _of_polars(value.schema, iter([value]), value)
    if _is_polars(value, "LazyFrame"):
        return _of_polars(value.collect_schema(), _collected(value))
    if isinstance(value, pa.RecordBatch):
        value = pa.Table.from_batches([value])
    if isinstance(value, pa.Table):
        found = {
            name: arrow_frames.categories_of([column], column.type.value_type)
            for name, column in zip(value.column_names, value.columns, strict=True)
            if pa.types.is_dictionary(column.type)
        }
        return TableStream("arrow", _checked(value.schema), iter([value]), dictionaries=found)
    reader = _reader(value)
    return TableStream("arrow", _checked(reader.schema), _tables(reader, value))


def slices(table: pa.Table) -> Iterator[pa.Table]:
    """Yield the table in slices of a few megabytes."""
    step = max(1, min(_SLICE_ROWS, SLICE_BYTES * table.num_rows // max(1, table.nbytes)))
    for start in range(0, table.num_rows, step):
        yield table.slice(start, step)
    if not table.num_rows:
        yield table


def _reader(value: Any) -> pa.RecordBatchReader:
    if isinstance(value, pa.RecordBatchReader):
        # An exhausted reader looks like an empty frame, so a second upload of it would silently store no rows.
        with _lock:
            if value in _read_already:
                raise UnsupportedFrameError(
                    "this RecordBatchReader was read already, and its rows can be read only once; pass a new one, or "
                    "its .read_all()"
                )
            _read_already.add(value)
        return value
    try:
        return pa.RecordBatchReader.from_stream(value)
    except (pa.ArrowException, TypeError, ValueError):
        name = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        remedy = "; pass its .to_frame()" if hasattr(value, "to_frame") else ""
        raise UnsupportedFrameError(f"a table is needed, not a {name}, which has no columns{remedy}") from None


def _tables(reader: pa.RecordBatchReader, value: Any) -> Iterator[pa.Table]:
    is_empty = True
    for batch in reader:
        if batch.num_rows and is_empty:
            is_empty = False
            with suppress(TypeError), _lock:  # raised for an object that no weak reference can refer to
                _had_rows[id(value)] = value
        yield pa.Table.from_batches([batch])
    if is_empty and _had_rows.get(id(value)) is value:
        raise UnsupportedFrameError(
            f"this {type(value).__name__} had rows when it was read before and has none now, as if its rows can be "
            "read only once; pass a new one, or its rows as a pyarrow.Table"
        )


def _of_polars(schema: Any, frames: Iterable[Any], whole: Any = None) -> TableStream:
    from clinops_prefect.frames.conversion import polars_frames

    dtypes = polars_frames.noted(schema)
    empty = polars_frames.empty(schema)
    found = {
        name: polars_frames.texts(description[1]).cast(empty.schema.field(name).type.value_type)
        for name, description in dtypes.items()
        if description[0] == "Enum"
    }
    # polars holds a view of 16 bytes for each text. Converting slices makes small copies as Arrow texts, which are
    # freed.
    tables = (polars_frames.to_arrow(part) for frame in frames for part in _parts(frame))
    return TableStream("polars", empty.schema, tables, dtypes, found, whole)


def _parts(frame: Any) -> Iterator[Any]:
    step = max(1, min(_SLICE_ROWS, SLICE_BYTES * frame.height // max(1, int(frame.estimated_size()))))
    for start in range(0, frame.height, step):
        yield frame.slice(start, step)
    if not frame.height:
        yield frame


def _collected(lazy: Any) -> Iterator[Any]:
    # Before 1.34, polars cannot collect a query in batches. We then use the engine that needs the least memory.
    if not hasattr(lazy, "collect_batches"):
        yield lazy.collect(engine="streaming")
        return
    yield from lazy.collect_batches(chunk_size=_SLICE_ROWS)


def _checked(schema: pa.Schema) -> pa.Schema:
    if len(set(schema.names)) < len(schema.names):
        names = schema.names
        shown = ", ".join(sorted({repr(name) for name in names if names.count(name) > 1})[:5])
        raise UnsupportedFrameError(f"duplicate names of columns: {shown}; rename all but one of each")
    return schema


def _is_polars(value: object, *names: str) -> bool:
    # Only look whether polars is imported. Importing it would slow down users without polars.
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(value, tuple(getattr(polars, name) for name in names))


def _is_stream(value: object) -> bool:
    return hasattr(value, "__arrow_c_stream__") and not isinstance(value, type)
