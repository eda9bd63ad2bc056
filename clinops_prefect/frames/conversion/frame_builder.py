"""Makes a pandas frame: allocates it once, and fills it in parts from several threads.

The caller may change the frame, so its memory must not be Arrow's, which is read-only, or shared. Its blocks are those
that the frame had when it was uploaded, or else those that pandas makes. Converting a whole table instead would keep
table and frame in memory at once.
"""

from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.conversion import columns, missing_floats, pandas_blocks
from clinops_prefect.frames.conversion.layout import index_of, labels_of
from clinops_prefect.frames.conversion.schemas import layout_of
from clinops_prefect.frames.decoding import decoding


def to_frame(table: pa.Table, *, whole: bool = True, offset: int = 0) -> pd.DataFrame:
    """The frame from which `to_arrow` made the table; for another program's table, as `foreign_schema` describes it.

    The table's memory is freed while the frame is filled, unless the caller keeps the table.

    Args:
        table: A table with the stored schema metadata. It may have only some of the columns and rows.
        whole: Whether the rows are unfiltered. If not, a default index is renumbered.
        offset: Number of rows before these, for a default index.

    Raises:
        ArtifactDecodeError: The layout contradicts the table.
    """
    layout = layout_of(table.schema)
    with decoding("the stored layout does not fit the stored table"):
        if layout is None:
            raise ValueError("neither of ours, nor described by frames.foreign")
        builder = FrameBuilder(table.schema, layout, table.num_rows)
        names, held_columns = table.column_names, table.columns
        del table
        for name in reversed(names):
            builder.put(0, pa.table([held_columns.pop()], [name]))
        return builder.frame(whole=whole, offset=offset)


class FrameBuilder:
    """Builds the frame of an artifact, or of some of its columns or rows.

    Args:
        schema: The schema of all fields of the frame, in the order of the columns, with the index.
        layout: The stored layout.
        rows: Number of rows of the frame.

    Raises:
        ValueError: The layout contradicts the schema.
    """

    def __init__(self, schema: pa.Schema, layout: dict[str, Any], rows: int) -> None:
        self._layout = layout
        self._index: list[str] = [name for name in layout["index"]["fields"] if name in schema.names]
        # Parquet and CSV do not keep the number of rows of a frame without columns, but the layout does.
        self._rows = rows if rows or layout["width"] or self._index else layout["rows"]
        self._fields = [name for name in schema.names if name not in self._index]
        self._types = {name: schema.field(name).type for name in schema.names}
        # Field -> array to fill, for fields with a NumPy dtype. The array is a view of one row of a block.
        self._places: dict[str, np.ndarray[Any, Any]] = {}
        # Field -> first row -> number of rows, of what was filled in there.
        self._filled: dict[str, dict[int, int]] = {}
        # Field -> first row -> column, for all other fields.
        self._parts: dict[str, dict[int, pa.ChunkedArray]] = {}
        dtypes = [self._dtype(name) for name in self._fields]
        arranged = layout.get("blocks") if len(self._fields) == layout["width"] else None
        # The note has positions. All columns in another order have the blocks that pandas makes.
        self._plan = pandas_blocks.Plan(arranged if arranged and pandas_blocks.fits(arranged, dtypes) else None, dtypes)
        self._arrays: list[np.ndarray[Any, Any] | None] = []
        for number, positions in enumerate(self._plan.columns):
            dtype = dtypes[positions[0]]
            names = [self._fields[position] for position in positions]
            if dtype is None:
                self._parts |= {name: {} for name in names}
                self._arrays.append(None)
                continue
            array = np.empty((len(names), self._rows), dtype, order=self._plan.order(number))
            self._places |= dict(zip(names, array, strict=True))
            self._arrays.append(array)
        for name in self._index:
            dtype = self._dtype(name)
            if dtype is None:
                self._parts[name] = {}
            else:
                self._places[name] = np.empty(self._rows, dtype)
        self._filled = {name: {} for name in self._places}

    def put(self, at: int, table: pa.Table) -> None:
        """Fill in some fields of some rows.

        Args:
            at: Number of rows of the frame before these.
            table: The rows, with any of the fields.

        Raises:
            ArtifactDecodeError: The values do not fit the layout.
        """
        for name in table.column_names:
            column = table.column(name)
            if name in self._parts:
                self._parts[name][at] = column
                continue
            place = self._places[name]
            if column.null_count and place.dtype.kind in "biu":
                raise ArtifactDecodeError("the stored layout does not fit the stored table (missing integers)")
            if column.null_count and place.dtype.kind == "f":
                missing_floats.fill(place[at : at + len(column)], column)
            else:
                place[at : at + len(column)] = column.to_numpy()
            self._filled[name][at] = len(column)

    def frame(self, *, whole: bool = True, offset: int = 0) -> pd.DataFrame:
        """The frame, after every field of every row has been filled in.

        Args:
            whole: As in `to_frame`.
            offset: As in `to_frame`.
        """
        # A footer may say more rows than the file has. The arrays would show what the memory held before.
        if not all(_is_covered(filled, self._rows) for filled in self._filled.values()):
            raise ArtifactDecodeError("the stored layout does not fit the stored table (rows)")
        made: list[tuple[Any, list[int]]] = []
        for number, (array, positions) in enumerate(zip(self._arrays, self._plan.columns, strict=True)):
            values = self._restored(self._fields[positions[0]]) if array is None else array
            # An array of objects becomes a block with one row.
            values = values[None] if isinstance(values, np.ndarray) and values.ndim == 1 else values
            made.append((self._plan.finished(number, values), positions))
        levels = [self._places[name] if name in self._places else self._restored(name) for name in self._index]
        index = index_of(self._layout, levels, self._rows, whole=whole, offset=offset)
        frame = pandas_blocks.frame_of(made, self._plan.index(index), labels_of(self._layout["labels"], self._fields))
        frame.attrs = self._layout["attrs"]
        return frame if self._layout["duplicates"] else frame.set_flags(allows_duplicate_labels=False)

    def _restored(self, name: str) -> Any:
        parts = self._parts.pop(name)
        chunks = [chunk for at in sorted(parts) for chunk in parts[at].chunks]
        parts.clear()
        column = pa.chunked_array(chunks, type=self._types[name])
        del chunks
        return columns.owned(columns.restore(column, self._layout["columns"][name]))

    def _dtype(self, name: str) -> "np.dtype[Any] | None":
        """The NumPy dtype of the field; None if its values must be restored with a note."""
        kind, note = self._types[name], self._layout["columns"].get(name)
        if note is None:
            if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
                return np.dtype(f"{'M' if pa.types.is_timestamp(kind) else 'm'}8[{kind.unit}]")
            return cast("np.dtype[Any]", np.dtype(kind.to_pandas_dtype()))
        if "numpy" in note and (pa.types.is_timestamp(kind) or pa.types.is_duration(kind)):
            dtype = np.dtype(note["numpy"])
            return dtype if dtype.kind in "mM" else None
        return None


def _is_covered(filled: dict[int, int], rows: int) -> bool:
    end = 0
    for at in sorted(filled):
        if at > end:
            return False
        end = max(end, at + filled[at])
    return end >= rows
