"""The kinds of frames. This module imports no pandas, polars or PyArrow, so that callers import only what they use."""

from typing import Any, Literal, TypeAlias, get_args

# The values of `as_=`.
FrameKind: TypeAlias = Literal["pandas", "polars", "arrow"]
KINDS: tuple[FrameKind, ...] = get_args(FrameKind)


def check_kind(kind: Any) -> FrameKind:
    """Return the kind if it is valid.

    Raises:
        ValueError: The kind is unknown.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise ValueError(f"as_={kind!r} is no kind of frame; there are {', '.join(map(repr, KINDS))}")
