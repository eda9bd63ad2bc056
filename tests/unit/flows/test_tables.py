"""Reading tables: every layout that occurs, and clear errors that quote no cell."""

import gzip
import re
import traceback
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.check import check
from flows.icu.catalogue import load_catalogue
from flows.icu.raw import RAW_DTYPES, empty_raw
from flows.sources import objects, tables
from flows.sources.fhir_table import load_fhir_table
from flows.sources.files import TableError, TableNotFoundError, find_table
from flows.sources.meds_table import load_meds_table
from flows.sources.mimic import ingest
from flows.sources.tables import read_batches, read_frame

HEADER = "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,valueuom,warning"
ROW = "10,20,30,40,2150-01-02 03:04:05,2150-01-02 03:06:00,220045,80,80,bpm,0"


def write(folder: Path, text: str | bytes, name: str = "icu/chartevents.csv") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def rows(folder: Path, table: str = "chartevents") -> pd.DataFrame:
    return pd.concat([empty_raw(), *(frame for frame, _ in ingest(folder, table, load_catalogue()))], ignore_index=True)


def edit(**cells: str) -> str:
    return ",".join((dict(zip(HEADER.split(","), ROW.split(","), strict=True)) | cells).values())


@pytest.mark.parametrize("name", ["icu/chartevents.csv", "icu/chartevents.csv.gz"])
def test_csv_is_read_with_the_fixed_schema(tmp_path, name):
    write(tmp_path, f"{HEADER}\n{ROW}\n", name)
    frame = rows(tmp_path)
    assert frame.dtypes.to_dict() == RAW_DTYPES
    assert frame.iloc[0].to_list() == [
        "chartevents",
        10,
        30,
        220045,
        pd.Timestamp("2150-01-02 03:04:05"),
        pd.Timestamp("2150-01-02 03:06:00"),
        80.0,
        "bpm",
    ]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_is_read_with_timestamps_of_any_unit(tmp_path, unit):
    write(tmp_path, f"{HEADER}\n{ROW}\n")
    expected = rows(tmp_path)
    frame = pd.read_csv(tmp_path / "icu/chartevents.csv", parse_dates=["charttime", "storetime"])
    (tmp_path / "icu/chartevents.csv").unlink()
    frame[["charttime", "storetime"]] = frame[["charttime", "storetime"]].astype(f"datetime64[{unit}]")
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "icu/chartevents.parquet")
    pd.testing.assert_frame_equal(rows(tmp_path), expected)


def test_upper_case_columns_in_another_order_are_found(tmp_path):
    write(
        tmp_path,
        "ROW_ID,VALUEUOM,VALUENUM,ITEMID,STORETIME,CHARTTIME,STAY_ID,SUBJECT_ID\n1,bpm,80,211,,2150-01-02,3,1\n",
    )
    assert rows(tmp_path)["charttime"].item() == pd.Timestamp("2150-01-02")


def test_a_quoted_line_break_does_not_end_the_row(tmp_path):
    text = edit(value='"two\nlines, and ""quotes"""')
    write(tmp_path, f"{HEADER}\n{text}\n{ROW}\n")
    assert rows(tmp_path)["itemid"].to_list() == [220045, 220045]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path):
    write(tmp_path, f"\ufeff{HEADER}\n{ROW}\n")
    assert len(rows(tmp_path)) == 1


