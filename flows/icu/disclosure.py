"""Small-cell suppression: hides numbers that could reveal something about a person.

A count from 1 to 9 is hidden, of patients and of rows, since a few rows are often of one patient. A hidden number could
be computed from the total of its group. If only one number, or a small sum, is hidden in a group, the smallest other
numbers are therefore hidden too. An empty cell is shown as 0, since nobody is in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SMALL = 10


def hidden_cells(numbers: Sequence[int]) -> list[bool]:
    """Which cells of a group with a known total must be hidden.

    Args:
        numbers: The number of patients or rows in each cell.
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
    """An account of rows in which numbers may be hidden. None stands for a hidden number.

    Attributes:
        total: The number of rows that were read.
        kept: The number of rows that were kept.
        dropped: The numbers of dropped rows, by reason.
        hidden: The sum of all hidden cells, so that total = kept + dropped + hidden.
    """

    total: int | None
    kept: int | None
    dropped: dict[str, int | None]
    hidden: int | None


def told_account(kept: int, dropped: Mapping[str, int]) -> Account:
    """The account of rows, with hidden numbers.

    The number of kept rows is known to everyone who has the rows. Reasons are therefore hidden first, and if this is
    not enough, the total.
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
    """Whether at least two cells with a sum of ten or more are hidden, so that the total reveals no small number."""
    return len(hidden) > 1 and sum(hidden) >= SMALL


def suppress(number: int) -> int | None:
    """A number without a known total, or None if it is small and not 0."""
    return None if 0 < number < SMALL else number


def suppress_part(part: int, whole: int) -> int | None:
    """A part of a known whole, or None if the part or the rest is small and not 0."""
    return None if suppress(part) is None or suppress(whole - part) is None else part


def suppress_cells(cells: Mapping[str, int]) -> dict[str, int | None]:
    """The cells of a group with a known total. None stands for cells that must be hidden."""
    hidden = hidden_cells(list(cells.values()))
    return {key: None if hide else number for (key, number), hide in zip(cells.items(), hidden, strict=True)}


def share(part: int, whole: int) -> float | None:
    """`part / whole`, or None if the part or the rest is a small cell, or the whole is 0."""
    return None if not whole or suppress_part(part, whole) is None else part / whole


def told(number: int) -> str:
    """A number for a log line, hidden if it is small."""
    return f"under {SMALL}" if suppress(number) is None else f"{number:,}"


def about(number: int) -> str:
    """A total for a log line, rounded so that nobody can subtract the number of kept rows from it."""
    return f"about {round(number, -3):,}" if number >= 1000 else "under 1,000"
