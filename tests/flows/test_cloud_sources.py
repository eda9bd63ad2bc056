"""Sources in buckets: the same files, layouts, compressions and messages as in a folder. Nothing is written."""

import bz2
import gzip
import uuid
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinops_prefect import BucketNotFoundError, InvalidStoreError
from clinops_prefect.tasks import open_store
from flows.icu.catalogue import load_catalogue
from flows.icu_features import icu_features
from flows.running.partition import check_unchanged, input_files
from flows.running.source_store import open_source
from flows.sources.fhir_table import load_fhir_table
from flows.sources.files import TableError, TableNotFoundError
from flows.sources.folder import find_source, ingest_events, read_stays
from tests.conftest import STORES
from tests.doors import AzureDoor, Door, GCSDoor, S3Door
from tests.fhir_source import to_fhir
from tests.flows.expected import DATE, expected_features, stored_features

DOORS = {"s3": S3Door, "gcs": GCSDoor, "azure": AzureDoor}


@pytest.fixture(params=[name for name in DOORS if name in STORES])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Door:
    """An empty bucket at an endpoint that the environment names."""
    door = DOORS[request.param](request.getfixturevalue(f"{request.param}_endpoint"), f"raw-{uuid.uuid4().hex[:12]}")
    for name, value in door.environment().items():
        monkeypatch.setenv(name, value)
    return door


def put(door: Door, folder: Path, below: str) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            door.put(f"{below}/{file.relative_to(folder).as_posix()}", file.read_bytes())


def text_of(source: Path, table: str) -> str:
    return gzip.decompress((source / f"{table}.csv.gz").read_bytes()).decode()


def mixed(source: Path, out: Path) -> None:
    """The same tables in every supported kind of file."""
    (out / "ICU/chartevents/year=2150").mkdir(parents=True)
    (out / "hosp").mkdir()
    charts = pd.read_csv(source / "icu/chartevents.csv.gz", dtype=str)
    half = len(charts) // 2
    for name, part in {"part-0": charts[:half], "year=2150/part-1": charts[half:]}.items():
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), out / f"ICU/chartevents/{name}.parquet")
    (out / "ICU/icustays.csv.bz2").write_bytes(bz2.compress(text_of(source, "icu/icustays").encode()))
    labs = text_of(source, "hosp/labevents").splitlines(keepends=True)
    for number, lines in enumerate((labs[1:100], labs[100:])):
        data = "".join([labs[0], *lines]).encode()
        with pa.output_stream(str(out / f"hosp/labevents_{number:04d}.csv.zst"), compression="zstd") as file:
            file.write(data)
    (out / "hosp/patients.csv").write_text(text_of(source, "hosp/patients"))
    (out / "hosp/admissions.CSV.GZ").write_bytes((source / "hosp/admissions.csv.gz").read_bytes())


def test_the_flow_reads_a_bucket_as_it_reads_the_folder(source: Path, bucket: Door, tmp_path: Path) -> None:
    mixed(source, tmp_path / "mixed")
    put(bucket, tmp_path / "mixed", "raw/mimic")
    before = bucket.keys()
    where, store = f"{bucket.uri()}/raw/mimic", tmp_path / "store"
    manifest = icu_features(where, str(store), DATE, shards=2)
    pd.testing.assert_frame_equal(stored_features(open_store(store)), expected_features(source), check_exact=True)
    assert bucket.keys() == before
    assert {file["file"] for file in manifest["inputs"]} == {key.removeprefix("raw/mimic/") for key in before}
    assert all(file["version"] and file["bytes"] for file in manifest["inputs"])
    # Complete results of unchanged objects are not computed again. If one object has a new version, they are.
    assert icu_features(where, str(store), DATE, shards=2) == manifest
    bucket.put("raw/mimic/hosp/patients.csv", bucket.get("raw/mimic/hosp/patients.csv") + b"\n")
    assert icu_features(where, str(store), DATE, shards=2)["run"] != manifest["run"]


def test_a_saved_block_is_a_source(source: Path, s3_endpoint: str, tmp_path: Path) -> None:
    door = S3Door(s3_endpoint, "raw-of-a-block")
    put(door, source, "mimic")
    door.store(prefix="mimic").save("raw-source", overwrite=True)
    icu_features("s3-pipeline-store/raw-source", str(tmp_path), DATE, shards=2)
    pd.testing.assert_frame_equal(stored_features(open_store(tmp_path)), expected_features(source), check_exact=True)


