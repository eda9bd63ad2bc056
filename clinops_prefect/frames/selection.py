"""`columns=` and `filters=`: which fields they ask for, and their answer from a table that has at least those."""

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clinops_prefect.errors import ArtifactColumnError, ArtifactDecodeError
from clinops_prefect.frames.layout import fields_by_label, index_fields
from clinops_prefect.names import nearest

# pyarrow's DNF, or an expression.
Filters: TypeAlias = pc.Expression | list[tuple[Any, ...]] | list[list[tuple[Any, ...]]]


class Selection:
    """What a caller asked of an artifact with this schema.

    Attributes:
        fields: The fields of the answer: the index, then the columns in the order asked.
        read: Those, and the ones that only the filters need.
        expression: The filters as one expression; None without filters.

    Raises:
        ArtifactColumnError: A column is not in the artifact, or is asked for twice.
        ArtifactDecodeError: The artifact's own columns cannot be told apart.
    """

    def __init__(
        self, schema: pa.Schema, columns: Sequence[Hashable] | None, filters: Filters | None, where: str
    ) -> None:
        self._where = where
        if len(set(schema.names)) < len(schema.names):
            raise ArtifactDecodeError(
                f"{where} has several columns of one name, of which none can be chosen: download it whole", uri=where
            )
        by_label = fields_by_label(schema)
        index = index_fields(schema)
        if isinstance(columns, str):
            raise ArtifactColumnError(f"columns takes a list of names, not the text {columns!r}", uri=where)
        wanted = list(by_label) if columns is None else list(columns)
        self._check(wanted, by_label)
        chosen = [by_label[label] for label in wanted]
        self.fields = chosen + index
        self.expression = self._expression(filters, schema, {**{name: name for name in index}, **by_label})
        self.whole = self.expression is None
        # pc.Expression does not tell which fields it refers to; a bind against the fewest that do is cheap and exact.
        self.read = self.fields + self._only_filtered(schema)

    def apply(self, table: pa.Table) -> pa.Table:
        """The answer, from a table that has the fields of `read`."""
        if self.expression is not None:
            try:
                table = table.filter(self.expression)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
                # What fits the types may still fail on a row, and Arrow quotes its cell.
                raise ArtifactColumnError(
                    f"the filters cannot be computed for every row of {self._where}: a cast or a calculation in them "
                    "fails on a value",
                    uri=self._where,
                ) from None
        return table.select(self.fields)

    def _expression(
        self, filters: Filters | None, schema: pa.Schema, by_label: dict[Hashable, str]
    ) -> pc.Expression | None:
        if filters is None:
            return None
        expression = filters if isinstance(filters, pc.Expression) else self._from_dnf(filters, by_label)
        try:
            # Against no rows: whether the names and types fit, before anything is fetched.
            schema.empty_table().filter(expression)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, KeyError) as error:
            # Arrow's own words quote the compared values, which may identify a patient.
            if name := _unmatched(error):
                self._check([name], by_label)
            raise ArtifactColumnError(
                f"the filters do not fit the types of the columns of {self._where}: see stat(name).schema",
                uri=self._where,
            ) from None
        return expression

    def _from_dnf(self, filters: Any, by_label: dict[Hashable, str]) -> pc.Expression:
        try:
            groups = [filters] if filters and isinstance(filters[0], tuple) else filters
            self._check([condition[0] for group in groups for condition in group], by_label, repeated=True)
            named = [[(by_label[label], *rest) for label, *rest in group] for group in groups]
            return pq.filters_to_expression(named)
        except ArtifactColumnError:
            raise
        except (TypeError, ValueError, LookupError):
            raise ArtifactColumnError(
                "filters takes [(column, operator, value), …], a list of such lists, or a pyarrow expression",
                uri=self._where,
            ) from None

    def _only_filtered(self, schema: pa.Schema) -> list[str]:
        if self.expression is None:
            return []
        extra: list[str] = []
        while True:
            known = pa.schema([schema.field(name) for name in self.fields + extra])
            try:
                known.empty_table().filter(self.expression)
            except pa.ArrowInvalid as error:
                name = _unmatched(error)
                if name not in schema.names or name in self.fields + extra:
                    return [field for field in schema.names if field not in self.fields]
                extra.append(name)
            else:
                return extra

    def _check(self, wanted: list[Any], known: dict[Hashable, str], *, repeated: bool = False) -> None:
        for label in wanted:
            if label not in known:
                hint = nearest(str(label), [str(name) for name in known])
                raise ArtifactColumnError(f"{self._where} has no column {label!r}{hint}", uri=self._where)
        if not repeated and len(set(wanted)) < len(wanted):
            raise ArtifactColumnError("columns names a column twice", uri=self._where)


def _unmatched(error: Exception) -> str:
    """The field that an expression names and the schema lacks, out of Arrow's message; empty for other errors."""
    _, found, rest = str(error).partition("No match for FieldRef.Name(")
    return rest.partition(") in ")[0] if found else ""
