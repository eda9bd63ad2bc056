"""Counts lines of code without docstrings, comments and blank lines, to measure the size of a store.

python -m tests.lines_of_code clinops_prefect/storage/azure clinops_prefect/blocks/azure.py
"""

import ast
import io
import sys
import tokenize
from pathlib import Path

_NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
    tokenize.ENDMARKER,
}  # fmt: skip


def lines_of_code(source: str) -> int:
    """The number of lines with code in them."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def files_of(place: Path) -> list[Path]:
    """A module, or all modules below a folder."""
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


if __name__ == "__main__":
    counted = {path: lines_of_code(path.read_text()) for place in sys.argv[1:] for path in files_of(Path(place))}
    for path, count in counted.items():
        print(f"{count:6} {path}")
    print(f"{sum(counted.values()):6} in all")