def test_a_header_without_rows_is_an_empty_table(tmp_path):
    write(tmp_path, HEADER + "\n")
    assert list(read_batches(tmp_path, "icu/chartevents")) == []
    assert rows(tmp_path).dtypes.to_dict() == RAW_DTYPES


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2150-01-02 03:04:05", "2150-01-02 03:04:05"),
        ("2150-01-02T03:04:05", "2150-01-02 03:04:05"),
        ("2150-01-02", "2150-01-02 00:00:00"),
        ("2150-01-02 03:04", "2150-01-02 03:04:00"),
        ("2150-01-02 03:04:05.25", "2150-01-02 03:04:05.25"),
        ("2150-01-02 03:04:05.123456789", "2150-01-02 03:04:05.123456"),
        (" 2150-01-02 03:04:05 ", "2150-01-02 03:04:05"),
        ("", None),
    ],
)
def test_times_are_read_in_every_spelling(tmp_path, text, time):
    write(tmp_path, f"{HEADER}\n{edit(charttime=text)}\n{ROW}\n")
    assert (
        rows(tmp_path)["charttime"][0] is pd.NaT
        if time is None
        else rows(tmp_path)["charttime"][0] == pd.Timestamp(time)
    )


@pytest.mark.parametrize("text", ["___", "see notes", "1.2 ERROR", ""])
def test_a_text_that_is_no_number_is_null(tmp_path, text):
    write(tmp_path, f"{HEADER}\n{edit(valuenum=text)}\n{edit(valuenum=' 81 ')}\n")
    frame = rows(tmp_path)
    assert pd.isna(frame["valuenum"][0])
    assert frame["valuenum"][1] == 81


def test_ids_that_were_written_as_floats_are_whole_numbers(tmp_path):
    write(tmp_path, f"{HEADER}\n{edit(stay_id='30.0', itemid='220045.0')}\n{edit(stay_id='')}\n")
    frame = rows(tmp_path)
    assert frame["stay_id"].to_list() == [30, pd.NA]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_id_in_a_float_column_is_null(tmp_path, missing):
    write(tmp_path, f"{HEADER}\n{ROW}\n{ROW}\n")
    frame = pd.read_csv(tmp_path / "icu/chartevents.csv", parse_dates=["charttime", "storetime"])
    (tmp_path / "icu/chartevents.csv").unlink()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    place = table.column_names.index("stay_id")
    table = table.set_column(place, "STAY_ID", pa.array([30.0, missing], pa.float64()))
    pq.write_table(table, tmp_path / "icu/chartevents.parquet")
    assert rows(tmp_path)["stay_id"].to_list() == [30, pd.NA]


