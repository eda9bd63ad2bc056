"""A dataset as a Dask DataFrame, through Dask's public `from_map`: one part a partition."""

from collections.abc import Hashable, Sequence
from typing import Any

import pyarrow as pa

from clinops_prefect.dataset.planning import Planner
from clinops_prefect.frames.conversion.frame_builder import to_frame
from clinops_prefect.frames.conversion.schemas import null_table
from clinops_prefect.frames.selection.filters import Filters
from clinops_prefect.frames.selection.selection import Selection
from clinops_prefect.registry import MissingPackageError


def to_dask(planner: Planner, columns: Sequence[Hashable] | None, filters: Filters | None) -> Any:
    """The Dask DataFrame; see `ArtifactDataset.to_dask`."""
    try:
        import dask.dataframe as dd
    except ImportError as error:
        raise MissingPackageError(
            f"to_dask needs Dask's DataFrames ({error.name or error} is missing): pip install 'clinops-prefect[dask]' "
            "'dask[dataframe]'",
            name=error.name,
        ) from error
    read = ReadPart(planner, columns, filters)
    return dd.from_map(  # type: ignore[no-untyped-call]
        read, read.places, meta=read.meta(), label="clinops-dataset", enforce_metadata=True
    )


class ReadPart:
    """Reads one part of a dataset on a worker, as a partition that fits those of all other parts."""

    def __init__(self, planner: Planner, columns: Sequence[Hashable] | None, filters: Filters | None) -> None:
        self._planner, self._filters, self._columns = planner, filters, columns
        plan = planner.plan(columns, filters, None, "pandas", for_batches=True)
        # The schema of all parts, which a worker that opens one of them cannot know.
        self._agreed, self._numbers, self._partitions = plan.agreed, plan.numbers, plan.partitions
        # Dask has no frame without a partition.
        self.places = list(range(len(self._numbers))) or [-1]

    def meta(self) -> Any:
        """An empty frame with the columns and dtypes of every partition."""
        chosen = self._chosen(self._columns)
        return to_frame(self._empty(chosen.fields), whole=False)

    def __call__(self, place: int, columns: Sequence[Hashable] | None = None) -> Any:
        """The partition of a part.

        Args:
            place: The place of the part among those that are read.
            columns: Those that Dask needs; None, all that were asked for.
        """
        chosen = self._chosen(self._columns if columns is None else columns)
        if place < 0:
            return to_frame(self._empty(chosen.fields), whole=False)
        planner = self._planner
        plan = planner.planned(
            planner.opener(),
            self._agreed,
            chosen,
            self._partitions,
            self._numbers,
            "pandas",
            places=[place],
        )
        tables = [table for table, _ in plan.tables()]
        table = pa.concat_tables(tables) if len(tables) > 1 else tables[0]
        del tables
        offset = self._agreed.starts[place] if chosen.whole else 0
        return to_frame(table, whole=chosen.whole, offset=offset)

    def __dask_tokenize__(self) -> Any:
        """What makes two reads the same; Dask would otherwise look into the store and its credentials."""
        pins = [(part.key, part.pinned.pin) for part in self._planner.parts]
        return ("clinops-dataset", self._planner.where, pins, repr(self._columns), repr(self._filters))

    def _chosen(self, columns: Sequence[Hashable] | None) -> Selection:
        return Selection(self._agreed.schema, columns, self._filters, self._planner.where)

    def _empty(self, fields: Sequence[str]) -> pa.Table:
        schema = self._agreed.schema
        return null_table(pa.schema([schema.field(name) for name in fields], schema.metadata))
