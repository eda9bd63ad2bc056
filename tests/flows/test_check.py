"""The check of a source, and the tutorial that uses the check. Every sample of the tutorial is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from flows.check import check, main
from flows.icu.catalogue import load_catalogue
from flows.sources.fhir_table import load_fhir_table
from flows.sources.meds_table import load_meds_table
from flows.synthetic.tables import generate
from tests.fhir_source import to_fhir

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/how-to/your-own-data.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def told(source: Path, capsys: pytest.CaptureFixture[str], rows: int = 200_000) -> tuple[bool, str]:
    is_usable = check(str(source), load_catalogue(), load_fhir_table(), load_meds_table(), rows)
    return is_usable, capsys.readouterr().out


def test_the_samples_of_the_tutorial_run_in_their_order(tmp_path: Path) -> None:
    page = TUTORIAL.read_text(encoding="utf-8")
    blocks = BLOCK.findall(page)
    assert {language for language, _ in blocks} == {"python", "bash"}
    assert page.count("```") == 2 * len(blocks)
    shown = page.replace("\n", " ")
    lines = []
    for number, (language, code) in enumerate(blocks):
        if language == "bash":
            # Run the Python blocks so far in one program, because later blocks use the names of earlier ones.
            code = f"sh({code!r}, {number})\n"
        lines.append(code)
    helper = (
        "import subprocess\ndef sh(code, number):\n"
        "    done = subprocess.run(['bash', '-euc', code], capture_output=True, text=True)\n"
        "    print(f'=== {number}\\n{done.stdout}')\n"
        "    assert done.returncode == 0, done.stdout + done.stderr\n"
    )
    program = tmp_path / "tutorial.py"
    program.write_text(helper + "".join(lines), encoding="utf-8")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, third, *others = done.stdout.split("=== ")[1:]
    assert "monitor.csv has the columns patient, admitted, discharged, minute, signal, reading" in first
    assert "cannot use this source" in first
    assert "not yet" in first
    assert "900001: 576 rows" in second
    assert "no item is in the catalogue" in second
    assert "cvp: 900002; 576 values" in third
    assert "900003" in third
    assert "procalcitonin: http://loinc.org|33959-8; 12 values" in others[0]
    assert "procalcitonin: lab/PCT; 12 values" in others[0]
    assert "ICU_ADMISSION" not in others[0]
    # The columns that the page lists are the columns that the code reads.
    for column in ("storetime", "anchor_year", "hospital_expire_flag", "deathtime", "first_careunit"):
        assert f"`{column}`" in shown


def test_small_numbers_identifiers_and_cells_are_not_printed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_usable, out = told(source, capsys)
    assert is_usable
    out = re.sub(r"files of events: \d+|\d+ files?\b", "", out)
    assert not re.search(r"(?<![\w,.])[1-9](?![\d,.\w])", out)
    stays = pd.read_csv(source / "icu/icustays.csv.gz", dtype=str)
    for identifier in {*stays["stay_id"], *stays["subject_id"], *stays["hadm_id"].dropna()}:
        assert identifier not in out
    # In a file without a header, cells are in the place of column names.
    (tmp_path / "notes.csv").write_text("Mustermann,10023,2150-01-01\n")
    (tmp_path / "icu").mkdir()
    (tmp_path / "icu/icustays.csv").write_text("10023,20023,2150-01-01,Mustermann\n")
    is_usable, out = told(tmp_path, capsys)
    assert not is_usable
    assert "Mustermann" not in out
    assert "10023" not in out
    assert "the first row has to be a header" in out


def test_the_number_of_rows_that_are_checked_can_be_set(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out = told(source, capsys, rows=100)
    assert "of the first 100 of each table" in out


def test_missing_and_damaged_tables_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(tmp_path / "tables", 12, rows=3000, seed=3, format="csv")
    charts = tmp_path / "tables/icu/chartevents.csv"
    text = charts.read_text()
    charts.write_text(text.replace("storetime", "stored", 1))
    is_usable, out = told(tmp_path / "tables", capsys)
    assert not is_usable
    assert "missing: storetime" in out
    assert "not used: caregiver_id, hadm_id, stored" in out
    charts.write_text(text.replace("-", "~"))
    is_usable, out = told(tmp_path / "tables", capsys)
    assert not is_usable
    assert "column charttime" in out


def test_fhir_is_checked_by_its_codes(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to_fhir(source, tmp_path / "fhir", encounters=True)
    is_usable, out = told(tmp_path / "fhir", capsys)
    assert is_usable
    assert "FHIR R4" in out
    assert re.search(r"heart_rate: .*mimic-chartevents-d-items\|220045", out)


def test_the_command_has_exit_codes(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, code in {
        ("--source", str(source)): 0,
        ("--source", str(tmp_path)): 3,
        ("--source", str(tmp_path / "none")): 3,
        ("--source", "s3:/bucket"): 2,
        ("--source", str(source), "--catalogue", str(tmp_path / "none.toml")): 3,
        ("--source", str(source), "--rows", "0"): 2,
        ("--rows", "5"): 2,
    }.items():
        monkeypatch.setattr(sys, "argv", ["check", *arguments])
        ended = 0
        try:
            main()
        except SystemExit as stopped:
            ended = stopped.code
        assert ended == code
