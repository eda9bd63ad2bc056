"""The published measurements: every round of every case, and the pages of the documentation that are made of them."""

import json
from pathlib import Path
from typing import Any

from tests.benchmarks import report

Outcomes = dict[str, dict[str, Any]]
_ROOT = Path(__file__).parents[2]
_ROUNDS = Path("tests/benchmarks/measured.json")
_PAGE = Path("docs/explanation/benchmarks.md")
_QUOTING = {Path("README.md"): report.BRIEF, Path("docs/explanation/comparison.md"): tuple(report.QUOTED)}


def published(root: Path = _ROOT) -> Outcomes:
    """What the pages show, by the case."""
    path = root / _ROUNDS
    outcomes: Outcomes = json.loads(path.read_text()) if path.exists() else {}
    return outcomes


def publish(measured: Outcomes, order: list[str], root: Path = _ROOT) -> None:
    """Write these cases beside the others that are published, and the pages anew.

    Args:
        measured: The cases that were measured now.
        order: All cases there are, as the page is to show them; what is published of another is dropped.
        root: The folder of the repository.
    """
    known = published(root) | measured
    outcomes = {name: known[name] for name in order if name in known}
    lines = [f"{json.dumps(name)}: {json.dumps(_rounded(outcome))}" for name, outcome in outcomes.items()]
    # A line a case, so that a change of one is a change of one line.
    (root / _ROUNDS).write_text("{\n" + ",\n".join(lines) + "\n}\n")
    (root / _PAGE).write_text(report.render(outcomes))
    for page, names in _QUOTING.items():
        report.quote(report.short(outcomes, names), root / page)


def _rounded(value: Any) -> Any:
    """Floats with five digits: more are noise, and three times as long."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    # The pages again, after a change of how they are made.
    publish({}, list(published()))
