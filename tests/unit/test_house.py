"""The limits on the size of a store and of a module, and what the repository may hold."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lines_of_code import files_of, lines_of_code

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "clinops_prefect"
# All that the root of the repository holds. Code and data belong below one of the folders.
NAMES_OF_THE_ROOT = {
    *(".ci", ".codespell-terms.txt", ".dockerignore", ".github", ".gitignore", ".pre-commit-config.yaml"),
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("Makefile", "constraints.txt", "mkdocs.yml", "pyproject.toml"),
    *("clinops_prefect", "deployments", "docs", "flows", "tests"),
}
DATA = re.compile(
    r"\.(parquet|csv|tsv|feather|arrows?|ipc|orc|avro|ndjson|jsonl|db|sqlite3?|duckdb|pickle|pkl|np[yz]|h5|hdf5?"
    r"|xlsx?|sas7bdat|xpt|dta|rds|zip|tar|tgz|gz|bz2|xz|zst)$",
    re.IGNORECASE,
)
# Artifacts that earlier versions wrote.
PLACES_OF_DATA = ("tests/archive/",)


def _code(*places: str) -> int:
    return sum(lines_of_code(path.read_text()) for place in places for path in files_of(PACKAGE / place))


def test_a_store_is_small() -> None:
    """The fourth store, Azure, has only its own code. The rest is in the template, and error messages in `network`."""
    assert _code("storage/azure/backend.py", "blocks/azure.py") <= 150
    assert _code("storage/azure", "blocks/azure.py") <= 245


def test_no_module_is_long() -> None:
    long = {path.name: lines for path in files_of(PACKAGE) if (lines := len(path.read_text().splitlines())) > 350}
    assert long == {}


def test_only_lines_of_code_are_counted() -> None:
    source = '"""A docstring."""\n\n# One.\nx = [  # two\n    1,\n]\n\n\ndef f():\n    """Another."""\n    g()\n'
    assert lines_of_code(source) == 5


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files that git tracks, also those that are added and not yet committed."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a clone, but for example an sdist")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"git does not list the files: {listed.stderr}")
    return listed.stdout.split("\0")[:-1]


def test_the_root_holds_only_what_is_meant(tracked: list[str]) -> None:
    assert {path.partition("/")[0] for path in tracked} == NAMES_OF_THE_ROOT


def test_no_data_is_tracked_outside_of_its_place(tracked: list[str]) -> None:
    data = [path for path in tracked if DATA.search(path)]
    assert [path for path in data if not path.startswith(PLACES_OF_DATA)] == []
    assert data
