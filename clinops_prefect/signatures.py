"""The signatures of calls whose answer depends on `as_=`, for type checkers; nothing here does anything."""

from collections.abc import AsyncIterator, Coroutine, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, overload

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from prefect import Task
    from typing_extensions import Unpack

    from clinops_prefect.frames.csv.options import CsvOptions
    from clinops_prefect.frames.kinds import FrameKind
    from clinops_prefect.frames.selection.filters import Filters


class ArrowStream(Protocol):
    """What exports Arrow's C stream: tables and readers of PyArrow, DuckDB's relations, narwhals' frames."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """The stream, in a capsule."""


# What can be uploaded. PyArrow's tables have no types of their own for type checkers.
Frame: TypeAlias = "pd.DataFrame | pl.DataFrame | pl.LazyFrame | ArrowStream"


class Asked(TypedDict, total=False):
    """What `iter_batches` and `download` both take."""

    columns: "Sequence[Hashable] | None"
    filters: "Filters | None"
    csv_options: "CsvOptions | None"


class AskedWhole(Asked, total=False):
    """What `download` takes."""

    version: str


class AskedBatches(Asked, total=False):
    """What `iter_batches` takes."""

    rows: int


class ADownload(Protocol):
    """`PipelineStore.adownload`."""

    @overload
    def __call__(
        self, name: str, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[AskedWhole]"
    ) -> "Coroutine[Any, Any, pd.DataFrame]": ...

    @overload
    def __call__(
        self, name: str, *, as_: Literal["polars"], **asked: "Unpack[AskedWhole]"
    ) -> "Coroutine[Any, Any, pl.DataFrame]": ...

    @overload
    def __call__(
        self, name: str, *, as_: Literal["arrow"], **asked: "Unpack[AskedWhole]"
    ) -> "Coroutine[Any, Any, pa.Table]": ...

    @overload
    def __call__(
        self, name: str, *, as_: "FrameKind", **asked: "Unpack[AskedWhole]"
    ) -> "Coroutine[Any, Any, pd.DataFrame | pl.DataFrame | pa.Table]": ...


class AIterBatches(Protocol):
    """`PipelineStore.aiter_batches`."""

    @overload
    def __call__(
        self, name: str, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[AskedBatches]"
    ) -> "AsyncIterator[pd.DataFrame]": ...

    @overload
    def __call__(
        self, name: str, *, as_: Literal["polars"], **asked: "Unpack[AskedBatches]"
    ) -> "AsyncIterator[pl.DataFrame]": ...

    @overload
    def __call__(
        self, name: str, *, as_: Literal["arrow"], **asked: "Unpack[AskedBatches]"
    ) -> "AsyncIterator[pa.Table]": ...

    @overload
    def __call__(
        self, name: str, *, as_: "FrameKind", **asked: "Unpack[AskedBatches]"
    ) -> "AsyncIterator[pd.DataFrame | pl.DataFrame | pa.Table]": ...


if TYPE_CHECKING:

    class DownloadTask(Task[..., Any]):
        """`tasks.download_artifact`."""

        @overload  # type: ignore[override]
        def __call__(
            self, store: Any, name: str = "", *, as_: Literal["pandas"] = "pandas", **asked: Unpack[AskedWhole]
        ) -> pd.DataFrame: ...

        @overload
        def __call__(
            self, store: Any, name: str = "", *, as_: Literal["polars"], **asked: Unpack[AskedWhole]
        ) -> pl.DataFrame: ...

        @overload
        def __call__(
            self, store: Any, name: str = "", *, as_: Literal["arrow"], **asked: Unpack[AskedWhole]
        ) -> pa.Table: ...

        @overload
        def __call__(
            self, store: Any, name: str = "", *, as_: "FrameKind", **asked: Unpack[AskedWhole]
        ) -> pd.DataFrame | pl.DataFrame | pa.Table: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """The frame."""
            ...


class DatasetDownload(Protocol):
    """`ArtifactDataset.adownload`."""

    @overload
    def __call__(
        self, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[Asked]"
    ) -> "Coroutine[Any, Any, pd.DataFrame]": ...

    @overload
    def __call__(self, *, as_: Literal["polars"], **asked: "Unpack[Asked]") -> "Coroutine[Any, Any, pl.DataFrame]": ...

    @overload
    def __call__(self, *, as_: Literal["arrow"], **asked: "Unpack[Asked]") -> "Coroutine[Any, Any, pa.Table]": ...

    @overload
    def __call__(
        self, *, as_: "FrameKind", **asked: "Unpack[Asked]"
    ) -> "Coroutine[Any, Any, pd.DataFrame | pl.DataFrame | pa.Table]": ...


class DatasetBatches(Protocol):
    """`ArtifactDataset.aiter_batches`."""

    @overload
    def __call__(
        self, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[AskedBatches]"
    ) -> "AsyncIterator[pd.DataFrame]": ...

    @overload
    def __call__(self, *, as_: Literal["polars"], **asked: "Unpack[AskedBatches]") -> "AsyncIterator[pl.DataFrame]": ...

    @overload
    def __call__(self, *, as_: Literal["arrow"], **asked: "Unpack[AskedBatches]") -> "AsyncIterator[pa.Table]": ...

    @overload
    def __call__(
        self, *, as_: "FrameKind", **asked: "Unpack[AskedBatches]"
    ) -> "AsyncIterator[pd.DataFrame | pl.DataFrame | pa.Table]": ...
