"""Checksums inside every Parquet file that we write, so that they need no place of their own and survive any copy.

Not every writer of Parquet leaves page checksums, and those leave out the page headers and the footer: 4 of 200 bit
flips in a footer read back as another frame. So between the last page and the footer, where Parquet allows anything
(its page indexes and Bloom filters live there too) and no reader looks, stand the CRC-32 of every block of the file:

    body | CRC-32 of each 8 KiB of the body | length of the body, CRC-32 of those, CRC-32 of the footer, "CPS2" | footer

All numbers are little-endian, of four bytes each but for the length, which has eight. Blocks instead of one sum:
whoever reads a few columns checks what they read, and whoever reads all checks each range as it comes. The footer's
metadata says that the sums are there.
"""

import struct
import sys
import zlib
from array import array
from collections import deque

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.storage_format import PARQUET_MAGIC

# "seal" is the word of the first version; files have it, so it stays.
CHECKSUMS_KEY = b"clinops.seal"
# A chunk of a column begins and ends in the middle of a block: 10 of 1,000 columns read 30 % more than they need. Half
# the size would save 15 of those, and double the 0.05 % that the sums take.
BLOCK_BYTES = 8 << 10
_TRAILER = struct.Struct("<QII4s")
TRAILER_BYTES = _TRAILER.size
_MAGIC = b"CPS2"
# A footer ends with its own length (four bytes) and the magic.
_END_BYTES = 8

Bytes = bytes | bytearray | memoryview


class ChecksummedSink:
    """A file to write Parquet to; hands the bytes on as they come, and adds the block checksums when it ends."""

    def __init__(self) -> None:
        self.closed = False
        self._position = 0
        self._pending: deque[bytes] = deque()
        self._held = 0
        self._sums = _BlockSums()

    def write(self, data: Bytes) -> int:
        self._pending.append(bytes(data))
        self._position += len(data)
        self._held += len(data)
        return len(data)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """pyarrow flushes; there is nothing to do."""

    def close(self) -> None:
        self.closed = True

    def drain(self, keep: int = 0) -> list[bytes]:
        """The bytes written since the last call, but for the last `keep` or more.

        Args:
            keep: What may be of the footer already; 0 as long as the writer was not told to close.
        """
        drained = []
        while self._pending and self._held - len(self._pending[0]) >= keep:
            piece = self._pending.popleft()
            self._held -= len(piece)
            self._sums.add(piece)
            drained.append(piece)
        return drained

    def finish(self) -> list[bytes]:
        """The rest once the writer was closed (indexes and footer), with the block checksums before the footer."""
        rest = b"".join(self._pending)
        start = len(rest) - _END_BYTES - _footer_length(rest)
        if start < 0:
            raise RuntimeError("the footer of the Parquet file is longer than what was kept for it")
        before, footer = rest[:start], rest[start:]
        self._sums.add(before)
        table = self._sums.table()
        trailer = _TRAILER.pack(self._sums.length, zlib.crc32(table), zlib.crc32(footer), _MAGIC)
        return [before, table, trailer, footer]


class BlockChecksums:
    """The block checksums of a file.

    Args:
        length: The length of the body.
        table: The sums of its blocks, or nothing: then only the footer can be checked, and was.
        where: The URI, for errors.
    """

    def __init__(self, length: int, table: bytes, where: str) -> None:
        self.length = length
        self._sums = _numbers(table)
        self._where = where

    def aligned(self, start: int, end: int) -> tuple[int, int]:
        """The range of whole blocks that holds a range of the body."""
        return start - start % BLOCK_BYTES, min(self.length, -(-end // BLOCK_BYTES) * BLOCK_BYTES)

    def check(self, start: int, data: Bytes) -> None:
        """Check whole blocks.

        Raises:
            ArtifactDecodeError: A sum differs.
        """
        first = start // BLOCK_BYTES
        sums = _BlockSums()
        sums.add(data)
        if sums.numbers() != self._sums[first : first + -(-len(data) // BLOCK_BYTES)]:
            raise damaged(self._where)


def most_bytes(size: int) -> int:
    """How many bytes before the footer the block checksums of a file of this size take at most."""
    return TRAILER_BYTES + 4 * -(-size // BLOCK_BYTES)


def footer_start(tail: Bytes, size: int, where: str) -> int:
    """The offset in the whole file at which the footer begins, from the last bytes of the file.

    Raises:
        ArtifactDecodeError: These are not the last bytes of a Parquet file.
    """
    if size < _END_BYTES + len(PARQUET_MAGIC) or bytes(tail[-4:]) != PARQUET_MAGIC:
        raise ArtifactDecodeError(f"{where} is not a Parquet file, or its end is missing", uri=where)
    start = size - _END_BYTES - _footer_length(tail)
    if start < len(PARQUET_MAGIC):
        raise ArtifactDecodeError(f"{where} is damaged: its Parquet footer is longer than the file", uri=where)
    return start


def read_checksums(tail: Bytes, tail_start: int, start: int, where: str) -> BlockChecksums | None:
    """The block checksums before the footer, once both were found undamaged; None where there are none.

    Args:
        tail: The end of the file; with at least `TRAILER_BYTES` before the footer, and with `most_bytes` before it if
            the body is to be checked.
        tail_start: Where `tail` begins in the file.
        start: Where the footer begins in the file.
        where: The URI, for errors.

    Raises:
        ArtifactDecodeError: The footer or the block checksums are damaged.
    """
    view, at = memoryview(tail), start - tail_start
    trailer = view[max(0, at - TRAILER_BYTES) : at]
    if len(trailer) < TRAILER_BYTES or trailer[-4:] != _MAGIC:
        return None
    length, of_table, of_footer, _ = _TRAILER.unpack(trailer)
    table_bytes = start - TRAILER_BYTES - length
    if zlib.crc32(view[at:]) != of_footer or table_bytes != 4 * -(-length // BLOCK_BYTES):
        raise damaged(where)
    table = bytes(view[max(0, at - TRAILER_BYTES - table_bytes) : at - TRAILER_BYTES])
    if len(table) < table_bytes:
        return BlockChecksums(length, b"", where)
    if zlib.crc32(table) != of_table:
        raise damaged(where)
    return BlockChecksums(length, table, where)


def damaged(where: str) -> ArtifactDecodeError:
    """The error of a checksum that differs."""
    return ArtifactDecodeError(f"{where} is damaged: its checksum differs from the one taken at upload", uri=where)


class _BlockSums:
    """The CRC-32 of each block of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self.length = 0
        self._closed = array("I")
        self._open = 0

    def add(self, data: Bytes) -> None:
        view = memoryview(data)
        begin = 0
        while begin < len(view):
            end = min(len(view), begin + BLOCK_BYTES - (self.length + begin) % BLOCK_BYTES)
            self._open = zlib.crc32(view[begin:end], self._open)
            if (self.length + end) % BLOCK_BYTES == 0:
                self._closed.append(self._open)
                self._open = 0
            begin = end
        self.length += len(view)

    def numbers(self) -> "array[int]":
        return self._closed + array("I", [self._open] if self.length % BLOCK_BYTES else [])

    def table(self) -> bytes:
        return _swapped(self.numbers()).tobytes()


def _numbers(table: bytes) -> "array[int]":
    numbers = array("I")
    numbers.frombytes(table)
    return _swapped(numbers)


def _swapped(numbers: "array[int]") -> "array[int]":
    # The file is little-endian wherever it was written.
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _footer_length(tail: Bytes) -> int:
    return int.from_bytes(tail[-_END_BYTES:-4], "little")
