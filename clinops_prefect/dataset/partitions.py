"""The columns from Hive partition folders, and the parts that a filter on them leaves before any part is read."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs

from clinops_prefect.dataset.listing import Part
from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.conversion import foreign_schema
from clinops_prefect.frames.csv import cells
from clinops_prefect.frames.csv.options import Options
from clinops_prefect.frames.selection.filters import Filters, expression_of, only_on

_ARROW_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, KeyError)


class Partitions:
    """The partition columns of a dataset.

    Types are inferred as for a CSV file: if each value of a column is a plain decimal, it has numbers, else text. Dates
    stay text. The types depend on the folder names of all parts, even if only some parts are read.

    Attributes:
        names: The columns, in the order of the folders.
        table: The values, one row for each part.
    """

    def __init__(self, parts: Sequence[Part], where: str) -> None:
        self.names = [name for name, _ in parts[0].folders]
        self._where = where
        columns = [
            pa.chunked_array([pa.array([part.folders[place][1] for part in parts], pa.large_string())])
            for place in range(len(self.names))
        ]
        self._texts = pa.table(columns, names=self.names)
        self.table = cells.typed(self._texts, Options.of(None), where)[0] if self.names else self._texts

    def described(self, names: Sequence[str]) -> pa.Schema:
        """The schema of these columns, with a layout for their dtypes."""
        complete = {name for name in names if not self.table.column(name).null_count}
        return foreign_schema.described(self.table.select(names).schema, complete, (), len(self.table), self._where)

    def retyped(self, kinds: Mapping[str, pa.DataType]) -> "Partitions":
        """The same partitions, with the types that columns of the same name have in the parts themselves.

        A column is left out if its folder names cannot be converted to that type. Then only the parts have its values.
        """
        made = object.__new__(Partitions)
        made._where, made._texts = self._where, self._texts
        columns: dict[str, Any] = {}
        for name in self.names:
            if name not in kinds:
                columns[name] = self.table.column(name)
                continue
            kind = kinds[name].value_type if pa.types.is_dictionary(kinds[name]) else kinds[name]
            try:
                columns[name] = self._texts.column(name).cast(kind)
            except _ARROW_ERRORS:
                continue
        made.names, made.table = list(columns), pa.table(columns)
        return made

    def value(self, part: int, name: str) -> pa.Scalar:
        """The value of a column in one part."""
        return self.table.column(name)[part]

    def guarantee(self, part: int, names: Sequence[str] | None = None) -> pc.Expression | None:
        """An expression on the partition columns that holds for every row of a part."""
        found = None
        for name in self.names if names is None else names:
            value = self.value(part, name)
            one = pc.field(name) == value if value.is_valid else pc.field(name).is_null()
            found = one if found is None else found & one
        return found

    def left(self, filters: Filters | None, parts: int) -> list[int]:
        """The numbers of the parts that may have matching rows.

        Raises:
            ArtifactColumnError: The filters do not fit the types of the partition columns.
        """
        every = list(range(parts))
        if filters is None or not self.names:
            return every
        if not isinstance(filters, pc.Expression):
            filters = only_on(filters, self.names, self._where)
            if filters is None:
                return every
        known: dict[Hashable, str] = {name: name for name in self.names}
        expression = expression_of(filters, self.table.schema, known, lambda _: None, self._where)
        return every if expression is None else self.possible(expression, parts, self.table.schema)

    def possible(self, expression: pc.Expression, parts: int, schema: pa.Schema) -> list[int]:
        """Like `left`, for an expression over a schema's fields. Fields outside of the schema may have any value."""
        every = list(range(parts))
        if not self.names:
            return every
        # Fragments only combine a path and a guarantee. No file is opened.
        kind, nowhere = ds.ParquetFileFormat(), fs.LocalFileSystem()
        fragments = [
            kind.make_fragment(f"/{number}", filesystem=nowhere, partition_expression=self.guarantee(number))
            for number in every
        ]
        while True:
            try:
                dataset = ds.FileSystemDataset(fragments, schema, kind, nowhere)
                return [int(fragment.path[1:]) for fragment in dataset.get_fragments(filter=expression)]
            except _ARROW_ERRORS as error:
                _, found, rest = str(error).partition("No match for FieldRef.Name(")
                name = rest.partition(") in ")[0]
                if not found or name in schema.names:
                    # The error may be one of types. It is raised later, when the types of the parts are known.
                    return every
                schema = schema.append(pa.field(name, pa.null()))


def check_values(column: pa.ChunkedArray, value: pa.Scalar, name: str, where: str) -> None:
    """Refuse a part whose column has other values than the name of its folder says.

    Raises:
        ArtifactDecodeError: A value differs.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    same = column.is_null() if not value.is_valid else pc.equal(column, value)
    if not pc.all(same.fill_null(False) if value.is_valid else same, min_count=0).as_py():
        raise ArtifactDecodeError(
            f"{where} has values of {name!r} that differ from the one in the name of its folder: move the rows to "
            "their folders, or rename the folder so that it is no partition",
            uri=where,
        )
