"""Reads many artifacts as one frame.

artifact_dataset   `ArtifactDataset`, the result of `store.dataset()`
listing            the artifacts of a dataset, and the folders that are partitions
partitions         the columns from partition folders, and the parts that a filter on them leaves
parts              one opened part: a Parquet file or a CSV text
opening            opens several parts at once
planning           plans what one call reads: which parts, and which row groups of them
agreement          the common schema of all parts, or the error that names the part and the column
disagreement       the errors of parts that differ
index_agreement    the common index of all parts
note_agreement     the common note of polars and Arrow frames
reading            the rows of many parts, read several at once, in bounded memory, in order
scan               a polars LazyFrame that reads only the needed columns and rows
dask_frames        a Dask DataFrame with one partition for each part
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clinops_prefect.dataset.artifact_dataset import ArtifactDataset as ArtifactDataset

__all__ = ["ArtifactDataset"]


def __getattr__(name: str) -> Any:
    # Imported on first use, because a dataset imports pandas and PyArrow, which a store needs only to read a frame.
    if name != "ArtifactDataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clinops_prefect.dataset.artifact_dataset import ArtifactDataset

    return ArtifactDataset
