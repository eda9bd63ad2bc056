"""A drawing of a state machine."""

import json
from pathlib import Path
from typing import Any


class Diagram:
    """A state machine as a graph. Notebooks show an image if Graphviz is installed, and DOT text if not.

    Args:
        name: The graph's name.
        definition: The machine, in the Amazon States Language.
    """

    def __init__(self, name: str, definition: dict[str, Any]) -> None:
        self.name = name
        lines = [f"digraph {_quoted(name)} {{", "  node [shape=box, style=rounded, fontname=sans]"]
        lines += ["  start [shape=circle, label=start]", "  end [shape=doublecircle, label=end]"]
        lines += [f"  {line}" for line in _edges(definition, "start", "end")]
        self.dot = "\n".join([*lines, "}"])

    def __str__(self) -> str:
        """The drawing in the DOT language."""
        return self.dot

    def save(self, file: str) -> None:
        """Draw to a file. The file's extension decides the format.

        Raises:
            ImportError: The package `graphviz`, or the program `dot`, is not installed.
        """
        path = Path(file)
        path.write_bytes(self._drawn(path.suffix.lstrip(".") or "png"))

    def view(self) -> None:
        """Draw to a temporary file and open it.

        Raises:
            ImportError: The package `graphviz`, or the program `dot`, is not installed.
        """
        self._drawn("svg")  # raises an ImportError that names the missing program
        import graphviz

        graphviz.Source(self.dot, filename=self.name).view(cleanup=True)

    def _drawn(self, format: str) -> bytes:
        try:
            import graphviz
        except ImportError as error:
            raise ImportError("drawing needs the package graphviz: pip install graphviz") from error
        try:
            return bytes(graphviz.Source(self.dot).pipe(format=format))
        except graphviz.ExecutableNotFound as error:
            raise ImportError(
                "drawing needs Graphviz's program dot: install it from https://graphviz.org/download, or print the "
                "diagram and paste its text into any DOT viewer"
            ) from error

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        try:
            return {"image/svg+xml": self._drawn("svg").decode()}
        except ImportError:
            return {"text/plain": self.dot}


def _edges(definition: dict[str, Any], start: str, end: str) -> list[str]:
    lines = [f"{_quoted(start)} -> {_quoted(definition['StartAt'])}"]
    for name, state in definition["States"].items():
        if state["Type"] == "Fail":
            lines.append(f"{_quoted(name)} [style=filled]")
            continue
        inner = [state[field] for field in ("ItemProcessor", "Iterator") if field in state]
        if inner:
            lines.append(f"{_quoted(name)} [label={_quoted(f'{name}: for each item')}]")
        for number, machine in enumerate([*inner, *state.get("Branches", [])], start=1):
            cluster = _quoted(f"cluster {name}" + (f" {number}" if number > 1 else ""))
            lines += [f"subgraph {cluster} {{ {'; '.join(_edges(machine, name, name))} }}"]
        lines += [f"{_quoted(name)} -> {_quoted(rule['Next'])}" for rule in state.get("Choices", [])]
        if state["Type"] != "Choice" or "Default" in state:
            lines.append(f"{_quoted(name)} -> {_quoted(state.get('Next') or state.get('Default') or end)}")
        for catcher in state.get("Catch", []):
            label = _quoted(", ".join(map(str, catcher.get("ErrorEquals", []))))
            lines.append(f"{_quoted(name)} -> {_quoted(catcher['Next'])} [style=dashed, label={label}]")
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
