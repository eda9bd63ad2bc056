"""Counts: nested dictionaries of whole numbers, which every step returns in addition to its frame.

They are plain dictionaries, so that they can be stored as JSON. One function adds the counts of any step, so that
shards can be counted separately and added in any order.
"""

import operator
from typing import Any

Counts = dict[str, Any]
_NESTED = {dict, list}


def add_counts(*counts: Counts) -> Counts:
    """The sum of counts: numbers are added by key, lists (histograms) by element, and dictionaries recursively.

    Args:
        counts: Any number of counts. An absent key counts as 0.

    Raises:
        ValueError: Two lists under the same key differ in length: they were counted with different parameters.
    """
    total: Counts = {}
    for count in counts:
        _add_to(total, count)
    return total


def _add_to(total: Counts, count: Counts) -> None:
    # In place: copying the total for every count would take most of the time of a run of many shards.
    for key, value in count.items():
        if key not in total:
            # Copy, since the total must not share lists or dictionaries with its summands: a later sum would
            # change them.
            total[key] = _copy(value)
        elif isinstance(total[key], dict):
            _add_to(total[key], value)
        else:
            total[key] = _sum(total[key], value)


def _sum(left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        return add_counts(left, right)
    if isinstance(left, list):
        if _is_flat(left) and len(left) == len(right):
            return list(map(operator.add, left, right))
        return [_sum(a, b) for a, b in zip(left, right, strict=True)]
    return left + right


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return add_counts(value)
    if isinstance(value, list):
        return value.copy() if _is_flat(value) else [_copy(item) for item in value]
    return value


def _is_flat(values: list[Any]) -> bool:
    """Whether the list holds numbers only, as a histogram does."""
    return _NESTED.isdisjoint(map(type, values))
