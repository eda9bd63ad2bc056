"""FHIR R4: the rows equal those of an independent reader, and a source in FHIR has the same features as the source in
tables."""

import datetime as dt
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from fhir.resources.R4B.observation import Observation

from flows.icu.catalogue import load_catalogue
from flows.icu.counts import add_counts
from flows.icu.events import clean
from flows.icu.windows import window_features
from flows.sources.fhir import ingest_observations
from flows.sources.fhir_table import DEFAULT_FHIR_TABLE, FhirTable, FhirTableError, fhir_id, load_fhir_table
from flows.sources.files import TableError, TableNotFoundError, find_resources
from flows.sources.folder import find_source, ingest_events, read_stays
from flows.sources.mimic import EVENT_TABLES, ingest
from flows.synthetic.tables import generate
from tests.fhir_source import MIMIC, encounter, to_fhir, write

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
CATALOGUE, TABLE = load_catalogue(), load_fhir_table()


def quantity(value: float | None, unit: str | None) -> dict[str, Any]:
    parts = {"value": value, "code": unit, "system": UCUM if unit else None}
    return {"valueQuantity": {key: part for key, part in parts.items() if part is not None}}


def observation(code: str = "8867-4", **elements: Any) -> dict[str, Any]:
    """A final heart rate of 80 with these elements replaced. An element that is None is left out."""
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/7"},
        "encounter": {"reference": "Encounter/70"},
        "effectiveDateTime": "2150-01-01T12:00:00Z",
        **({} if "component" in elements else quantity(80, "/min")),
        **elements,
    }
    return {key: element for key, element in resource.items() if element is not None}


def read(path: Path, table: Any = TABLE) -> tuple[pd.DataFrame, dict[str, int]]:
    frames, counts = zip(*ingest_observations(path, CATALOGUE, table), strict=True)
    total = {key: sum(count["observations"][key] for count in counts) for key in counts[0]["observations"]}
    return pd.concat(frames, ignore_index=True), total


def one(tmp_path: Path, **elements: Any) -> pd.Series:
    frame, counts = read(write(tmp_path / "Observation.ndjson", [observation(**elements)]))
    assert counts["passed_on"] == 1
    return frame.iloc[0]


# --- the same as an independent reader ---


def random_observation(rng: random.Random) -> dict[str, Any]:
    """A random Observation, with any content that FHIR allows in the elements that are read."""

    def time() -> str:
        day = f"2150-0{rng.randint(1, 9)}-{rng.randint(10, 28)}"
        second = rng.choice(["00", "59", "07.5", "07.123456"])
        return f"{day}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{second}{rng.choice(['Z', '-05:00', '+09:30'])}"

    def code() -> dict[str, Any]:
        known = {"system": LOINC, "code": rng.choice(["8867-4", "8480-6", "8310-5", "2345-7"])}
        others = [{"system": LOINC, "code": "4548-4"}, {"system": MIMIC, "code": "220045"}, {"code": "8867-4"}]
        return {"coding": rng.choices([known, *others], [6, 2, 1, 1], k=rng.randint(1, 2)), "text": "measured"}

    def value() -> dict[str, Any]:
        number, unit = round(rng.uniform(1, 200), 1), rng.choice(["/min", "mm[Hg]", "Cel", "[degF]", "mg/dL"])
        compared = quantity(number, unit)
        compared["valueQuantity"]["comparator"] = "<"
        choices = [quantity(number, unit), compared, {"valueInteger": 88}, {"valueString": "88"}, quantity(None, unit)]
        choices += [{"valueQuantity": {"value": number, "unit": "bpm"}}, {}]
        return rng.choices(choices, [8, 1, 1, 1, 1, 1, 1])[0]

    effective = [{"effectiveDateTime": time()}, {"effectiveDateTime": "2150-01-01"}, {"effectiveInstant": time()}]
    effective += [{"effectivePeriod": {"start": "2149-12-31T00:00:00Z", "end": time()}}, {}]
    number = rng.choice([0, 0, 0, 1, 2, 3])
    return {
        "resourceType": "Observation",
        "id": f"o-{rng.randint(1, 900)}",
        "meta": {"versionId": str(rng.randint(1, 10**9)), "lastUpdated": "2150-01-01T00:00:00Z"},
        "status": rng.choices(["final", "preliminary", "corrected", "cancelled", "entered-in-error"], [9, 1, 1, 1, 1])[
            0
        ],
        "code": code(),
        "subject": {"reference": rng.choice(["Patient/7", "https://host/fhir/Patient/a-b.c/_history/2", "Group/7"])},
        **rng.choice([{}, {"encounter": {"reference": rng.choice(["Encounter/70", "urn:uuid:0a-b"])}}]),
        **rng.choices(effective, [6, 1, 1, 1, 1])[0],
        **rng.choice([{"issued": time()}, {}]),
        **(value() if not number or rng.random() < 0.3 else {}),
        **({"component": [{"code": code(), **value()} for _ in range(number)]} if number else {}),
    }


