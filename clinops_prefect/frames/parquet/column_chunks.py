"""The column chunks of a Parquet file: their ranges in the file, and their sizes in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from clinops_prefect.frames import memory


class DescribedFile(Protocol):
    """A file whose footer is known, such as `pyarrow.parquet.ParquetFile`."""

    @property
    def metadata(self) -> pq.FileMetaData: ...

    @property
    def schema_arrow(self) -> pa.Schema: ...


@dataclass(frozen=True)
class ColumnChunk:
    """One column of one row group.

    Attributes:
        group: Number of the row group.
        path: Path of the column, such as `field.list.element` if it is nested.
        range: The range of the chunk in the file, as `(start, end)` in bytes, `end` excluded.
        decoded: Size of the decompressed pages in bytes, as the footer says.
        values: Number of values.
        is_text: Whether the values are texts, or bytes of variable length.
    """

    group: int
    path: str
    range: tuple[int, int]
    decoded: int
    values: int
    is_text: bool


def find(
    file: DescribedFile,
    groups: Sequence[int],
    fields: list[str] | None,
    size: int,
    where: str,
    paths: Sequence[str] | None = None,
) -> list[ColumnChunk]:
    """The column chunks of these fields, or of all fields, in these row groups.

    Args:
        file: The file.
        groups: The row groups.
        fields: The fields. None means all fields.
        size: Size of the file in bytes.
        where: The file's URI, for errors.
        paths: The result of `leaf_paths` for the file, if it is known.

    Raises:
        ArtifactDecodeError: The rows do not fit into memory.
        ValueError: The footer places a chunk outside of the file.
    """
    metadata, schema = file.metadata, file.schema_arrow
    paths = leaf_paths(metadata) if paths is None else paths
    wanted = None if fields is None else set(fields)
    positions = []
    for position, path in enumerate(paths):
        # The leaves of a nested field have paths such as `field.item.element`, but a plain name may also contain dots.
        if wanted is None or path in wanted or ("." in path and any(path.startswith(f"{name}.") for name in wanted)):
            positions.append(position)
    rows, found = 0, []
    for group in groups:
        row_group = metadata.row_group(group)
        rows += row_group.num_rows
        for position in positions:
            column = row_group.column(position)
            first = column.dictionary_page_offset or column.data_page_offset
            start = min(first, column.data_page_offset)
            end = start + column.total_compressed_size
            # A request for bytes outside of the file would look as if the object had changed.
            if not 0 <= start <= end <= size:
                raise ValueError("a column outside of the file")
            is_text = column.physical_type == "BYTE_ARRAY"
            size_of_pages = column.total_uncompressed_size
            found.append(ColumnChunk(group, paths[position], (start, end), size_of_pages, column.num_values, is_text))
    memory.check(memory.least_bytes(schema if fields is None else map(schema.field, fields), rows), where)
    return found


def leaf_paths(metadata: pq.FileMetaData) -> list[str]:
    """The path of each leaf column, such as `field.item.element` for a leaf of a nested field."""
    schema = metadata.schema
    return [schema.column(position).path for position in range(metadata.num_columns)]


def total_bytes(metadata: pq.FileMetaData) -> int:
    """The decompressed size of all row groups in bytes, as the footer says."""
    return sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


def group_sizes(metadata: pq.FileMetaData, schema: pa.Schema, fields: Sequence[str]) -> list[tuple[int, int]]:
    """For each row group, the number of rows and the approximate bytes that these fields take in memory."""
    # Several fields may have the same name.
    known = [schema.field(position) for name in set(fields) for position in schema.get_all_field_indices(name)]
    share, found = len(known) / max(1, len(schema)), []
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        rows = row_group.num_rows
        found.append((rows, max(int(row_group.total_byte_size * share), memory.least_bytes(known, rows))))
    return found
