"""Finds the samples: every fenced block of the pages, and of the docstrings of the package.

Sybil finds the blocks and the comments before them; what it does not do is run a page as its reader would, in a process
of its own and with shell commands between the Python, which is what `run_page` is for.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sybil import Document
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer, RawFencedCodeBlockLexer

ROOT = Path(__file__).parents[2]
# The language, and what MkDocs takes beside it: title="flow.py", hl_lines="2", or {.yaml .annotate}.
_FENCES = RawFencedCodeBlockLexer(re.compile(r"[ \t]*(?P<info>[^\n]*)\n"))
_MARKS = DirectiveInHTMLCommentLexer("check-only|no-run")


@dataclass(frozen=True)
class Sample:
    """A fenced block, and where it is."""

    path: Path
    line: int  # of its first line of code
    info: str
    code: str
    mark: str = ""  # "check-only" or "no-run"
    reason: str = ""

    @property
    def language(self) -> str:
        word = re.match(r"\{?\s*\.?([\w+-]*)", self.info)
        return word[1].lower() if word else ""

    @property
    def file_name(self) -> str:
        """The name of the file that the block is, if the page gives it a title."""
        title = re.search(r"""title=["']([^"']+)["']""", self.info)
        return title[1] if title else ""

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


# Under which tests/samples/saved_blocks.py saves what the examples of docstrings load.
SAVED_BLOCK = "prod"


def pages() -> list[Path]:
    """Every page that people read."""
    folders = [ROOT.glob("*.md"), *((ROOT / name).rglob("*.md") for name in ("docs", "flows", "deployments"))]
    return sorted(page for pages in folders for page in pages)


def samples_of_page(page: Path) -> list[Sample]:
    return list(_samples(page, page.read_text(encoding="utf-8"), first_line=1))


def samples_of_docstrings(module: Path) -> list[list[Sample]]:
    """Of each docstring with samples, its samples."""
    found = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text and "```" in text:
                # The UI writes a block's own name there, on the block's page.
                text = text.replace("BLOCK_NAME", SAVED_BLOCK)
                found.append(list(_samples(module, text, first_line=node.body[0].lineno)))
    return found


def _samples(path: Path, text: str, first_line: int) -> Iterator[Sample]:
    document = Document(text, str(path))
    marks = list(_MARKS(document))
    for fence in _FENCES(document):
        line = first_line + text.count("\n", 0, fence.start) + 1
        # A mark belongs to the block that follows at once.
        before = [mark for mark in marks if mark.start < fence.start]
        mark = before[-1] if before else None
        if mark and not re.fullmatch(r"\s*<!--(?:(?!-->)[\s\S])*-->\s*", text[mark.start : fence.start]):
            mark = None
        reason = re.sub(r"\s*-+>\s*$", "", mark.lexemes["arguments"]).strip() if mark else ""
        kind = mark.lexemes["directive"] if mark else ""
        yield Sample(path, line, fence.lexemes["info"].strip(), fence.lexemes["source"].text, kind, reason)
