"""An index that is a named range, in an artifact that only describes the range and has no field for it.

In pandas 3, `df.set_index("stay_id")` makes a range if the values count up, and `to_parquet` writes only its start,
stop and step, as older versions of this package did. Without the field, polars and Arrow would lose the column, and
filtered rows would get the labels of others.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY, layout_of

# The name that PyArrow gives to the field of an index whose own name a column has.
_FIELD = "__index_level_0__"
_LIMITS = np.iinfo(np.int64)


@dataclass(frozen=True)
class NamedRange:
    """A named range that has no field.

    Attributes:
        name: The name of the index.
        field: The name that the field of the index gets.
        start: The label of the first row.
        step: The difference between the labels of two rows.
    """

    name: str | int | float | bool
    field: str
    start: int
    step: int

    def described(self, schema: pa.Schema) -> pa.Schema:
        """The schema with a field for the index."""
        metadata = dict(schema.metadata or {})
        if notes := schema.pandas_metadata:
            about = {"name": str(self.name), "field_name": self.field, "pandas_type": "int64", "numpy_type": "int64"}
            notes["index_columns"] = [self.field]
            notes["columns"] = [*notes.get("columns", []), {**about, "metadata": None}]
            metadata[b"pandas"] = json.dumps(notes).encode()
        if layout := layout_of(schema):
            layout["index"]["fields"] = [self.field]
            metadata[LAYOUT_KEY] = json.dumps(layout).encode()
        return pa.schema([*schema, pa.field(self.field, pa.int64())], metadata)

    def labelled(self, table: pa.Table, at: int) -> pa.Table:
        """The table with the labels of its rows, of which the first is row `at`."""
        labels = self.labels(np.arange(at, at + table.num_rows, dtype=np.int64))
        return pa.Table.from_arrays([*table.columns, labels], schema=self.described(table.schema))

    def labels(self, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> pa.Array:
        """The labels of these rows."""
        return pa.array(self.start + self.step * rows)


def named_range(schema: pa.Schema, rows: int) -> NamedRange | None:
    """The index, if it is a named range of all rows and has no field; None for any other."""
    try:
        if layout := layout_of(schema):
            note = layout["index"]
            (name,), limits = note["names"], [] if note["fields"] else note["range"]
        else:
            (found,) = (schema.pandas_metadata or {})["index_columns"]
            name, limits = found["name"], [found[part] for part in ("start", "stop", "step")]
        start, stop, step = limits
        labels = range(start, stop, step)
        fits = (
            type(name) in (str, int, float, bool)
            # If the length differs, the rows were changed without pandas, so the range is outdated.
            and len(labels) == rows
            and all(_LIMITS.min <= number <= _LIMITS.max for number in (start, step, *labels[-1:]))
        )
        field = _FIELD if str(name) in schema.names else str(name)
        return NamedRange(name, field, start, step) if fits and field not in schema.names else None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None  # `described` raises an error about metadata that cannot be read
