"""Artifacts of earlier versions and of another version of pandas are read as the frame that was written."""

import zipfile
from pathlib import Path

import pandas as pd
import pytest

from clinops_prefect import LocalPipelineStore
from tests.archive import FOLDER, FRAMES
from tests.gallery import assert_same

# Frames that the version before refused or returned changed.
NEW = {"values since"}
CHANGED = {"labels of str, python", "labels since"}
ARCHIVES = sorted(path.stem for path in FOLDER.glob("*.zip"))
NOT_IN_CSV = {"parquet only"}


@pytest.fixture(params=ARCHIVES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    with zipfile.ZipFile(FOLDER / f"{request.param}.zip") as archive:
        archive.extractall(tmp_path)
    return request.param, tmp_path


def test_there_are_archives_of_both_pandas_versions_and_of_the_version_before() -> None:
    assert {"before-pandas-3.1.1", "pandas-2.3.3", "pandas-3.1.1"} <= set(ARCHIVES)


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_every_frame_of_an_archive_is_read_as_it_was_written(archive: tuple[str, Path], format: str) -> None:
    name, folder = archive
    store = LocalPipelineStore(str(folder), prefix=format, format=format)
    found = store.list_artifacts()
    before = name.startswith("before")
    kept = set(FRAMES) - (NOT_IN_CSV if format == "csv" else set()) - (NEW if before else set())
    assert set(found) == kept
    for frame in kept - (CHANGED if before else set()):
        expected = FRAMES[frame]()
        try:
            assert_same(store.download(frame), expected)
            if frame.startswith(("values", "index")):
                assert_same(store.download(frame, columns=list(expected.columns)[:1]), expected.iloc[:, :1])
                for number, batch in enumerate(store.iter_batches(frame, rows=2)):
                    part = expected.iloc[2 * number : 2 * number + 2]
                    pd.testing.assert_frame_equal(batch, part, check_exact=True, check_freq=False)
        except AssertionError as error:
            raise AssertionError(f"{frame}: {error}") from error
