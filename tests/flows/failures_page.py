"""Writes the page docs/reference/failures.md: what a user sees of each failure, as `test_command_lines.py` sees it.

`make failures` runs the commands and writes the page. Every other run compares each command with its section.
"""

import textwrap
from pathlib import Path

from clinops_prefect import command_line

PAGE = Path(__file__).parents[2] / "docs/reference/failures.md"
# As on a terminal: a message is one line, however long.
_COLUMNS = 100
_LAST = 5
_BEGINNING = f"""\
# How commands fail

Each command below was run, and ended with the exit code of its heading. Under the command stand the last {_LAST} lines
of its message. A flow's log lines come before its message and are left out here; long lines are wrapped.
To see the traceback too, add `--debug`.

<!-- `make failures` writes this page, and `make flows` compares it with what the commands say. -->
"""


def section(way: str, module: str, arguments: list[str], message: str, places: dict[str, str]) -> str:
    """The page's section on one failing command.

    Args:
        way: The heading of the section.
        module: The module that was run.
        arguments: Its arguments, with paths as `{name}`. If an option is given twice, the last one counts.
        message: The message that it printed.
        places: Paths of this machine by name. The page shows them below `/data`.
    """
    options: dict[str, list[str]] = {"": []}
    option = ""
    for word in arguments:
        if word.startswith("--"):
            option = word
            options[option] = []
        else:
            options[option].append(word)
    words = [word for option, values in options.items() for word in (option, *values) if word]
    shown = {name: f"/data/{name}" for name in places}
    command = " ".join(["python -m", module.removesuffix(".__main__"), *words]).format(date="{date}", **shown)
    for name, path in places.items():
        message = message.replace(path, shown[name])
    wrapped = _wrapped(f"$ {command}", "      ")
    for line in message.strip().splitlines()[-_LAST:]:
        wrapped += _wrapped(line)
    return f"### {_heading(way)}\n\n" + "".join(f"    {line}\n" for line in wrapped)


def headings(codes: dict[str, int]) -> list[str]:
    """The page's headings, in order: each exit code and the headings of its sections.

    Args:
        codes: The exit code of each command, by its heading.
    """
    found = []
    for code in sorted(set(codes.values())):
        found.append(f"## Exit code {code}: {_meaning(code)}")
        found += [f"### {_heading(way)}" for way in codes if codes[way] == code]
    return found


def write(codes: dict[str, int], sections: dict[str, str]) -> None:
    """Write the page.

    Args:
        codes: The exit code of each command, by its heading.
        sections: The section of each command, by its heading.
    """
    parts = [_BEGINNING]
    by_heading = {text.splitlines()[0]: text for text in sections.values()}
    parts += [by_heading.get(heading, f"{heading}\n") for heading in headings(codes)]
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _wrapped(line: str, indent: str = "") -> list[str]:
    return textwrap.wrap(line, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False)


def _heading(way: str) -> str:
    return way[0].upper() + way[1:]


def _meaning(code: int) -> str:
    lines = (line.split(maxsplit=1) for line in (command_line.__doc__ or "").splitlines())
    return next(words[1] for words in lines if words[:1] == [str(code)])
