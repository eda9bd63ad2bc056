"""Stored tables -> Arrow tables and polars frames, which hold every type as it is stored, without pandas in between."""

from typing import Any

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.kinds import FrameKind

# Our keys describe the stored file. On a table they would contradict what the caller makes of it.
RESERVED = b"clinops."


def made(table: pa.Table, kind: FrameKind, where: str) -> Any:
    """The frame of a kind.

    Args:
        table: A stored table, with the stored schema.
        kind: "arrow" or "polars".
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: The kind has no such columns.
    """
    table = _own(table)
    return table if kind == "arrow" else _polars(table, where)


def _own(table: pa.Table) -> pa.Table:
    kept = {key: value for key, value in (table.schema.metadata or {}).items() if not key.startswith(RESERVED)}
    return table.replace_schema_metadata(kept or None)


def _polars(table: pa.Table, where: str) -> Any:
    import polars as pl

    if len(set(table.column_names)) < table.num_columns:
        raise ArtifactDecodeError(
            f"{where} has several columns of one name, which polars cannot hold: download it with as_='arrow'",
            uri=where,
        )
    with decoding(f"{where} has a column of a type that polars cannot hold: download it with as_='arrow'", where):
        return pl.from_arrow(table, rechunk=False)
