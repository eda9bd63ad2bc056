"""Column chunks that are decoded while others are still fetched."""

from collections.abc import Callable, Sequence

from clinops_prefect.frames.parquet.column_chunks import ColumnChunk
from clinops_prefect.frames.parquet.parallel_decode import DecodeUnit
from clinops_prefect.frames.parquet.partial_file import ArrivingRanges


class ArrivingChunks:
    """Column chunks that are being fetched.

    Args:
        found: The column chunks.
        arriving: The ranges that are being fetched for them.
        window: Returns the bytes of a range that has arrived.
    """

    def __init__(
        self, found: Sequence[ColumnChunk], arriving: ArrivingRanges, window: Callable[[int, int], memoryview]
    ) -> None:
        self._arriving = arriving
        self._window = window
        self._starts: dict[tuple[int, str], list[int]] = {}
        for chunk in found:
            # The leaves of a nested field have other paths than the field, so any unit may need them.
            field = "" if "." in chunk.path else chunk.path
            self._starts.setdefault((chunk.group, field), []).append(chunk.range[0])

    def window(self, start: int, end: int) -> memoryview:
        """Wait for a range of a column chunk, and return its bytes."""
        self._arriving.wait(start)
        return self._window(start, end)

    def wait_for(self, unit: DecodeUnit) -> None:
        """Wait for the column chunks of a unit with names."""
        for group in unit.groups:
            for name in ("", *(unit.names or ())):
                for start in self._starts.get((group, name), ()):
                    self._arriving.wait(start)
