"""The fields that `columns=` and `filters=` need, and the selection of columns and rows from a table."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.errors import ArtifactColumnError, ArtifactDecodeError
from clinops_prefect.frames.conversion.schemas import index_fields, may_hold_nan, null_table
from clinops_prefect.frames.text_types import is_view, without_view
from clinops_prefect.names import nearest

if TYPE_CHECKING:
    from clinops_prefect.frames.selection.filters import Filters

# Modules that import pandas are imported only for column labels and for compared values.


class Selection:
    """The columns and rows that a caller asked for, of an artifact with this schema.

    Args:
        schema: The schema.
        columns: As in `PipelineStore.download`.
        filters: As in `PipelineStore.download`.
        where: The URI, for errors.
        by_field: Whether columns are chosen by field names, which include index levels, as for Arrow and polars.

    Attributes:
        fields: The fields of the result: the columns in the requested order, then the index.
        read: The fields of the result, and the fields that only the filters need.
        expression: The filters as one expression; None without filters.
        asked: The fields that the filters refer to. None if they are not known, and without filters.
        of_groups: The filters as an expression for the statistics of row groups; None if statistics cannot be used.

    Raises:
        ArtifactColumnError: A column is not in the artifact, or is requested twice.
        ArtifactDecodeError: Several columns of the artifact have the same name.
    """

    def __init__(
        self,
        schema: pa.Schema,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        where: str,
        *,
        by_field: bool = False,
    ) -> None:
        self._where = where
        # Arrow and polars have no index. Its levels are ordinary columns, and columns have the names of the fields.
        index = [] if by_field else index_fields(schema)
        by_label = _by_field(schema) if by_field else _by_label(schema)
        fields = [name for name in schema.names if name not in index]
        if len(by_label) < len(fields) and not (columns is None and filters is None):
            raise ArtifactDecodeError(
                f"{where} has several columns of one name, among which columns= and filters= cannot "
                "choose: download it whole",
                uri=where,
            )
        if isinstance(columns, str):
            raise ArtifactColumnError(f"columns takes a list of names, not the text {columns!r}", uri=where)
        wanted = list(by_label) if columns is None else list(columns)
        self._check(wanted, by_label)
        chosen = fields if columns is None else [by_label[label] for label in wanted]
        self.fields = chosen + index
        names: dict[Hashable, str] = {name: name for name in index}
        names |= by_label
        self.asked: list[str] | None = None
        self.expression = self._expression(filters, schema, names)
        self.of_groups = self._of_groups(filters, schema, names)
        self.whole = self.expression is None
        # pc.Expression has no list of its fields. To find them, we bind the expression to a schema with fewer fields.
        self.read = self.fields + self._only_filtered(schema, self.fields)
        if self.expression is not None and not _is_by_name(self.expression):
            self.read = list(schema.names)

    def apply(self, table: pa.Table) -> pa.Table:
        """The selected rows and columns of a table that has the fields of `read`."""
        if self.expression is not None:
            try:
                table = _filtered(table, self.expression)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowIndexError):
                # An expression that fits the types may still fail on a row. Arrow's message quotes the cell, so drop
                # it.
                raise ArtifactColumnError(
                    f"the filters cannot be computed for every row of {self._where}: a cast or a calculation in them "
                    "fails on a value",
                    uri=self._where,
                ) from None
        # Columns of one name cannot be selected. They are only read all together.
        return table if table.column_names == self.fields else table.select(self.fields)

    def _expression(
        self, filters: "Filters | None", schema: pa.Schema, by_label: dict[Hashable, str]
    ) -> pc.Expression | None:
        def check(label: Any) -> None:
            self._check([label], by_label, repeated=True)

        if filters is None:
            return None
        from clinops_prefect.frames.selection.filters import expression_of

        expression = expression_of(filters, schema, by_label, check, self._where)
        if expression is None:
            return None
        try:
            # Check names and types before anything is fetched. One row is needed: without rows, Arrow compares nothing
            # and does not notice a comparison of times with and without a zone.
            self.asked = _bound(expression, schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, KeyError) as error:
            # Arrow's message is dropped, because it quotes the compared values, which may identify a patient.
            if name := _unmatched(error):
                self._check([name], by_label)
            zones = ": a time without a zone is compared with one that has a zone" if _is_of_zones(error) else ""
            raise ArtifactColumnError(
                f"the filters do not fit the types of the columns of {self._where}{zones}; see stat(name).schema",
                uri=self._where,
            ) from None
        return expression

    def _of_groups(self, filters: Any, schema: pa.Schema, names: dict[Hashable, str]) -> pc.Expression | None:
        if self.expression is None:
            return None
        if isinstance(filters, pc.Expression):
            # Arrow skips row groups by their smallest and largest number, which ignore NaN.
            asked = self._only_filtered(schema, [])
            return None if any(may_hold_nan(schema, name) for name in asked) else filters
        from clinops_prefect.frames.selection.filters import expression_of

        return expression_of(filters, schema, names, lambda _: None, self._where, of_groups=True)

    def _only_filtered(self, schema: pa.Schema, fields: list[str]) -> list[str]:
        """The fields that the filters need in addition to these."""
        if self.expression is None:
            return []
        if self.asked is not None:
            return [name for name in self.asked if name not in fields]
        extra: list[str] = []
        while True:
            known = pa.schema([schema.field(name) for name in fields + extra])
            try:
                _filtered(null_table(known), self.expression)
            except pa.ArrowInvalid as error:
                name = _unmatched(error)
                if name not in schema.names or name in fields + extra:
                    return [field for field in schema.names if field not in fields]
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


def _filtered(table: pa.Table, expression: pc.Expression) -> pa.Table:
    """The rows that match. Arrow cannot filter columns of views, so they are filtered as plain texts and bytes."""
    schema = table.schema
    if not any(map(is_view, schema.types)):
        return table.filter(expression)
    plain = [field.with_type(without_view(field.type)) for field in schema]
    return table.cast(pa.schema(plain, schema.metadata)).filter(expression).cast(schema)


def _bound(expression: pc.Expression, schema: pa.Schema) -> list[str] | None:
    """The fields that an expression refers to, after it was computed over them; None if over all fields.

    For a thousand columns, making a table takes longer than parsing the footer.

    Raises:
        pa.ArrowException, KeyError: The expression does not fit the types, or names a field that does not exist.
    """
    asked: list[str] = []
    while _is_by_name(expression):
        try:
            _filtered(null_table(pa.schema([schema.field(name) for name in asked]), rows=1), expression)
        except pa.ArrowInvalid as error:
            name = _unmatched(error)
            if name in asked or schema.get_field_index(name) < 0:
                break
            asked.append(name)
        else:
            return asked
    _filtered(null_table(schema, rows=1), expression)
    return None


def _is_by_name(expression: pc.Expression) -> bool:
    """Whether no field goes by its place, which is another field where fewer fields, or others, are read."""
    return "FieldPath(" not in str(expression)


def _by_field(schema: pa.Schema) -> dict[Hashable, str]:
    return {name: name for name in schema.names}


def _by_label(schema: pa.Schema) -> dict[Hashable, str]:
    from clinops_prefect.frames.conversion.layout import fields_by_label

    return fields_by_label(schema)


def _is_of_zones(error: Exception) -> bool:
    """Whether an expression compares times with and without a zone.

    Only Arrow's message tells this. If the message changes, our error no longer names the zones as the cause.
    """
    return "timestamp[" in str(error) and "tz=" in str(error)


def _unmatched(error: Exception) -> str:
    """The field of an expression that is missing in the schema; empty for other errors.

    Only Arrow's message names the field. If the message changes, filters read every field, and our error no longer
    names a misspelt field.
    """
    _, found, rest = str(error).partition("No match for FieldRef.Name(")
    return rest.partition(") in ")[0] if found else ""
