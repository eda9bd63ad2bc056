"""The measure of the house: how large a store and a module may be."""

from pathlib import Path

from tests.lines_of_code import files_of, lines_of_code

PACKAGE = Path(__file__).parents[2] / "clinops_prefect"


def _code(*places: str) -> int:
    return sum(lines_of_code(path.read_text()) for place in places for path in files_of(PACKAGE / place))


def test_a_store_is_small() -> None:
    """Azure was the fourth: what is not of Azure alone is in the template, and the words of errors in `network`."""
    assert _code("storage/azure/backend.py", "blocks/azure.py") <= 150
    assert _code("storage/azure", "blocks/azure.py") <= 245


def test_no_module_is_long() -> None:
    long = {path.name: lines for path in files_of(PACKAGE) if (lines := len(path.read_text().splitlines())) > 350}
    assert long == {}


def test_what_counts_is_code() -> None:
    source = '"""A docstring."""\n\n# One.\nx = [  # two\n    1,\n]\n\n\ndef f():\n    """Another."""\n    g()\n'
    assert lines_of_code(source) == 5
