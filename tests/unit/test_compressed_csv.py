"""A compressed file under a name of CSV is called compressed, not text of another encoding."""

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


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("zstd", pa.compress(TEXT, "zstd", asbytes=True)),
        ("zip", zipped()),
        ("xz", lzma.compress(TEXT)),
        ("bzip2", bz2.compress(TEXT)),
    ],
)
def test_it_is_called_compressed(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    store = LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV)
    with pytest.raises(ArtifactDecodeError, match=rf"is compressed \({name}\)"):
        store.download("x")
