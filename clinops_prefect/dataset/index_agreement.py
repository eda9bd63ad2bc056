"""Joins the indexes of the parts to the index of the dataset.

each part numbers its rows 0, 1, 2, …     all rows are numbered consecutively, as in `upload_batches`
each part has its own range               the ranges are joined: one range if each starts where the one before ends
each part has a stored index              the values are joined part by part, as pandas' `concat` does
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from clinops_prefect.dataset.parts import DescribedPart
from clinops_prefect.errors import ArtifactDecodeError

_FIELD = "__index_level_0__"


@dataclass(frozen=True)
class JoinedIndex:
    """The index of the dataset.

    Attributes:
        note: The layout's note about the index.
        fields: The fields of the index.
        stored: The fields of the index that are read from the parts.
        ranges: Start and step of each part's range, if ranges are joined by value.
        type: The type of the field for such ranges.
    """

    note: dict[str, Any]
    fields: list[str]
    stored: list[str]
    ranges: list[tuple[int, int]] = field(default_factory=list)
    type: pa.DataType | None = None

    def values(self, part: int, at: int, rows: int) -> pa.Array:
        """The index values of some rows of a part, if ranges are joined by value."""
        start, step = self.ranges[part]
        return pa.array(start + step * np.arange(at, at + rows, dtype=np.int64))


def join(
    levels: Sequence[list[str]],
    layouts: Sequence[dict[str, Any] | None],
    parts: Sequence[DescribedPart],
) -> JoinedIndex:
    """Join the indexes of all parts.

    Args:
        levels: The fields of the index, for each part.
        layouts: The layout of each part.
        parts: The parts.

    Raises:
        ArtifactDecodeError: The parts have different kinds of indexes. The message names a part.
    """
    if any(layout is None for layout in layouts):
        return JoinedIndex({}, [], [])  # Arrow and polars have no index
    notes = [layout["index"] for layout in layouts if layout is not None]
    stored = levels[0]
    if len(parts) == 1:
        return JoinedIndex(notes[0], stored, stored)
    # The index of a part without rows is ignored.
    counted = [number for number, part in enumerate(parts) if part.rows] or [0]
    first = notes[counted[0]]
    for number in counted:
        if notes[number]["names"] != first["names"] or notes[number]["multi"] != first["multi"]:
            raise _differs(parts[number], parts[counted[0]], "levels or names")
    freqs = [None] * len(first["freqs"])
    ranges = [_range(note) for note in notes]
    known = [ranges[number] for number in counted]
    if all(one is not None for one in known):
        total = sum(part.rows for part in parts)
        note = {"fields": [], "names": first["names"], "multi": False, "freqs": freqs}
        # A stored index that happens to be a range from 0 is joined by value.
        is_default = all(one == (0, 1) for one in known) and not any(levels[n] for n in counted)
        if is_default:
            return JoinedIndex({**note, "range": [0, total, 1]}, [], [])
        name = next((levels[n][0] for n in counted if levels[n]), _FIELD)
        start, step = known[0]  # type: ignore[misc]
        at, is_chain = start, True
        for number in counted:
            is_chain = is_chain and ranges[number] == (at, step)
            at += step * parts[number].rows
        joined = {**note, "fields": [name], **({"range": [start, at, step]} if is_chain else {})}
        values = [one or (0, 1) for one in ranges]
        return JoinedIndex(joined, [name], [], values, pa.int64())
    fields = levels[counted[0]]
    for number in counted:
        # At least one index is not a range, so all must be stored in the same fields.
        if levels[number] != fields or (not fields and ranges[number] is None):
            raise _differs(parts[number], parts[counted[0]], "one numbers its rows, the other has values")
    note = {key: value for key, value in first.items() if key != "range"} | {"freqs": freqs}
    return JoinedIndex(note, fields, fields)


def _range(note: dict[str, Any]) -> tuple[int, int] | None:
    """Start and step of an index that is a range or is not stored; None for any other index."""
    if "range" in note:
        start, _, step = note["range"]
        return int(start), int(step)
    return None if note["fields"] else (0, 1)


def _differs(part: DescribedPart, other: DescribedPart, how: str) -> ArtifactDecodeError:
    return ArtifactDecodeError(
        f"{part.where} has an index of another kind than {other.where} ({how}): upload it with the same index, or with "
        "none, as .reset_index() gives",
        uri=part.where,
    )
