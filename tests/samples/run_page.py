"""Runs the samples of one page in this process, one after the other, as its reader does.

The Python blocks of a page share a namespace, as in a notebook. A shell block runs where it stands. What it exports,
and the folder that it changes to, hold for the shell blocks below it. Standard input has the steps as JSON.
"""

import ast
import asyncio
import inspect
import json
import os
import subprocess
import sys
import types
from pathlib import Path

# The emulators stay where they are, whatever address a page exports for its reader.
FIXED = ("AWS_", "AZURE_", "STORAGE_EMULATOR_HOST", "PREFECT_API_URL", "PREFECT_HOME", "PATH", "PYTHONPATH", "HOME")


class Shell:
    """The state that a terminal keeps between two commands."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.folder = Path.cwd()

    def run(self, code: str) -> None:
        state = Path(os.environ["SAMPLES_STATE"])
        script = f'{code}\npwd > "$SAMPLES_STATE"\nenv -0 >> "$SAMPLES_STATE"\n'
        subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script], env=self.environment, cwd=self.folder, check=True
        )
        folder, _, variables = state.read_text(encoding="utf-8").partition("\n")
        self.folder = Path(folder)
        exported = dict(entry.split("=", 1) for entry in variables.split("\0") if entry)
        self.environment |= {name: value for name, value in exported.items() if not name.startswith(FIXED)}


def new_main() -> types.ModuleType:
    """An empty `__main__`, without a file, as a notebook's: what a sample defines is pickled by value."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    return module


def main() -> None:
    steps = json.load(sys.stdin)
    page, shell = new_main(), Shell()
    with asyncio.Runner() as runner:
        for step in steps:
            print(f"--- {step['where']}", flush=True)
            if step["kind"] == "fresh":
                page = new_main()
            elif step["kind"] == "file":
                (shell.folder / step["name"]).write_text(step["code"], encoding="utf-8")
            elif step["kind"] == "bash":
                shell.run(step["code"])
            else:
                # As many empty lines before it as the page has: a traceback names the line of the page.
                source = "\n" * (step["line"] - 1) + step["code"]
                code = compile(source, step["path"], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                if code.co_flags & inspect.CO_COROUTINE:
                    runner.run(eval(code, page.__dict__))
                else:
                    exec(code, page.__dict__)


if __name__ == "__main__":
    main()
