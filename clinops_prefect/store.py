"""PipelineStore: hands DataFrames from step to step by name. All stores share this code and differ in their backend."""

import abc
import functools
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, cast, overload

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
    from clinops_prefect.frames.kinds import Frame, FrameKind, ReadFrame
    from clinops_prefect.frames.selection.filters import Filters
    from clinops_prefect.signatures import ADownload, AIterBatches, AskedBatches, AskedWhole


# Prefect does not register a class as a block if ABC is among its direct bases.
class PipelineStore(ArtifactCatalog, abc.ABC):  # type: ignore[explicit-any]  # in what pydantic adds
    """Stores the DataFrames that one step of a pipeline hands to the next, by artifact name.

    Use a subclass: `LocalPipelineStore`, `S3PipelineStore`, `GCSPipelineStore` or `AzurePipelineStore`; or `from_uri`.
    """

    def __init__(self, first: object = None, /, **data: object) -> None:
        super().__init__(first, **data)

    @classmethod
    def from_uri(cls, uri: "str | os.PathLike[str]", **fields: object) -> "PipelineStore":
        """The store at a URI.

        Args:
            uri: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `file:///directory`, or the path
                of a directory. A `Path`, and text that begins with `/`, `./`, `../` or `~`, is always a directory.
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
    def _at(cls, location: str, *, is_uri: bool, **fields: object) -> "PipelineStore":
        """The store at a location, which is the text after `://` in a URI, or a path."""

    # --- frames ---

    def upload(self, df: "Frame", name: str, *, overwrite: bool = True, metadata: dict[str, str] | None = None) -> str:
        """Store a frame so that `download` returns an equal one: values, dtypes, index and column order.

        Args:
            df: The frame, shape (rows, columns): of pandas, of polars (a lazy frame is collected in batches), a
                `pyarrow.Table`, or any object with `__arrow_c_stream__`, such as a relation of DuckDB. All types,
                indexes and column labels that come back equal are accepted.
            name: The artifact's name, such as `features/windows_2024_01`, without the extension.
            overwrite: Whether to replace an artifact of that name. If false, the write is conditional: when
                two uploads race, exactly one succeeds, and the other raises `ArtifactExistsError`.
            metadata: A few short ASCII texts to keep with the artifact, at most 1,800 bytes in all.

        Returns:
            The artifact's URI.

        Raises:
            UnsupportedFrameError: The frame would not come back equal. Nothing was written.
            ArtifactExistsError: `overwrite` is false and the artifact exists. Nothing was written.
            InvalidArtifactNameError: The name breaks the grammar, or ends in the store's own extension.
            InvalidMetadataError: The metadata is too long, or not ASCII.
            BucketNotFoundError: The bucket does not exist.
            AccessDeniedError: The credentials do not permit the write.
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
        """Store frames as one artifact. Memory holds one batch and a few parts, whatever the total size.

        Args:
            batches: Frames of one kind with the same columns, types and index levels; default indexes are numbered
                consecutively. Or one frame that yields batches: a `polars.LazyFrame`, a `pyarrow.RecordBatchReader`.
            name: As in `upload`.
            overwrite: As in `upload`.
            metadata: As in `upload`.

        Returns:
            The artifact's URI.

        Raises:
            UnsupportedFrameError: There is no batch, or a batch does not fit the first. Nothing was written.
            Exception: Any error that `batches` raises. Nothing was written. Otherwise as `upload`.
        """
        key, texts = self._key(name), check_metadata(metadata)
        is_repeatable = self._codec.is_repeatable(batches)
        return self._write(key, lambda: self._codec.encode_batches(batches, texts), texts, overwrite, is_repeatable)

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
    ) -> "ReadFrame":
        """Read the frame that was uploaded, or a part of it.

        Args:
            name: The artifact's name.
            columns: Only these columns, in this order; the index is kept. For Parquet, only their bytes are fetched.
            filters: Only the rows that match: a list of conditions that all hold, such as `[("stay_id", "==", 7)]`, a
                list of such lists (one of them holds), or a pyarrow expression. Tuples may be lists, as in JSON.
                Operators: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`, and without a value `is null`,
                `is not null`. A missing value (also NaN) matches no comparison, not even `!=` or `not in`; `[]` means
                no filter. For Parquet, only row groups that may match are fetched. A default index is renumbered.
            version: A version from `list_versions`. If empty, the current one is read.
            csv_options: How to read a CSV of another program, such as `{"delimiter": ";", "decimal": ","}`. Keys:
                `delimiter`, `decimal`, `thousands`, `encoding`, `quote_char`, `escape_char`, `comment`, `header`,
                `names`, `missing`, `dtype`, `skip_rows` and `skip_blank_lines`. Without options, only plain decimals
                are numbers, an empty cell is missing, and a file that can be read in more than one way is refused.
            as_: "pandas", "polars" or "arrow" (a `pyarrow.Table`), whichever kind was uploaded. For polars and Arrow,
                index levels are ordinary columns, and `columns` takes the names that the columns have there.

        Returns:
            The frame, shape (rows, columns).

        Raises:
            ArtifactNotFoundError: The artifact, or the version, does not exist.
            ArtifactDecodeError: The stored object is damaged, or not of the store's format.
            ArtifactColumnError: The artifact does not have a column, or the filters do not fit its types.
            BucketNotFoundError: The bucket does not exist.
            AccessDeniedError: The credentials do not permit the read.
            ServiceUnavailableError: The service cannot be reached.
            TypeError: `csv_options` has an unknown key, or the store's format is Parquet.
            ValueError: `as_` has another value.
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
    ) -> "Iterator[ReadFrame]":
        """Yield the artifact in frames of `rows` rows, the last may be shorter. Memory holds a few row groups.

        Args:
            name: The artifact's name.
            columns: As in `download`.
            filters: As in `download`.
            rows: Number of rows of a frame.
            csv_options: As in `download`. A CSV of another program is read completely before the first frame.
            as_: As in `download`.

        Yields:
            Frames whose concatenation equals the result of `download`; one empty frame if there are no rows.

        Raises:
            ServiceUnavailableError: Also if the artifact was overwritten during the read; start the iteration again.
            Exception: As `download`.
        """
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        key, kind = self._key(name), check_kind(as_)
        asked = self._codec.asked(filters, csv_options)

        def begun() -> "tuple[ReadFrame, Iterator[ReadFrame]]":
            reader = ObjectReader(self._backend(), key)
            frames = self._codec.iter_frames(reader, columns, *asked, rows, kind)
            return next(frames), frames

        # Only the first frame is retried: once a frame has been yielded, starting again would repeat rows.
        first, rest = self._again(begun)
        yield first
        del first
        try:
            yield from rest
        except ObjectChangedError:
            uri = self._backend().uri(key)
            raise ServiceUnavailableError(f"{uri} was overwritten while it was read; begin again", uri=uri) from None

    aiter_batches: "ClassVar[AIterBatches]" = cast("AIterBatches", asynchronous_iterator(iter_batches))

    # --- internal ---

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
        return self._write(key, encode, {**metadata, **(mark or {})}, overwrite, self._codec.is_repeatable(df))

    def _write(
        self,
        key: str,
        encode: "Callable[[], Encoded]",
        metadata: dict[str, str],
        overwrite: bool,
        is_repeatable: bool,
    ) -> str:
        self.refuse_without_protection()
        backend = self._backend()
        try:
            self._kept(
                lambda: self._codec.write(backend, key, encode(), metadata, overwrite), is_repeatable=is_repeatable
            )
        except ObjectExistsError:
            uri = backend.uri(key)
            raise ArtifactExistsError(f"{uri} exists, and overwrite=False", uri=uri) from None
        return backend.uri(key)
