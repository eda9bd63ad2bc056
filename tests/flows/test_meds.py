"""MEDS: the export is valid by the standard's own schemas, and gives the same features if it is used as a source."""

import json
from pathlib import Path
from typing import Any

import meds
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinops_prefect import PipelineStore
from flows.icu.catalogue import load_catalogue
from flows.icu.events import Cleaned, clean
from flows.icu.windows import window_features
from flows.icu_features import icu_features
from flows.meds_export import export
from flows.sources.fhir_table import load_fhir_table
from flows.sources.files import TableError, TableNotFoundError
from flows.sources.folder import Source, find_source, ingest_events, read_stays
from flows.sources.meds_table import DEFAULT_MEDS_TABLE, MedsTableError, load_meds_table
from flows.synthetic.tables import generate
from tests.flows.expected import DATE, stored_features

# MEDS's numbers have 32 bits, so a value that the catalogue converts may differ in the last bit.
CONVERTED = ("temperature_", "glucose_")
T = pd.Timestamp


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineStore, Path]:
    """A date in a store, and its MEDS dataset."""
    folder = tmp_path_factory.mktemp("meds")
    generate(folder / "source", 30, seed=7)
    icu_features(str(folder / "source"), str(folder / "store"), DATE, shards=2)
    store = PipelineStore.from_uri(folder / "store")
    export(store, DATE, folder / "meds", load_catalogue())
    return store, folder / "meds"


def read(root: Path, table: Path = DEFAULT_MEDS_TABLE) -> tuple[Source, Any, Cleaned]:
    catalogue, codes = load_catalogue(), load_meds_table(table)
    found = find_source(root, load_fhir_table())
    cohort = read_stays(root, codes)
    frames = [frame for events in found.events for frame, _ in ingest_events(events, found.root, catalogue, codes)]
    return found, cohort, clean(frames, cohort.stays, catalogue)


def test_the_export_is_a_dataset_by_the_standards_own_schemas(exported: tuple[PipelineStore, Path]) -> None:
    store, root = exported
    shards = sorted((root / meds.data_subdirectory).rglob("*.parquet"))
    tables = [pq.read_table(shard, partitioning=None) for shard in shards]
    splits = pq.read_table(root / meds.subject_splits_filepath)
    codes = pq.read_table(root / meds.code_metadata_filepath)
    meds.SubjectSplitSchema.validate(splits)
    meds.CodeMetadataSchema.validate(codes)
    meds.DatasetMetadataSchema.validate(json.loads((root / meds.dataset_metadata_filepath).read_text()))
    assert meds.__version__.startswith(json.loads((root / meds.dataset_metadata_filepath).read_text())["meds_version"])
    seen: set[int] = set()
    for shard, table in zip(shards, tables, strict=True):
        meds.DataSchema.validate(table)
        frame = table.to_pandas()
        # A subject is in one shard, in consecutive rows in the order of time. The folder is the subject's split.
        assert not seen & set(frame["subject_id"])
        seen |= set(frame["subject_id"])
        assert frame.equals(frame.sort_values(["subject_id", "time"], kind="stable", na_position="first"))
        assert set(splits.to_pandas().set_index("subject_id")["split"][frame["subject_id"].unique()]) == {
            shard.parent.name
        }
    assert set(pa.concat_tables(tables)["code"].unique().to_pylist()) <= set(codes["code"].to_pylist())
    cohort = store.download(f"icu/{DATE}/cohort")
    assert seen == set(cohort["subject_id"]) == set(splits["subject_id"].to_pylist())
    # Every feature is there, and none has a time before the end of its window.
    features = stored_features(store)
    every = pd.concat([table.to_pandas() for table in tables])
    means = every[every["code"] == "FEATURE//heart_rate_mean"].sort_values(["stay_id", "time"])
    expected = features.dropna(subset=["heart_rate_mean"])
    assert means["time"].to_list() == expected["window_end"].to_list()
    assert means["numeric_value"].to_list() == expected["heart_rate_mean"].astype("float32").to_list()
    assert len(every[every["code"].str.startswith("LAB//")]) == sum(
        len(store.download(name)) for name in store.list_artifacts(f"icu/{DATE}/events")
    )


