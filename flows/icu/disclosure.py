"""Small-cell suppression: what of a count may be told without telling about a person.

A count between one and nine is not shown, of people or of rows: a handful of rows is often one person's. Where what is
hidden of a group could be had from its total, and would still be one number or a small one, more of the group is hidden
with it, the smallest first. Nobody is in an empty cell: it is told as 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SMALL = 10


def hidden_cells(numbers: Sequence[int]) -> list[bool]:
    """Say which cells of a group with a known total have to be hidden.

    Args:
        numbers: How many people, or rows, are in each cell.
    """
    hidden = [0 < number < SMALL for number in numbers]
    for index in sorted(range(len(numbers)), key=lambda index: numbers[index]):
        so_far = [number for number, hide in zip(numbers, hidden, strict=True) if hide]
        if not so_far or _is_enough(so_far):
            break
        hidden[index] = numbers[index] > 0
    return hidden


@dataclass(frozen=True)
class Account:
    """An account of rows as it may be told; None stands for a number that is hidden.

    Attributes:
        total: The rows in.
        kept: Those that were kept.
        dropped: The others, by reason.
        hidden: What all hidden cells are together, so that the account adds up: total = kept + dropped + hidden.
    """

    total: int | None
    kept: int | None
    dropped: dict[str, int | None]
    hidden: int | None


def told_account(kept: int, dropped: Mapping[str, int]) -> Account:
    """Hide what has to be hidden of an account of rows.

    What was kept is known wherever the rows are; so the reasons are hidden first, and where they do not suffice, the
    total.
    """
    few = suppress(kept) is None
    hides_kept, *hides = hidden_cells([kept if few else 0, *dropped.values()])
    hidden = [number for number, hide in zip([kept, *dropped.values()], [hides_kept, *hides], strict=True) if hide]
    enough = not hidden or _is_enough(hidden)
    return Account(
        total=kept + sum(dropped.values()) if enough else None,
        kept=None if hides_kept else kept,
        dropped={reason: None if hide else n for (reason, n), hide in zip(dropped.items(), hides, strict=True)},
        hidden=sum(hidden) if enough else None,
    )


def _is_enough(hidden: Sequence[int]) -> bool:
    """Whether several cells, of ten together, are hidden: what a total tells of them is then no small number."""
    return len(hidden) > 1 and sum(hidden) >= SMALL


def suppress(number: int) -> int | None:
    """Replace a number on its own by None, if it is small and not 0."""
    return None if 0 < number < SMALL else number


def suppress_part(part: int, whole: int) -> int | None:
    """Replace a part of a known whole by None, if it or the rest is small and not 0."""
    return None if suppress(part) is None or suppress(whole - part) is None else part


def suppress_cells(cells: Mapping[str, int]) -> dict[str, int | None]:
    """Replace what has to be hidden of a group, whose total is known, by None."""
    hidden = hidden_cells(list(cells.values()))
    return {key: None if hide else number for (key, number), hide in zip(cells.items(), hidden, strict=True)}


def share(part: int, whole: int) -> float | None:
    """Return part / whole, or None where either side of the division is a small cell, or there is no whole."""
    return None if not whole or suppress_part(part, whole) is None else part / whole


def told(number: int) -> str:
    """A number on its own, for a log line."""
    return f"under {SMALL}" if suppress(number) is None else f"{number:,}"


def about(number: int) -> str:
    """A total for a log line, too coarse for anyone to subtract from it what was kept."""
    return f"about {round(number, -3):,}" if number >= 1000 else "under 1,000"
