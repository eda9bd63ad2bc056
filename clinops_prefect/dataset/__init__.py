"""Many artifacts as one frame.

artifact_dataset   `ArtifactDataset`, what `store.dataset()` returns
listing            which artifacts belong to it, and the folders that are partitions
partitions         the columns that the folders make, and the parts that a filter on them leaves
parts              one part, opened: a Parquet file or a CSV text
opening            the parts, opened several at once
planning           what is read for one call: which parts, which pieces of them
agreement          the one schema of all parts, or the error that names the part and the column
disagreement       those errors
index_agreement    the one index of all parts
note_agreement     what polars and Arrow frames had beside the stored types
reading            the rows of many parts: several at once, in bounded memory, in order
scan               a polars LazyFrame whose projection and predicate reach the store
dask_frames        a Dask DataFrame with one part a partition
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clinops_prefect.dataset.artifact_dataset import ArtifactDataset as ArtifactDataset

__all__ = ["ArtifactDataset"]


def __getattr__(name: str) -> Any:
    # A dataset brings pandas and PyArrow, which a store needs only once it reads a frame.
    if name != "ArtifactDataset":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from clinops_prefect.dataset.artifact_dataset import ArtifactDataset

    return ArtifactDataset
