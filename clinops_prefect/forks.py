"""The hook for forked processes: a child must not use its parent's threads, locks and sockets."""

import os
from collections.abc import Callable


def in_child(forget: Callable[[], None]) -> None:
    """Register `forget` to be called in every process forked from this one, on systems that can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
