"""What is changed: mutmut's mutations, one at a time, and which of them are tried."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

# mutmut has no public interface but its command, which keeps no servers from one mutant to the next.
from mutmut.mutation.mutators import mutation_operators

# The function or method, with its class; what is changed, and what it becomes; what the change is chosen by.
_Change = tuple[str, cst.CSTNode, cst.CSTNode, str]


@dataclass(frozen=True)
class Mutant:
    """One change of one module.

    Attributes:
        module: The file, from the root of the repository.
        function: The function or method that is changed, with its class.
        line: Where the change begins.
        lines: Those of the changed statement, or of its head. If a function's head is changed, those of its body.
        before: What is changed, in one line.
        after: What becomes of it.
        source: The text of the changed module.
    """

    module: str
    function: str
    line: int
    lines: Sequence[int]
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.module.removeprefix('clinops_prefect/')} {self.function}: `{self.before}` → `{self.after}`"


def sample(root: Path, modules: Sequence[str], count: int, seed: str) -> list[Mutant]:
    """So many mutants of these modules.

    The same ones for the same seed, until the text of a function changes: then those of this function are drawn anew,
    and no others. The first ones of a larger sample are a smaller one.
    """
    found = [
        (hashlib.sha256(f"{seed} {module} {change[3]}".encode()).digest(), module, number)
        for module in modules
        for number, change in enumerate(_parsed(root, module)[1])
    ]
    return [_mutant(root, module, number) for _, module, number in sorted(found)[:count]]


@functools.cache
def _parsed(root: Path, module: str) -> "tuple[MetadataWrapper, list[_Change]]":
    wrapper = MetadataWrapper(cst.parse_module((root / module).read_text()))
    found = _Visitor()
    wrapper.visit(found)
    return wrapper, found.changes


def _mutant(root: Path, module: str, number: int) -> Mutant:
    wrapper, changes = _parsed(root, module)
    function, node, changed, _ = changes[number]
    text = wrapper.module.code
    source = wrapper.module.deep_replace(node, changed).code  # type: ignore[arg-type]
    before, after = _difference(text.splitlines(), source.splitlines())
    line = wrapper.resolve(PositionProvider)[node].start.line
    return Mutant(module, function, line, _lines(wrapper, node), before, after, source)


def _lines(wrapper: MetadataWrapper, node: cst.CSTNode) -> range:
    """Of the statement that the node is in."""
    parents, positions = wrapper.resolve(ParentNodeProvider), wrapper.resolve(PositionProvider)
    while not isinstance(node, cst.SimpleStatementLine) and not isinstance(getattr(node, "body", None), cst.BaseSuite):
        node = parents[node]
    first, last = positions[node].start.line, positions[node].end.line
    if isinstance(node, cst.FunctionDef):
        first = positions[node.body.body[0]].start.line
    elif not isinstance(node, cst.SimpleStatementLine):
        last = max(first, positions[node.body.body[0]].start.line - 1)  # type: ignore[attr-defined]
    return range(first, last + 1)


class _Visitor(cst.CSTVisitor):
    def __init__(self) -> None:
        self.changes: list[_Change] = []
        self._names: list[str] = []
        # The text of the functions around, with how many changes there were in them.
        self._texts: list[list[Any]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._names.append(node.name.value)
        if isinstance(node, cst.FunctionDef):
            self._texts.append([cst.Module([]).code_for_node(node), 0])
        if _is_of_no_effect(node):
            return False
        # Outside of functions are constants and declarations.
        for kind, operator in mutation_operators if self._names else ():
            if isinstance(node, kind) and not _is_message(node):
                self.changes += [
                    (".".join(self._names), node, changed, self._choice(node)) for changed in operator(node)
                ]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef):
            self._names.pop()
        if isinstance(original_node, cst.FunctionDef):
            self._texts.pop()

    def _choice(self, node: cst.CSTNode) -> str:
        if not self._texts:  # the body of a class
            return f"{self._names} {cst.Module([]).code_for_node(node)}"
        self._texts[0][1] += 1
        text, number = self._texts[0]
        return f"{self._names} {number} {text}"


def _is_of_no_effect(node: cst.CSTNode) -> bool:
    """Type annotations, docstrings, and the calls that only speak to a type checker."""
    if isinstance(node, cst.Annotation | cst.Decorator):
        return True
    if isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString):
        return True
    return isinstance(node, cst.If) and isinstance(node.test, cst.Name) and node.test.value == "TYPE_CHECKING"


def _is_message(node: cst.CSTNode) -> bool:
    """Words for people, of which tests check only what matters in them."""
    return isinstance(node, cst.SimpleString) and " " in node.value


def _difference(old: list[str], new: list[str]) -> tuple[str, str]:
    """The changed lines of either, as one line."""
    shorter = min(len(old), len(new))
    begin = next((at for at in range(shorter) if old[at] != new[at]), shorter)
    end = next((at for at in range(shorter - begin) if old[-1 - at] != new[-1 - at]), shorter - begin)
    was, now = (" ".join(line.strip() for line in lines[begin : len(lines) - end]) for lines in (old, new))
    return was, now
