"""One opened part of a dataset: its description and its rows."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.artifacts import sidecars
from clinops_prefect.artifacts.codec import Codec
from clinops_prefect.artifacts.plain import CHECKSUM
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.dataset.listing import Part
from clinops_prefect.errors import ArtifactDecodeError, ArtifactNotFoundError, ServiceUnavailableError
from clinops_prefect.frames.conversion.foreign_schema import of_text
from clinops_prefect.frames.conversion.schemas import layout_of, row_count
from clinops_prefect.frames.csv.options import CsvOptions
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.frames.parquet.checksums import most_bytes
from clinops_prefect.frames.parquet.known_schemas import KnownSchemas
from clinops_prefect.frames.parquet.reader import TAIL_BYTES, ParquetReader
from clinops_prefect.frames.parquet.row_labels import with_labels
from clinops_prefect.storage.backend import Backend, ObjectChangedError
from clinops_prefect.storage_format import StorageFormat

T = TypeVar("T")

# A smaller part is fetched completely with its footer, because another request would take longer than its bytes.
_WHOLE_BYTES = 256 << 10
# The limit of the first fetch of a part in bytes, and how much longer than known footers a footer may be.
_MOST_TAIL_BYTES = 4 << 20
_SPARE_BYTES = 4 << 10
# The size of one read in memory: large enough for the network, small enough for several at once.
_BATCH_BYTES = 32 << 20


@dataclass(frozen=True)
class Batch:
    """Some consecutive row groups of one part, which are read together.

    Attributes:
        groups: The row groups. A CSV has no row groups and counts as group 0.
        at: Number of rows of the part before these.
        rows: Number of rows.
        decoded: Approximate size of the rows in memory, in bytes.
    """

    groups: tuple[int, ...]
    at: int
    rows: int
    decoded: int


@dataclass(frozen=True)
class Asked:
    """Selects the rows to read.

    Attributes:
        expression: The condition by which statistics skip row groups. None selects every row.
        schema: The schema of the expression.
        guarantee: An expression that holds for every row of the part, because of its partition folders.
        fields: The fields of the expression. None if they are not known.
    """

    expression: pc.Expression | None
    schema: pa.Schema
    guarantee: pc.Expression | None = None
    fields: Sequence[str] | None = None


class DescribedPart(Protocol):
    """The description of a part.

    Attributes:
        where: The part's URI, for errors.
        rows: Number of rows.
        complete: The columns of objects without missing values, as far as that is known without the rows.
        empty: The fields without any value, and so without a known type. Only a CSV of another program has such fields.
    """

    where: str
    rows: int
    empty: frozenset[str]

    @property
    def complete(self) -> frozenset[str]: ...

    def schema(self, kind: FrameKind) -> pa.Schema:
        """The schema in which the part is read for this kind of frame."""
        ...


class OpenPart(DescribedPart, Protocol):
    """A part that can be read.

    Attributes:
        held_bytes: Number of bytes that it keeps in memory.
    """

    held_bytes: int

    def batches(self, fields: Sequence[str], asked: "Asked") -> list[Batch]:
        """Divide the read of these fields into batches. Row groups without selected rows are left out."""
        ...

    def read(self, batch: Batch, fields: Sequence[str], kind: FrameKind) -> pa.Table:
        """Read these fields of a batch, with the types of `schema(kind)`."""
        ...

    def fill(self, batch: Batch, fields: Sequence[str], put: Callable[[int, pa.Table], None]) -> None:
        """Read these fields of a batch for pandas, and call `put(at, table)` with tables that start at row `at`."""
        ...

    def categories(self, field: str) -> pa.Array:
        """All categories of a dictionary column in another program's file, even those of rows that are not read."""
        ...

    def hold_only(self, fields: Sequence[str]) -> None:
        """Release what a read of these fields does not need. Afterwards, only reads of them work."""
        ...


