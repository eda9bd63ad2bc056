"""Checks the commands of a sample without running them: the programs, targets, modules and options exist.

For what serves until it is stopped, takes minutes, or needs an account.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

from tests.samples.pages import ROOT

# What every reader has, and what changes nothing but the terminal.
_KNOWN = {".", "source", "cd", "export", "unset", "mkdir", "git", "curl", "docker", "npm", "cat", "echo"}


def problems(code: str) -> list[str]:
    """What is wrong with the commands, one line each."""
    joined = re.sub(r"\\\n\s*|\n\s+(?=\[|-)", " ", code)
    found = []
    for line in joined.splitlines():
        for command in re.split(r"\s(?:&&|\|\||\||;|&)(?:\s|$)", line):
            # A synopsis has brackets around what may be left out.
            words = shlex.split(re.sub(r"(?<!\w)[\[\]](?=-)|\](?=\s|$)", " ", command), comments=True)
            while words and re.fullmatch(r"[A-Z_][A-Z0-9_]*=.*", words[0]):
                words.pop(0)
            if words:
                found += _problems_of_command(words)
    return found


def _problems_of_command(words: list[str]) -> list[str]:
    program, *rest = words
    if program == "make":
        return _make(rest)
    if program in ("python", "python3", "python3.11"):
        return _python(rest)
    if program == "prefect":
        return _prefect(rest)
    if program == "pip":
        return _pip(rest)
    if program in _KNOWN:
        files = [rest[place + 1] for place, word in enumerate(rest[:-1]) if program == "docker" and word == "-f"]
        return [f"no file {name}" for name in files if not (ROOT / name).exists()]
    return [f"{program}: no program that the samples know; run the block, or mark it no-run"]


def _make(arguments: list[str]) -> list[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = [word.partition("=")[0] for word in arguments if "=" in word]
    targets = [word for word in arguments if "=" not in word and not word.startswith("-")]
    found = [f"make has no variable {name}" for name in names if not re.search(rf"\b{name}\b", makefile)]
    return found + [f"make has no target {name}" for name in targets if not re.search(rf"(?m)^{name}:", makefile)]


def _python(arguments: list[str]) -> list[str]:
    if arguments[:1] != ["-m"]:
        return [] if arguments and (ROOT / arguments[0]).exists() else [f"no file {arguments[:1]}"]
    commands = []
    for word in arguments[2:]:
        if not re.fullmatch(r"[a-z_]+", word):
            break
        commands.append(word)
    return _unknown_options(
        f"python -m {arguments[1]}", _help(sys.executable, "-m", arguments[1], *commands), arguments[2:]
    )


def _unknown_options(name: str, text: str, words: list[str]) -> list[str]:
    if not text:
        return [f"{name} does not run"]
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [f"{name} has no option {option}" for option in options if not re.search(rf"{option}(?![\w-])", text)]


@cache
def _help(*command: str) -> str:
    environment = os.environ | {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}
    done = subprocess.run([*command, "--help"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    return done.stdout if done.returncode == 0 else ""


def _prefect(words: list[str]) -> list[str]:
    program = str(Path(sys.executable).parent / "prefect")
    own = _help(program, *words)
    # An option of Prefect itself may stand before the command.
    return _unknown_options(f"prefect {shlex.join(words)}", own and own + _help(program), words)


def _pip(arguments: list[str]) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    found = []
    for word in arguments:
        named = re.match(r"(?:clinops-prefect|\.)\[([\w,]+)\]", word)
        found += [f"no extra {extra}" for extra in named[1].split(",") if extra not in extras] if named else []
    groups = [arguments[place + 1] for place, word in enumerate(arguments[:-1]) if word == "--group"]
    return found + [f"no group {group}" for group in groups if group not in project["dependency-groups"]]
