"""The error index is complete: docs/reference/errors.md has each class, and a row for each message."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinops_prefect import errors

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
# Arguments whose texts are no messages: fields of a form and help texts.
FIELDS = {"description", "title", "help", "metavar", "epilog", "label"}
# Calls that write a log line. "error" is not among them, because users search for errors that were logged.
LOGS = {"debug", "info", "warning", "exception", "log", "write"}
# In these modules only raised texts are messages. The others are JSONata, IAM statements, DOT, and printed lines.
NO_MESSAGES = ("merge.py", "states_language.py", "role_policy.py", "diagram.py", "command_line.py", "signatures.py")
# Reasons why a note or a page header is damaged. The caller catches them and raises an error of the index.
CAUGHT = (
    "decoded, a dictionary may take any amount of memory",
    "a dtype that is kept otherwise",
    "neither of ours, nor described by frames.foreign",
    "no way that a note has",
    "a note about other columns",
    "a block of several dtypes",
    "no kind of zone that a note has",
    "a zone that this machine does not know",
    "a zone without an offset of its own",
    "no kind of a page header's field",
    "too deep for a page header",
    "a page of negative size",
    "an integer too long for a page header",
    "the footer of the Parquet file is longer than what was kept for it",
    "a column outside of the file",
    "a value that contains itself",
    "a value that is not in the dictionary",
    "no polars type that a note has",
)
# Other texts that are no messages: hints inside one, other programs' words, regular expressions, tags, artifacts.
OTHER = (
    " (did you mean …?)",
    "to pl.Int64, pl.Decimal(38, 0) or pl.String",
    "to a type with values",
    "Like `…`, for async code.",
    "Unable to create hash",
    "No match for FieldRef.Name(",
    "<… that cannot be shown>",
    "Unable to find block document",
    "Failed to reach API",
    "connect to ephemeral Prefect API server",
    "a step of a pipeline",
    "The Prefect flow run was cancelled.",
    "`…` in the AWS console",
    "States of `…` that are done",
    "built by clinops_prefect",
    "assume the provided role|",
    "parameter ([",
    "\\$(?:",
    "arn:…",
    "Print the IAM policies that a pipeline needs",
    "pd.DataFrame | pl.DataFrame | ",
    "Store a DataFrame as an artifact",
    "Read a DataFrame, or some of",
    "List the artifacts of a pipeline store.",
)


def template(node: ast.AST) -> str:
    """The text of an expression, with `…` for every value that is known only when it runs."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "…"
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    return "…"


def texts(node: ast.AST, words: int) -> Iterator[tuple[int, str]]:
    """Every text of at least `words` words (in a `raise`, three) that is no docstring, field, help text or log line."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.keyword) and child.arg in FIELDS:
            continue
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in LOGS:
            continue
        if isinstance(child, ast.arg | ast.AnnAssign) and child.annotation:
            child.annotation = ast.Constant("…")
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            child.returns = None
        enough = 3 if isinstance(child, ast.Raise) else words
        if isinstance(child, ast.Constant | ast.JoinedStr | ast.BinOp):
            text = template(child)
            if len(text.replace("…", " ").split()) >= enough:
                yield child.lineno, text
                continue
        yield from texts(child, enough)


def messages() -> dict[str, str]:
    found = {}
    for module in sorted((ROOT / "clinops_prefect").rglob("*.py")):
        if "testing" not in module.parts:
            words = 1_000 if module.name in NO_MESSAGES else 4
            for line, text in texts(ast.parse(module.read_text(encoding="utf-8")), words):
                found[text] = f"{module.relative_to(ROOT)}:{line}"
    return found


MESSAGES = messages()
ROWS = re.findall(r"(?m)^\| (`.*?) \|", INDEX[INDEX.index("## Open a store") :])
PATTERNS = [pattern for row in ROWS for pattern in re.findall(r"`([^`]+)`", row)]


def matches(pattern: str, text: str) -> bool:
    """Whether the words of the pattern are in the text, in their order."""
    place = 0
    for words in pattern.split("…"):
        found = text.find(words.strip(), place)
        if found < 0:
            return False
        place = found + len(words.strip())
    return True


@pytest.mark.parametrize("name", errors.__all__)
def test_every_class_is_in_the_index(name: str) -> None:
    if name != "ClinopsPrefectError":
        kind = getattr(errors, name)
        builtins = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
        row = next(line for line in INDEX.splitlines() if line.startswith(f"| `{name}` |"))
        assert re.findall(r"`(\w+)`", row.split("|")[2]) == builtins


def test_every_message_is_in_the_index() -> None:
    missing = {
        place: text
        for text, place in MESSAGES.items()
        if not any(known in text for known in (*CAUGHT, *OTHER))
        and not any(matches(pattern, text) for pattern in PATTERNS)
    }
    assert missing == {}


def test_every_row_of_the_index_is_a_message() -> None:
    assert [pattern for pattern in PATTERNS if not any(matches(pattern, text) for text in MESSAGES)] == []


def test_no_row_of_the_index_matches_everything() -> None:
    assert [pattern for pattern in PATTERNS if len(pattern.replace("…", "").strip(" :;?")) < 6] == []