def test_labs_need_no_stay_and_no_storetime(tmp_path):
    default = (Path(__file__).parents[3] / "flows/icu/catalogue.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(default + '[troponin]\nunit = "ng/mL"\nplausible = [0, 99]\nitems = [51003]\n', encoding="utf-8")
    write(tmp_path, "subject_id,itemid,charttime,valuenum\n1,51003,2150-01-01,4.1\n1,1,,\n", "hosp/labevents.csv")
    [(frame, counts)] = ingest(tmp_path, "labevents", load_catalogue(own))
    assert counts == {"labevents": {"rows_in": 2, "not_in_catalogue": 1, "passed_on": 1}}
    assert frame.dtypes.to_dict() == RAW_DTYPES
    assert frame["table"].to_list() == ["labevents"]
    assert frame["stay_id"].isna().all()


SECRET = "JohnDoe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty; there is not even a header"),
        (HEADER.replace("storetime,", "") + "\n", "missing column storetime"),
        (HEADER.replace("storetime", "st").replace("itemid", "it") + "\n", "missing columns itemid, storetime"),
        (HEADER + ",ITEMID\n", "column itemid is there twice"),
        (f"{HEADER}\n{SECRET},2\n", "a row has 2 columns and not 11"),
        (f"{HEADER}\n{edit(itemid=SECRET)}\n", "column itemid: under 10 of under 10 cells are not whole numbers"),
        (f"{HEADER}\n{edit(stay_id='1.5')}\n", "column stay_id: under 10 of under 10 cells are not whole numbers"),
        (f"{HEADER}\n{edit(subject_id=SECRET)}\n", "column subject_id: under 10 of under 10 cells"),
        (f"{HEADER}\n{edit(charttime=SECRET)}\n", "column charttime: under 10 of under 10 cells are not times"),
        (
            f"{HEADER}\n{edit(charttime='2150-02-30 00:00:00')}\n",
            "column charttime: under 10 of under 10 cells are not times",
        ),
        (
            f"{HEADER}\n{edit(storetime='2150-01-02 03:04:05Z')}\n",
            "column storetime: under 10 of under 10 cells are not times",
        ),
        *(
            (
                "\n".join([HEADER, ROW, edit(valuenum=f'"{number}"'), ""]),
                "column valuenum: under 10 of under 10 cells are numbers with a comma; write 37.5, not 37,5",
            )
            for number in ("37,5", "-1.234,5", "1,234.5 ", "1,234")
        ),
        (f"{HEADER}\n{ROW}\n".replace(",", ";"), "separated by semicolons; write the file with commas"),
        (f"{SECRET}\t{SECRET}\n", "separated by tabs"),
        ('"' + f"{HEADER}\n{ROW}\n".replace(",", '"|"'), "separated by vertical bars"),
        (f"{HEADER},\xe9\n{ROW},{SECRET}\n".encode("latin-1"), "is not text in UTF-8; convert it"),
        (f"{HEADER}\n{edit(valuenum='80', valueuom=chr(0xB0) + SECRET)}\n".encode("latin-1"), "is not text in UTF-8"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "is not text in UTF-8"),
        (gzip.compress(f"{HEADER}\n{ROW}\n".encode()), "is not text in UTF-8; .* or correct the end of its name"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_no_cell_is_quoted(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(TableError, match=message) as caught:
        rows(tmp_path)
    assert str(path) in str(caught.value)
    # No cell is in the message or in anything that a logger prints with it.
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in repr(caught.value.__context__)


@pytest.mark.parametrize("name", ["icu/chartevents.csv.gz", "icu/chartevents.parquet"])
@pytest.mark.parametrize("data", [b"not what the name says", b""])
def test_a_file_of_another_format_than_its_name_says_is_refused(tmp_path, name, data):
    path = write(tmp_path, "", "icu/x")
    path.with_name(Path(name).name).write_bytes(data)
    with pytest.raises(TableError, match=Path(name).name):
        rows(tmp_path)


def test_a_truncated_file_is_refused(tmp_path):
    path = write(
        tmp_path,
        HEADER + "\n" + "".join(edit(caregiver_id=str(n * 7919 % 9973)) + "\n" for n in range(3000)),
        "icu/chartevents.csv.gz",
    )
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TableError, match="cannot be read"):
        rows(tmp_path)


@pytest.fixture(params=["isal", "zlib"])
def gzip_by(request, monkeypatch):
    """With isal, and as on a platform that has no isal."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setattr(objects, "igzip", None)


@pytest.mark.usefixtures("gzip_by")
def test_gzip_of_several_members_is_read_to_its_end(tmp_path):
    halves = [HEADER + "\n" + "".join(edit(valuenum=str(n)) + "\n" for n in range(1000))]
    halves += ["".join(edit(valuenum=str(n)) + "\n" for n in range(1000, 2000))]
    path = write(tmp_path, "", "icu/chartevents.csv.gz")
    path.write_bytes(b"".join(gzip.compress(half.encode()) for half in halves))
    assert rows(tmp_path)["valuenum"].to_list() == [float(n) for n in range(2000)]


@pytest.mark.usefixtures("gzip_by")
@pytest.mark.parametrize(("ending", "packed"), [(".CSV.GZ", "gzip"), (".csv.Bz2", "bz2"), (".csv.ZST", "zstd")])
def test_a_compressed_file_may_have_its_ending_in_upper_case(tmp_path, ending, packed):
    path = write(tmp_path, "", f"icu/chartevents{ending}")
    with pa.CompressedOutputStream(str(path), packed) as file:
        file.write(f"{HEADER}\n{ROW}\n".encode())
    assert len(rows(tmp_path)) == 1


@pytest.mark.usefixtures("gzip_by")
@pytest.mark.parametrize("at", [12, -100, -8, -4], ids=["header of a block", "data", "checksum", "length"])
def test_damaged_gzip_is_refused_without_its_cells(tmp_path, at):
    text = HEADER + "\n" + "".join(edit(valueuom=SECRET, caregiver_id=str(n * 7919 % 9973)) + "\n" for n in range(3000))
    path = write(tmp_path, text, "icu/chartevents.csv.gz")
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(TableError, match=r"cannot be read; it is damaged.*\(OSError\)") as caught:
        rows(tmp_path)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_times_with_a_zone_are_refused(tmp_path):
    write(tmp_path, f"{HEADER}\n{ROW}\n")
    frame = pd.read_csv(tmp_path / "icu/chartevents.csv", parse_dates=["charttime", "storetime"])
    (tmp_path / "icu/chartevents.csv").unlink()
    frame["charttime"] = frame["charttime"].dt.tz_localize("UTC")
    frame.to_parquet(tmp_path / "icu/chartevents.parquet")
    with pytest.raises(TableError, match="column charttime: the timestamps carry a time zone"):
        rows(tmp_path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(
        TableNotFoundError, match=r"icu/icustays: no such table; looked for .csv, .csv.gz, .csv.bz2, .csv.zst, .parquet"
    ) as caught:
        read_frame(tmp_path, "icu/icustays")
    assert isinstance(caught.value, FileNotFoundError)


def test_a_table_in_two_files_is_refused(tmp_path):
    write(tmp_path, HEADER)
    write(tmp_path, HEADER, "icu/chartevents.csv.gz")
    with pytest.raises(TableError, match=r"which one\? There are chartevents.csv, chartevents.csv.gz"):
        rows(tmp_path)


def test_batches_are_bounded(tmp_path):
    (tmp_path / "icu").mkdir()
    number = 200_000
    columns = {name: pa.repeat(pa.scalar(1), number) for name in ("subject_id", "stay_id", "itemid", "valuenum")}
    times = pa.repeat(pa.scalar(0, pa.timestamp("s")), number)
    table = pa.table({**columns, "charttime": times, "storetime": times, "valueuom": pa.nulls(number)})
    pq.write_table(table, tmp_path / "icu/chartevents.parquet")
    pa.csv.write_csv(table, tmp_path / "chartevents.csv")
    sizes = [batch.num_rows for batch in read_batches(tmp_path, "icu/chartevents")]
    assert sum(sizes) == number
    assert max(sizes) <= 65_536
    (tmp_path / "icu/chartevents.parquet").unlink()
    (tmp_path / "chartevents.csv").rename(tmp_path / "icu/chartevents.csv")
    batches = list(read_batches(tmp_path, "icu/chartevents"))
    assert sum(batch.num_rows for batch in batches) == number
    assert len(batches) > 2


def chart_rows(number: int) -> pa.Table:
    columns = {"subject_id": 10, "stay_id": 30, "itemid": 220045, "valuenum": 80.0}
    times = pa.array(range(number), pa.timestamp("s"))
    table = pa.table({name: pa.repeat(pa.scalar(value), number) for name, value in columns.items()})
    return (
        table.append_column("charttime", times)
        .append_column("storetime", times)
        .append_column("valueuom", pa.repeat(pa.scalar("bpm"), number))
    )


def test_frames_of_a_file_with_only_wanted_rows_are_bounded(tmp_path):
    (tmp_path / "icu").mkdir()
    pq.write_table(chart_rows(200_000), tmp_path / "icu/chartevents.parquet")
    sizes = [len(frame) for frame, _ in ingest(tmp_path, "chartevents", load_catalogue())]
    assert sum(sizes) == 200_000
    assert max(sizes) <= 65_536


def test_the_check_of_the_first_rows_reads_not_many_more(tmp_path, monkeypatch, capsys):
    write(tmp_path, "subject_id,stay_id,intime,outtime\n10,30,1970-01-01,1970-01-02\n", "icu/icustays.csv")
    pa.csv.write_csv(chart_rows(2000), tmp_path / "icu/chartevents.csv")
    monkeypatch.setattr(tables, "_CSV_BLOCK_BYTES", 8000)  # about 100 rows
    assert check(str(tmp_path), load_catalogue(), load_fhir_table(), load_meds_table(), 250)
    [kept] = re.findall("kept ([\\d,]+)", capsys.readouterr().out)
    assert 250 <= int(kept) < 500


def test_the_check_says_that_a_table_cannot_be_read(tmp_path, capsys):
    arguments = (load_catalogue(), load_fhir_table(), load_meds_table(), 250)
    write(tmp_path, f"{SECRET};b\n1;2\n", "icu/notes.csv")
    assert not check(str(tmp_path), *arguments)
    out = capsys.readouterr().out
    assert f"{tmp_path}/icu/notes.csv: its columns are separated by semicolons" in out
    assert SECRET not in out
    write(
        tmp_path,
        "subject_id,stay_id,intime,outtime\n10,30,1970-01-01,1970-01-02\n".encode("utf-16"),
        "icu/icustays.csv",
    )
    write(tmp_path, f"{HEADER}\n{ROW}\n")
    assert not check(str(tmp_path), *arguments)
    out = capsys.readouterr().out
    assert f"{tmp_path}/icu/icustays.csv: is not text in UTF-8" in out
    assert "cannot use this source: a table cannot be read" in out


# --- where the files are ---


@pytest.mark.parametrize(
    "names",
    [
        ["icu/chartevents.csv.bz2"],
        ["icu/chartevents.csv.zst"],
        ["ICU/CHARTEVENTS.csv"],
        ["icu/chartevents_0001.csv.gz", "icu/chartevents_0002.csv.gz"],
        ["icu/chartevents-part-00000.csv", "icu/chartevents-part-00001.csv"],
        ["icu/chartevents/part-0.csv.gz", "icu/chartevents/part-1.csv.gz", "icu/chartevents/_SUCCESS"],
        ["icu/chartevents/year=2150/0.csv", "icu/chartevents/year=2151/0.csv", "icu/chartevents/.0.csv.crc"],
    ],
)
def test_a_table_may_be_compressed_or_in_parts(tmp_path, names):
    text = [f"{HEADER}\n{edit(stay_id=str(30 + number))}\n" for number in range(2)]
    for number, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(("_SUCCESS", ".crc")):
            path.write_bytes(b"not a table")
            continue
        with pa.output_stream(str(path)) as file:  # compressed by its name
            file.write(text[number].encode())
    parts = [name for name in names if not name.endswith(("_SUCCESS", ".crc"))]
    assert rows(tmp_path)["stay_id"].to_list() == [30, 31][: len(parts)]
    found = find_table(tmp_path, "icu/chartevents")
    assert [path.relative_to(tmp_path).as_posix() for path in found] == parts


def test_a_table_as_a_file_and_as_a_folder_is_refused(tmp_path):
    for name in ("icu/chartevents.csv", "icu/chartevents_1.csv", "icu/chartevents/0.parquet"):
        write(tmp_path, f"{HEADER}\n", name) if name.count("/") == 1 else (tmp_path / name).parent.mkdir()
    (tmp_path / "icu/chartevents/0.parquet").write_bytes(b"")
    with pytest.raises(TableError, match=r"which one\? There are chartevents/\*.parquet, chartevents.csv, "):
        find_table(tmp_path, "icu/chartevents")


def test_the_error_about_a_missing_table_names_what_is_there_instead(tmp_path):
    with pytest.raises(TableNotFoundError, match=r"there is no folder .*nowhere"):
        find_table(tmp_path / "nowhere", "icu/chartevents")
    write(tmp_path, "", "icu/notes.txt")
    write(tmp_path, "", "icu/chartevents.xlsx")
    with pytest.raises(TableNotFoundError, match=r"looked for .*; .*/icu holds chartevents.xlsx, notes.txt$"):
        find_table(tmp_path, "icu/chartevents")