def test_fhir_in_a_bucket_gives_the_rows_of_the_folder(source: Path, bucket: Door, tmp_path: Path) -> None:
    to_fhir(source, tmp_path / "fhir", encounters=True)
    put(bucket, tmp_path / "fhir", "export")
    catalogue, table = load_catalogue(), load_fhir_table()

    def read(root: Any) -> tuple[list[str], pd.DataFrame, pd.DataFrame]:
        found = find_source(root, table)
        frames = [frame for events in found.events for frame, _ in ingest_events(events, found.root, catalogue, table)]
        return [events.path for events in found.events], pd.concat(frames), read_stays(root, table).stays

    (names, rows, stays), (names2, rows2, stays2) = read(tmp_path / "fhir"), read(open_source(f"{bucket.uri()}/export"))
    assert names == names2
    assert len(rows) > 1000
    pd.testing.assert_frame_equal(rows, rows2)
    pd.testing.assert_frame_equal(stays, stays2)


def test_faults_of_a_bucket_are_reported_like_those_of_a_folder(source: Path, bucket: Door, tmp_path: Path) -> None:
    put(bucket, source, "raw")
    catalogue, table, root = load_catalogue(), load_fhir_table(), open_source(f"{bucket.uri()}/raw")
    found = find_source(root, table)
    (charts,) = (events for events in found.events if events.table == "chartevents")
    inputs = input_files(found.paths, root)
    check_unchanged(found.paths, root, inputs)

    data = bucket.get("raw/icu/chartevents.csv.gz")
    bucket.put("raw/icu/chartevents.csv.gz", data[: len(data) // 2])
    with pytest.raises(TableError, match="raw: changed while the run read it"):
        check_unchanged(found.paths, root, inputs)
    with pytest.raises(
        TableError, match=rf"{bucket.scheme}://.*/raw/icu/chartevents.csv.gz: cannot be read; it is dam"
    ):
        list(ingest_events(charts, root, catalogue, table))

    bucket.delete("raw/icu/icustays.csv.gz")
    with pytest.raises(TableNotFoundError, match=rf"raw/icu/icustays: no such table; .*{bucket.scheme}://.* holds cha"):
        find_source(open_source(f"{bucket.uri()}/raw"), table)
    with pytest.raises(TableNotFoundError, match=rf"there is no folder {bucket.scheme}://.*/elsewhere"):
        find_source(open_source(f"{bucket.uri()}/elsewhere"), table)
    with pytest.raises(BucketNotFoundError):
        find_source(open_source(f"{bucket.uri()}-and-not/raw"), table)


def test_a_file_is_read_from_one_version_and_errors_of_the_service_keep_their_class(
    source: Path, bucket: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.sources.objects._READ_BYTES", 1 << 14)
    put(bucket, source, "raw")
    catalogue, table, root = load_catalogue(), load_fhir_table(), open_source(f"{bucket.uri()}/raw")
    (charts,) = (events for events in find_source(root, table).events if events.table == "chartevents")
    monkeypatch.setattr("flows.sources.tables._CSV_BLOCK_BYTES", 1 << 14)
    rows = ingest_events(charts, root, catalogue, table)
    next(rows)
    bucket.put("raw/icu/chartevents.csv.gz", bucket.get("raw/icu/chartevents.csv.gz") + b" ")
    with pytest.raises(TableError, match="replaced while it was read"):
        list(rows)
    rows = ingest_events(charts, root, catalogue, table)
    next(rows)
    bucket.delete("raw/icu/chartevents.csv.gz")
    with pytest.raises((FileNotFoundError, TableError), match=r"chartevents.csv.gz(?!.*damaged)"):
        list(rows)


@pytest.mark.parametrize("text", ["s3:/bucket/raw", "s3-pipline-store/raw", "gcs://bucket/raw"])
def test_a_source_that_is_nearly_a_uri_is_not_taken_for_a_folder(text: str) -> None:
    with pytest.raises(InvalidStoreError, match="did you mean"):
        open_source(text)


def test_any_folder_name_is_accepted_as_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of 2024: new").mkdir()
    monkeypatch.chdir(tmp_path)
    assert open_source("of 2024: new") == Path("of 2024: new")
    assert open_source("not/there/yet") == Path("not/there/yet")
    assert open_source(tmp_path.as_uri()) == tmp_path