def expected_rows(line: str, newest: dict[str, int]) -> tuple[str, list[tuple[Any, ...]]]:
    """The outcome of an observation and its rows, computed with the models of fhir.resources."""
    found = Observation.model_validate_json(line)
    own = any(getattr(found, f"value{kind}") is not None for kind in ("Quantity", "Integer", "String"))
    parts = [*([found] if own or not found.component else []), *(found.component or [])]
    if found.status in ("entered-in-error", "cancelled"):
        return {"entered-in-error": "entered_in_error", "cancelled": "no_result"}[found.status], [()] * len(parts)
    if int(found.meta.versionId) < newest[found.id]:
        return "superseded", [()] * len(parts)

    def item(part: Any) -> int | None:
        for coding in part.code.coding:
            if coding.system == LOINC and coding.code != "4548-4":
                return 1_000_000_000 + int(coding.code.replace("-", ""))
            if coding.system == MIMIC:
                return int(coding.code)
        return None

    def naive(time: dt.datetime | dt.date | None) -> Any:
        is_time = isinstance(time, dt.datetime)
        return pd.Timestamp(time.astimezone(dt.UTC).replace(tzinfo=None)) if is_time else pd.NaT

    def measured(part: Any) -> tuple[float, str | None]:
        if part.valueInteger is not None:
            return float(part.valueInteger), None
        q = part.valueQuantity
        if q is None:
            return float("nan"), None
        return float("nan" if q.comparator or q.value is None else q.value), q.code if q.system else q.unit

    subject = {"Patient/7": 7, "Group/7": None}.get(found.subject.reference, fhir_id("a-b.c"))
    stay = None if found.encounter is None else {"Encounter/70": 70}.get(found.encounter.reference, fhir_id("0a-b"))
    end = found.effectivePeriod.end if found.effectivePeriod else None
    times = naive(found.effectiveDateTime or found.effectiveInstant or end), naive(found.issued)
    rows = [(subject, stay, item(part), *times, *measured(part)) for part in parts]
    return "unresolved_reference" if subject is None else "", rows


