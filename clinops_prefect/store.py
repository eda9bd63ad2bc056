"""PipelineStore: hands DataFrames from step to step by name. Written once, over the byte operations of a backend."""

import abc
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, overload

from clinops_prefect import locations
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.asynchronous import asynchronous, asynchronous_iterator
from clinops_prefect.errors import ArtifactExistsError, InvalidStoreError, ServiceUnavailableError
from clinops_prefect.frames.kinds import check_kind
from clinops_prefect.names import check_metadata
from clinops_prefect.storage.backend import ObjectChangedError, ObjectExistsError
from clinops_prefect.store_catalog import ArtifactCatalog

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from typing_extensions import Unpack

    from clinops_prefect.frames.csv.options import CsvOptions
    from clinops_prefect.frames.encoding import Encoded
    from clinops_prefect.frames.kinds import FrameKind
    from clinops_prefect.frames.selection.filters import Filters
    from clinops_prefect.signatures import ADownload, AIterBatches, AskedBatches, AskedWhole, Frame


# ABC among the bases themselves is what keeps Prefect from registering a class as a block.
class PipelineStore(ArtifactCatalog, abc.ABC):
    """A place for the DataFrames that one step of a pipeline hands to the next, by artifact name.

    Use one of its subclasses: `LocalPipelineStore`, `S3PipelineStore`, `GCSPipelineStore`; or `from_uri`.
    """

    def __init__(self, first: Any = None, /, **data: Any) -> None:
        super().__init__(first, **data)

    @classmethod
    def from_uri(cls, uri: Any, **fields: Any) -> "PipelineStore":
        """The store at a URI.

        Args:
            uri: `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///directory`, or the path of a directory. A `Path`,
                and text that begins with `/`, `./`, `../` or `~`, is always a directory.
            **fields: Any other field of that store.

        Raises:
            InvalidStoreError: No store has that scheme, or the text looks like a mistyped URI or block reference.
            ImportError: The extra of that store is not installed.
        """
        found = locations.parse(uri)
        if isinstance(found, locations.BlockReference):
            raise InvalidStoreError(
                f"{uri!r} is the reference of a saved block: open it with clinops_prefect.tasks.open_store({uri!r}) or "
                f"{found.kind.name}.load({found.name!r})"
            )
        store: type[PipelineStore] = found.kind.load()
        return store._at(found.path, is_uri=found.is_uri, **fields)

    @classmethod
    @abc.abstractmethod
    def _at(cls, location: str, *, is_uri: bool, **fields: Any) -> "PipelineStore":
        """The store at what follows `://` in a URI, or at a path."""

    # --- frames ---

    def upload(self, df: "Frame", name: str, *, overwrite: bool = True, metadata: dict[str, str] | None = None) -> str:
        """Store a frame so that `download` gives an equal one: values, dtypes, index and column order.

        Args:
            df: The frame, shape (rows, columns): pandas', polars' (a lazy one is collected in batches), a
                `pyarrow.Table`, or anything that has `__arrow_c_stream__`, such as a relation of DuckDB. Any types,
                index and column labels that come back equal.
            name: The artifact's name, such as `features/windows_2024_01`; the extension is added.
            overwrite: Whether to replace an artifact of that name. If not, the write is conditional: when
                two uploads race, exactly one succeeds, and the other raises `ArtifactExistsError`.
            metadata: A few short ASCII texts to keep with the artifact, 1,800 bytes in all.

        Returns:
            The artifact's URI.

        Raises:
            UnsupportedFrameError: The frame would not come back equal; nothing was written.
            ArtifactExistsError: `overwrite` is false and it exists; nothing was written.
            InvalidArtifactNameError: The name breaks the grammar, or ends in the store's own extension.
            InvalidMetadataError: The metadata cannot be carried.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The credentials do not permit it.
            ServiceUnavailableError: The service cannot be reached.
        """
        return self._upload(df, name, check_metadata(metadata), overwrite)

    aupload = asynchronous(upload)

    def upload_batches(
        self,
        batches: "Iterable[Frame] | Frame",
        name: str,
        *,
        overwrite: bool = True,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Store frames as one artifact, in memory bounded by a batch and a few parts, whatever the sum.

        Args:
            batches: Frames of one kind with the same columns, types and index levels; default indexes are numbered
                through. Or one frame that comes in batches: a `polars.LazyFrame`, a `pyarrow.RecordBatchReader`.
            name: As in `upload`.
            overwrite: As in `upload`.
            metadata: As in `upload`.

        Returns:
            The artifact's URI.

        Raises:
            UnsupportedFrameError: There is no batch, or one does not fit the first; nothing was written.
            Exception: Whatever `batches` raises; nothing was written. Otherwise as `upload`.
        """
        key, texts = self._key(name), check_metadata(metadata)
        return self._write(key, lambda: self._codec.encode_batches(batches, texts), texts, overwrite)

    aupload_batches = asynchronous(upload_batches)

    @overload
    def download(
        self, name: str, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[AskedWhole]"
    ) -> "pd.DataFrame": ...

    @overload
    def download(self, name: str, *, as_: Literal["polars"], **asked: "Unpack[AskedWhole]") -> "pl.DataFrame": ...

    @overload
    def download(self, name: str, *, as_: Literal["arrow"], **asked: "Unpack[AskedWhole]") -> "pa.Table": ...

    @overload
    def download(
        self, name: str, *, as_: "FrameKind", **asked: "Unpack[AskedWhole]"
    ) -> "pd.DataFrame | pl.DataFrame | pa.Table": ...

    def download(
        self,
        name: str,
        *,
        columns: Sequence[Hashable] | None = None,
        filters: "Filters | None" = None,
        version: str = "",
        csv_options: "CsvOptions | None" = None,
        as_: "FrameKind" = "pandas",
    ) -> Any:
        """The frame that was uploaded, or a part of it.

        Args:
            name: The artifact's name.
            columns: Only these columns, in this order; the index is kept. Of Parquet only their bytes are fetched.
            filters: Only the rows for which they hold: conditions such as `[("stay_id", "==", 7)]`, a list of such
                lists (any of them holds), or a pyarrow expression; lists may stand for tuples, as in JSON. Operators:
                `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`, and without a value `is null`, `is not null`. A
                missing value (NaN too) matches no comparison, not even `!=` or `not in`; `[]` is no filter. Of Parquet
                only the row groups that may have such rows are fetched. A default index is renumbered.
            version: A version from `list_versions`. If empty, the current one is read.
            csv_options: How to read a CSV of another program, such as `{"delimiter": ";", "decimal": ","}`. Keys:
                `delimiter`, `decimal`, `thousands`, `encoding`, `quote_char`, `escape_char`, `comment`, `header`,
                `names`, `missing`, `dtype`, `skip_rows` and `skip_blank_lines`. Without them, only plain decimals are
                numbers, an empty cell is missing, and a file whose reading is not certain is refused.
            as_: "pandas", "polars" or "arrow" (a `pyarrow.Table`), whoever wrote it. In the latter two the levels of
                an index are columns like any other, and columns are chosen by the names that they have there.

        Returns:
            The frame, shape (rows, columns).

        Raises:
            ArtifactNotFoundError: There is no such artifact, or version.
            ArtifactDecodeError: What is stored is damaged, or not of the store's format.
            ArtifactColumnError: A column is not in it, or the filters do not fit its types.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The credentials do not permit it.
            ServiceUnavailableError: The service cannot be reached.
            TypeError: `csv_options` has an unknown key, or the store keeps Parquet.
            ValueError: `as_` is none of the three.
        """
        key, kind = self._key(name), check_kind(as_)
        asked = self._codec.asked(filters, csv_options)
        return self._again(
            lambda: self._codec.download(ObjectReader(self._backend(), key, version), columns, *asked, kind)
        )

    adownload: "ClassVar[ADownload]" = cast("ADownload", asynchronous(download))

    @overload
    def iter_batches(
        self, name: str, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[AskedBatches]"
    ) -> "Iterator[pd.DataFrame]": ...

    @overload
    def iter_batches(
        self, name: str, *, as_: Literal["polars"], **asked: "Unpack[AskedBatches]"
    ) -> "Iterator[pl.DataFrame]": ...

    @overload
    def iter_batches(
        self, name: str, *, as_: Literal["arrow"], **asked: "Unpack[AskedBatches]"
    ) -> "Iterator[pa.Table]": ...

    @overload
    def iter_batches(
        self, name: str, *, as_: "FrameKind", **asked: "Unpack[AskedBatches]"
    ) -> "Iterator[pd.DataFrame | pl.DataFrame | pa.Table]": ...

    def iter_batches(
        self,
        name: str,
        *,
        columns: Sequence[Hashable] | None = None,
        filters: "Filters | None" = None,
        rows: int = 100_000,
        csv_options: "CsvOptions | None" = None,
        as_: "FrameKind" = "pandas",
    ) -> "Iterator[Any]":
        """The artifact in frames of `rows` rows (the last may be shorter), in memory bounded by a few row groups.

        Args:
            name: The artifact's name.
            columns: As in `download`.
            filters: As in `download`.
            rows: Rows of a frame.
            csv_options: As in `download`. A CSV that another program wrote is read whole before the first frame.
            as_: As in `download`.

        Yields:
            Frames whose concatenation is what `download` returns; one empty frame where there are no rows.

        Raises:
            ServiceUnavailableError: Also when the artifact was overwritten while it was read: begin again.
            Exception: As `download`.
        """
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        key, kind = self._key(name), check_kind(as_)
        asked = self._codec.asked(filters, csv_options)

        def begun() -> "tuple[Any, Iterator[Any]]":
            reader = ObjectReader(self._backend(), key)
            frames = self._codec.iter_frames(reader, columns, *asked, rows, kind)
            return next(frames), frames

        # What was given out cannot be taken back; before that, another try costs nobody anything.
        first, rest = self._again(begun)
        yield first
        del first
        try:
            yield from rest
        except ObjectChangedError:
            uri = self._backend().uri(key)
            raise ServiceUnavailableError(f"{uri} was overwritten while it was read; begin again", uri=uri) from None

    aiter_batches: "ClassVar[AIterBatches]" = cast("AIterBatches", asynchronous_iterator(iter_batches))

    # --- inner ---

    def _upload(
        self,
        df: "Frame",
        name: str,
        metadata: dict[str, str],
        overwrite: bool,
        mark: dict[str, str] | None = None,
    ) -> str:
        key = self._key(name)
        encode = functools.partial(self._codec.encode_frame, df, metadata)
        return self._write(key, encode, {**metadata, **(mark or {})}, overwrite)

    def _write(self, key: str, encode: "Callable[[], Encoded]", metadata: dict[str, str], overwrite: bool) -> str:
        self.refuse_without_protection()
        backend = self._backend()
        try:
            self._codec.write(backend, key, encode(), metadata, overwrite)
        except ObjectExistsError:
            uri = backend.uri(key)
            raise ArtifactExistsError(f"{uri} exists, and overwrite=False", uri=uri) from None
        return backend.uri(key)
