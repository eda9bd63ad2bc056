"""The progress line on a pseudo terminal: it fits in one line of any width, and is removed at the end."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from flows.running.progress import _SPANS
from flows.running.terminal import rate
from flows.synthetic.tables import generate

# A program that reads a line waits until the terminal shows what was drawn last: rich draws in a thread of its own.
PROGRAM = """
from flows.running.terminal import terminal_line

with terminal_line("ICU features of 2024-01-15") as show:
    for share in (0.02, 0.4, 0.99):
        show(share, "about 120,000 of about 310,000,000 rows read, 1,200,000 rows/s, about 12 min left")
        input()
"""
SHARES = ("2%", "40%", "99%")


SYNTHETIC = """
import sys
from flows.synthetic.__main__ import main

sys.argv = ["synthetic", "--out", "{out}", "--stays", "20", "--rows", "600000", "--format", "parquet"]
main()
"""
UPLOAD = """
from types import SimpleNamespace
from flows.running import terminal

moments = iter([0.0, 0.4, 1.6, 2.0])
terminal.time = SimpleNamespace(monotonic=lambda: next(moments))
with terminal.counting_line("upload of the raw tables", 4_000_000, "MB", 1_000_000) as uploaded:
    for size in (1_000_000, 2_000_000, 1_000_000):
        uploaded(size)
        input()
"""


def plain(said: str) -> str:
    """The text without the sequences that move the cursor and set colours."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said)


def written(columns: int, source: str, shown: Sequence[str] = ()) -> str:
    """The output of the program on a terminal with this number of columns.

    Each time the terminal shows the next text of `shown`, the program gets a line to read.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    program = subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm"},
    )
    os.close(theirs)
    said, next_ones = b"", list(shown)
    # A text that is never shown: without the limit, the program would wait for ever.
    limit = threading.Timer(300, program.kill)
    limit.start()
    with program:
        assert program.stdin
        try:
            while chunk := os.read(ours, 65536):
                said += chunk
                if next_ones and next_ones[0] in plain(said.decode(errors="replace")):
                    del next_ones[0]
                    program.stdin.write(b"\n")
                    program.stdin.flush()
        except OSError:
            pass  # on Linux, reading fails once the program has closed the terminal
        finally:
            os.close(ours)
    limit.cancel()
    assert program.returncode == 0, said
    return said.decode()


@pytest.mark.parametrize("columns", [40, 80, 160])
def test_the_line_is_one_line_and_is_removed_at_the_end(columns: int) -> None:
    said = written(columns, PROGRAM, SHARES)
    shown, end = said.split("\r\n")
    # Each time, the line begins at the same place, replaces the line before, and fits.
    pictures = [plain(picture) for picture in shown.split("\r\x1b[2K")]
    assert max(len(picture) for picture in pictures) <= columns
    for share in SHARES:
        assert any(f" {share} " in f" {picture}" and "about 12 min left" in picture for picture in pictures)
    # The cursor is shown again and moves up to the line, and the line is removed.
    assert end == "\x1b[?25h\r\x1b[1A\x1b[2K"


def test_the_line_has_its_bar_and_times_on_the_console_of_prefects_log() -> None:
    program = f"from prefect.logging.configuration import setup_logging\nsetup_logging()\n{PROGRAM}"
    said = plain(written(160, program, SHARES))
    assert re.search(r"ICU features of 2024-01-15 [━╸╺]+ +40% .* about 12 min left \d:\d\d:\d\d", said)


def test_an_upload_shows_total_rate_and_remaining_time() -> None:
    said = plain(written(80, UPLOAD, ("25%", "75%", "100%")))
    for share, text in (("25%", "1 s left, 2.5"), ("75%", "1 s left, 1.9"), ("100%", "0 s left, 2.0")):
        done = {"25%": "1.0", "75%": "3.0", "100%": "4.0"}[share]
        assert re.search(rf"{share} +{text} MB/s, {done} of 4.0 MB", said)


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
from flows.running.terminal import terminal_line

with terminal_line("a title") as show:
    show(0.4, {text!r})
"""
    # The last text is drawn at the end.
    pictures = re.split(r"[\r\n]", plain(written(width + 5, program)))
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
    said = plain(written(160, SYNTHETIC.format(out=tmp_path / "new")))
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
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=b"\n" * 3, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