@pytest.mark.parametrize("name", ["Observation.ndjson", "Observation.ndjson.gz"])
def test_the_rows_are_those_of_an_independent_reader(name: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    resources = [random_observation(rng) for _ in range(1500)]
    frame, counts = read(write(tmp_path / name, resources))
    expected, tally = [], dict.fromkeys(counts, 0)
    newest: dict[str, int] = {}
    for resource in resources:
        newest[resource["id"]] = max(newest.get(resource["id"], 0), int(resource["meta"]["versionId"]))
    for resource in resources:
        dropped, rows = expected_rows(json.dumps(resource), newest)
        tally["rows_in"] += len(rows)
        if dropped:
            tally[dropped] += len(rows)
            continue
        expected += [row for row in rows if row[2] is not None]
        tally["not_in_catalogue"] += sum(row[2] is None for row in rows)
    tally["passed_on"] = len(expected)
    assert counts == tally
    assert counts["rows_in"] == sum(number for key, number in counts.items() if key != "rows_in")
    assert min(counts.values()) > 50
    columns = list(frame.columns[1:])
    cells = dict(zip(columns, zip(*expected, strict=True), strict=True))
    wanted = pd.DataFrame({name: pd.Series(list(cells[name]), dtype=frame.dtypes[name]) for name in columns})
    pd.testing.assert_frame_equal(frame[columns], wanted)


# --- each rule ---


def test_a_blood_pressure_is_two_rows_and_each_has_its_own_unit(tmp_path: Path) -> None:
    parts = [
        {"code": {"coding": [{"system": LOINC, "code": code}]}, **quantity(value, "mm[Hg]")}
        for code, value in (("8480-6", 120.0), ("8462-4", 70.0))
    ]
    frame, counts = read(write(tmp_path / "Observation.ndjson", [observation("85354-9", component=parts)]))
    assert counts["rows_in"] == counts["passed_on"] == 2
    stays = pd.DataFrame({"subject_id": [7], "stay_id": [70]})
    stays[["intime", "outtime"]] = pd.to_datetime("2150-01-01"), pd.NaT
    events = clean([frame], stays.astype({"outtime": "datetime64[us]"}), CATALOGUE).events
    assert dict(zip(events["variable"], events["value"], strict=True)) == {"sbp": 120, "dbp": 70}


@pytest.mark.parametrize(
    ("unit", "value", "canonical"),
    [("Cel", 37.0, 37.0), ("[degF]", 98.6, 37.0), ("K", 310.15, 37.0), ("mg/dL", 37.0, None), (None, 37.0, None)],
)
def test_the_ucum_unit_decides(unit: str | None, value: float, canonical: float | None, tmp_path: Path) -> None:
    resource = observation("8310-5", **quantity(value, unit))
    frame, _ = read(write(tmp_path / "Observation.ndjson", [resource]))
    stays = pd.DataFrame({"subject_id": [7], "stay_id": [70]})
    stays[["intime", "outtime"]] = pd.to_datetime("2150-01-01"), pd.NaT
    cleaned = clean([frame], stays.astype({"outtime": "datetime64[us]"}), CATALOGUE)
    assert cleaned.counts["variables"]["temperature"]["unknown_unit"] == (canonical is None)
    assert cleaned.events["value"].tolist() == pytest.approx([canonical or float("nan")], nan_ok=True)


def with_zone(tmp_path: Path, zone: str) -> FhirTable:
    path = tmp_path / "fhir.toml"
    path.write_text(DEFAULT_FHIR_TABLE.read_text().replace('timezone = "UTC"', f'timezone = "{zone}"'))
    return load_fhir_table(path)


def test_times_are_the_standard_time_of_the_tables_zone_in_summer_too(tmp_path: Path) -> None:
    table = with_zone(tmp_path, "America/New_York")
    times = ["2150-07-01T12:00:00Z", "2150-01-01T12:00:00+01:00", "2150-01-01T12:00:00", "2150-07-01T12:00:00"]
    source = write(tmp_path / "Observation.ndjson", [observation(effectiveDateTime=time) for time in times])
    found = read(source, table)[0]["charttime"]
    assert [f"{time:%m-%d %H}" for time in found] == ["07-01 07", "01-01 06", "01-01 12", "07-01 11"]


@pytest.mark.parametrize(
    ("zone", "clock", "standard"),
    [
        ("Europe/Berlin", "2150-10-25T02:30:00", "02:30"),  # a clock shows it twice: the later one counts
        ("Europe/Berlin", "2150-10-25T01:30:00", "00:30"),
        ("Europe/Berlin", "2150-10-25T03:30:00", "03:30"),
        ("Europe/Berlin", "2150-03-29T02:30:00", "02:30"),  # no clock shows it
        ("Europe/Berlin", "2150-03-29T03:30:00", "02:30"),
        ("Australia/Lord_Howe", "2150-10-04T02:15:00", "02:15"),  # clocks change by half an hour
        ("Australia/Lord_Howe", "2150-10-04T02:45:00", "02:15"),
        ("Asia/Kolkata", "2150-10-04T02:45:00", "02:45"),
    ],
)
def test_a_local_time_that_occurs_twice_or_never_is_read_as_standard_time(
    zone: str, clock: str, standard: str, tmp_path: Path
) -> None:
    table = with_zone(tmp_path, zone)
    wanted = pd.Timestamp(f"{clock[:11]}{standard}")
    assert table.time(clock) == wanted
    # The same holds for the tables in the same folder.
    other = pd.Timestamp("2150-06-01 12:00")
    column = pd.Series([pd.Timestamp(clock), pd.NaT, other], dtype="datetime64[us]")
    found = table.times(column)
    assert found.tolist() == [wanted, pd.NaT, table.time(other.isoformat())]
    assert found.dtype == column.dtype


@pytest.mark.parametrize("stays", ["Encounter", "icustays"])
@pytest.mark.parametrize(
    ("begin", "clock", "late"),
    [
        # The six hours end at 02:00 UTC, 20:00 + 6 h. Clocks change an hour before.
        ("2150-10-24T19:00:00Z", "2150-10-24 21:00:00", "2150-10-25T01:45:00Z"),
        ("2150-10-24T19:00:00Z", "2150-10-24 21:00:00", "2150-10-25T02:45:00+01:00"),
        ("2150-03-28T20:00:00Z", "2150-03-28 21:00:00", "2150-03-29T02:45:00Z"),
        ("2150-03-28T20:00:00Z", "2150-03-28 21:00:00", "2150-03-29T04:45:00"),
    ],
)
def test_a_window_has_six_hours_in_the_nights_in_which_clocks_change(
    begin: str, clock: str, late: str, stays: str, tmp_path: Path
) -> None:
    table = with_zone(tmp_path, "Europe/Berlin")
    last = (dt.datetime.fromisoformat(begin) + dt.timedelta(hours=5, minutes=59)).isoformat()
    write(tmp_path / "Observation.ndjson", [observation(effectiveDateTime=time) for time in (last, late)])
    if stays == "Encounter":
        resource = {"resourceType": "Encounter", "id": "70", "status": "in-progress", "period": {"start": begin}}
        write(tmp_path / "Encounter.ndjson", [resource | {"subject": {"reference": "Patient/7"}}])
    else:
        (tmp_path / "icu").mkdir()
        (tmp_path / "icu/icustays.csv").write_text(f"subject_id,stay_id,intime,outtime\n7,70,{clock},\n")
    source = find_source(tmp_path, table)
    cohort = read_stays(tmp_path, table)
    frames = [frame for events in source.events for frame, _ in ingest_events(events, tmp_path, CATALOGUE, table)]
    features = window_features(clean(frames, cohort.stays, CATALOGUE).events, cohort.stays, CATALOGUE)
    assert features["heart_rate_count"].tolist()[:3] == [1, 1, 0]


@pytest.mark.parametrize(
    "text", ["2150-07-01T11:59:60Z", "2150-07-01T12:00:00+0000", "2150-07-01T12:00Z", "2150-07-01T14:00+02:00"]
)
def test_times_are_read_as_other_programs_write_them(text: str, tmp_path: Path) -> None:
    assert one(tmp_path, effectiveDateTime=text)["charttime"] == pd.Timestamp("2150-07-01 12:00")


def test_the_ucum_unit_is_read_from_the_unit_if_the_code_is_missing(tmp_path: Path) -> None:
    row = one(tmp_path, valueQuantity={"value": 80, "unit": "/min", "system": UCUM})
    assert row["valueuom"] == "/min"


@pytest.mark.parametrize(
    "text",
    ["urn:uuid:0a8f2b1e-93d1-5d46-8f0e-0c7b1e5ab0f1", "URN:UUID:0A8F2B1E-93D1-5D46-8F0E-0C7B1E5AB0F1"],
)
def test_a_uuid_is_the_same_in_any_case_as_id_and_as_urn(text: str, tmp_path: Path) -> None:
    plain = fhir_id("0a8f2b1e-93d1-5d46-8f0e-0c7b1e5ab0f1")
    assert fhir_id(text) == fhir_id(text.upper()) == plain
    assert one(tmp_path, subject={"reference": text})["subject_id"] == plain


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ({"reference": "Patient?identifier=http://host|7"}, "conditional"),
        ({"reference": "#p1"}, "contained"),
        ({"identifier": {"value": "7"}}, "logical"),
        ({"reference": "Group/7"}, "other"),
        ({"reference": 7}, "other"),
        (None, "absent"),
    ],
)
def test_a_subject_that_cannot_be_resolved_is_counted_with_the_reason(subject: Any, why: str, tmp_path: Path) -> None:
    path = write(tmp_path / "Observation.ndjson", [observation(subject=subject), observation()])
    frame, counts = read(path)
    assert (counts["unresolved_reference"], counts["passed_on"], len(frame)) == (1, 1, 1)
    ((_, counted),) = ingest_observations(path, CATALOGUE, TABLE)
    assert counted["references"] == {why: 1}


