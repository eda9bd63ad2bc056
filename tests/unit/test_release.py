"""The files of a release exist and agree, and the workflows do nothing before the project has a repository."""

import re
import subprocess
import sys
from pathlib import Path

import yaml

import clinops_prefect
from clinops_prefect.registry import REPOSITORY

ROOT = Path(__file__).parents[2]
OWNER_AND_NAME = REPOSITORY.removeprefix("https://github.com/")
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}
ADDRESS = re.compile(r"github(?:usercontent)?\.com/([\w-]+/clinops-prefect)|github\.repository == '([^']+)'")
FOLDERS = (".github", "clinops_prefect", "docs", "flows", "deployments")


def test_the_version_is_the_newest_in_the_changelog_and_in_the_citation() -> None:
    newest = re.search(r"(?m)^## (\d\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text())
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert newest
    assert clinops_prefect.__version__ == newest[1] == citation["version"]
    assert newest[2] == str(citation["date-released"])


def test_the_version_can_be_read_without_a_slow_import() -> None:
    code = "import sys, clinops_prefect as c; print(c.__version__, {'prefect', 'pandas', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{clinops_prefect.__version__} set()\n"


def test_the_address_of_the_repository_is_the_same_everywhere() -> None:
    found = {}
    for path in [*ROOT.glob("*"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*"))]:
        if path.suffix in {".md", ".py", ".toml", ".yml", ".yaml", ".cff"}:
            named = {first or second for first, second in ADDRESS.findall(path.read_text(encoding="utf-8"))}
            found |= {path.relative_to(ROOT).as_posix(): named} if named else {}
    assert {path: named for path, named in found.items() if named != {OWNER_AND_NAME}} == {}
    assert {"pyproject.toml", "CITATION.cff", "SECURITY.md", ".github/workflows/ci.yml"} <= set(found)


def test_no_job_runs_while_the_project_has_no_repository() -> None:
    conditions = [job["if"] for workflow in WORKFLOWS.values() for job in workflow["jobs"].values()]
    assert conditions == [f"github.repository == '{OWNER_AND_NAME}'"] * 4


def test_the_workflow_runs_what_the_projects_own_ci_runs() -> None:
    own = re.findall(r"(?m)^make ([\w-]+)$", (ROOT / ".ci/run").read_text())
    suites = WORKFLOWS["ci"]["jobs"]["suite"]["strategy"]["matrix"]["target"]
    assert sorted([*suites, "test"]) == sorted(own)


def test_the_matrix_has_the_python_versions_that_the_package_declares() -> None:
    named = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    assert WORKFLOWS["ci"]["jobs"]["test"]["strategy"]["matrix"]["python"] == named
