"""What a user sees of a command that fails: one message with what to do, no traceback, and an exit code."""

import importlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clinops_prefect import AccessDeniedError, LocalPipelineStore, ServiceUnavailableError
from clinops_prefect.command_line import Stopped, run
from clinops_prefect.tasks import open_store
from flows.icu_features import icu_features
from flows.running.command_line import backfill_main, features_main
from tests.flows import failures_page

FEATURES = ["flows.icu_features", "--source", "{source}", "--store", "{store}", "--date", "2024-01-15"]
BACKFILL = ["flows.backfill", "--source", "{source}", "--store", "{store}"]
DRIFT = ["flows.quality_report", "--store", "{store}", "--date", "2024-01-15", "--reference", "2024-01-15"]
TWO_DATES = ["--dates", "2024-03-01..2024-03-02", "--shards", "1"]

# Each command, its exit code, and words of its last five lines. docs/reference/failures.md shows each.
WAYS = {
    "no source": (["flows.icu_features"], 2, "the following arguments are required: --source"),
    "a bad date": ([*FEATURES, "--date", "15.1.2024"], 2, "'15.1.2024' is no date; write it as YYYY-MM-DD"),
    "a word instead of a date": ([*BACKFILL, "--dates", "yesterday"], 2, "'yesterday' is no date"),
    "a range that ends before it begins": ([*BACKFILL, "--dates", "2024-02-01..2024-01-01"], 2, "before it begins"),
    "an unknown option": ([*FEATURES, "--shard-count", "3"], 2, "unrecognized arguments: --shard-count"),
    "a word instead of a number": ([*FEATURES, "--shards", "four"], 2, "argument --shards: invalid int value: 'four'"),
    "a word instead of a limit": ([*DRIFT, "--max-psi", "high"], 2, "argument --max-psi"),
    "a store of an unknown kind": ([*FEATURES, "--store", "ftp://host/path"], 2, "no store for ftp://"),
    "a misspelt block": ([*FEATURES, "--store", "s3-pipline-store/prod"], 2, "did you mean"),
    "a folder that is not empty": (["flows.synthetic", "--out", "{source}", "--stays", "3"], 3, "is not empty"),
    "no stay to make": (["flows.synthetic", "--out", "{new}", "--stays", "0"], 2, "there has to be a stay"),
    "no role for Step Functions": (["flows.icu_features_on_step_functions", "--date", "2024-01-15"], 2, "--role-arn"),
    "a word instead of a port": (
        ["clinops_prefect.testing.step_functions_emulator.__main__", "--port", "http"],
        2,
        "argument --port",
    ),
    "a source that does not exist": ([*FEATURES, "--source", "{new}"], 3, "there is no folder"),
    "a source that does not exist, for the emulator": (
        ["flows.icu_demo_on_step_functions", "--source", "{new}"],
        3,
        "--source: there is no folder {new}",
    ),
    "a source that does not exist, for the check": (
        ["flows.check", "--source", "{new}"],
        3,
        "--source: there is no folder {new}",
    ),
    "a source that the flow cannot use": (
        ["flows.check", "--source", "{store}"],
        3,
        "the flow cannot use this source; the report above says why",
    ),
    "a misspelt source, for the check": (["flows.check", "--source", "s3:/bucket"], 2, "did you mean"),
    "a source of an unknown kind": ([*FEATURES, "--source", "ftp://host/path"], 2, "--source: "),
    "an incomplete date as MEDS": (
        ["flows.meds_export", "--store", "{store}", "--date", "2020-01-01", "--out", "{new}"],
        2,
        "2020-01-01 is not complete",
    ),
    "a pipeline that does not exist": (
        ["clinops_prefect.step_functions.__main__", "policy", "deployments.plan:nothing"],
        3,
        "module:name",
    ),
    "no shard": ([*FEATURES, "--shards", "0"], 2, "shards must be 1 or more"),
    "half a window": ([*FEATURES, "--window-hours", "5"], 2, "not a multiple"),
    "a catalogue that does not exist": ([*FEATURES, "--catalogue", "{new}"], 3, "leave it out for the one"),
    "a catalogue that is not TOML": ([*FEATURES, "--catalogue", "{file}"], 3, "is not TOML"),
    "a table of FHIR codes that does not exist": ([*FEATURES, "--fhir-table", "{new}"], 3, "leave it out for the one"),
    "a table of MEDS codes that does not exist": ([*FEATURES, "--meds-table", "{new}"], 3, "leave it out for the one"),
    "a table of MEDS codes that is a folder": ([*FEATURES, "--meds-table", "{store}"], 3, "Is a directory"),
    "a catalogue that does not exist, of a report": ([*DRIFT, "--catalogue", "{new}"], 3, "leave it out for the one"),
    "a catalogue that does not exist, of an export": (
        ["flows.meds_export", "--store", "{store}", "--date", "2024-01-15", "--out", "{new}", "--catalogue", "{new}"],
        3,
        "leave it out for the one",
    ),
    "a catalogue that does not exist, for the check": (
        ["flows.check", "--source", "{source}", "--catalogue", "{new}"],
        3,
        "leave it out for the one",
    ),
    "a catalogue that does not exist, for many dates": (
        [*BACKFILL, "--dates", "2024-03-01..2024-03-31", "--catalogue", "{new}"],
        3,
        "leave it out for the one",
    ),
    "a source without stays": ([*FEATURES, "--source", "{store}"], 3, "no such table; looked for .csv"),
    "an export to a file": (
        ["flows.meds_export", "--store", "{store}", "--date", "2024-01-15", "--out", "{file}"],
        3,
        "{file} is a file; give an empty or absent folder",
    ),
    "a folder for synthetic data that is a file": (
        ["flows.synthetic", "--out", "{file}", "--stays", "3"],
        3,
        "{file} is a file; give an empty or absent folder",
    ),
    "a folder for synthetic data below a file": (
        ["flows.synthetic", "--out", "{file}/new", "--stays", "3"],
        3,
        "A part of the path is a file",
    ),
    "an unknown engine": ([*FEATURES, "--engine", "steam"], 2, "no engine 'steam'"),
    "a block that does not exist": (
        [*FEATURES, "--store", "local-pipeline-store/nobody"],
        3,
        "local-pipeline-store/nobody",
    ),
    "a store below a file": ([*FEATURES, "--store", "{file}/store"], 3, "{file} is a file"),
    "a store that is a file": ([*FEATURES, "--store", "{file}"], 3, "{file}"),
    "a date that was not computed, itself": (
        [*DRIFT, "--date", "2020-01-01"],
        3,
        "run flows.icu_features for it first; the store has 2024-01-14, 2024-01-15",
    ),
    "a store without a date": (
        ["flows.quality_report", "--store", "{new}", "--date", "2024-01-15", "--reference", "2024-01-14"],
        3,
        "run flows.icu_features for it first; the store has no date",
    ),
    "a date that was not computed": ([*DRIFT, "--reference", "2020-01-01"], 3, "2020-01-01"),
    "a limit that is exceeded": (
        [*DRIFT, "--reference", "2024-01-14", "--max-psi", "0.000000001"],
        4,
        "beyond the limits",
    ),
    "a date that fails": ([*BACKFILL, "--source", "{new}", "--dates", "2024-03-01"], 5, "1 of 1 dates failed"),
    "a folder that no date has": (
        [*BACKFILL, "--source", "{new}/{date}", "--dates", "2024-03-01..2024-03-03"],
        5,
        "there is no folder {new}/2024-03-01, so 3 of 3 dates failed",
    ),
    "a folder that one of two dates has": (
        ["flows.backfill", "--source", "{days}/{date}", "--store", "{new}-store", *TWO_DATES],
        5,
        "2024-03-02: {days}/2024-03-02/icu/chartevents: no such table",
    ),
}

