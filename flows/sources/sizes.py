"""Estimates the number of rows of a file of events from its beginning, to show a run's progress."""

import io
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from flows.sources.objects import SourcePath, as_source_path, open_parquet

# bzip2 can only decompress whole blocks of up to 900 kB of text, so a shorter sample would lose too much.
_SAMPLE_BYTES = 4 << 20
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


def estimated_rows(path: str | SourcePath) -> int:
    """The estimated number of rows of a file of CSV, NDJSON or Parquet. 0 if there is no estimate."""
    path = as_source_path(path)
    try:
        if path.suffix.casefold() == ".parquet":
            with open_parquet(path) as file:
                return int(pa.parquet.read_metadata(file).num_rows)
        with closing(path.open("rb") if isinstance(path, Path) else path.objects.open(path.key)) as file:
            head = file.read(_SAMPLE_BYTES) or b""
        size = path.stat().st_size if isinstance(path, Path) else path.objects.identity(path.key)["bytes"]
        lines = _decompressed(path, head).count(b"\n")
        return int(lines * size / max(len(head), 1))
    except (OSError, pa.ArrowException):
        return 0


def _decompressed(path: SourcePath, head: bytes) -> bytes:
    if (codec := _CODECS.get(path.suffix.casefold())) is None:
        return head
    text = io.BytesIO()
    try:
        with pa.CompressedInputStream(pa.BufferReader(head), codec) as stream:
            while block := stream.read(_SAMPLE_BYTES):
                text.write(block)
    except (OSError, EOFError, pa.ArrowException):
        pass  # the sample ends here
    return text.getvalue()
