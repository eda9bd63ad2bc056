"""A progress line on a terminal. This module does not import Prefect, since the synthetic data use it too."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

# The width in columns at which a terminal has room for a title, a bar, and a text of about 85 characters.
_WIDE = 140


@contextmanager
def terminal_line(title: str) -> Iterator[Callable[[float, str], None]]:
    """A progress line on standard error. Nothing is shown if standard error is not a terminal.

    Yields:
        A function that shows the share that is done, and a text.
    """
    console = _console()
    if not (sys.stderr.isatty() and console.is_terminal):
        yield lambda _share, _text: None
        return
    percentage = TaskProgressColumn(table_column=Column(min_width=4, no_wrap=True))
    description, text = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
    # On a narrow terminal, rich would shorten every column until bar, percentage and time are gone. The text's end is
    # the time left. There it comes first, so that it is not cut off.
    is_wide = console.width >= _WIDE
    # Prefect's console has no styles for a bar, and without a style the run would end with an error.
    bar = BarColumn(24, style="grey23", pulse_style="grey23", complete_style="green", finished_style="green")
    columns = (description, bar, percentage, text, TimeElapsedColumn()) if is_wide else (percentage, text)
    with Progress(*columns, console=console, transient=True) as bars:
        line = bars.add_task(title, total=1.0, text="")
        yield lambda share, text: bars.update(
            line, completed=share, text=text if is_wide else _short(text, console.width - 5)
        )


@contextmanager
def counting_line(title: str, total: int, unit: str, scale: int = 1) -> Iterator[Callable[[int], None]]:
    """A progress line for work of a known amount, with the amount, the rate and the remaining time.

    Args:
        title: What is done.
        total: The whole amount.
        unit: The unit of the numbers in the text, such as `rows` or `MB`.
        scale: How much one unit is: 1,000,000 for megabytes, if amounts are in bytes.

    Yields:
        A function that takes the amount that was done since its last call.
    """
    done, began = 0, time.monotonic()

    def told(amount: float) -> str:
        return f"{amount / scale:,.0f}" if scale == 1 else f"{amount / scale:,.1f}"

    def add(amount: int) -> None:
        nonlocal done
        done += amount
        share, seconds = min(done / max(total, 1), 1.0), max(time.monotonic() - began, 0.001)
        left = f"{seconds * (1 - share) / share:.0f} s left" if share else "just begun"
        speed = rate(done / scale, seconds, [(1, f" {unit}/s"), (60, f" {unit}/min"), (3600, f" {unit}/h")])
        show(share, f"{told(done)} of {told(total)} {unit}, {speed}, {left}")

    with terminal_line(title) as show:
        yield add


def rate(amount: float, seconds: float, spans: Sequence[tuple[float, str]]) -> str:
    """An average rate as text, in the first of some spans of time in which the amount is not nearly 0.

    Args:
        amount: The amount that was done.
        seconds: The time that it took.
        spans: Each span in seconds, and the words after the number, such as ` a minute`.
    """
    rates = [(amount * span / seconds, words) for span, words in spans]
    number, words = next((one for one in rates if one[0] >= 0.5), rates[-1])
    return f"{number:,.0f}{words}" if number >= 100 else f"{number:,.1f}{words}"


def _short(text: str, width: int) -> str:
    """The text for a narrow terminal, with the time left first. What has no room is left out whole, the rate first."""
    parts = text.split(", ")
    left = [part for part in parts if part.endswith(" left")]
    # Without a time left, as at the end, the order of the words stays.
    whole = [parts[:number] for number in range(len(parts), 0, -1)]
    shorter = [parts[::-1], [*left, parts[0]], left] if left else whole
    return next((said for said in map(", ".join, shorter) if len(said) <= width), ", ".join(shorter[-1]))


def _console() -> Console:
    # Use the console of Prefect's log, so that log lines are printed above the progress line and do not break it.
    for handler in (*logging.getLogger().handlers, *logging.getLogger("prefect").handlers):
        console = getattr(handler, "console", None)
        if isinstance(console, Console):
            return console
    return Console(stderr=True)