# These commands fail before they need a Prefect server, which takes seconds to start.
FOUND_AT_ONCE = {
    "leave it out for the one",
    "Is a directory",
    "shards must be 1 or more",
    "not a multiple",
    "no engine 'steam'",
    "{file} is a file",
    "no such table; looked for .csv",
    "2020-01-01",
    "run flows.icu_features for it first; the store has no date",
    "1 of 1 dates failed",
    "there is no folder {new}/2024-03-01, so 3 of 3 dates failed",
}


@pytest.fixture(scope="module")
def places(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from flows.synthetic.tables import generate

    root = tmp_path_factory.mktemp("places")
    (root / "file").write_text("{secret")
    generate(root / "other", 60, rows=20_000, seed=4, catalogue_share=0.8)
    for day, made_from in ((14, root / "other"), (15, source)):
        icu_features(str(made_from), str(root / "store"), f"2024-01-{day}", shards=1)
    (root / "days").mkdir()
    (root / "days/2024-03-01").symlink_to(root / "other")
    names = ("new", "file", "store", "days")
    return {"source": str(source), **{name: str(root / name) for name in names}}


CODES = {way: code for way, (_, code, _) in WAYS.items()}
WRITES = os.environ.get("CLINOPS_FAILURES") == "write"


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, str]]:
    """The sections of the page, by heading. `make failures` writes them to the page."""
    sections: dict[str, str] = {}
    yield sections
    if WRITES and sections.keys() == WAYS.keys():
        failures_page.write(CODES, sections)


