"""How much the texts of a Parquet file are when they are decoded, which a dictionary does not show."""

import threading
from collections.abc import Callable, Sequence

import pyarrow as pa

from clinops_prefect.frames import memory, pages
from clinops_prefect.frames.chunks import Chunk

_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


class TooManyTextsError(Exception):
    """Decoded, the texts might not fit into memory."""


class TextBudget:
    """Counts what the texts take, row group by row group, before they are decoded.

    Args:
        schema: The file's.
        data: The file.
    """

    def __init__(self, schema: pa.Schema, data: memoryview) -> None:
        self._schema = schema
        self._data = data
        self._left = memory.available()
        self._seen: set[int] = set()
        self._lock = threading.Lock()

    def add(self, group: int, chunks: list[Chunk]) -> None:
        """Count a row group, once.

        Raises:
            TooManyTextsError: With this one they might be more than there is.
        """
        with self._lock:
            if group in self._seen:
                return
            for chunk in _decoded(self._schema, chunks):
                self._left -= pages.decoded_bytes(self._data[slice(*chunk.range)], chunk.values)[1]
            if self._left < 0:
                raise TooManyTextsError
            self._seen.add(group)


def doubtful_texts(
    schema: pa.Schema, chunks: Sequence[Chunk], window: Callable[[int, int], memoryview], where: str
) -> list[str]:
    """The columns of texts that must be read as dictionaries first, because decoded they might not fit into memory.

    That takes no longer: it is how the file has them.

    Args:
        schema: The file's.
        chunks: Those that are about to be read.
        window: Gives the bytes of a range.
        where: The URI, for errors.
    """
    least = most = 0
    found = _decoded(schema, chunks)
    for chunk in found:
        at_least, at_most = pages.decoded_bytes(window(*chunk.range), chunk.values)
        least, most = least + at_least, most + at_most
    memory.check(least, where)
    return sorted({chunk.path for chunk in found}) if not memory.fits(most) else []


def _decoded(schema: pa.Schema, chunks: Sequence[Chunk]) -> list[Chunk]:
    # But for categories: a category is read as a dictionary and stays one.
    return [chunk for chunk in chunks if chunk.is_text and _may_be_decoded(schema, chunk.path)]


def _may_be_decoded(schema: pa.Schema, path: str) -> bool:
    position = schema.get_field_index(path)
    return position < 0 or any(test(schema.field(position).type) for test in _TEXTS)