def test_the_export_is_a_source_of_the_same_features(exported: tuple[PipelineStore, Path], tmp_path: Path) -> None:
    store, root = exported
    found, cohort, cleaned = read(root)
    assert found.is_meds
    expected, catalogue = stored_features(store), load_catalogue()
    features = window_features(cleaned.events, cohort.stays, catalogue)
    exact = [column for column in expected if not column.startswith(CONVERTED)]
    pd.testing.assert_frame_equal(features[exact], expected[exact], check_exact=True)
    pd.testing.assert_frame_equal(features, expected, rtol=1e-6)
    same = ["subject_id", "stay_id", "intime", "outtime", "split", "first_careunit", "gender", "age"]
    pd.testing.assert_frame_equal(cohort.stays[same], store.download(f"icu/{DATE}/cohort")[same])
    # The flow accepts it as a source, and reports nothing that the dataset does not contain.
    icu_features(str(root), str(tmp_path / "again"), DATE, shards=3)
    again = PipelineStore.from_uri(tmp_path / "again")
    pd.testing.assert_frame_equal(stored_features(again), features, check_exact=True)
    before, after = (which.download(f"icu/{DATE}/outcomes") for which in (store, again))
    pd.testing.assert_series_equal(after["los_hours"], before["los_hours"])
    told = after["died_in_hospital"].notna()
    assert told.any()
    pd.testing.assert_frame_equal(after[told], before[told])


def test_an_export_overwrites_nothing_and_refuses_incomplete_dates(
    exported: tuple[PipelineStore, Path], tmp_path: Path
) -> None:
    store, root = exported
    with pytest.raises(FileExistsError, match="not empty"):
        export(store, DATE, root, load_catalogue())
    with pytest.raises(ValueError, match=r"2024-01-16 is not complete; run flows.icu_features first"):
        export(store, "2024-01-16", tmp_path / "out", load_catalogue())
    assert not (tmp_path / "out").exists()


def dataset(root: Path, rows: list[tuple[Any, ...]], **more: list[Any]) -> Path:
    """A shard as other programs write it: no stay column, no metadata, numbers of 32 bits, codes as categories."""
    (root / "data/train").mkdir(parents=True)
    subject, time, code, value = zip(*rows, strict=True)
    table = pa.table(
        {
            "subject_id": pa.array(subject, pa.int64()),
            "time": pa.array(time, pa.timestamp("us")),
            "code": pa.array(code).dictionary_encode(),
            "numeric_value": pa.array(value, pa.float32()),
            **more,
        }
    )
    pq.write_table(table, root / "data/train/0.parquet")
    return root


ROWS = [
    (1, None, "GENDER//F", None),
    (1, T("2100-03-01"), "MEDS_BIRTH", None),
    (1, T("2150-01-01 10:00"), "ICU_ADMISSION//Medical ICU", None),
    (1, T("2150-01-01 11:00"), "LAB//220045//bpm", 80),
    (1, T("2150-01-01 11:30"), "LAB//223761//°F", 98.6),
    (1, T("2150-01-01 12:00"), "LOINC/8867-4", 81),
    (1, T("2150-01-02 10:00"), "ICU_DISCHARGE//Medical ICU", None),
    # One stay ends at the time at which the next begins.
    (1, T("2150-01-02 10:00"), "ICU_ADMISSION//Surgical ICU", None),
    (1, T("2150-01-02 10:00"), "LAB//50813//mmol/L", 1.7),
    (1, T("2150-01-03 10:00"), "ICU_DISCHARGE//Surgical ICU", None),
    (1, T("2150-01-03 12:00"), "LAB//220045//bpm", 99),
    (1, T("2150-01-04"), "MEDS_DEATH", None),
    (1, T("2150-01-04 09:00"), "HOSPITAL_DISCHARGE//DIED", None),
    (2, T("2150-01-01 09:00"), "ICU_DISCHARGE//Medical ICU", None),
    (2, T("2150-01-01 10:00"), "ICU_ADMISSION//Medical ICU", None),
    (2, T("2150-01-01 11:00"), "vitals/pulse", 70),
    (2, None, "LAB//220045//bpm", 71),
    (2, T("2150-01-01 12:00"), "LAB//220045//bpm", None),
]


