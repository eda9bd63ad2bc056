"""The published contract suites: another package's store passes them, and each law fails for a store that breaks it."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import pytest

from clinops_prefect.testing import BackendContract, StoreContract

# Both suites run in a separate process for half a minute, and much longer on a busy machine.
pytestmark = pytest.mark.timeout(1200)

ROOT = Path(__file__).parents[2]
FILE = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
BROKEN = "broken_stores.py"
# The backend and the store from which the broken ones are derived.
WHOLE = ("TestBackendThatWhole", "TestStoreThatWholeStore")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of docs/how-to/write-a-store.md, with the metadata of an installed package."""
    folder = tmp_path_factory.mktemp("memory-store")
    page = (ROOT / "docs/how-to/write-a-store.md").read_text()
    for name, code in FILE.findall(page):
        (folder / name).write_text(code)
    (entry,) = re.findall(r"^memory = .*$", (folder / "pyproject.toml").read_text(), re.MULTILINE)
    # With this file, pytest would take the folder for its root.
    (folder / "pyproject.toml").unlink()
    info = folder / "memory_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: memory-store\nVersion: 1.0\n")
    entry = entry.replace('"', "")
    (info / "entry_points.txt").write_text(f"[clinops_prefect.stores]\n{entry}\n")
    (folder / BROKEN).write_text((Path(__file__).parent / BROKEN).read_text())
    return folder


@pytest.fixture(scope="module")
def broken(package: Path, found: object) -> dict[str, list[str]]:
    """Suite -> the laws that must fail. Read from a file, because an import would register blocks in this process."""
    # The run of the fixture `found` writes this file.
    return dict(json.loads((package / "broken.json").read_text()))


@pytest.fixture(scope="module")
def found(package: Path) -> dict[str, dict[str, set[str]]]:
    """Suite -> law -> the outcomes of its tests, all from one run."""
    report, environment = package / "report.xml", os.environ | {"PYTHONPATH": str(package)}
    # Nobody reads the tracebacks, and writing them takes longer than running the laws.
    options = ["-q", "-p", "no:randomly", "--tb=no", "--assert=plain", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", *options, "test_memory_store.py", BROKEN]
    done = subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for case in ET.parse(report).iter("testcase"):
        ended = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        found[case.attrib["classname"].rpartition(".")[2]][case.attrib["name"].partition("[")[0]].add(ended)
    return found


def laws(contract: type) -> set[str]:
    return {name for name in dir(contract) if name.startswith("test_")}


def test_the_store_of_another_package_passes_both_suites(found: dict[str, dict[str, set[str]]]) -> None:
    backend, store = found["TestMemoryBackend"], found["TestMemoryPipelineStore"]
    assert (set(backend), set(store)) == (laws(BackendContract), laws(StoreContract))
    ended = {law: how for suite in (backend, store) for law, how in suite.items() if how != {"passed"}}
    # The page's store does not declare versions, and makes a missing bucket.
    assert ended == {
        "test_a_missing_bucket_is_told_apart_from_a_missing_object": {"skipped"},
        "test_a_missing_bucket_is_told_apart_from_a_missing_artifact": {"skipped"},
        "test_every_version_is_listed_newest_first_and_can_be_read": {"skipped"},
        "test_the_versions_of_a_removed_object_can_still_be_read": {"skipped"},
    }


def test_each_law_fails_for_a_store_that_breaks_it(
    found: dict[str, dict[str, set[str]]], broken: dict[str, list[str]]
) -> None:
    pairs = [(suite, law) for suite, expected in broken.items() for law in expected]
    assert [f"{suite}: {law}" for suite, law in pairs if "failure" not in found[suite][law]] == []
    # Each law has a store that breaks it.
    for contract, kind in ((BackendContract, "TestBackendThat"), (StoreContract, "TestStoreThat")):
        assert {law for suite, law in pairs if suite.startswith(kind)} == laws(contract)


def test_the_store_from_which_the_broken_ones_are_derived_passes(found: dict[str, dict[str, set[str]]]) -> None:
    """Otherwise a law could fail for a reason other than the one in the name of its store."""
    other = {law: ended for suite in WHOLE for law, ended in found[suite].items() if ended != {"passed"}}
    assert other == {
        "test_the_store_is_registered_under_the_scheme_of_its_uris": {"failure"},
        # This store does not make a missing bucket.
        "test_a_bucket_that_the_first_write_makes_is_empty_before": {"skipped"},
        "test_a_bucket_that_the_first_upload_makes_is_empty_before": {"skipped"},
    }


def test_without_pytest_the_extra_is_named(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["pytest"] = None
import clinops_prefect.testing.step_functions_emulator
from clinops_prefect import testing
for name in ("BackendContract", "StoreContract"):
    try:
        getattr(testing, name)
    except ImportError as error:
        print("pip install 'clinops-prefect[testing]'" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "True"], done.stderr[-1000:]