# --- versions ---


def version(number: str | None = None, updated: str | None = None, **elements: Any) -> dict[str, Any]:
    meta = {key: text for key, text in (("versionId", number), ("lastUpdated", updated)) if text is not None}
    return observation(id="0a8f2b1e-93d1-5d46-8f0e-0c7b1e5ab0f1", meta=meta, **elements)


@pytest.mark.parametrize(
    ("versions", "counted"),
    [
        # The value of the latest version counts, at whatever place in the file.
        ([version("1"), version("2", **quantity(90, "/min"))], {"superseded": 1, "passed_on": 1, "value": 90}),
        ([version("10", **quantity(90, "/min")), version("9")], {"superseded": 1, "passed_on": 1, "value": 90}),
        (
            [version("x9", "2150-01-02T00:30:00+02:00"), version("x1", "2150-01-01T23:00:00Z", **quantity(90, "/min"))],
            {"superseded": 1, "passed_on": 1, "value": 90},
        ),
        # A retraction removes the value, and a retracted value may be corrected.
        ([version("1"), version("2", status="entered-in-error")], {"superseded": 1, "entered_in_error": 1}),
        ([version(status="entered-in-error"), version()], {"superseded": 1, "entered_in_error": 1}),
        (
            [version("1", status="entered-in-error"), version("2", **quantity(90, "/min"))],
            {"entered_in_error": 1, "passed_on": 1, "value": 90},
        ),
        # No element says which version is later, so the last one that is read counts.
        ([version(), version(**quantity(90, "/min"))], {"superseded": 1, "passed_on": 1, "value": 90}),
        ([version("1", status="registered"), version("2")], {"no_result": 1, "passed_on": 1, "value": 80}),
        # The correction of a wrong patient.
        (
            [version("1"), version("2", subject={"reference": "Patient/8"}, **quantity(90, "/min"))],
            {"superseded": 1, "passed_on": 1, "value": 90},
        ),
    ],
)
@pytest.mark.parametrize("files", [1, 2])
def test_of_several_versions_of_an_observation_the_latest_counts(
    versions: list[dict[str, Any]], counted: dict[str, int], files: int, tmp_path: Path
) -> None:
    versions[1]["id"] = versions[1]["id"].upper()
    others = [observation(id=f"other-{n}") for n in range(3)]
    if files == 1:
        write(tmp_path / "Observation.ndjson", [*versions, *others])
    else:
        write(tmp_path / "Observation.000.ndjson", [others[0], versions[0]])
        write(tmp_path / "Observation.001.ndjson", [versions[1], *others[1:]])
    write(tmp_path / "Encounter.ndjson", [])
    source = find_source(tmp_path, TABLE)
    told = [pair for events in source.events for pair in ingest_events(events, tmp_path, CATALOGUE, TABLE)]
    total = add_counts(*(counts for _, counts in told))["observations"]
    expected = {"rows_in": 5, "passed_on": 3} | {key: n for key, n in counted.items() if key != "value"}
    expected["passed_on"] = 3 + counted.get("passed_on", 0)
    assert {key: n for key, n in total.items() if n} == expected
    values = pd.concat(frame for frame, _ in told)["valuenum"].tolist()
    assert sorted(values) == sorted([80.0] * 3 + ([float(counted["value"])] if "value" in counted else []))
    assert list(total) == [
        "rows_in", "entered_in_error", "no_result", "superseded", "unresolved_reference", "not_in_catalogue",
        "passed_on",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a/observation.JSONL", "b/c/x-Observation-1.ndjson.bz2", "Observation.ndjson.zst"])
def test_resources_are_found_in_any_case_folder_and_compression(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.output_stream(str(path)) as file:
        file.write(b"\xef\xbb\xbf" + json.dumps(observation()).encode() + b"\n")
    assert find_resources(tmp_path, "*Observation*") == [path]
    assert len(read(path)[0]) == 1


def test_a_date_alone_is_no_time_and_issued_is_the_time_at_which_a_value_is_known(tmp_path: Path) -> None:
    row = one(tmp_path, effectiveDateTime="2150-01-01", issued="2150-01-02T00:00:00Z")
    assert row["charttime"] is pd.NaT
    assert row["storetime"] == pd.Timestamp("2150-01-02")


def test_a_large_or_textual_id_becomes_a_whole_number_that_stays_the_same() -> None:
    # A change of this number would move every patient to another split.
    assert fhir_id("30000001") == 30000001
    assert fhir_id("0a8f2b1e-93d1-5d46-8f0e-0c7b1e5ab0f1") == 7620037906142607226
    assert fhir_id("007") != fhir_id("7")
    assert all(2**62 <= fhir_id(text) < 2**63 for text in ("007", "a", "9" * 19))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"resourceType": "Observation", "secret', "not JSON of a FHIR Observation"),
        ('{"resourceType": "Patient", "id": "secret"}', "not JSON of a FHIR Observation"),
        (json.dumps(observation(effectiveDateTime="1.1.2150 secret")), "a time or an element"),
        (json.dumps(observation(issued="2150-01-01")), "a time or an element"),
        (json.dumps(observation(effectiveDateTime="2150-02-30T00:00:00Z")), "a time or an element"),
        (json.dumps(observation(valueQuantity={"value": "secret"})), "a time or an element"),
    ],
)
def test_a_line_that_is_not_fhir_is_named_and_not_quoted(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "Observation.ndjson"
    path.write_text(json.dumps(observation()) + "\n" + line + "\n")
    with pytest.raises(TableError, match=f"line 2 .*{problem}") as raised:
        read(path)
    assert "secret" not in str(raised.value)
    assert raised.value.__context__ is None


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "Observation.ndjson.gz", [observation()] * 500)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TableError, match="cut short"):
        read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('timezone = "UTC"', 'timezone = "Mars/Base"', "no time zone"),
        ('timezone = "UTC"', "", "missing key timezone"),
        ("stay_codes = []", "stay_codes = [1]", "stay_codes has the wrong type"),
        ("1_000_088_674", '"x"', "has no item id"),
        ("stay_codes", "stay_code", "stay_code"),
    ],
)
def test_the_error_about_an_invalid_table_says_where(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "fhir.toml"
    path.write_text(DEFAULT_FHIR_TABLE.read_text().replace(old, new))
    with pytest.raises(FhirTableError, match=message):
        load_fhir_table(path)


# --- sources ---


@pytest.mark.parametrize("encounters", [True, False])
def test_a_source_in_fhir_has_the_same_features_as_the_source_in_tables(encounters: bool, tmp_path: Path) -> None:
    generate(tmp_path / "tables", 30, seed=3)
    to_fhir(tmp_path / "tables", tmp_path / "fhir", encounters=encounters)

    def features(frames: Any, stays: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
        cleaned = clean(frames, stays, CATALOGUE)
        return window_features(cleaned.events, stays, CATALOGUE), cleaned.counts

    root = tmp_path / "tables"
    stays = read_stays(root, TABLE).stays
    frames = [frame for frame, _ in ingest(root, "chartevents", CATALOGUE)]
    for frame in frames:
        # In FHIR, a row whose stay is not in the cohort is assigned to a stay by its time, as a laboratory's row is.
        frame.loc[~frame["stay_id"].isin(stays["stay_id"]), "table"] = "labevents"
    wanted, counted = features(frames, stays)
    source = find_source(tmp_path / "fhir", TABLE)
    assert [events.table for events in source.events] == ["observations"] * 2
    told = [pair for events in source.events for pair in ingest_events(events, source.root, CATALOGUE, TABLE)]
    found, recounted = features((frame for frame, _ in told), read_stays(source.root, TABLE).stays)
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    charts, labs = counted["tables"]["chartevents"], counted["tables"]["labevents"]
    assert labs["kept"]
    account = recounted["tables"]["observations"]
    # A row without a subject is not passed on, because it cannot belong to a stay.
    assert account["kept"] == charts["kept"] + labs["kept"]
    assert {reason: n for reason, n in account["dropped"].items() if n} == {
        reason: n for reason, n in add_counts(charts["dropped"], labs["dropped"]).items() if n
    }
    assert recounted["variables"] == counted["variables"]
    assert wanted["heart_rate_count"].sum() > 100


def test_encounters_that_are_no_stays_are_left_out_and_counted(tmp_path: Path) -> None:
    times = {"intime": dt.datetime(2150, 1, 1), "outtime": pd.NaT}
    stays = [SimpleNamespace(stay_id=n, subject_id=7, hadm_id=1, first_careunit="MICU", **times) for n in range(1, 6)]
    resources = [encounter(stay) for stay in stays]
    resources[0]["status"] = "entered-in-error"
    resources[1]["status"] = "planned"
    resources[2]["class"] = {"system": "s", "code": "AMB"}
    resources[3]["period"] = {"start": "2150-01-01"}
    resources[4]["id"] = "0a8f2b1e-93d1-5d46-8f0e-0c7b1e5ab0f1"
    resources.append(resources[4] | {"id": "6", "partOf": {}})
    write(tmp_path / "Encounter.ndjson", resources)
    patient = {"resourceType": "Patient", "id": "7", "gender": "female", "birthDate": "2100-06-01"}
    write(tmp_path / "Patient.ndjson", [patient])
    write(tmp_path / "Observation.ndjson", [observation()])
    path = tmp_path / "fhir.toml"
    code = "http://terminology.hl7.org/CodeSystem/v3-ActCode|ACUTE"
    path.write_text(DEFAULT_FHIR_TABLE.read_text().replace("stay_codes = []", f'stay_codes = ["{code}"]'))
    cohort = read_stays(tmp_path, load_fhir_table(path))
    assert cohort.stays["stay_id"].tolist() == [6, 7620037906142607226]
    assert cohort.stays["hadm_id"].tolist() == [pd.NA, 1]
    assert cohort.stays[["gender", "age"]].drop_duplicates().to_numpy().tolist() == [["F", 49.0]]
    counts = cohort.counts
    assert (counts["rows_in"], counts["entered_in_error"], counts["not_a_stay"], counts["no_intime"]) == (6, 1, 2, 1)


# --- which Encounters are stays ---

ICU = {"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "ICU"}


def inpatient(id: str | None = "1", places: Any = (), **elements: Any) -> dict[str, Any]:
    """An Encounter of three days. A place is a location with the hours of its beginning and end."""
    start = dt.datetime(2150, 1, 1)
    locations = [
        {"location": location, "period": {
            name: f"{start + dt.timedelta(hours=hour):%Y-%m-%dT%H:%M:%S}Z"
            for name, hour in (("start", begin), ("end", end)) if hour is not None
        }}
        for location, begin, end in places
    ]  # fmt: skip
    resource = {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/7"},
        "period": {"start": "2150-01-01T00:00:00Z", "end": "2150-01-04T00:00:00Z"},
        "location": locations,
        **elements,
    }
    return {key: element for key, element in resource.items() if element is not None}


def hours(cohort: Any) -> list[tuple[float, float | None]]:
    stays = cohort.stays.sort_values("intime")
    since = [(stays[column] - pd.Timestamp("2150-01-01")) / pd.Timedelta("1h") for column in ("intime", "outtime")]
    return [(begin, None if pd.isna(end) else end) for begin, end in zip(*since, strict=True)]


def test_stays_are_the_times_in_an_icu_within_one_encounter(tmp_path: Path) -> None:
    ward, bed_1, bed_2 = ({"reference": f"Location/{id}"} for id in ("ward", "bed-1", "bed-2"))
    unit = {"reference": "Location/unit", "display": "MICU"}
    locations = [
        {"id": "unit", "type": [{"coding": [ICU]}]},
        {"id": "bed-1", "partOf": unit},
        {"id": "bed-2", "partOf": {"reference": "Location/bed-1"}},
        {"id": "ward", "name": "Ward 3"},
        {"id": "loop", "partOf": {"reference": "Location/loop"}},
    ]
    write(tmp_path / "Location.ndjson", [{"resourceType": "Location"} | location for location in locations])
    moved = [(ward, 0, 5), (bed_1, 5, 20), (bed_2, 20, 30), (ward, 30, 40), (unit, 40, None)]
    write(
        tmp_path / "Encounter.ndjson",
        [inpatient("1", moved), inpatient("2", [(ward, 0, 70)]), inpatient("3", [(unit, 3, 4)], status="planned")],
    )
    write(tmp_path / "Observation.ndjson", [observation()])
    cohort = read_stays(tmp_path, TABLE)
    assert hours(cohort) == [(5.0, 30.0), (40.0, 72.0)]  # a place without an end ends with the Encounter
    assert set(cohort.stays["hadm_id"]) == {1}
    assert cohort.stays["stay_id"].is_unique
    assert cohort.counts["not_a_stay"] == 2
    assert cohort.counts["any_encounter"] == 0
    assert cohort.warnings == ()
    # A value of the Encounter belongs to the stay at that time.
    write(tmp_path / "Observation.ndjson", [observation(encounter={"reference": "Encounter/1"})])
    (events,) = find_source(tmp_path, TABLE).events
    frames = [frame for frame, _ in ingest_events(events, tmp_path, CATALOGUE, TABLE)]
    kept = clean(frames, cohort.stays, CATALOGUE).events
    assert kept["stay_id"].tolist() == cohort.stays.loc[cohort.stays["intime"].idxmin(), ["stay_id"]].tolist()


def test_an_icu_is_recognized_by_a_name_or_a_physical_type(tmp_path: Path) -> None:
    write(tmp_path / "Observation.ndjson", [observation()])
    path = tmp_path / "fhir.toml"
    names = 'stay_locations = ["Surgical ICU ", "s|icu", "Location/b"]'
    path.write_text(re.sub(r"stay_locations = \[.*?\]", names, DEFAULT_FHIR_TABLE.read_text(), flags=re.S))
    physical = inpatient("3", [({"display": "x"}, 9, 10)])
    physical["location"][0]["physicalType"] = {"coding": [{"system": "s", "code": "ICU"}]}
    # A single place without times lasts as long as the Encounter.
    whole = inpatient("4", location=[{"location": {"reference": "Location/b"}}])
    places = [({"display": "surgical icu"}, 1, 2), ({"display": "surgical icu"}, 4, 5)]
    write(tmp_path / "Encounter.ndjson", [inpatient("1", places), physical, whole])
    assert hours(read_stays(tmp_path, load_fhir_table(path))) == [(0.0, 72.0), (1.0, 2.0), (4.0, 5.0), (9.0, 10.0)]


def test_a_source_that_does_not_mark_stays_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "Observation.ndjson", [observation()])
    write(tmp_path / "Encounter.ndjson", [inpatient(str(number)) for number in range(1, 13)])
    cohort = read_stays(tmp_path, TABLE)
    assert (len(cohort.stays), cohort.counts["any_encounter"], cohort.counts["not_a_stay"]) == (12, 12, 0)
    (warning,) = cohort.warnings
    assert "every Encounter was taken for an ICU stay (12 of them)" in warning
    assert "stay_codes" in warning
    # The name of a file may say that it has stays.
    (tmp_path / "Encounter.ndjson").rename(tmp_path / "x-EncounterICU.ndjson")
    cohort = read_stays(tmp_path, TABLE)
    assert (len(cohort.stays), cohort.counts["any_encounter"], cohort.warnings) == (12, 0, ())


@pytest.mark.parametrize("codes", ["[]", '["http://terminology.hl7.org/CodeSystem/v3-ActCode|IMP"]'])
def test_an_encounter_or_patient_without_an_id_or_in_two_versions_stops_no_run(codes: str, tmp_path: Path) -> None:
    def meta(number: int) -> dict[str, Any]:
        return {"meta": {"versionId": str(number)}}

    other = {"period": {"start": "2150-01-02T00:00:00Z", "end": "2150-01-03T00:00:00Z"}}
    encounters = [
        inpatient(None),
        inpatient("2", **meta(1)),
        inpatient("2", **meta(2), **other),
        inpatient("3", **meta(1)),
        inpatient("3", status="entered-in-error", **meta(2)),
        inpatient("4"),
        inpatient("4", **other),
        inpatient("5"),
        inpatient("5"),
    ]
    write(tmp_path / "Encounter.ndjson", encounters)
    patients = [{"gender": "male"}, {"id": "7", **meta(2), "gender": "female"}, {"id": "7", **meta(1)}]
    write(tmp_path / "Patient.ndjson", [{"resourceType": "Patient"} | patient for patient in patients])
    write(tmp_path / "Observation.ndjson", [observation()])
    path = tmp_path / "fhir.toml"
    path.write_text(DEFAULT_FHIR_TABLE.read_text().replace("stay_codes = []", f"stay_codes = {codes}"))
    cohort = read_stays(tmp_path, load_fhir_table(path))
    assert cohort.stays["stay_id"].tolist() == [2, 5]
    assert cohort.stays["intime"].dt.day.tolist() == [2, 1]
    assert set(cohort.stays["gender"]) == {"F"}
    counts = cohort.counts
    reasons = ("no_id", "superseded", "entered_in_error", "several_rows", "repeated", "not_a_stay", "stays")
    assert [counts[reason] for reason in reasons] == [1, 2, 1, 2, 1, 0, 2]
    assert counts["rows_in"] == 9
    assert (counts["patient_no_id"], counts["patient_superseded"]) == (1, 1)
    said = "\n".join(cohort.warnings)
    for line in (1, 2, 4):
        assert f"line {line} of {tmp_path / 'Encounter.ndjson'}" in said
    for line in (1, 3):
        assert f"line {line} of {tmp_path / 'Patient.ndjson'}" in said


@pytest.mark.parametrize(
    ("stay", "hospital", "patient", "expected"),
    [
        ({}, {"code": "exp"}, {}, (True, None, None)),
        ({}, {"text": "Expired in ICU"}, {"deceasedDateTime": "2150-01-02T06:00:00Z"}, (True, 30.0, True)),
        ({"code": "exp"}, {}, {"deceasedDateTime": "2150-01-02T06:00:00+00:00"}, (True, 30.0, True)),
        ({}, {"code": "home"}, {"deceasedDateTime": "2150-01-03T06:00:00Z"}, (False, None, False)),
        ({}, {}, {"deceasedDateTime": "2150-01-04T00:00:00Z"}, (True, 72.0, False)),  # in the hospital, after the stay
        ({}, {}, {"deceasedDateTime": "2150-02-01T00:00:00Z"}, (False, None, False)),
        ({}, {}, {"deceasedDateTime": "2150-01-02"}, (True, None, None)),  # a date without a time gives no hours
        ({}, {}, {"deceasedDateTime": "2151-01-02"}, (False, None, False)),
        ({}, {}, {"deceasedBoolean": False}, (False, None, False)),
        ({}, {}, {"deceasedBoolean": True}, (None, None, None)),  # the time of the death is unknown
        ({}, {}, {}, (None, None, None)),
    ],
)
def test_outcomes_come_from_the_disposition_and_the_patient(
    stay: dict[str, str], hospital: dict[str, str], patient: dict[str, Any], expected: Any, tmp_path: Path
) -> None:
    def ended(resource: dict[str, Any], disposition: dict[str, str]) -> dict[str, Any]:
        if not disposition:
            return resource
        concept = {"text": disposition["text"]} if "text" in disposition else {"coding": [disposition]}
        return resource | {"hospitalization": {"dischargeDisposition": concept}}

    times = {"intime": dt.datetime(2150, 1, 1), "outtime": dt.datetime(2150, 1, 3)}
    row = SimpleNamespace(stay_id=5, subject_id=7, hadm_id=1, first_careunit="MICU", **times)
    write(tmp_path / "EncounterICU.ndjson", [ended(encounter(row), stay)])
    whole = {"start": "2149-12-30T00:00:00Z", "end": "2150-01-10T00:00:00Z"}
    inpatient = {"resourceType": "Encounter", "id": "1", "status": "finished", "period": whole}
    write(tmp_path / "Encounter.ndjson", [ended(inpatient, hospital)])
    write(tmp_path / "Patient.ndjson", [{"resourceType": "Patient", "id": "7"} | patient])
    write(tmp_path / "Observation.ndjson", [observation()])
    cohort = read_stays(tmp_path, TABLE)
    (outcome,) = cohort.outcomes[["died_in_hospital", "death_hours", "died_in_icu"]].itertuples(index=False)
    assert tuple(None if pd.isna(value) else value for value in outcome) == expected
    assert cohort.outcomes["los_hours"].to_list() == [48.0]


def test_the_loinc_codes_are_valid() -> None:
    """The check digits (Mod 10) are right, which those of a mistyped code are not."""
    for system, code in TABLE.items:
        if system == LOINC:
            body, check = code.split("-")
            doubled = [int(digit) * (2 - at % 2) for at, digit in enumerate(reversed(body))]
            assert (10 - sum(n // 10 + n % 10 for n in doubled)) % 10 == int(check), code


@pytest.mark.parametrize(
    ("code", "unit", "value", "canonical"),
    [
        ("14682-9", "umol/L", 88.42, 1.0),
        ("22664-7", "mmol/L", 5.0, 14.007),
        ("2951-2", "mmol/L", 140.0, 140.0),
        ("59260-0", "mmol/L", 6.2, 9.99),
        ("718-7", "g/L", 100.0, 10.0),
        ("2000-8", "mmol/L", 2.5, 10.02),
        ("2601-3", "mmol/L", 1.0, 2.43),
        ("14879-1", "mmol/L", 1.0, 3.097),
        ("14631-6", "umol/L", 17.1, 1.0),
        ("4544-3", "L/L", 0.4, 40.0),
        ("777-3", "10*9/L", 200.0, 200.0),
        ("6690-2", "/uL", 8000.0, 8.0),
        ("6301-6", "{INR}", 1.2, 1.2),
        ("2744-1", "[pH]", 7.4, 7.4),
        ("2019-8", "kPa", 5.3, 39.75),
        ("8480-6", "kPa", 16.0, 120.0),
        ("1742-6", "[iU]/L", 30.0, 30.0),
        ("8310-5", "degC", 37.0, 37.0),
        ("8867-4", "1/min", 80.0, 80.0),
    ],
)
def test_units_of_laboratories_of_other_countries_are_converted(
    code: str, unit: str, value: float, canonical: float, tmp_path: Path
) -> None:
    frame, _ = read(write(tmp_path / "Observation.ndjson", [observation(code, **quantity(value, unit))]))
    stays = pd.DataFrame({"subject_id": [7], "stay_id": [70]})
    stays[["intime", "outtime"]] = pd.to_datetime("2150-01-01"), pd.NaT
    cleaned = clean([frame], stays.astype({"outtime": "datetime64[us]"}), CATALOGUE)
    assert cleaned.events["value"].tolist() == pytest.approx([canonical], rel=1e-3)


def test_a_source_without_stays_or_with_duplicate_events_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "Observation.ndjson", [observation()])
    with pytest.raises(TableNotFoundError, match="no stays"):
        find_source(tmp_path, TABLE)
    generate(tmp_path / "twice", 20)
    write(tmp_path / "twice/Observation.ndjson", [observation()])
    with pytest.raises(TableError, match="would count twice"):
        find_source(tmp_path / "twice", TABLE)
    (tmp_path / "twice/Observation.ndjson").unlink()
    assert set(EVENT_TABLES) == {events.table for events in find_source(tmp_path / "twice", TABLE).events}
