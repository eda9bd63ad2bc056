"""Small-cell suppression: what of a count may be told without telling about a person.

A cell that fewer than ten people are behind is not shown. Where that leaves one cell hidden of a group whose total is
shown, it could be had by subtraction, so the next smallest is hidden with it.
"""

from collections.abc import Sequence

SMALL = 10


def hidden_cells(people: Sequence[int]) -> list[bool]:
    """Say which cells of a group with a known total have to be hidden.

    Args:
        people: Of each cell, how many people are in it. An empty cell is told as 0: nobody is in it.
    """
    hidden = [0 < number < SMALL for number in people]
    if sum(hidden) == 1:
        shown = [index for index, number in enumerate(people) if number >= SMALL]
        if shown:
            hidden[min(shown, key=lambda index: people[index])] = True
    return hidden


def suppress_cells(cells: dict[str, int]) -> dict[str, int | None]:
    """Replace what has to be hidden of a group, whose total is known, by None."""
    hidden = hidden_cells(list(cells.values()))
    return {key: None if hide else number for (key, number), hide in zip(cells.items(), hidden, strict=True)}


def suppress(number: int) -> int | None:
    """Replace a number on its own by None, if it is small and not 0."""
    return None if 0 < number < SMALL else number


def share(part: int, whole: int) -> float | None:
    """Return part / whole, or None where either side of the division is a small cell, or there is no whole."""
    if not whole or suppress(part) is None or suppress(whole - part) is None:
        return None
    return part / whole
