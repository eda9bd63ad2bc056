"""Races of several writers, for the laws that say how many of them may succeed."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def winners(write: Callable[[T], object], rivals: Sequence[T], lost: type[Exception]) -> list[int]:
    """The numbers of the rivals, from 0, whose writes succeeded. All start at once, each in its own thread.

    Args:
        write: Called with each rival, to write.
        rivals: The arguments for `write`, one for each rival.
        lost: The error that `write` raises for a rival that lost. Any other error fails the test.
    """
    together = threading.Barrier(len(rivals))

    def has_won(mine: T) -> bool:
        together.wait(600)
        try:
            write(mine)
        except lost:
            return False
        return True

    with ThreadPoolExecutor(len(rivals)) as pool:
        return [number for number, won in enumerate(pool.map(has_won, rivals)) if won]
