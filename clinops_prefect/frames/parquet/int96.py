"""Reads times that old programs (Hive, Impala, Spark before 3.0) store as INT96: a day, and nanoseconds of that day.

INT96 has neither a unit nor statistics. Read in nanoseconds, a time before 1677 or after 2262 would silently overflow.
Read in microseconds, a time would lose its nanoseconds. So we look at all values before we choose a unit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.frames.conversion.arrow_frames import leaves

_NANOSECONDS = np.iinfo(np.int64).max // 1000  # the largest time, in microseconds, that fits into nanoseconds


def fields_of(metadata: pq.FileMetaData) -> list[str]:
    """The top-level fields that have INT96 times."""
    found = [metadata.schema.column(position) for position in range(metadata.num_columns)]
    paths = [column.path for column in found if column.physical_type == "INT96"]
    return list(dict.fromkeys(path.partition(".")[0] for path in paths))


class Int96File:
    """A reader of a Parquet file that reads each INT96 field in the unit that the field needs.

    Args:
        opened: Opens the file with the given unit for INT96.
        fine: The INT96 fields to read in nanoseconds. All others are read in microseconds.
    """

    def __init__(self, opened: Callable[[str], pq.ParquetFile], fine: Sequence[str]) -> None:
        self._coarse, self._fine = opened("us"), opened("ns") if fine else None
        self._names = set(fine)

    @property
    def schema_arrow(self) -> pa.Schema:
        """The file's schema, with these units."""
        schema = self._coarse.schema_arrow
        if self._fine is not None:
            for name in self._names:
                schema = schema.set(schema.get_field_index(name), self._fine.schema_arrow.field(name))
        return schema

    def read_row_groups(self, groups: list[int], columns: list[str] | None, use_threads: bool) -> pa.Table:
        """Like `pyarrow.parquet.ParquetFile.read_row_groups`."""
        table = self._coarse.read_row_groups(groups, columns=columns, use_threads=use_threads)
        fine = [name for name in table.column_names if name in self._names]
        if self._fine is None or not fine:
            return table
        read = self._fine.read_row_groups(groups, columns=fine, use_threads=use_threads)
        for name in fine:
            table = table.set_column(table.column_names.index(name), read.schema.field(name), read.column(name))
        return table


class Units:
    """Finds the unit that each INT96 field needs, from all of its values.

    Args:
        names: The INT96 fields.
        wanted: The fields that had nanoseconds according to pandas' metadata.
        where: The URI, for errors.
    """

    def __init__(self, names: list[str], wanted: Sequence[str], where: str) -> None:
        self._names, self._wanted, self._where = names, set(wanted), where
        self._has_nanoseconds: set[str] = set()
        self._is_far: set[str] = set()

    def look(self, opened: Callable[[str], pq.ParquetFile], group: int) -> None:
        """Look at the values of a row group. `opened` opens the file with a given unit for INT96."""
        coarse, fine = (
            opened(unit).read_row_groups([group], columns=self._names, use_threads=False) for unit in ("us", "ns")
        )
        for name in coarse.column_names:
            for one, other in zip(_leaves(coarse.column(name)), _leaves(fine.column(name)), strict=True):
                # Like the reader, this computes modulo 2**64, so it is also right for values that overflowed.
                if np.any(other - one * 1000):
                    self._has_nanoseconds.add(name)
                if np.any(np.abs(one) > _NANOSECONDS):
                    self._is_far.add(name)

    def fine(self) -> list[str]:
        """The fields to read in nanoseconds.

        Raises:
            ArtifactDecodeError: A field has times with nanoseconds, and times that do not fit into nanoseconds.
        """
        if both := sorted(self._has_nanoseconds & self._is_far):
            raise ArtifactDecodeError(
                f"{self._where}: column {both[0]!r} has times (INT96) with nanoseconds beside times before 1677 or "
                "after 2262, which pandas cannot hold together; leave it out with columns=, or have it rounded",
                uri=self._where,
            )
        return sorted(self._has_nanoseconds | (self._wanted - self._is_far))


def _leaves(column: pa.ChunkedArray) -> list["np.ndarray[Any, Any]"]:
    """The times in a column, at any depth, as integers. Missing times are 0."""
    found = [leaf for chunk in column.chunks for leaf in leaves(chunk) if pa.types.is_timestamp(leaf.type)]
    return [leaf.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False) for leaf in found]
