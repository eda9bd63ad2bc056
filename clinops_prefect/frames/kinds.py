"""The kinds of frames. Free of pandas, polars and PyArrow, so that no caller pays for a kind that is not asked for."""

from typing import Any, Literal, TypeAlias, get_args

# What `as_=` takes.
FrameKind: TypeAlias = Literal["pandas", "polars", "arrow"]
KINDS: tuple[FrameKind, ...] = get_args(FrameKind)


def check_kind(kind: Any) -> FrameKind:
    """The kind, if it is one.

    Raises:
        ValueError: There is no such kind.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise ValueError(f"as_={kind!r} is no kind of frame; there are {', '.join(map(repr, KINDS))}")
