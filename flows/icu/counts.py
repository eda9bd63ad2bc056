"""Counts: nested dictionaries of whole numbers, which every step returns in addition to its frame.

They are plain dictionaries, so that they can be stored as JSON. One function adds the counts of any step, so that
shards can be counted separately and added in any order.
"""

from typing import Any

Counts = dict[str, Any]


def add_counts(*counts: Counts) -> Counts:
    """The sum of counts: numbers are added by key, lists (histograms) by element, and dictionaries recursively.

    Args:
        counts: Any number of counts. An absent key counts as 0.

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
    # Copy, since the total must not share lists or dictionaries with its summands: a later sum would change them.
    if isinstance(value, dict):
        return add_counts(value)
    return [_copy(item) for item in value] if isinstance(value, list) else value
