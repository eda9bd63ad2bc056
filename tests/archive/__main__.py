"""Write an archive of artifacts with the versions at hand."""

import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

from clinops_prefect import LocalPipelineStore, UnsupportedFrameError
from tests.archive import FOLDER, FRAMES


def main(name: str) -> None:
    """Write every frame in each format that takes it, unless the archive is already there.

    Raises:
        FileExistsError: It is: what a version wrote stays as it was written.
    """
    target = FOLDER / f"{name}.zip"
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
        for format in ("parquet", "csv"):
            store = LocalPipelineStore(folder, prefix=format, format=format)
            for frame in FRAMES:
                try:
                    store.upload(FRAMES[frame](), frame)
                except UnsupportedFrameError as refused:
                    print(f"{format}, {frame}: {refused}")
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                # A date of its own would make two archives of the same files differ.
                archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
