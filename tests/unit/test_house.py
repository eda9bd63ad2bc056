"""The limits on the size of a store and of a module."""

from pathlib import Path

from tests.lines_of_code import files_of, lines_of_code

PACKAGE = Path(__file__).parents[2] / "clinops_prefect"


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
