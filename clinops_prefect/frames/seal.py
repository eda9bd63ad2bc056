"""A checksum inside every Parquet file that we write, so that it needs no place of its own and survives any copy.

Page checksums leave out the page headers and the footer: 4 of 200 bit flips in a footer read back as another frame. So
twelve bytes stand between the last page and the footer, where Parquet allows anything (its page indexes and Bloom
filters live there too) and no reader looks:

    "CPS1" | CRC-32 of every byte before these twelve | CRC-32 of every byte after them      (little-endian)

A whole read checks both, a partial read the second. The footer's metadata says that the twelve bytes are there.
"""

import struct
import zlib

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError

SEAL_KEY = b"clinops.seal"
SEAL_BYTES = 12
_MAGIC = b"CPS1"
_PARQUET = b"PAR1"
# A footer ends with its own length (four bytes) and the magic.
_END_BYTES = 8

Bytes = bytes | bytearray | memoryview


class SealingSink:
    """A file for pyarrow to write Parquet to; hands the bytes on as they come, and seals the file when it ends."""

    def __init__(self) -> None:
        self.closed = False
        self._position = 0
        self._checksum = 0
        self._pending: list[bytes] = []

    def write(self, data: Bytes) -> int:
        self._pending.append(bytes(data))
        self._position += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """pyarrow flushes; there is nothing to do."""

    def close(self) -> None:
        self.closed = True

    def drain(self) -> list[bytes]:
        """The bytes written since the last call. Not to be called between the writer's close and `finish`."""
        pending, self._pending = self._pending, []
        for piece in pending:
            self._checksum = zlib.crc32(piece, self._checksum)
        return pending

    def finish(self) -> list[bytes]:
        """What the writer's close wrote (indexes and the footer), with the seal in its place."""
        rest = b"".join(self._pending)
        start = len(rest) - _END_BYTES - _footer_length(rest)
        before, footer = rest[:start], rest[start:]
        seal = struct.pack("<4sII", _MAGIC, zlib.crc32(before, self._checksum), zlib.crc32(footer))
        return [before, seal, footer]


def footer_start(tail: Bytes, size: int, where: str) -> int:
    """The offset in the whole file at which the footer begins, from the last bytes of the file.

    Raises:
        ArtifactDecodeError: These are not the last bytes of a Parquet file.
    """
    if size < _END_BYTES + len(_PARQUET) or bytes(tail[-4:]) != _PARQUET:
        raise ArtifactDecodeError(f"{where} is not a Parquet file, or its end is missing", uri=where)
    start = size - _END_BYTES - _footer_length(tail)
    if start < len(_PARQUET):
        raise ArtifactDecodeError(f"{where} is damaged: its Parquet footer is longer than the file", uri=where)
    return start


def check_whole(data: Bytes, schema: pa.Schema, where: str) -> None:
    """Check every byte of a sealed file.

    Raises:
        ArtifactDecodeError: A checksum differs.
    """
    view = memoryview(data)
    start = footer_start(view[-_END_BYTES:], len(view), where)
    if sums := _sums(view[max(0, start - SEAL_BYTES) : start], schema, where):
        body, footer = sums
        if zlib.crc32(view[: start - SEAL_BYTES]) != body or zlib.crc32(view[start:]) != footer:
            raise _damaged(where)


def check_footer(tail: Bytes, start: int, schema: pa.Schema, where: str) -> None:
    """Check the footer, which begins at `start` in `tail`, of a sealed file.

    Raises:
        ArtifactDecodeError: The checksum differs.
    """
    view = memoryview(tail)
    sums = _sums(view[max(0, start - SEAL_BYTES) : start], schema, where)
    if sums and zlib.crc32(view[start:]) != sums[1]:
        raise _damaged(where)


def _sums(block: memoryview, schema: pa.Schema, where: str) -> tuple[int, int] | None:
    if len(block) == SEAL_BYTES and block[:4] == _MAGIC:
        _, body, footer = struct.unpack("<4sII", block)
        return body, footer
    if SEAL_KEY in (schema.metadata or {}):
        raise _damaged(where)
    return None  # somebody else's file: its pages may have checksums, the file has none


def _footer_length(tail: Bytes) -> int:
    return int.from_bytes(tail[-_END_BYTES:-4], "little")


def _damaged(where: str) -> ArtifactDecodeError:
    return ArtifactDecodeError(f"{where} is damaged: its checksum differs from the one taken at upload", uri=where)
