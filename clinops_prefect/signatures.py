"""Signatures for type checkers, for calls whose result type depends on `as_=`. Nothing here runs."""

from collections.abc import AsyncIterator, Coroutine, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict, overload

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from prefect import Task
    from typing_extensions import Unpack

    from clinops_prefect.frames.csv.options import CsvOptions
    from clinops_prefect.frames.kinds import FrameKind
    from clinops_prefect.frames.selection.filters import Filters


class Asked(TypedDict, total=False):
    """Keyword arguments of both `iter_batches` and `download`."""

    columns: "Sequence[Hashable] | None"
    filters: "Filters | None"
    csv_options: "CsvOptions | None"


class AskedWhole(Asked, total=False):
    """Keyword arguments of `download`."""

    version: str


class AskedBatches(Asked, total=False):
    """Keyword arguments of `iter_batches`."""

    rows: int


class ADownload(Protocol):
    """The signature of `PipelineStore.adownload`."""

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
    """The signature of `PipelineStore.aiter_batches`."""

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
        """The signature of `tasks.download_artifact`."""

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
            """Returns the frame."""
            ...


class DatasetDownload(Protocol):
    """The signature of `ArtifactDataset.adownload`."""

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
    """The signature of `ArtifactDataset.aiter_batches`."""

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