def test_a_dataset_of_another_program_is_read_by_its_codes_alone(tmp_path: Path) -> None:
    _, cohort, cleaned = read(dataset(tmp_path, ROWS, unit=[None] * 5 + ["/min"] + [None] * 12))
    stays = cohort.stays.sort_values(["subject_id", "intime"], ignore_index=True)
    assert stays["first_careunit"].to_list() == ["Medical ICU", "Surgical ICU", "Medical ICU"]
    assert stays["outtime"].to_list() == [T("2150-01-02 10:00"), T("2150-01-03 10:00"), pd.NaT]
    assert stays["gender"].fillna("").to_list() == ["F", "F", ""]
    assert stays["age"].to_list()[:2] == [49, 49]
    assert stays["died_in_hospital"].to_list() == [True, True, pd.NA]
    # The death is a date without a time, so the flag is set and the hour is missing.
    assert cohort.outcomes["death_hours"].isna().all()
    # A stay's end without a beginning is counted.
    assert cohort.counts["no_intime"] == 1
    events = cleaned.events.sort_values("time", ignore_index=True)
    assert list(zip(events["itemid"], events["value"], strict=True)) == [
        (220045, 80.0),
        (223761, 37.0),
        (1000088674, 81.0),
        (50813, 1.7),
    ]
    assert events["stay_id"][3] == stays["stay_id"][1]
    account = cleaned.counts["tables"]["observations"]
    dropped = {reason: rows for reason, rows in account["dropped"].items() if rows}
    assert dropped == {"no_time": 1, "no_number": 1, "outside_stays": 1}
    usable = cleaned.counts["variables"]["heart_rate"]
    assert usable["no_storetime"] == usable["usable"] == 2
    # The stays have the same ids when the dataset is read again.
    assert read_stays(tmp_path, load_meds_table()).stays["stay_id"].to_list() == cohort.stays["stay_id"].to_list()


def test_a_users_own_table_gives_codes_their_meaning(tmp_path: Path) -> None:
    text = DEFAULT_MEDS_TABLE.read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(text + '"vitals/pulse" = "heart_rate"\n', encoding="utf-8")
    _, _, cleaned = read(dataset(tmp_path / "set", ROWS), own)
    assert cleaned.events.loc[cleaned.events["subject_id"] == 2, "value"].to_list() == [70]
    own.write_text(text + '"vitals/pulse" = "puls"\n', encoding="utf-8")
    with pytest.raises(MedsTableError, match=r"vitals/pulse.* is of puls, which is no variable of the catalogue"):
        read(tmp_path / "set", own)


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('"LAB//{item}"', '"LAB//{itme}"', r"items: 'LAB//\{itme\}' needs \{item\} or \{loinc\}"),
        ("births =", "birth =", "missing key births|unknown key birth"),
        ('deaths = ["MEDS_DEATH", "MEDS_DEATH//*"]', "deaths = 3", "deaths has to be a list of texts"),
        ("[codes]", '[codes]\n"x" = 1.5', "codes has to be a table of codes"),
    ],
)
def test_the_error_about_an_invalid_table_names_the_key(before: str, after: str, problem: str, tmp_path: Path) -> None:
    text = DEFAULT_MEDS_TABLE.read_text(encoding="utf-8")
    assert before in text
    (tmp_path / "own.toml").write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(MedsTableError, match=problem):
        load_meds_table(tmp_path / "own.toml")


def test_a_folder_that_is_no_dataset_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/dataset.json").write_text("{}")
    with pytest.raises(
        TableNotFoundError, match=r"dataset.json, but no shard; looked for data/\*.parquet; .* holds me"
    ):
        find_source(tmp_path, load_fhir_table())
    dataset(tmp_path, ROWS)
    table = pq.read_table(tmp_path / "data/train/0.parquet")
    pq.write_table(table.drop_columns(["numeric_value"]), tmp_path / "data/train/0.parquet")
    with pytest.raises(TableError, match=r"0.parquet: missing column numeric_value"):
        read(tmp_path)
    pq.write_table(table.append_column("stay_id", [["a"] * len(ROWS)]), tmp_path / "data/train/0.parquet")
    with pytest.raises(TableError, match=r"column stay_id: [\w ]+ of [\w ]+ cells are not whole numbers"):
        read(tmp_path)
    (tmp_path / "icu").mkdir()
    (tmp_path / "icu/chartevents.csv").write_text("itemid\n")
    with pytest.raises(TableError, match="both a MEDS dataset and other events"):
        find_source(tmp_path, load_fhir_table())
