"""A short run of the fuzzer: an edited file of ours or of another program is the equal frame, or an error of ours.

CLINOPS_FUZZ_SECONDS sets the duration. `python -m tests.faults.fuzz parquet` runs until it finds something.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = int(os.environ.get("CLINOPS_FUZZ_SECONDS", "15"))
ROOT = Path(__file__).parents[2]

# On Linux a program inherits the peak memory of its parent, and libFuzzer takes that for its own peak. A test
# process that had once reached 3 GB exceeded the limit below before the first edit. A shell between them resets it.
SMALL_PARENT = ["sh", "-c", '"$@"; exit $?', "sh"]


@pytest.mark.parametrize("target", ["parquet", "csv", "result"])
@pytest.mark.timeout(SECONDS + 1800)
def test_every_edit_of_a_file_is_read_the_same_or_is_an_error_of_ours(target: str, tmp_path: Path) -> None:
    options = [
        f"-max_total_time={SECONDS}",
        "-max_len=80",
        "-rss_limit_mb=2500",
        "-timeout=120",
        "-print_final_stats=1",
    ]
    options.append(f"-artifact_prefix={tmp_path}/")
    command = [*SMALL_PARENT, sys.executable, "-m", "tests.faults.fuzz", target, *options]
    edits = 0
    while edits <= 20:  # as on a machine that is too busy to fuzz in this time
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        runs = re.search(r"number_of_executed_units: (\d+)", done.stdout + done.stderr)
        assert runs, done.stderr[-2000:]
        edits += int(runs[1])
    print(f"{target}: {edits} edits in {SECONDS} s")
