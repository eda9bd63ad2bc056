"""Every test that a page, the Makefile or a comment names exists, also after tests were renamed."""

import re
from pathlib import Path

import pytest

from tests.mutants.parts import PARTS

ROOT = Path(__file__).parents[2]
# The files of tests that the documentation tells a reader to write.
READERS_OWN = {"test_memory_store.py", "test_my_flow.py", "test_my_flow_on_s3.py"}
# `tests/strict.py`, `tests/faults`, `unit/test_errors.py`, `test_errors.py`
NAMED = re.compile(r"(?<![\w./-])(tests/[\w/]+(?:\.\w+)?|(?:\w+/)*test_\w+\.py)")
FOLDERS = {".github": ".yml", "clinops_prefect": ".py", "deployments": ".py", "docs": ".md", "flows": ".py"}
PLACES = [
    *(ROOT / name for name in ("Makefile", "pyproject.toml", ".ci/run", "tests/mutants/survivors.md")),
    *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
    *(path for folder, suffix in FOLDERS.items() for path in (ROOT / folder).rglob(f"*{suffix}")),
]
NAMES = {path.name for path in (ROOT / "tests").rglob("test_*.py")} | READERS_OWN


def _is_there(name: str) -> bool:
    return name in NAMES or (ROOT / name).exists() or (ROOT / "tests" / name).exists()


def test_every_test_that_is_named_exists() -> None:
    named = {path.relative_to(ROOT).as_posix(): set(NAMED.findall(path.read_text("utf-8"))) for path in PLACES}
    missing = {path: [name for name in sorted(names) if not _is_there(name)] for path, names in named.items()}
    assert {path: names for path, names in missing.items() if names} == {}
    assert "tests/unit/test_errors.py" in named["Makefile"]
    assert "unit/test_errors.py" in named["docs/explanation/reliability.md"]
    assert len(named["CONTRIBUTING.md"]) > 5


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_module_and_test_of_a_part_exists(part: object) -> None:
    assert isinstance(part, type(PARTS[0]))
    tests = [test.partition("::") for test in part.tests if ".py" in test]
    assert tests
    assert [name for name in part.modules if not (ROOT / name).is_file()] == []
    assert [file for file, _, name in tests if f"def {name}" not in (ROOT / file).read_text("utf-8")] == []
