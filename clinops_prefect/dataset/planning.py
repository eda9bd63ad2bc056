"""Plans what one call reads: which parts, which batches of them, and with which types."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from clinops_prefect.artifacts.codec import Codec
from clinops_prefect.dataset.agreement import Agreed, agree
from clinops_prefect.dataset.listing import Part
from clinops_prefect.dataset.opening import Described, Opener
from clinops_prefect.dataset.partitions import Partitions
from clinops_prefect.dataset.parts import Asked, Batch, OpenPart, once_more
from clinops_prefect.dataset.reading import Batches, in_order, stored_fields
from clinops_prefect.errors import ArtifactColumnError, ClinopsPrefectError
from clinops_prefect.frames.conversion import foreign_schema
from clinops_prefect.frames.conversion.arrow_frames import categories_of, unpacked
from clinops_prefect.frames.conversion.schemas import layout_of, null_table
from clinops_prefect.frames.csv.options import CsvOptions
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.frames.parquet.known_schemas import KnownSchemas
from clinops_prefect.frames.selection.filters import Filters
from clinops_prefect.frames.selection.selection import Selection
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage_format import StorageFormat


class Source(Protocol):
    """The part of a store that a dataset uses."""

    prefix: str
    format: StorageFormat

    def _backend(self) -> Backend: ...

    @property
    def _codec(self) -> Codec: ...


@dataclass
class Plan:
    """The plan of what one call reads.

    Attributes:
        agreed: The common schema of the parts.
        chosen: The fields and the filters.
        partitions: The partition columns.
        numbers: The numbers of the parts that are read.
        batches: Reads the batches of the parts.
        work: What to read: the position of a part in `numbers`, and a batch of the part.
        where: Position of a part -> its URI, for errors.
    """

    agreed: Agreed
    chosen: Selection
    partitions: Partitions
    numbers: list[int]
    batches: Batches
    work: list[tuple[int, Batch]]
    where: dict[int, str]

    def tables(self) -> Iterator[tuple[pa.Table, bool]]:
        """Yield the rows in tables of any size, at least one, each with a flag: whether its rows are unfiltered."""

        def read(item: tuple[int, Batch]) -> pa.Table:
            place, batch = item
            table = once_more(lambda: self.batches.table(place, batch, self.chosen.read), self.where[place])
            return self.chosen.apply(table)

        for table in in_order(read, self.work, lambda item: item[1].decoded):
            yield table, self.chosen.whole
            del table
        if not self.work:
            yield self.chosen.apply(null_table(self.schema(self.chosen.read))), self.chosen.whole

    def schema(self, fields: Sequence[str]) -> pa.Schema:
        """The schema of these fields."""
        return pa.schema([self.agreed.schema.field(name) for name in fields], self.agreed.schema.metadata)


class _Guess:
    """Plans each part while it is open, as if all parts were like the first, so that no part is opened twice.

    Args:
        agreed: The schema of the first part.
        chosen: The fields and the filters, with the types of the first part.
        partitions: The partition columns.

    Attributes:
        fields: The fields that are read from each part. A part that was looked at holds only what their read needs.
        batches: Number of a part -> the batches to read.
    """

    def __init__(self, agreed: Agreed, chosen: Selection, partitions: Partitions) -> None:
        self._agreed, self._chosen, self._partitions = agreed, chosen, partitions
        self.fields = stored_fields(agreed, chosen.read)
        self.batches: dict[int, list[Batch]] = {}

    def look(self, number: int, part: OpenPart) -> bool:
        """Plan the read of a part. Returns False if nothing of the part has to be read."""
        agreed = self._agreed
        asked = Asked(
            self._chosen.of_groups,
            agreed.schema,
            self._partitions.guarantee(number, agreed.added),
            self._chosen.asked,
        )
        try:
            batches = part.batches(self.fields, asked)
        except ClinopsPrefectError:
            return True  # The part differs from the first. The plan of all parts reports what is wrong.
        self.batches[number] = batches
        part.hold_only(self.fields)
        return bool(batches)

    def holds(self, agreed: Agreed, chosen: Selection) -> bool:
        """Whether the plan with the common schema reads the same from each part."""
        return (
            chosen.read == self._chosen.read
            and agreed.added == self._agreed.added
            and stored_fields(agreed, chosen.read) == self.fields
            and agreed.schema.equals(self._agreed.schema)
            and _notes(agreed.schema) == _notes(self._agreed.schema)
        )


class Planner:
    """Plans the reads of one dataset.

    Args:
        source: The store.
        parts: The parts of the dataset.
        where: The dataset's URI, for errors.

    Attributes:
        parts: The parts.
        partitions: The partition columns, with types inferred from the names of the folders.
        known: Number of a part -> its description, for parts that were opened before.
    """

    def __init__(self, source: Source, parts: list[Part], where: str) -> None:
        self._source = source
        self.parts = parts
        self.where = where
        self.partitions = Partitions(parts, where)
        self.known: dict[int, Described] = {}
        self._schemas = KnownSchemas()

    def __reduce__(self) -> Any:
        """Pickle the planner without what was read, so that another process opens the parts itself."""
        return Planner, (self._source, self.parts, self.where)

    def opener(self, csv_options: CsvOptions | None = None) -> Opener:
        """An opener of the parts for one call."""
        # The description of a CSV depends on the options, so other options must not reuse it.
        known = {} if csv_options else self.known
        return Opener(self._source._backend(), self._source._codec, self.parts, csv_options, known, self._schemas)

    def plan(
        self,
        columns: Sequence[Hashable] | None,
        filters: Filters | None,
        csv_options: CsvOptions | None,
        kind: FrameKind,
        *,
        for_batches: bool = False,
    ) -> Plan:
        """Plan what to read.

        Args:
            columns: As in `download`.
            filters: As in `download`.
            csv_options: As in `download`.
            kind: The kind of frame.
            for_batches: Whether the rows are returned in batches rather than in one frame.
        """
        filters, csv_options = self._source._codec.asked(filters, csv_options)
        opener = self.opener(csv_options)
        numbers, sample, partitions = self._left(filters, opener, kind)
        guess = self._guess(opener, columns, filters, partitions, numbers, kind) if len(numbers) > 1 else None
        agreed = self.agreed(opener, numbers or [sample], partitions, kind, guess.look if guess else None)
        chosen = Selection(agreed.schema, columns, filters, self.where, by_field=kind != "pandas")
        agreed.check(chosen.read, everything=columns is None)
        if guess and stored_fields(agreed, chosen.read) != guess.fields:
            opener.release()  # the parts hold only what a read of the guessed fields needs
        if kind == "pandas" and numbers:
            every = for_batches or not chosen.whole
            agreed.schema = self._with_categories(agreed.schema, chosen.fields, opener, numbers, every=every)
        known: dict[int, list[Batch]] = {}
        if guess and guess.holds(agreed, chosen):
            known = guess.batches
        elif guess:
            opener.release()
        return self.planned(opener, agreed, chosen, partitions, numbers, kind, known=known)

    def _guess(
        self,
        opener: Opener,
        columns: Sequence[Hashable] | None,
        filters: Filters | None,
        partitions: Partitions,
        numbers: Sequence[int],
        kind: FrameKind,
    ) -> "_Guess | None":
        agreed = self.agreed(opener, numbers[:1], partitions, kind)
        try:
            chosen = Selection(agreed.schema, columns, filters, self.where, by_field=kind != "pandas")
        except ClinopsPrefectError:
            return None  # The other parts may have the column. The plan of all parts reports what is wrong.
        return _Guess(agreed, chosen, partitions)

    def planned(
        self,
        opener: Opener,
        agreed: Agreed,
        chosen: Selection,
        partitions: Partitions,
        numbers: list[int],
        kind: FrameKind,
        *,
        places: Sequence[int] | None = None,
        known: Mapping[int, list[Batch]] | None = None,
    ) -> Plan:
        """Plan the reads of the chosen fields and rows, for the parts at these positions or for all parts.

        `known` has the batches of parts that are already planned, by the number of the part.
        """
        batches = Batches(opener.open, partitions, agreed, numbers, kind)
        stored = stored_fields(agreed, chosen.read)

        def look(number: int, part: OpenPart) -> bool:
            guarantee = partitions.guarantee(number, agreed.added)
            asked = Asked(chosen.of_groups, agreed.schema, guarantee, chosen.asked)
            found[number] = once_more(lambda: part.batches(stored, asked), part.where)
            part.hold_only(stored)
            return bool(found[number])

        every = list(range(len(numbers))) if places is None else list(places)
        found = dict(known or {})
        missing = [number for number in map(numbers.__getitem__, every) if number not in found]
        for _ in in_order(lambda number: opener.prepare(number, look), missing, lambda _: 1):
            pass
        work = [(place, batch) for place in every for batch in found[numbers[place]] if batch.rows]
        where = {place: opener.where(numbers[place]) for place in every}
        return Plan(agreed, chosen, partitions, numbers, batches, work, where)

    def _left(self, filters: Filters | None, opener: Opener, kind: FrameKind) -> tuple[list[int], int, Partitions]:
        """The parts that filters on partition columns leave, one part for its schema, and the partitions."""
        every, left = len(self.parts), None
        try:
            left = self.partitions.left(filters, every)
        except ArtifactColumnError:
            if not self.partitions.names:
                raise
            # The parts themselves may have the column, with another type than the one inferred from the folder names.
        sample = left[0] if left else 0
        partitions = self._as_stored(opener, sample, kind)
        if left is None or partitions is not self.partitions:
            left = partitions.left(filters, every)
        return left, sample, partitions

    def _as_stored(self, opener: Opener, sample: int, kind: FrameKind) -> Partitions:
        if not self.partitions.names:
            return self.partitions
        schema = opener.described([sample], kind)[0].schema(kind)
        kinds = {name: schema.field(name).type for name in self.partitions.names if name in schema.names}
        return self.partitions.retyped(kinds) if kinds else self.partitions

    def partitions_as_stored(self, kind: FrameKind) -> Partitions:
        return self._as_stored(self.opener(), 0, kind)

    def agreed(
        self,
        opener: Opener,
        numbers: Sequence[int],
        partitions: Partitions,
        kind: FrameKind,
        look: Callable[[int, OpenPart], bool] | None = None,
    ) -> Agreed:
        return agree(opener.described(numbers, kind, look), partitions, kind, self.where)

    def _with_categories(
        self, schema: pa.Schema, fields: Sequence[str], opener: Opener, numbers: Sequence[int], *, every: bool
    ) -> pa.Schema:
        """The schema with the categories of other programs' columns, so that every batch and filter has the same ones.

        If `every` is false, all rows are read, so only categories in the notes of parts are added. The rows have the
        rest.
        """
        notes = (layout_of(schema) or {}).get("columns", {})
        names = [name for name in fields if notes.get(name, {}).get("foreign", {}).get("as") == "category"]
        noted = {
            name: [_noted(described.schema("pandas"), name) for described in opener.described(numbers, "pandas")]
            for name in names
        }
        known = {}
        for name in (name for name in names if every or any(noted[name])):
            kind = schema.field(name).type
            kind = kind.value_type if pa.types.is_dictionary(kind) else kind

            def column(place: int, name: str = name, kind: pa.DataType = kind) -> pa.ChunkedArray:
                if text := noted[name][place]:
                    values = unpacked(text)
                else:
                    part = opener.open(numbers[place])
                    values = once_more(lambda: part.categories(name), part.where)
                return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), values.cast(kind))])

            known[name] = categories_of(in_order(column, range(len(numbers)), lambda _: 1), kind)
        return foreign_schema.with_categories(schema, known) if known else schema


def _notes(schema: pa.Schema) -> Any:
    """The notes of a layout that filters may depend on."""
    layout = layout_of(schema) or {}
    return layout.get("columns"), layout.get("labels"), layout.get("foreign")


def _noted(schema: pa.Schema, name: str) -> str:
    """The packed categories of a column in the note of a part's schema; empty if the note has none."""
    note = (layout_of(schema) or {}).get("columns", {}).get(name, {})
    return str(note.get("foreign", {}).get("categories", ""))