@pytest.mark.parametrize("way", WAYS)
def test_a_command_that_fails_says_why_and_what_to_do(
    way: str,
    places: dict[str, str],
    seen: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (module, *arguments), code, said = WAYS[way]
    name = f"{module}.__main__" if module == "flows.synthetic" else module
    main = importlib.import_module(name).main
    monkeypatch.setattr(sys, "argv", [module, *(argument.format(date="{date}", **places) for argument in arguments)])
    with pytest.raises(Stopped) as stopped:
        main()
    shown = capsys.readouterr()
    assert stopped.value.code == code
    assert said.format(**places) in "\n".join(shown.err.splitlines()[-5:])
    assert "Traceback" not in shown.err + shown.out
    assert shown.err.endswith(f"{stopped.value}\n")
    seen[way] = failures_page.section(way, module, arguments, str(stopped.value), places)
    assert WRITES or f"{seen[way]}\n" in f"{failures_page.PAGE.read_text()}\n", f"run `make failures`; now {seen[way]}"


@pytest.mark.parametrize(
    "way",
    [way for way, (_, _, said) in WAYS.items() if said in FOUND_AT_ONCE and not re.search("export|check", way)],
)
def test_faults_of_the_arguments_are_found_before_prefect_starts(
    way: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (module, *arguments), code, said = WAYS[way]
    began = []
    monkeypatch.setattr(importlib.import_module(module), module.split(".")[1], lambda **_: began.append(module))
    monkeypatch.setattr(sys, "argv", [module, *(argument.format(date="{date}", **places) for argument in arguments)])
    with pytest.raises(Stopped, match=re.escape(said.format(**places))) as stopped:
        importlib.import_module(module).main()
    assert stopped.value.code == code
    assert not began


def test_the_page_of_failures_has_a_section_for_each_command_and_no_other() -> None:
    lines = failures_page.PAGE.read_text().splitlines()
    assert [line for line in lines if line.startswith("##")] == failures_page.headings(CODES)


EMULATOR = "clinops_prefect.testing.step_functions_emulator.__main__"
FLOWS = (
    "meds_export",
    "icu_features",
    "backfill",
    "check",
    "quality_report",
    "synthetic.__main__",
    "icu_features_on_step_functions",
)


@pytest.mark.parametrize("module", [EMULATOR, "flows.icu_demo_on_step_functions", *(f"flows.{name}" for name in FLOWS)])
def test_help_has_an_example_and_the_exit_codes(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(module).main()
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"example:\n  python -m {module.removesuffix('.__main__')} --" in said
    assert "130  interrupted" in said
    assert "--debug" in said
    # Only an example may be wider than a terminal, because users paste it.
    text, codes = said.partition("example:")[0], said.partition("exit codes:")[2]
    assert max(map(len, f"{text}{codes}".splitlines())) <= 80


def test_help_is_shown_on_a_terminal_that_lacks_some_of_its_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "argv", ["icu_features", "--help"])
    with pytest.raises(SystemExit) as stopped:
        features_main(lambda: {})
    assert stopped.value.code == 0
    terminal.seek(0)
    assert r"s3://\u2026" in terminal.read()


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ServiceUnavailableError("no answer"), 6, "no answer"),
        (AccessDeniedError("no credentials"), 3, "Sign in (aws sso login"),
        (ImportError("needs the 'gcp' extra"), 3, "'gcp'"),
        (RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server."), 6, "ephemeral"),
        (RuntimeError("Failed to reach API at http://127.0.0.1:4200/api/"), 6, "Failed to reach"),
        (RuntimeError("x"), 1, "--debug shows"),
        (KeyError("x"), 1, "--debug shows"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_each_kind_of_failure_has_its_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Stopped) as stopped:
        run(lambda: _raise(error), debug=False)
    assert stopped.value.code == code
    assert said in str(stopped.value)
    assert str(stopped.value) in capsys.readouterr().err
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            run(lambda: _raise(error), debug=True)


def test_only_other_handlers_than_the_terminals_get_the_traceback() -> None:
    with pytest.raises(Stopped):
        run(lambda: _raise(OSError("x")), debug=False)
    handlers = [each for each in logging.getLogger().handlers if hasattr(each, "console")]
    assert handlers
    failed = logging.LogRecord("prefect.flow_runs", 40, "", 0, "failed", (), (OSError, OSError("x"), None))
    finished = logging.LogRecord("prefect.flow_runs", 20, "", 0, "Finished in state Completed()", (), None)
    assert all(not handler.filter(failed) and handler.filter(finished) for handler in handlers)


def test_a_worker_process_prints_no_traceback_for_a_damaged_table(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(source, damaged)
    table = damaged / "hosp/labevents.csv.gz"
    table.write_bytes(table.read_bytes()[: table.stat().st_size // 2])
    given = ["--source", str(damaged), "--store", str(tmp_path / "store"), "--date", "2024-01-15", "--shards", "1"]
    monkeypatch.setattr(sys, "argv", ["icu_features", *given, "--engine", "processes=1"])
    with pytest.raises(Stopped) as stopped:
        importlib.import_module("flows.icu_features").main()
    assert stopped.value.code == 3
    said = capfd.readouterr().err
    assert said.endswith(f"{stopped.value}\n")
    assert "TableError" in str(stopped.value)
    # Output of the worker about its other work is shown.
    assert "Task run 'make-cohort' - cohort: " in said
    assert said.count("TableError") == 1
    assert "Finished in state NotReady" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize("debug", [False, True])
def test_worker_processes_show_tracebacks_as_the_command_does(debug: bool) -> None:
    logs = """
import logging
import flows.running.tasks

logger, run = logging.getLogger("prefect.task_runs"), {"task_run_name": "ingest", "send_to_api": False}
logger.error("failed", exc_info=OSError("y"), extra=run)
logger.warning("something else", extra=run)
"""

    def work() -> str:
        return subprocess.run([sys.executable, "-c", logs], capture_output=True, text=True, timeout=900).stderr

    said = run(work, debug=debug)
    assert "Task run 'ingest' - something else" in said
    assert ("OSError: y" in said) is debug


COMMANDS = pytest.mark.parametrize("command", [features_main, partial(backfill_main, codes={})])


@COMMANDS
def test_the_closing_lines_show_how_to_open_the_features_of_a_store_with_a_uri(
    command: Callable[..., None],
    reference: str,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_closing_lines(command, reference, source, monkeypatch, capsys)


@COMMANDS
@pytest.mark.parametrize("reference", ["store", "./a b ä", "file://{}/a%20b", "local-pipeline-store/closing"])
def test_the_closing_lines_show_how_to_open_the_features_of_a_folder_or_block(
    command: Callable[..., None],
    reference: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    LocalPipelineStore(str(tmp_path / "block")).save("closing", overwrite=True)
    check_closing_lines(command, reference.format(tmp_path), source, monkeypatch, capsys)


def check_closing_lines(
    command: Callable[..., None],
    reference: str,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frame = pd.DataFrame({"a": range(30)})

    def flow(store: str, **_: object) -> Any:
        """Store what the flow would store, so that the command can print its closing lines."""
        target = open_store(store)
        for shard in ("000", "001"):
            target.upload(frame, f"icu/2024-01-15/features/shard-{shard}")
        target.write_bytes("icu/2024-01-15/quality.html", b"<!doctype html>")
        row = {"date": "2024-01-15", "state": "computed", "windows": 60}
        is_backfill = isinstance(command, partial)
        return [row] if is_backfill else {"artifacts": [{"name": "icu/2024-01-15/features/shard-000", "rows": 60}]}

    dates = "--dates" if isinstance(command, partial) else "--date"
    monkeypatch.setattr(sys, "argv", ["x", "--source", str(source), "--store", reference, dates, "2024-01-15"])
    command(flow)
    before, lines = capsys.readouterr().out.split("Look at the features in Python:\n")
    *statements, last = textwrap.dedent(lines).strip().splitlines()
    names: dict[str, Any] = {}
    exec("\n".join(statements), names)
    assert eval(last, names)["a"].tolist() == [*range(30), *range(30)]
    if dates == "--date" and isinstance(names["store"], LocalPipelineStore):
        page = next(line.strip() for line in before.splitlines() if line.endswith("quality.html"))
        assert Path(page).read_bytes() == b"<!doctype html>"


def test_a_missing_folder_is_reported_before_prefect_starts(tmp_path: Path) -> None:
    arguments = ["--source", str(tmp_path / "absent"), "--store", str(tmp_path / "store"), "--date", "2024-01-01"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "flows.icu_features", *arguments],
        env=environment | {"PREFECT_HOME": str(tmp_path / "prefect")},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "there is no folder" in done.stderr
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "prefect/prefect.db").exists()
