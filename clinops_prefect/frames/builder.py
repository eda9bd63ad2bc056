"""A frame in the making: allocated once, and filled a part at a time, from several threads.

Converting a whole table would hold it and the frame at once. And the columns of a dtype that stand side by side become
one block here, as pandas has them in a frame of its own making: a wide frame of a thousand blocks is slow to work with.
"""

from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames import columns
from clinops_prefect.frames.layout import dressed


class FrameBuilder:
    """The frame of a whole artifact.

    Args:
        schema: The stored schema.
        layout: The layout in it.
        rows: The number of rows.
    """

    def __init__(self, schema: pa.Schema, layout: dict[str, Any], rows: int) -> None:
        self._layout = layout
        # Parquet forgets how many rows a frame without columns had.
        self._rows = rows if schema.names else layout["rows"]
        self._index: list[str] = layout["index"]["fields"]
        self._fields = [name for name in schema.names if name not in self._index]
        self._types = {name: schema.field(name).type for name in schema.names}
        # The place of each field whose values NumPy has as they are; a view of a row of a block.
        self._places: dict[str, np.ndarray[Any, Any]] = {}
        self._blocks: list[np.ndarray[Any, Any] | str] = []
        # The other fields: their parts, by where they begin.
        self._parts: dict[str, dict[int, pa.ChunkedArray]] = {}
        for dtype, run in groupby(self._fields, self._dtype):
            names = list(run)
            if dtype:
                block = np.empty((len(names), rows), dtype)
                self._places |= dict(zip(names, block, strict=True))
                self._blocks.append(block)
            else:
                self._parts |= {name: {} for name in names}
                self._blocks += names
        for name in self._index:
            if dtype := self._dtype(name):
                self._places[name] = np.empty(rows, dtype)
            else:
                self._parts[name] = {}

    def put(self, at: int, table: pa.Table) -> None:
        """Put some fields of some rows in their place.

        Args:
            at: How many rows of the frame come before these.
            table: Any of the fields.

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
            place[at : at + len(column)] = column.to_numpy()

    def frame(self) -> pd.DataFrame:
        """The frame, once every field of every row was put."""
        parts = []
        for block in self._blocks:
            if isinstance(block, str):
                values = self._restored(block)
                # With the dtype said, or pandas would make `str` of objects that are all text.
                parts.append(pd.Series(values, dtype=values.dtype, copy=False).to_frame())
            else:
                parts.append(pd.DataFrame(block.T, copy=False))
        frame = pd.concat(parts, axis=1) if parts else pd.DataFrame(index=range(self._rows))
        index = [self._places[name] if name in self._places else self._restored(name) for name in self._index]
        return dressed(frame, self._layout, self._fields, index, self._rows)

    def _restored(self, name: str) -> Any:
        parts = self._parts[name]
        chunks = [chunk for at in sorted(parts) for chunk in parts[at].chunks]
        return columns.restore(pa.chunked_array(chunks, type=self._types[name]), self._layout["columns"][name])

    def _dtype(self, name: str) -> str:
        """The NumPy dtype that has the field's values as they are; empty if none has."""
        if name in self._layout["columns"]:
            return ""
        kind = self._types[name]
        if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
            return f"{'M' if pa.types.is_timestamp(kind) else 'm'}8[{kind.unit}]"
        return str(np.dtype(kind.to_pandas_dtype()).str)
