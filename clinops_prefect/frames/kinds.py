"""The kinds of frames. This module imports no pandas, polars or PyArrow, so that callers import only what they use."""

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

# The values of `as_=`.
FrameKind: TypeAlias = Literal["pandas", "polars", "arrow"]
KINDS: tuple[FrameKind, ...] = get_args(FrameKind)


class ArrowStream(Protocol):
    """An object that exports Arrow's C stream: tables and readers of PyArrow, DuckDB's relations, narwhals' frames."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The stream in a PyCapsule."""


# The frames that can be uploaded. PyArrow has no type hints, so its tables are covered by `ArrowStream`.
Frame: TypeAlias = "pd.DataFrame | pl.DataFrame | pl.LazyFrame | ArrowStream"
# The frames that are read, one for each kind.
ReadFrame: TypeAlias = "pd.DataFrame | pl.DataFrame | pa.Table"


def check_kind(kind: object) -> FrameKind:
    """Return the kind if it is valid.

    Raises:
        TypeError: The kind is unknown.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise TypeError(f"as_={kind!r} is no kind of frame; use one of {', '.join(map(repr, KINDS))}")
