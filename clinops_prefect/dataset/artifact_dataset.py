"""ArtifactDataset: all artifacts below a prefix as one frame."""

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, cast, overload

import pyarrow as pa

from clinops_prefect.artifacts.codec import in_batches
from clinops_prefect.asynchronous import asynchronous, asynchronous_iterator
from clinops_prefect.dataset.listing import list_parts
from clinops_prefect.dataset.parts import Batch, once_more
from clinops_prefect.dataset.planning import Plan, Planner, Source
from clinops_prefect.dataset.reading import in_order
from clinops_prefect.frames import memory
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.conversion.frame_builder import FrameBuilder, to_frame
from clinops_prefect.frames.conversion.schemas import bare_table, layout_of
from clinops_prefect.frames.csv.options import CsvOptions
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.kinds import FrameKind, ReadFrame, check_kind
from clinops_prefect.frames.pandas_encoding import dtypes_of
from clinops_prefect.frames.selection.filters import Filters
from clinops_prefect.names import check_prefix, join

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    import polars as pl
    from typing_extensions import Unpack

    from clinops_prefect.signatures import Asked as AskedOfAll
    from clinops_prefect.signatures import AskedBatches, DatasetBatches, DatasetDownload


class ArtifactDataset:
    """All artifacts below a prefix as one frame. `PipelineStore.dataset` returns it.

    The parts are the artifacts that existed when the dataset was made. Reading a part that was overwritten or removed
    since raises an error. The parts are joined in the order of their names. Folders such as `date=2024-01-01` become
    columns after all others.
    """

    def __init__(self, store: Source, prefix: str = "") -> None:
        below = check_prefix(prefix)
        root = join(store.prefix, below) if below else store.prefix
        backend = store._backend()
        self.uri = backend.uri(f"{root}/" if root else "")
        self._planner = Planner(store, list_parts(backend, store.prefix, root, store.format), self.uri)

    @property
    def names(self) -> list[str]:
        """The names of the parts, sorted. Pass one to the store's `download`."""
        return [part.name for part in self._planner.parts]

    @property
    def bytes(self) -> int:
        """The stored size of all parts in bytes."""
        return sum(part.pinned.size for part in self._planner.parts)

    @property
    def rows(self) -> int:
        """The number of rows of all parts. The first access reads the footer of each part."""
        return self._planner.opener().rows(range(len(self._planner.parts)))

    @property
    def schema(self) -> dict[str, str]:
        """Column -> dtype as pandas reads it, in column order. The first access reads the footer of each part.

        Raises:
            ArtifactDecodeError: The parts differ. The message names a part and the column.
        """
        planner = self._planner
        partitions = planner.partitions_as_stored("pandas")
        agreed = planner.agreed(planner.opener(), range(len(planner.parts)), partitions, "pandas")
        agreed.check([], everything=True)
        return dtypes_of(agreed.schema)

    def __len__(self) -> int:
        """The number of parts."""
        return len(self._planner.parts)

    def __repr__(self) -> str:
        count = f"{len(self._planner.parts)} part{'s' if len(self._planner.parts) > 1 else ''}"
        known = self._planner.known
        is_known = len(known) == len(self._planner.parts)
        rows = f", {sum(part.rows for part in known.values()):,} rows" if is_known else ""
        what = f"{self.uri!r}: {count}{rows}"
        return f"<ArtifactDataset {what}, {_shown_bytes(self.bytes)}>"

    @overload
    def download(self, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[AskedOfAll]") -> "pd.DataFrame": ...

    @overload
    def download(self, *, as_: Literal["polars"], **asked: "Unpack[AskedOfAll]") -> "pl.DataFrame": ...

    @overload
    def download(self, *, as_: Literal["arrow"], **asked: "Unpack[AskedOfAll]") -> pa.Table: ...

    @overload
    def download(
        self, *, as_: FrameKind, **asked: "Unpack[AskedOfAll]"
    ) -> "pd.DataFrame | pl.DataFrame | pa.Table": ...

    def download(
        self,
        *,
        columns: Sequence[Hashable] | None = None,
        filters: Filters | None = None,
        csv_options: CsvOptions | None = None,
        as_: FrameKind = "pandas",
    ) -> ReadFrame:
        """Read all parts as one frame, or some of its columns and rows.

        Args:
            columns: Only these columns, in this order, as in `PipelineStore.download`.
            filters: Only the rows that match, as in `PipelineStore.download`. Parts whose partition folders cannot
                match are not read at all, and of the other parts only the row groups that may match.
            csv_options: How to read CSV parts of another program.
            as_: "pandas", "polars" or "arrow".

        Returns:
            The frame, shape (rows, columns). If each part numbers its rows from 0, the rows of the frame are numbered
            consecutively. Any other index keeps its values.

        Raises:
            ArtifactDecodeError: A part is damaged, or differs from the others. The message names part and column.
            ArtifactColumnError: A column does not exist, or the filters do not fit its type.
            ArtifactNotFoundError: A part was removed since the dataset was made.
            ServiceUnavailableError: A part was overwritten since the dataset was made, or the service cannot be
                reached.
        """
        kind = check_kind(as_)
        plan = self._planner.plan(columns, filters, csv_options, kind)
        if kind == "pandas" and plan.chosen.expression is None:
            return self._filled(plan)
        tables = [table for table, _ in plan.tables()]
        if not tables[0].num_columns:
            rows = sum(table.num_rows for table in tables)
            tables = [bare_table(rows, tables[0].schema.metadata)]
        table = pa.concat_tables(tables) if len(tables) > 1 else tables[0]
        del tables
        # Keep the table only in a list, so that its columns are freed as the frame is filled.
        held = [table]
        del table
        if kind == "pandas":
            return to_frame(held.pop(), whole=plan.chosen.whole)
        return arrow_frames.made(held.pop(), kind, self.uri)

    adownload: "ClassVar[DatasetDownload]" = cast("DatasetDownload", asynchronous(download))

    @overload
    def iter_batches(
        self, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[AskedBatches]"
    ) -> "Iterator[pd.DataFrame]": ...

    @overload
    def iter_batches(self, *, as_: Literal["polars"], **asked: "Unpack[AskedBatches]") -> "Iterator[pl.DataFrame]": ...

    @overload
    def iter_batches(self, *, as_: Literal["arrow"], **asked: "Unpack[AskedBatches]") -> Iterator[pa.Table]: ...

    @overload
    def iter_batches(
        self, *, as_: FrameKind, **asked: "Unpack[AskedBatches]"
    ) -> "Iterator[pd.DataFrame | pl.DataFrame | pa.Table]": ...

    def iter_batches(
        self,
        *,
        columns: Sequence[Hashable] | None = None,
        filters: Filters | None = None,
        rows: int = 100_000,
        csv_options: CsvOptions | None = None,
        as_: FrameKind = "pandas",
    ) -> Iterator[ReadFrame]:
        """Yield all parts in frames of `rows` rows, the last may be shorter. Memory holds a few row groups.

        Args:
            columns: As in `download`.
            filters: As in `download`.
            rows: Number of rows of a frame.
            csv_options: As in `download`.
            as_: As in `download`.

        Yields:
            Frames whose concatenation equals the result of `download`; one empty frame if there are no rows.

        Raises:
            Exception: As `download`.
        """
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        kind = check_kind(as_)
        plan = self._planner.plan(columns, filters, csv_options, kind, for_batches=True)

        def frame(table: pa.Table, whole: bool, offset: int) -> ReadFrame:
            if kind == "pandas":
                return to_frame(table, whole=whole, offset=offset)
            return arrow_frames.made(table, kind, self.uri)

        yield from in_batches(plan.tables(), rows, frame)

    aiter_batches: "ClassVar[DatasetBatches]" = cast("DatasetBatches", asynchronous_iterator(iter_batches))

    def scan(self) -> "pl.LazyFrame":
        """A polars LazyFrame that reads only the parts, row groups and columns that its query needs.

        Parts and row groups are skipped by those terms of a predicate that compare a column with a value and are joined
        by `&`. Parts are also skipped by any predicate on partition columns. Then the whole predicate is applied to the
        rows.

        Raises:
            ArtifactDecodeError: The parts differ, or have a column of a type that polars does not have.
        """
        from clinops_prefect.dataset.scan import scan

        return scan(self._planner)

    def to_dask(self, *, columns: Sequence[Hashable] | None = None, filters: Filters | None = None) -> "dd.DataFrame":
        """A Dask DataFrame with one partition for each part. Workers read with the store's own credentials.

        Args:
            columns: As in `download`.
            filters: As in `download`.

        Raises:
            ImportError: Dask's DataFrames are not installed. Install the extra `dask` and `dask[dataframe]`.
        """
        from clinops_prefect.dataset.dask_frames import to_dask

        return to_dask(self._planner, columns, filters)

    async def arows(self) -> int:
        """Like `rows`, for async code."""
        return await asyncio.to_thread(lambda: self.rows)

    async def aschema(self) -> dict[str, str]:
        """Like `schema`, for async code."""
        return await asyncio.to_thread(lambda: self.schema)

    # --- internal ---

    def _filled(self, plan: Plan) -> "pd.DataFrame":
        fields, schema = plan.chosen.fields, plan.schema(plan.chosen.fields)
        layout = layout_of(schema)
        assert layout is not None  # every schema for pandas has one
        rows = plan.agreed.rows if plan.numbers else 0
        memory.check(memory.least_bytes(schema, rows), self.uri)
        builder = FrameBuilder(schema, layout, rows)

        def fill(item: tuple[int, Batch]) -> None:
            place, batch = item
            once_more(lambda: plan.batches.fill(place, batch, fields, builder.put), plan.where[place])

        for _ in in_order(fill, plan.work, lambda item: item[1].decoded):
            pass
        with decoding(f"{self.uri}: the stored layout does not fit the stored table", self.uri):
            return builder.frame()


def _shown_bytes(size: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000  # type: ignore[assignment]
    raise AssertionError
