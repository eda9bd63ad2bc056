"""A progress line on a terminal; nothing where standard error is none. No Prefect: the synthetic data use it too."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


@contextmanager
def terminal_line(title: str) -> Iterator[Callable[[float, str], None]]:
    """A line on standard error, where that is a terminal; else nothing.

    Yields:
        What shows a share that is done, and a text.
    """
    console = _console()
    if not (sys.stderr.isatty() and console.is_terminal):
        yield lambda _share, _text: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        line = bars.add_task(title, total=1.0, text="")
        yield lambda share, text: bars.update(line, completed=share, text=text)


def _console() -> Console:
    # The console of Prefect's log, so that a log line goes above the progress line and not through it.
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect").handlers):
        console = getattr(handler, "console", None)
        if isinstance(console, Console):
            return console
    return Console(stderr=True)
