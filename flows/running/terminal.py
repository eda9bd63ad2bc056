"""A progress line on a terminal; nothing where standard error is none. No Prefect: the synthetic data use it too."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

# Columns of a terminal that has room for all: a title, a bar, and a text of about 85 characters.
_WIDE = 140


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
    percentage = TaskProgressColumn(table_column=Column(min_width=4, no_wrap=True))
    description, text = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
    # On a narrow terminal rich would shorten each column, to no bar, no percentage and no time. The end of the text is
    # the time that is left: it comes first there, so that it is not cut off.
    is_wide = console.width >= _WIDE
    columns = (
        (description, BarColumn(bar_width=24), percentage, text, TimeElapsedColumn()) if is_wide else (percentage, text)
    )
    with Progress(*columns, console=console, transient=True) as bars:
        line = bars.add_task(title, total=1.0, text="")
        yield lambda share, text: bars.update(line, completed=share, text=text if is_wide else _reversed(text))


def _reversed(text: str) -> str:
    return ", ".join(reversed(text.split(", ")))


def _console() -> Console:
    # The console of Prefect's log, so that a log line goes above the progress line and not through it.
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect").handlers):
        console = getattr(handler, "console", None)
        if isinstance(console, Console):
            return console
    return Console(stderr=True)