class ParquetPart:
    """A Parquet file."""

    def __init__(self, reader: ObjectReader, known: KnownSchemas) -> None:
        self.where = reader.uri
        size = reader.size
        # The footers of earlier parts show how long this one's is, so that one request fetches it.
        ahead = min(_MOST_TAIL_BYTES, known.footer_bytes + _SPARE_BYTES + most_bytes(size))
        tail = reader.tail(size if size <= _WHOLE_BYTES else max(TAIL_BYTES, ahead if known.footer_bytes else 0))
        file = ParquetReader(reader.fetch, tail, size, reader.uri, known=known)
        self._file = with_labels(file)
        # The row groups of a frame without columns have no rows. Its layout has their number.
        self._is_bare = not file.file_schema.names
        self.rows = row_count(file.file_schema, file.rows)
        self.empty: frozenset[str] = frozenset()
        self.held_bytes = self._file.held_bytes

    @cached_property
    def complete(self) -> frozenset[str]:
        return self._file.complete()

    def schema(self, kind: FrameKind) -> pa.Schema:
        return self._file.schema if kind == "pandas" else self._file.stored_schema

    def batches(self, fields: Sequence[str], asked: Asked) -> list[Batch]:
        if self._is_bare:
            return [Batch((), 0, self.rows, 0)]
        groups = self._file.groups(asked.expression, asked.schema, asked.guarantee, asked.fields)
        if not groups:
            return []  # saves time, since for a thousand columns the sizes take as long to compute as the footer
        sizes = self._file.group_sizes(fields)
        starts = [0]
        for rows, _ in sizes:
            starts.append(starts[-1] + rows)
        batches: list[Batch] = []
        together: list[int] = []

        def end() -> None:
            if together:
                rows = sum(sizes[group][0] for group in together)
                decoded = sum(sizes[group][1] for group in together)
                batches.append(Batch(tuple(together), starts[together[0]], rows, decoded))
                together.clear()

        for group in groups:
            follows = together and group == together[-1] + 1
            if not follows or sum(sizes[one][1] for one in together) + sizes[group][1] > _BATCH_BYTES:
                end()
            together.append(group)
        end()
        return batches

    def read(self, batch: Batch, fields: Sequence[str], kind: FrameKind) -> pa.Table:
        return (
            self._file.read(batch.groups, fields) if kind == "pandas" else self._file.read_stored(batch.groups, fields)
        )

    def fill(self, batch: Batch, fields: Sequence[str], put: Callable[[int, pa.Table], None]) -> None:
        self._file.fill(batch.groups, fields, put)

    def categories(self, field: str) -> pa.Array:
        return self._file.categories(field)

    def hold_only(self, fields: Sequence[str]) -> None:
        self._file.hold_only(fields)
        self.held_bytes = self._file.held_bytes


