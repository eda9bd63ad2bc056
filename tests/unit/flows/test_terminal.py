"""The progress line on a pseudo terminal: it fits in one line of any width, and is removed at the end."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from flows.running.progress import _SPANS
from flows.running.terminal import rate
from flows.synthetic.tables import generate

PROGRAM = """
import time
from flows.running.terminal import terminal_line

with terminal_line("ICU features of 2024-01-15") as show:
    for share in (0.02, 0.4, 0.99):
        show(share, "about 120,000 of about 310,000,000 rows read, 1,200,000 rows/s, about 12 min left")
        time.sleep(0.6)
"""


SYNTHETIC = """
import sys
from flows.synthetic.__main__ import main

sys.argv = ["synthetic", "--out", "{out}", "--stays", "20", "--rows", "600000", "--format", "parquet"]
main()
"""
UPLOAD = """
import time
from flows.running.terminal import counting_line

with counting_line("upload of the raw tables", 4_000_000, "MB", 1_000_000) as uploaded:
    for size in (1_000_000, 2_000_000, 1_000_000):
        time.sleep(0.4)
        uploaded(size)
"""


def written(columns: int, source: str = PROGRAM) -> str:
    """The output of the program on a terminal with this number of columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    program = subprocess.Popen(
        [sys.executable, "-c", source], stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm"}
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:
        pass  # on Linux, reading fails once the program has closed the terminal
    finally:
        os.close(ours)
    assert program.wait(60) == 0
    return said.decode()


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_the_line_is_one_line_and_is_removed_at_the_end(columns: int) -> None:
    said = written(columns)
    shown, end = said.split("\r\n")
    # Each time, the line begins at the same place, replaces the line before, and fits.
    pictures = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", picture) for picture in shown.split("\r\x1b[2K")]
    assert max(len(picture) for picture in pictures) <= columns
    for share in ("2%", "40%", "99%"):
        assert any(f" {share} " in f" {picture}" and "about 12 min left" in picture for picture in pictures)
    # The cursor is shown again and moves up to the line, and the line is removed.
    assert end == "\x1b[?25h\r\x1b[1A\x1b[2K"


def test_the_line_has_its_bar_and_times_on_the_console_of_prefects_log() -> None:
    program = f"from prefect.logging.configuration import setup_logging\nsetup_logging()\n{PROGRAM}"
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written(160, program))
    assert re.search("ICU features of 2024-01-15 [━╸╺]+ +40% .* about 12 min left 0:00:", said)


def test_an_upload_shows_total_rate_and_remaining_time() -> None:
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written(80, UPLOAD))
    for done, share in (("1.0", "25%"), ("3.0", "75%"), ("4.0", "100%")):
        assert re.search(rf"{share} +\d+ s left, \d+\.\d MB/s, {done} of 4.0 MB", said)


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("1 of 3 dates done, 0.7 a minute, about 3 min left", 60, "about 3 min left, 0.7 a minute, 1 of 3 dates done"),
        ("1 of 3 dates done, 0.7 a minute, about 3 min left", 45, "about 3 min left, 1 of 3 dates done"),
        ("1 of 3 dates done, 0.7 a minute, about 3 min left", 20, "about 3 min left"),
        ("0 of 3 dates done, 0.0 a minute", 20, "0 of 3 dates done"),
        ("ended in 3 s: 2 of 3 dates done, 1 failed", 60, "ended in 3 s: 2 of 3 dates done, 1 failed"),
        ("done in 3 s: 9 rows read, 8 computed, 7 stored", 40, "done in 3 s: 9 rows read, 8 computed"),
        ("30,000 of 330,000 rows, 15,262 rows/s, 20 s left", 45, "20 s left, 30,000 of 330,000 rows"),
        ("done", 20, "done"),
    ],
)
def test_a_part_of_the_line_that_has_no_room_is_left_out_completely(text: str, width: int, shown: str) -> None:
    program = f"""
import time
from flows.running.terminal import terminal_line

with terminal_line("a title") as show:
    show(0.4, {text!r})
    time.sleep(0.3)
"""
    pictures = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written(width + 5, program)))
    assert f" 40% {shown}" in {picture.rstrip() for picture in pictures}


@pytest.mark.parametrize(
    ("amount", "seconds", "shown"),
    [
        (480, 60, "480 a minute"),
        (3, 60, "3.0 a minute"),
        (2, 3600, "2.0 an hour"),
        (1, 90, "0.7 a minute"),
        (1, 7200, "0.5 an hour"),
        (1, 43_200, "2.0 a day"),
    ],
)
def test_a_slow_rate_is_shown_in_a_longer_span_of_time(amount: float, seconds: float, shown: str) -> None:
    assert rate(amount, seconds, _SPANS) == shown


def test_synthetic_rows_are_counted_when_they_are_written(tmp_path: Path) -> None:
    said = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written(160, SYNTHETIC.format(out=tmp_path / "new")))
    assert re.search(r"synthetic rows .* \d+% [\d,]+ of 660,000 rows, [\d,]+ rows/s, \d+ s left", said)
    ended: list[bool] = []

    def wrote(rows: int) -> None:
        table = tmp_path / "csv" / ("hosp/labevents.csv" if sum(counted) + rows > 600_000 else "icu/chartevents.csv")
        ended.append(table.stat().st_size > 0)
        counted.append(rows)

    counted: list[int] = []
    generate(tmp_path / "csv", 20, rows=600_000, format="csv", wrote=wrote)
    assert sum(counted) == 660_000
    assert all(ended)


def test_without_a_terminal_there_is_no_line() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
