"""The schemas of many Parquet files. Files with the same schema share one, which is made once.

A schema of a thousand columns takes as long to make as the rest of the footer, and most parts of a dataset have the
same schema. Two files have the same schema if their footers begin with the same bytes and have the same metadata.
"""

from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clinops_prefect.frames.parquet.column_chunks import leaf_paths
from clinops_prefect.frames.parquet.text_sizes import struct_at

# Keep few, since a dataset either has few schemas, or has different metadata in each file, so that no schema is reused.
_MOST_KNOWN = 4
# Thrift's compact protocol: field 1 is an integer (the version), field 2 a list, of structs.
_VERSION, _LIST, _STRUCT = 0x15, 0x19, 12


class SharedSchema:
    """A schema that several files share, and the values that are computed from it once.

    Args:
        start: The bytes with which their footers begin.
        notes: The metadata in their footers.
        metadata: The footer of one of them.
        make: Makes the schema.

    Attributes:
        schema: The schema.
        paths: The path of each leaf column.
        places: Path of a leaf column -> its position.
    """

    def __init__(
        self,
        start: bytes,
        notes: dict[bytes, bytes] | None,
        metadata: pq.FileMetaData,
        make: Callable[[], pa.Schema],
    ) -> None:
        self.start, self.notes = start, notes
        self.schema = make()
        self.paths = leaf_paths(metadata)
        self.places = {path: position for position, path in enumerate(self.paths)}
        self._nested_paths: Any = None

    @cached_property
    def elements(self) -> list[bytes]:
        """The elements of the schema as in the footers: the root, and each field. Empty if `start` is empty."""
        ends = _element_ends(memoryview(self.start))
        return [self.start[begin:end] for begin, end in pairwise(ends)]

    def reader(self, source: Any, **options: Any) -> pq.ParquetFile:
        """A reader of a file with this schema. The arguments are those of `pyarrow.parquet.ParquetFile`."""
        file = _Reader(source, self._nested_paths, **options)
        self._nested_paths = file.places
        return file


class _Reader(pq.ParquetFile):  # type: ignore[misc]  # pyarrow has no types
    """A reader that takes the positions of the columns from an earlier reader of the same schema.

    pyarrow computes the positions in Python for each reader. For a thousand columns this takes longer than parsing the
    footer. A pyarrow version without this method ignores it, and is slower.
    """

    def __init__(self, source: Any, places: Any, **options: Any) -> None:
        self.places = places
        super().__init__(source, **options)

    def _build_nested_paths(self) -> Any:
        if self.places is None:
            self.places = super()._build_nested_paths()
        return self.places


class KnownSchemas:
    """The schemas of the files that were opened so far.

    Attributes:
        footer_bytes: The length of the longest footer so far.
    """

    def __init__(self) -> None:
        self.footer_bytes = 0
        # Several threads read this tuple, so it is replaced and never changed.
        self._known: tuple[SharedSchema, ...] = ()

    def reader(self, footer: memoryview) -> Callable[..., pq.ParquetFile]:
        """Makes a reader of a file with this footer, with the positions of the columns if they are known."""
        for known in self._known:
            if known.start == footer[: len(known.start)]:
                return known.reader
        unknown: Callable[..., pq.ParquetFile] = pq.ParquetFile
        return unknown

    def of(self, footer: memoryview, metadata: pq.FileMetaData, make: Callable[[], pa.Schema]) -> SharedSchema:
        """The schema of a file.

        Args:
            footer: The file's footer.
            metadata: The parsed footer.
            make: Makes the schema.
        """
        self.footer_bytes = max(self.footer_bytes, len(footer))
        notes = metadata.metadata
        for known in self._known:
            if known.start == footer[: len(known.start)] and known.notes == notes:
                return known
        made = SharedSchema(schema_bytes(footer), notes, metadata, make)
        if made.start:
            self._known = (made, *self._known[: _MOST_KNOWN - 1])
        return made


def schema_bytes(footer: memoryview) -> bytes:
    """The beginning of a footer, up to the end of its schema; empty if the footer does not begin with the schema."""
    ends = _element_ends(footer)
    return bytes(footer[: ends[-1]]) if ends else b""


def _element_ends(footer: memoryview) -> list[int]:
    """Where the schema's list begins, and where each of its elements ends; empty as in `schema_bytes`."""
    try:
        if footer[0] != _VERSION:
            return []
        position = 1
        while footer[position] >= 128:
            position += 1
        position += 1
        if footer[position] != _LIST or footer[position + 1] & 15 != _STRUCT:
            return []
        count, position = footer[position + 1] >> 4, position + 2
        if count == 15:
            count = shift = 0
            while True:
                byte = footer[position]
                count, shift, position = count | (byte & 127) << shift, shift + 7, position + 1
                if byte < 128:
                    break
        ends = [position]
        for _ in range(count):
            _, position = struct_at(footer, position)
            ends.append(position)
    except (LookupError, ValueError):
        return []
    return ends