class CsvPart:
    """A CSV text, which is always read completely."""

    def __init__(self, codec: Codec, reader: ObjectReader, csv_options: CsvOptions | None) -> None:
        self.where = reader.uri
        self._codec, self._reader, self._options = codec, reader, csv_options
        self.complete: frozenset[str] = frozenset()
        self.empty: frozenset[str] = frozenset()
        sidecar = sidecars.awaited(reader, reader.info.metadata.get(CHECKSUM, ""))
        self._schemas: dict[FrameKind, pa.Schema] = {}
        self._sidecar = None if csv_options else sidecar
        if self._sidecar is not None:
            self.rows = self._sidecar.rows
        else:
            # The types of another program's text depend on every cell, so it is read now.
            table = self._table("pandas")
            self._schemas, self.rows = {"pandas": table.schema}, table.num_rows
            named = zip(table.column_names, table.columns, strict=True)
            self.empty = frozenset(name for name, column in named if column.null_count == len(column))
        self.held_bytes = 0

    def schema(self, kind: FrameKind) -> pa.Schema:
        if kind not in self._schemas:
            self._schemas[kind] = self._table(kind).schema if self._sidecar is None else self._of(self._sidecar, kind)
        return self._schemas[kind]

    def _of(self, sidecar: sidecars.Sidecar, kind: FrameKind) -> pa.Schema:
        stored = sidecar.schema
        # Made for pandas only when pandas is asked for: what Arrow and polars can hold, pandas may refuse.
        if kind == "pandas" and layout_of(stored) is None:
            stored = of_text(stored, self.rows, self.where)
        labels = sidecar.labels(kind)
        return stored if labels is None else labels.described(stored)

    def batches(self, fields: Sequence[str], asked: Asked) -> list[Batch]:  # noqa: ARG002
        # A text takes about as much memory as its cells.
        return [Batch((0,), 0, self.rows, self._reader.size)] if self.rows else []

    def read(self, batch: Batch, fields: Sequence[str], kind: FrameKind) -> pa.Table:  # noqa: ARG002
        return self._table(kind).select(list(fields))

    def fill(self, batch: Batch, fields: Sequence[str], put: Callable[[int, pa.Table], None]) -> None:  # noqa: ARG002
        at = 0
        for table, _ in self._codec.iter_tables(self._reader, None, None, self._options):
            put(at, table.select(list(fields)))
            at += table.num_rows

    def categories(self, field: str) -> pa.Array:
        column = self._table("pandas").column(field)
        if not pa.types.is_dictionary(column.type):
            return pa.nulls(0)  # no value, as in `ParquetReader.categories`
        return column.unify_dictionaries().chunk(0).dictionary

    def hold_only(self, fields: Sequence[str]) -> None:
        """Do nothing, since a text is always read completely."""

    def _table(self, kind: FrameKind) -> pa.Table:
        tables = [table for table, _ in self._codec.iter_tables(self._reader, None, None, self._options, kind)]
        return pa.concat_tables(tables) if len(tables) > 1 else tables[0]


def open_part(
    backend: Backend,
    codec: Codec,
    part: Part,
    csv_options: CsvOptions | None,
    known: KnownSchemas,
) -> OpenPart:
    """Open a part of a dataset.

    Args:
        backend: The backend that has the part.
        codec: The codec of its format.
        part: The part.
        csv_options: How to read a CSV of another program.
        known: The schemas of the parts that were opened before.

    Raises:
        ServiceUnavailableError: The part was overwritten after it was listed.
        ArtifactNotFoundError: The part was removed after it was listed.
        ArtifactDecodeError: The part is damaged.
    """

    def opened() -> OpenPart:
        reader = ObjectReader(backend, part.key, pinned=part.pinned)
        try:
            if codec.format is StorageFormat.CSV:
                return CsvPart(codec, reader, csv_options)
            return ParquetPart(reader, known)
        except ObjectChangedError:
            # Azure answers in the same way if the part is gone, for which `head` raises ArtifactNotFoundError.
            backend.head(part.key)
            raise

    return once_more(opened, backend.uri(part.key))


def once_more(read: Callable[[], T], where: str) -> T:
    """Call `read`, and once more if the part looks damaged: damage in transit does not show again, damage at rest does.

    Raises:
        ServiceUnavailableError: The part was overwritten after it was listed.
        ArtifactNotFoundError: The part was removed after it was listed.
    """
    with naming(where):
        try:
            return read()
        except ArtifactDecodeError:
            return read()


@contextmanager
def naming(where: str) -> Iterator[None]:
    """A context that translates errors about a part that has changed since the listing, and names the part."""
    try:
        yield
    except ObjectChangedError:
        raise ServiceUnavailableError(
            f"{where} was overwritten after the dataset was listed, and its parts must belong together: call "
            "dataset() again",
            uri=where,
        ) from None
    except ArtifactNotFoundError as error:
        if error.uri != where:
            raise
        raise ArtifactNotFoundError(
            f"{where} was removed after the dataset was listed: call dataset() again", uri=where
        ) from None
