"""Plain objects: bytes with a checksum in the object's metadata."""

import hashlib
import mimetypes
from collections.abc import Iterator

from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.names import RESERVED
from clinops_prefect.storage.backend import Backend

CHECKSUM = f"{RESERVED}sha256"
_CHUNK_BYTES = 4 << 20


def write(backend: Backend, key: str, data: bytes, content_type: str) -> None:
    """Store the bytes. An existing object is replaced."""
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"write_bytes takes bytes, not {type(data).__name__}")
    guessed = content_type or mimetypes.guess_type(key)[0] or "application/octet-stream"
    checksum = {CHECKSUM: hashlib.sha256(data).hexdigest()}
    backend.write(key, _chunks(memoryview(data)), content_type=guessed, metadata=checksum, overwrite=True)


def read(reader: ObjectReader) -> bytes:
    """Return the bytes, after checking their checksum."""
    data = reader.whole_bytes()
    check(reader, hashlib.sha256(data).hexdigest())
    return data


def check(reader: ObjectReader, checksum: str) -> None:
    """Compare the checksum of the bytes read with the checksum stored at the write, if there is one.

    Raises:
        ArtifactDecodeError: The checksums differ.
    """
    if reader.info.metadata.get(CHECKSUM, checksum) != checksum:
        raise ArtifactDecodeError(
            f"{reader.uri} is damaged, or was changed by another program: its checksum differs from the one taken when "
            "it was written; write it again",
            uri=reader.uri,
        )


def _chunks(data: memoryview) -> Iterator[bytes]:
    for start in range(0, len(data), _CHUNK_BYTES):
        yield bytes(data[start : start + _CHUNK_BYTES])
