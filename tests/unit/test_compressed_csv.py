"""The error about a compressed file with the name of a CSV says that it is compressed, not that it is badly encoded."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from clinops_prefect import ArtifactDecodeError, LocalPipelineStore, StorageFormat

TEXT = b"a,b\n1,2\n"


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.csv", TEXT)
    return file.getvalue()


COMPRESSED = {
    "gzip": gzip.compress(TEXT),
    "zstd": pa.compress(TEXT, "zstd", asbytes=True),
    "zip": zipped(),
    "xz": lzma.compress(TEXT),
    "bzip2": bz2.compress(TEXT),
}


# Only the name is a parameter: gzip and zip contain the time, and a test's name must be the same in each process.
@pytest.mark.parametrize("name", COMPRESSED)
def test_the_error_says_that_the_file_is_compressed(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.csv").write_bytes(COMPRESSED[name])
    store = LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV)
    with pytest.raises(ArtifactDecodeError, match=rf"is compressed \({name}\)"):
        store.download("x")
