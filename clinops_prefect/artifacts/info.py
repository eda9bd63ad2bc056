"""What a store says about an artifact without reading its rows."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ArtifactInfo:
    """One stored artifact.

    Attributes:
        uri: Where it is, such as `s3://bucket/prefix/name.parquet`.
        bytes: The size of the stored object.
        rows: The number of rows; None where only reading the whole would tell (a CSV that another program wrote).
        schema: Column -> dtype as pandas reads it, in column order, such as `{"stay_id": "int64"}`.
        created: When this version was written; aware, UTC.
        metadata: What was passed to `upload`.
        version: What `download(name, version=…)` takes; empty where the backend keeps no versions.
    """

    uri: str
    bytes: int
    rows: int | None
    schema: dict[str, str]
    created: datetime
    metadata: dict[str, str]
    version: str
