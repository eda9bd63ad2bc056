"""The common schema of all parts, or the error that names the part and the column that differ.

Every part has a schema with a layout (see `frames.conversion.layout`), even a part of another program. Parts agree on a
column of the same dtype in each, which pandas' `concat` would keep. These columns may differ, and are joined:

    integers of other programs    `Int64`, unless the footers of all parts prove that no value is missing
    categories without an order   all categories, in the order of the parts; ordered ones must be the same in each
    columns without any value     (of objects, or of another program) the type that the other parts have
    `Decimal` objects             any number of digits, but the same number of decimal places
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pyarrow as pa

from clinops_prefect.dataset import disagreement, index_agreement, note_agreement
from clinops_prefect.dataset.partitions import Partitions
from clinops_prefect.dataset.parts import DescribedPart
from clinops_prefect.errors import ArtifactDecodeError, UnsupportedFrameError
from clinops_prefect.frames.conversion import columns, objects
from clinops_prefect.frames.conversion.arrow_frames import NOTE_KEY
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY, index_fields, layout_of
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.frames.text_types import is_text

T = TypeVar("T")
Note = dict[str, Any] | None


class _DifferentError(Exception):
    """Two parts do not agree on a column. This error never leaves this module."""


@dataclass(frozen=True)
class _Column:
    """The description of a column in one part, or in several parts together."""

    type: pa.DataType
    note: Note
    is_complete: bool
    is_foreign: bool
    is_empty: bool = False
    part: int = 0  # the first part of which the type is known, for errors


@dataclass
class Agreed:
    """The common schema of the parts, and how they differ.

    Attributes:
        schema: The common schema with the partition columns, and with a layout if the parts have one.
        rows: Number of rows of all parts.
        starts: For each part, the number of rows before it.
        added: The partition columns that are not in the parts themselves.
        index: How the indexes of the parts are joined.
        differences: Field -> error to raise if the field is read.
        order: Error to raise if all columns are read, because the parts have them in different orders.
    """

    schema: pa.Schema
    rows: int
    starts: list[int]
    added: list[str]
    index: index_agreement.JoinedIndex
    differences: dict[str, ArtifactDecodeError] = field(default_factory=dict)
    order: ArtifactDecodeError | None = None

    def check(self, fields: Sequence[str], *, everything: bool) -> None:
        """Refuse to read fields on which the parts do not agree.

        Raises:
            ArtifactDecodeError: The parts differ. The message names a part and the column.
        """
        if everything:
            for error in [*self.differences.values(), *([self.order] if self.order else [])]:
                raise error
        for name in fields:
            if name in self.differences:
                raise self.differences[name]


def agree(parts: Sequence[DescribedPart], partitions: Partitions, kind: FrameKind, where: str) -> Agreed:
    """Find the common schema of all parts, for a kind of frame.

    Args:
        parts: The parts that are read.
        partitions: Their partition columns.
        kind: The kind of frame. For Arrow and polars, only the types must agree, because there are no dtypes.
        where: The dataset's URI, for errors.

    Raises:
        ArtifactDecodeError: The indexes or the column labels of the parts differ.
    """
    schemas = [part.schema(kind) for part in parts]
    disagreement.check_names(parts, schemas)
    # Most parts share one schema object. Analysing the schema of each part separately would take most of the time.
    layouts = _of_each(schemas, layout_of)
    levels = _of_each(schemas, index_fields)
    starts = [0]
    for part in parts:
        starts.append(starts[-1] + part.rows)
    first, layout = schemas[0], layouts[0]
    index = index_agreement.join(levels, layouts, parts)
    is_plain = any(one is None for one in layouts)
    left_out = dict(zip(map(id, schemas), levels, strict=True))
    own = _of_each(schemas, lambda schema: _own(schema, [] if is_plain else [*index.fields, *left_out[id(schema)]]))
    agreed: dict[str, _Column] = {}
    differences: dict[str, ArtifactDecodeError] = {}
    order, complete = None, parts[0].complete
    last: tuple[pa.Schema, dict[str, Any]] | None = None
    for number, part in enumerate(parts):
        schema = schemas[number]
        if kind != "pandas" and last is not None and schema is last[0] and part.empty == parts[number - 1].empty:
            continue
        notes = {name: _comparable(note) for name, note in (layouts[number] or {}).get("columns", {}).items()}
        is_foreign = layouts[number] is None or "foreign" in layouts[number]  # type: ignore[operator]
        # The same as the part before, which saves time with a thousand columns. But the first missing value of a column
        # counts: it may be None, and NaN in a later part.
        if last and schema.equals(last[0]) and notes == last[1] and complete <= part.complete and not is_foreign:
            continue
        complete &= part.complete
        # The index of a part without rows is ignored, because even its type may differ. If no part has rows, the first
        # part's index is used.
        has_index = bool(part.rows) or (number == 0 and not starts[-1])
        if has_index or not index.stored:
            last = schema, notes
        for name in (*own[number], *(index.stored if has_index else ())):
            found = _Column(
                schema.field(name).type, notes.get(name), name in part.complete, is_foreign, name in part.empty, number
            )
            if name not in agreed and (number == 0 or name in index.stored):
                agreed[name] = found
            elif name not in agreed:
                differences.setdefault(name, disagreement.missing(parts[0].where, name, part.where))
            elif name not in differences:
                try:
                    agreed[name] = _joined(agreed[name], found, kind)
                except _DifferentError:
                    at = agreed[name].part
                    differences[name] = disagreement.differs(part.where, name, schema, schemas[at], parts[at].where)
        if own[number] != own[0]:
            for name in own[0]:
                if name not in own[number]:
                    differences.setdefault(name, disagreement.missing(part.where, name, parts[0].where))
            if order is None and sorted(own[number]) == sorted(own[0]):
                order = ArtifactDecodeError(
                    f"{part.where} has its columns in another order than {parts[0].where}: upload it in the same "
                    "order, or say with columns= which you want",
                    uri=part.where,
                )
    if kind == "pandas":
        _check_labels(layouts, parts, differences)
    added = [name for name in partitions.names if name not in first.names]
    fields = [pa.field(name, agreed[name].type) for name in own[0]]
    described = partitions.described(added) if added else pa.schema([])
    fields += [*described, *(pa.field(name, index.type or agreed[name].type) for name in index.fields)]
    schema = pa.schema(fields, first.metadata)
    if kind != "pandas":

        def differs(number: int, name: str) -> None:
            found = disagreement.differs(parts[number].where, name, schemas[number], first, parts[0].where)
            differences.setdefault(name, found)

        metadata = {key: value for key, value in (first.metadata or {}).items() if key != NOTE_KEY}
        note = note_agreement.join(schemas, list(described), differs)
        schema = schema.with_metadata({**metadata, **({NOTE_KEY: note} if note else {})} or None)
    if layout is not None:
        schema = _with_layout(schema, layouts, agreed, described, index, starts[-1], where)
    return Agreed(schema, starts[-1], starts, added, index, differences, order)


def _of_each(schemas: Sequence[pa.Schema], make: Callable[[pa.Schema], T]) -> list[T]:
    """`[make(schema) for schema in schemas]`, but with one call for each distinct schema object."""
    made = {key: make(schema) for key, schema in {id(schema): schema for schema in schemas}.items()}
    return [made[id(schema)] for schema in schemas]


def _own(schema: pa.Schema, levels: Sequence[str]) -> list[str]:
    """The fields of a part that are columns, without the levels of the index."""
    return [name for name in schema.names if name not in levels]


def _with_layout(
    schema: pa.Schema,
    layouts: Sequence[dict[str, Any] | None],
    agreed: dict[str, _Column],
    described: pa.Schema,
    index: index_agreement.JoinedIndex,
    rows: int,
    where: str,
) -> pa.Schema:
    layout = dict(layouts[0] or {})
    notes = {name: column.note for name, column in agreed.items() if column.note is not None}
    for name, note in notes.items():
        if "foreign" in note:
            notes[name] = {"foreign": {**note["foreign"], "uri": where}}
    if described.names:
        if "dtype" not in layout["labels"]:
            raise ArtifactDecodeError(
                f"{where} has labels of columns that are not plain text, among which a partition column has no place: "
                "read its parts one by one",
                uri=where,
            )
        notes |= (layout_of(described) or {})["columns"]
    layout["columns"] = notes
    layout["width"] = layout["width"] + len(described.names)
    layout["rows"] = rows
    if len(layouts) > 1:
        layout["index"] = index.note
        layout["attrs"] = layout["attrs"] if all((one or {}).get("attrs") == layout["attrs"] for one in layouts) else {}
        layout["duplicates"] = all((one or {}).get("duplicates", True) for one in layouts)
    if len(layouts) > 1 or described.names:
        layout.pop("blocks", None)
    if any("foreign" in (one or {}) for one in layouts):
        layout["foreign"] = True
    return schema.with_metadata({**(schema.metadata or {}), LAYOUT_KEY: json.dumps(layout).encode()})


def _comparable(note: dict[str, Any]) -> dict[str, Any]:
    """The note without the parts that may differ between files."""
    if "foreign" not in note:
        return note
    # Ordered categories must be the same in all parts. Other categories are joined, so they may differ.
    left_out = ("uri",) if note["foreign"].get("ordered") else ("uri", "categories")
    return {"foreign": {key: value for key, value in note["foreign"].items() if key not in left_out}}


def _joined(one: _Column, other: _Column, kind: FrameKind) -> _Column:
    if one.is_empty != other.is_empty:
        # A type that was inferred without a value does not count. The other part has the real type.
        one, other = (replace(each, type=pa.null()) if each.is_empty else each for each in (one, other))
    is_complete, is_foreign = one.is_complete and other.is_complete, one.is_foreign and other.is_foreign
    found = _type(one, other, kind)
    note = one.note if kind != "pandas" else _note(one, other)
    known = other if pa.types.is_null(one.type) and not pa.types.is_null(other.type) else one
    return _Column(found, note, is_complete, is_foreign, one.is_empty and other.is_empty, known.part)


def _type(one: _Column, other: _Column, kind: FrameKind) -> pa.DataType:
    left, right = one.type, other.type
    if left == right:
        return left
    for empty, full in ((one, other), (other, one)):
        # A column without values takes the other part's type, if it is Arrow's, another program's, or one of objects.
        if pa.types.is_null(empty.type) and (empty.is_foreign or kind != "pandas" or "object" in (full.note or {})):
            return full.type
    if is_text(left) and is_text(right):
        return pa.large_string()
    if all("object" in (each.note or {}) for each in (one, other)) and (wide := objects.wide_decimal(left, right)):
        return wide
    if pa.types.is_dictionary(left) and pa.types.is_dictionary(right) and left.ordered == right.ordered:
        if left.value_type == right.value_type:
            return pa.dictionary(pa.int32(), left.value_type, left.ordered)
        if is_text(left.value_type) and is_text(right.value_type):
            return pa.dictionary(pa.int32(), pa.large_string(), left.ordered)
    raise _DifferentError


def _note(one: _Column, other: _Column) -> Note:
    left, right = one.note, other.note
    if one.is_foreign and other.is_foreign:
        for empty, full in ((one, other), (other, one)):
            if pa.types.is_null(empty.type) and not pa.types.is_null(full.type):
                return (
                    full.note if full.note is not None or not _is_whole(full.type) else {"dtype": _nullable(full.type)}
                )
        if left != right and _is_whole(one.type):
            nullable = {"dtype": _nullable(one.type)}
            if left in (None, nullable) and right in (None, nullable):
                return nullable
        ways = {(note or {}).get("foreign", {}).get("as") for note in (left, right)}
        if ways == {"pandas", "python"}:
            return left if left["foreign"]["as"] == "python" else right  # type: ignore[index]
        left, right = _without_type(left), _without_type(right)
    if left == right:
        return one.note
    if left and right and "category" in left and "category" in right:
        return _all_categories(left, right)
    if left and right and "object" in left and "object" in right:
        return _objects(one, other)
    raise _DifferentError


def _without_type(note: Note) -> Note:
    """The note of a foreign column without its type, since readers treat `string` and `large_string` alike."""
    if note and "foreign" in note and note["foreign"].get("as") == "category":
        return {"foreign": {key: value for key, value in note["foreign"].items() if key != "type"}}
    return note


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _nullable(kind: pa.DataType) -> str:
    return "boolean" if pa.types.is_boolean(kind) else str(kind).replace("i", "I").replace("uI", "UI")


def _objects(one: _Column, other: _Column) -> Note:
    left, right = one.note["object"], other.note["object"]  # type: ignore[index]
    for this, that, column in ((left, right, one), (right, left, other)):
        if pa.types.is_null(column.type) and this["missing"] == that["missing"]:
            return {"object": that}
        # If no value is missing, the marker for missing values does not matter.
        if column.is_complete and {**this, "missing": that["missing"]} == that:
            return {"object": that}
    raise _DifferentError


def _all_categories(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    known, more = columns.unpack(left["category"]), columns.unpack(right["category"])
    if left["ordered"] or right["ordered"] or known.dtype != more.dtype:
        raise _DifferentError
    new = ~more.isin(known)
    try:
        packed = columns.pack(known.append(more[new]), "its categories")
    except UnsupportedFrameError:
        raise _DifferentError from None
    joined = {**left, "category": packed}
    if "texts" in left:
        joined["texts"] = left["texts"] + [text for text, is_new in zip(right["texts"], new, strict=True) if is_new]
    return joined


def _check_labels(
    layouts: Sequence[dict[str, Any] | None],
    parts: Sequence[DescribedPart],
    differences: dict[str, ArtifactDecodeError],
) -> None:
    expected = _labels(layouts[0])
    for layout, part in zip(layouts, parts, strict=True):
        # Missing columns also change the labels, but `differences` already has an error for them.
        if _labels(layout) != expected and not differences:
            raise ArtifactDecodeError(
                f"{part.where} has column labels of another kind (dtype, levels, or name) than {parts[0].where}: "
                "upload it with the same",
                uri=part.where,
            )


def _labels(layout: dict[str, Any] | None) -> Any:
    labels = dict((layout or {}).get("labels", {}))
    if "dtype" in labels:
        # The dtype is compared here: `str` and `object` labels of pandas 3 differ. Fields are compared one by one
        # elsewhere.
        labels.pop("fields", None)
    return labels
