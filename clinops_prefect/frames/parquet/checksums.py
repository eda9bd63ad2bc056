"""Block checksums inside every Parquet file that we write, so that they survive any copy.

Not every writer of Parquet writes page checksums, and these do not cover the page headers and the footer: 4 of 200 bit
flips in a footer were read as another frame. So we write the CRC-32 of every block of the file between the last page
and the footer. Parquet allows any bytes there (page indexes and Bloom filters are there too), and readers skip them:

    body | CRC-32 of each 8 KiB of the body | length of the body, CRC-32 of those, CRC-32 of the footer, "CPS2" | footer

All numbers are little-endian. The length has eight bytes, all others have four. With blocks instead of one checksum, a
reader of a few columns can check the bytes it reads, and a reader of the whole file can check each range as it arrives.
A key in the footer's metadata says that the file has block checksums.
"""

import struct
import sys
import zlib
from array import array
from collections import deque

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.storage_format import PARQUET_MAGIC

# The first version called the block checksums "seal". Stored files have this key, so it must not change.
CHECKSUMS_KEY = b"clinops.seal"
# A column chunk begins and ends in the middle of a block: reading 10 of 1,000 columns fetches 30 % more than needed.
# With half the block size, it would be 15 %, but the checksums would take twice their 0.05 % of the file.
BLOCK_BYTES = 8 << 10
# zlib releases Python's lock for more than 5 KiB. With many threads that fetch and decode, winning it back takes longer
# than the checksum of a block, and a wide download took a fifth more CPU time. In an upload only one thread computes
# checksums, and those that send need the lock meanwhile.
_HALF_BYTES = BLOCK_BYTES // 2
_TRAILER = struct.Struct("<QII4s")
TRAILER_BYTES = _TRAILER.size
_MAGIC = b"CPS2"
# A Parquet file ends with the footer's length (four bytes) and the magic bytes.
_END_BYTES = 8
# Instead of Parquet's magic bytes, if the footer itself is encrypted.
_ENCRYPTED_MAGIC = b"PARE"
# A nonce and a tag, which follow the footer if only columns are encrypted.
_SIGNATURE_BYTES = 28

Bytes = bytes | bytearray | memoryview


class ChecksummedSink:
    """A file that a Parquet writer writes to. It passes the bytes on and adds the block checksums at the end."""

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
        """Do nothing. pyarrow calls this."""

    def close(self) -> None:
        self.closed = True

    def drain(self, keep: int = 0) -> list[bytes]:
        """The bytes written since the last call, without at least the last `keep` bytes.

        Args:
            keep: Number of last bytes that may already belong to the footer; 0 until the writer is told to close.
        """
        drained = []
        while self._pending and self._held - len(self._pending[0]) >= keep:
            chunk = self._pending.popleft()
            self._held -= len(chunk)
            self._sums.add(chunk)
            drained.append(chunk)
        return drained

    def finish(self) -> list[bytes]:
        """The rest (indexes and footer) after the writer was closed, with the block checksums before the footer."""
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
        length: Length of the body in bytes.
        table: The checksums of the body's blocks. If empty, only the footer could be checked.
        where: The URI, for errors.
    """

    def __init__(self, length: int, table: bytes, where: str) -> None:
        self.length = length
        self._sums = _numbers(table)
        self._where = where

    def aligned(self, start: int, end: int) -> tuple[int, int]:
        """The smallest range of whole blocks that contains a range of the body."""
        return start - start % BLOCK_BYTES, min(self.length, -(-end // BLOCK_BYTES) * BLOCK_BYTES)

    def check(self, start: int, data: Bytes) -> None:
        """Check the checksums of whole blocks.

        Raises:
            ArtifactDecodeError: A checksum differs.
        """
        first, view, crc32 = start // BLOCK_BYTES, memoryview(data), zlib.crc32
        middles = range(_HALF_BYTES, len(view) + _HALF_BYTES, BLOCK_BYTES)
        found = [crc32(view[at : at + _HALF_BYTES], crc32(view[at - _HALF_BYTES : at])) for at in middles]
        if array("I", found) != self._sums[first : first + len(found)]:
            raise damaged(self._where)


def most_bytes(size: int) -> int:
    """The maximum number of bytes that block checksums take before the footer, in a file of `size` bytes."""
    return TRAILER_BYTES + 4 * -(-size // BLOCK_BYTES)


def footer_start(tail: Bytes, size: int, where: str) -> int:
    """The offset of the footer in the file, computed from the last bytes of the file.

    Raises:
        ArtifactDecodeError: `tail` is not the end of a Parquet file, or the footer is encrypted.
    """
    if bytes(tail[-4:]) == _ENCRYPTED_MAGIC:
        raise encrypted(where)
    if size < _END_BYTES + len(PARQUET_MAGIC) or bytes(tail[-4:]) != PARQUET_MAGIC:
        raise ArtifactDecodeError(f"{where} is not a Parquet file, or its end is missing", uri=where)
    start = size - _END_BYTES - _footer_length(tail)
    if start < len(PARQUET_MAGIC):
        raise ArtifactDecodeError(f"{where} is damaged: its Parquet footer is longer than the file", uri=where)
    return start


def check_unencrypted(footer: Bytes, parsed_bytes: int, where: str) -> None:
    """Refuse a file with encrypted columns. PyArrow ends the process when it is asked where such a column is.

    Args:
        footer: The footer with its length and the magic bytes.
        parsed_bytes: How long the metadata in the footer are. A signature follows them if columns are encrypted.
        where: The file's URI, for errors.

    Raises:
        ArtifactDecodeError: Columns are encrypted.
    """
    if len(footer) - _END_BYTES - parsed_bytes == _SIGNATURE_BYTES:
        raise encrypted(where)


def encrypted(where: str) -> ArtifactDecodeError:
    """The error for Parquet's own encryption."""
    return ArtifactDecodeError(
        f"{where} is encrypted by Parquet itself, which is not read here: have it written without encryption, which "
        "the store can do instead",
        uri=where,
    )


def read_checksums(tail: Bytes, tail_start: int, start: int, where: str) -> BlockChecksums | None:
    """Read the block checksums, and check them and the footer. None if the file has no block checksums.

    Args:
        tail: The end of the file. It must include at least `TRAILER_BYTES` before the footer, and `most_bytes` before
            the footer if the body is to be checked.
        tail_start: Offset of `tail` in the file.
        start: Offset of the footer in the file.
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
    """The error for a checksum that differs."""
    return ArtifactDecodeError(f"{where} is damaged: its checksum differs from the one taken at upload", uri=where)


class _BlockSums:
    """Computes the CRC-32 of each block, from bytes that are added in any sizes."""

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

    def table(self) -> bytes:
        still_open = [self._open] if self.length % BLOCK_BYTES else []
        return _swapped(self._closed + array("I", still_open)).tobytes()


def _numbers(table: bytes) -> "array[int]":
    numbers = array("I")
    numbers.frombytes(table)
    return _swapped(numbers)


def _swapped(numbers: "array[int]") -> "array[int]":
    # The file is little-endian, whatever the byte order of the machine that wrote it.
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _footer_length(tail: Bytes) -> int:
    return int.from_bytes(tail[-_END_BYTES:-4], "little")


def missing(where: str) -> ArtifactDecodeError:
    """The error for a file that says it has block checksums, and has none."""
    return ArtifactDecodeError(
        f"{where} is damaged, or was written again by another program that kept its notes, as pyarrow does: its block "
        "checksums are missing; upload the table with the store, or write it after .replace_schema_metadata()",
        uri=where,
    )
