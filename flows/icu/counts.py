"""Counts: plain nested dictionaries of whole numbers, which every step returns beside its frame.

Plain, so that they pass through any result store as JSON; and added by one function, whatever step they are from, so
that shards can be counted apart and the counts put together in any order.
"""

from typing import Any

Counts = dict[str, Any]


def add_counts(*counts: Counts) -> Counts:
    """Add counts: numbers by key, lists (histograms) element by element, dictionaries likewise within.

    Args:
        counts: Any number of counts; a key that is absent counts as nothing.

    Raises:
        ValueError: Two lists under the same key differ in length: they were counted with different parameters.
    """
    total: Counts = {}
    for count in counts:
        for key, value in count.items():
            total[key] = _add(total[key], value) if key in total else _copy(value)
    return total


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        return add_counts(left, right)
    if isinstance(left, list):
        return [_add(a, b) for a, b in zip(left, right, strict=True)]
    return left + right


def _copy(value: Any) -> Any:
    # The total must not share parts with what it was added from, or a later addition could show there.
    if isinstance(value, dict):
        return add_counts(value)
    return [_copy(item) for item in value] if isinstance(value, list) else value
