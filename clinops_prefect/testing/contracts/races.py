"""Several writers at once, of whom the laws say how many may win."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def winners(write: Callable[[T], object], rivals: Sequence[T], lost: type[Exception]) -> list[int]:
    """The numbers of the rivals, from 0, whose writes succeeded; all begin at once, each in a thread.

    Args:
        write: Writes what a rival has.
        rivals: What each has.
        lost: What it raises for one that lost. Anything else fails the test.
    """
    together = threading.Barrier(len(rivals))

    def has_won(mine: T) -> bool:
        together.wait(60)
        try:
            write(mine)
        except lost:
            return False
        return True

    with ThreadPoolExecutor(len(rivals)) as pool:
        return [number for number, won in enumerate(pool.map(has_won, rivals)) if won]
