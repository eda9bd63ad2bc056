"""A dataset as a Dask DataFrame with one partition for each part, by Dask's public `from_map`."""

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from clinops_prefect.dataset.planning import Planner
from clinops_prefect.frames.conversion.frame_builder import to_frame
from clinops_prefect.frames.conversion.schemas import null_table
from clinops_prefect.frames.selection.filters import Filters
from clinops_prefect.frames.selection.selection import Selection
from clinops_prefect.registry import MissingPackageError

if TYPE_CHECKING:
    import dask.dataframe as dd


def to_dask(planner: Planner, columns: Sequence[Hashable] | None, filters: Filters | None) -> "dd.DataFrame":
    """Make the Dask DataFrame; see `ArtifactDataset.to_dask`."""
    try:
        import dask.dataframe as dd
    except ImportError as error:
        raise MissingPackageError(
            f"to_dask needs Dask's DataFrames ({error.name or error} is missing): pip install 'clinops-prefect[dask]' "
            "'dask[dataframe]'",
            name=error.name,
        ) from error
    read = ReadPart(planner, columns, filters)
    frame: dd.DataFrame = dd.from_map(  # type: ignore[no-untyped-call]
        read, read.places, meta=read.meta(), label="clinops-dataset", enforce_metadata=True
    )
    return frame


class ReadPart:
    """Reads one part of a dataset on a worker, with the schema that all partitions share."""

    def __init__(self, planner: Planner, columns: Sequence[Hashable] | None, filters: Filters | None) -> None:
        self._planner, self._filters, self._columns = planner, filters, columns
        plan = planner.plan(columns, filters, None, "pandas", for_batches=True)
        # Sent to the workers, because a worker that opens only one part cannot know the schema of all parts.
        self._agreed, self._numbers, self._partitions = plan.agreed, plan.numbers, plan.partitions
        # A Dask frame needs at least one partition. Place -1 stands for an empty one.
        self.places = list(range(len(self._numbers))) or [-1]

    def meta(self) -> Any:
        """An empty frame with the columns and dtypes that every partition has."""
        chosen = self._chosen(self._columns)
        return self._nothing(chosen)

    def __call__(self, place: int, columns: Sequence[Hashable] | None = None) -> Any:
        """Read the partition of a part.

        Args:
            place: Position of the part among the parts that are read.
            columns: The columns that Dask needs. None means all columns of the Dask frame.
        """
        chosen = self._chosen(self._columns if columns is None else columns)
        if place < 0:
            return self._nothing(chosen)
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
        if not plan.work:
            return self._nothing(chosen)
        tables = [table for table, _ in plan.tables()]
        table = pa.concat_tables(tables) if len(tables) > 1 else tables[0]
        del tables
        offset = self._agreed.starts[place] if chosen.whole else 0
        return to_frame(table, whole=chosen.whole, offset=offset)

    def __dask_tokenize__(self) -> Any:
        """The values that identify this read. Without them, Dask would hash the store and its credentials."""
        pins = [(part.key, part.pinned.pin) for part in self._planner.parts]
        return ("clinops-dataset", self._planner.where, pins, repr(self._columns), repr(self._filters))

    def _chosen(self, columns: Sequence[Hashable] | None) -> Selection:
        return Selection(self._agreed.schema, columns, self._filters, self._planner.where)

    def _nothing(self, chosen: Selection) -> Any:
        """The chosen columns without rows."""
        schema = self._agreed.schema
        table = null_table(pa.schema([schema.field(name) for name in chosen.fields], schema.metadata))
        # Without columns, the frame has as many rows as the layout says, which are those of all parts.
        return to_frame(table, whole=False).iloc[:0]
