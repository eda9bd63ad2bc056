"""The one hook for forked processes: a child must not use the threads, locks and sockets of its parent."""

import os
from collections.abc import Callable


def in_child(forget: Callable[[], None]) -> None:
    """Call `forget` in every process that is forked from this one, where the system can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
