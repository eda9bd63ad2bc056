"""The description of an artifact that a store gives without reading its rows."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ArtifactInfo:
    """Description of one stored artifact.

    Attributes:
        uri: The artifact's URI, such as `s3://bucket/prefix/name.parquet`.
        bytes: Size of the stored object in bytes.
        rows: Number of rows. None for a CSV of another program, whose rows can only be counted by reading it.
        schema: Column -> dtype as pandas reads it, in column order, such as `{"stay_id": "int64"}`.
        created: Time of the write of this version, timezone-aware in UTC.
        metadata: The metadata that was passed to `upload`.
        version: The value for `download(name, version=…)`; empty if the backend keeps no versions.
    """

    uri: str
    bytes: int
    rows: int | None
    schema: dict[str, str]
    created: datetime
    metadata: dict[str, str]
    version: str
