"""The samples run as they are written. CONTRIBUTING says how a page marks what cannot."""

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.samples.commands import problems
from tests.samples.conftest import RunPage
from tests.samples.pages import ROOT, Sample, pages, samples_of_docstrings, samples_of_page

PAGES = {str(page.relative_to(ROOT)): samples_of_page(page) for page in pages()}
DOCSTRINGS = [
    samples for module in sorted((ROOT / "clinops_prefect").rglob("*.py")) for samples in samples_of_docstrings(module)
]
EVERY = [sample for samples in (*PAGES.values(), *DOCSTRINGS) for sample in samples]
PARSERS = {"json": json.loads, "yaml": yaml.safe_load, "toml": tomllib.loads}
RUN = ("python", "bash")
# What a program printed, a formula, a drawing. A command in it would be one that nobody runs.
SHOWN = ("text", "mermaid")
MAY_NOT_RUN = 10
CHECKED = [sample for sample in EVERY if sample.mark == "check-only" and sample.language in RUN]


def steps(samples: list[Sample]) -> list[dict[str, object]]:
    found = []
    for sample in samples:
        step = {"where": str(sample), "path": str(sample.path), "line": sample.line, "code": sample.code}
        if sample.file_name:
            found.append(step | {"kind": "file", "name": sample.file_name})
        elif sample.language in RUN and not sample.mark:
            found.append(step | {"kind": sample.language})
    return found


@pytest.mark.parametrize("page", [page for page, samples in PAGES.items() if steps(samples)])
def test_a_page_runs_from_top_to_bottom(page: str, run_page: RunPage) -> None:
    run_page(json.dumps(steps(PAGES[page])))


def test_the_samples_of_docstrings_run_each_alone(run_page: RunPage) -> None:
    # The blocks that the examples load.
    prepare = (ROOT / "tests/samples/saved_blocks.py").read_text(encoding="utf-8")
    program = [{"where": "saved blocks", "path": "saved_blocks.py", "line": 1, "code": prepare, "kind": "python"}]
    for samples in DOCSTRINGS:
        program += [{"where": str(samples[0]), "kind": "fresh"}, *steps(samples)]
    run_page(json.dumps(program))


@pytest.mark.parametrize("sample", CHECKED, ids=str)
def test_commands_that_are_only_checked_exist(sample: Sample) -> None:
    if sample.language == "python":
        ast.parse(sample.code)
    else:
        assert problems(sample.code) == []


@pytest.mark.parametrize("sample", [sample for sample in EVERY if sample.language in PARSERS], ids=str)
def test_data_can_be_parsed(sample: Sample) -> None:
    PARSERS[sample.language](sample.code)


def test_every_block_has_a_language_that_says_what_happens_to_it() -> None:
    known = (*RUN, *PARSERS, *SHOWN)
    assert {f"{sample}: {sample.info}" for sample in EVERY if sample.language not in known} == set()


def test_no_command_hides_in_a_block_that_is_not_run() -> None:
    command = re.compile(r"(?m)^\s*(\$ |>>> |(python3?|pip|make|prefect|docker|export|import|from \w+ import)\b)")
    shown = [sample for sample in EVERY if sample.language in SHOWN and not sample.mark]
    assert [str(sample) for sample in shown if command.search(sample.code)] == []


def test_a_file_that_a_page_shows_is_used_below_it() -> None:
    for samples in PAGES.values():
        for place, sample in enumerate(samples):
            if sample.file_name and not sample.mark:
                below = [other for other in samples[place + 1 :] if other.language in RUN]
                assert any(Path(sample.file_name).stem in other.code for other in below), str(sample)


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    marked = [sample for sample in EVERY if sample.mark]
    assert [str(sample) for sample in marked if len(sample.reason.split()) < 3] == []
    assert len([sample for sample in marked if sample.mark == "no-run"]) <= MAY_NOT_RUN


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
