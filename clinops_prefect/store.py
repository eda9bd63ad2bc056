"""PipelineStore: hands DataFrames from step to step by name. Written once, over the byte operations of a backend."""

import abc
import importlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from prefect.exceptions import MissingContextError
from prefect.filesystems import WritableFileSystem
from prefect.logging import get_logger, get_run_logger
from pydantic import ConfigDict, Field, HttpUrl

from clinops_prefect.artifacts import plain
from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.backend import Backend, ObjectChangedError, ObjectExistsError
from clinops_prefect.errors import (
    ArtifactDecodeError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ClinopsPrefectError,
    InvalidArtifactNameError,
    ServiceUnavailableError,
)
from clinops_prefect.links import LOGO, UI_GUIDE
from clinops_prefect.metadata import check_metadata
from clinops_prefect.names import check_name, check_prefix, join, name_of, nearest
from clinops_prefect.storage_format import StorageFormat
from clinops_prefect.trust import check_result, result_block
from clinops_prefect.twins import asynchronous, asynchronous_iterator

if TYPE_CHECKING:
    import pandas as pd

    from clinops_prefect.frames.selection import Filters

T = TypeVar("T")

# Where `from_uri` finds the store of a scheme. By name, so that one cloud's packages are imported for its URIs only.
_STORES = {
    "file": ("clinops_prefect.stores.local", "LocalPipelineStore"),
    "s3": ("clinops_prefect.stores.s3", "S3PipelineStore"),
    "gs": ("clinops_prefect.stores.gcs", "GCSPipelineStore"),
}
# What Prefect puts among the fields of a block that it hydrates.
_PREFECT_KEYS = ("_block_document_id", "_block_document_name", "_is_anonymous")
# An object that changes under a reader this often is being overwritten in a loop.
_TRIES = 5


class PipelineStore(WritableFileSystem, abc.ABC):
    """A place for the DataFrames that one step of a pipeline hands to the next, by artifact name.

    Use one of its subclasses: `LocalPipelineStore`, `S3PipelineStore`, `GCSPipelineStore`; or `from_uri`.
    """

    # hide_input_in_errors: pydantic would quote the whole input, secrets included.
    model_config = ConfigDict(hide_input_in_errors=True)

    _logo_url = HttpUrl(LOGO)
    _documentation_url = HttpUrl(UI_GUIDE)
    # The field that may be given by position.
    _first_field: ClassVar[str] = "bucket"

    # `position`: see `model_json_schema`.
    prefix: str = Field(
        default="",
        description="The path below which the store keeps everything it writes, such as clinops/prod.",
        json_schema_extra={"position": 1},
    )
    format: StorageFormat = Field(
        default=StorageFormat.PARQUET,
        description="Parquet, or CSV for tools that cannot read Parquet. A store lists artifacts of its own format.",
        json_schema_extra={"position": 2},
    )
    allow_pickle: bool = Field(
        default=False,
        description="Whether Prefect results may be read with a serializer that can run code, such as pickle. "
        "Who can write to the store can then run code in your workers.",
        json_schema_extra={"position": 10},
    )

    def __new__(cls, *_: Any, **data: Any) -> Self:
        """Positional arguments need both this and `__init__`: Prefect's `Block.__new__` takes none."""
        return super().__new__(cls, **data)

    def __init__(self, first: Any = None, /, **data: Any) -> None:
        if first is not None:
            if self._first_field in data:
                raise TypeError(f"{type(self).__name__} got {self._first_field!r} twice")
            data[self._first_field] = first
        # Prefect loses these when it hydrates a block in another process; kept, the block stays the saved one there.
        kept = {key: data.pop(key) for key in _PREFECT_KEYS if key in data}
        fields = type(self).model_fields
        for key in data:
            if key not in fields and key != "block_type_slug":
                raise TypeError(f"{type(self).__name__} has no field {key!r}{nearest(key, fields)}")
        data["prefix"] = check_prefix(data.get("prefix") or "")
        super().__init__(**data)
        for key, value in kept.items():
            setattr(self, key, value)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Prefect's, for a form that reads well.

        Prefect numbers the fields as they are declared, the inherited ones first, so the bucket would come after
        `allow_pickle`. The UI would make a tab of the None that a field may be, and show what the class of the
        formats says about itself instead of what the field does.
        """
        schema = super().model_json_schema(*args, **kwargs)
        for name, declared in cls.model_fields.items():
            field = schema["properties"][name]
            if isinstance(declared.json_schema_extra, dict):
                field |= declared.json_schema_extra
            options = [option for option in field.pop("anyOf", ()) if option != {"type": "null"}]
            options.sort(key=str)
            field |= {"anyOf": options} if len(options) > 1 else dict(*options)
        formats = schema["definitions"].pop("StorageFormat")["enum"]
        del schema["properties"]["format"]["$ref"]
        schema["properties"]["format"] |= {"title": "Format", "type": "string", "enum": formats}
        return schema

    @classmethod
    def from_uri(cls, uri: Any, **fields: Any) -> "PipelineStore":
        """The store at a URI.

        Args:
            uri: `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///directory`, or the path of a directory.
            **fields: Any other field of that store.

        Raises:
            ValueError: No store has that scheme.
        """
        text = str(uri)
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "file", text
        if scheme not in _STORES:
            known = ", ".join(f"{name}://" for name in sorted(_STORES))
            raise ValueError(f"no store for {scheme}://; there are {known} and plain paths")
        module, name = _STORES[scheme]
        store: type[PipelineStore] = getattr(importlib.import_module(module), name)
        return store._at(rest, is_uri=bool(separator), **fields)

    @classmethod
    @abc.abstractmethod
    def _at(cls, location: str, *, is_uri: bool, **fields: Any) -> "PipelineStore":
        """The store at what follows `://` in a URI, or at a path."""

    @abc.abstractmethod
    def _backend(self) -> Backend:
        """The byte operations, with the process's client. Cheap: called for every operation."""

    @classmethod
    @abc.abstractmethod
    def _backend_type(cls) -> type[Backend]:
        """The class of `_backend()`, for its limits."""

    # --- frames ---

    def upload(
        self, df: "pd.DataFrame", name: str, *, overwrite: bool = True, metadata: dict[str, str] | None = None
    ) -> str:
        """Store a frame so that `download` gives an equal one: values, dtypes, index and column order.

        Args:
            df: The frame, shape (rows, columns). Any dtype, index and column labels that come back equal.
            name: The artifact's name, such as `features/windows_2024_01`; the extension is added.
            overwrite: Whether to replace an artifact of that name. If not, the write is conditional: of two
                simultaneous uploads one wins and the other is told.
            metadata: A few short texts to keep with it, ASCII, 1,800 bytes in all.

        Returns:
            The artifact's URI.

        Raises:
            UnsupportedFrameError: The frame would not come back equal; nothing was written.
            ArtifactExistsError: `overwrite` is false and it exists; nothing was written.
            InvalidArtifactNameError: The name breaks the grammar.
            InvalidMetadataError: The metadata cannot be carried.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The credentials do not permit it.
            ServiceUnavailableError: The service cannot be reached.
        """
        key, texts = self._key(name), check_metadata(metadata)
        return self._write(key, lambda: self._codec.encode_frame(df, self.format, texts), texts, overwrite)

    aupload = asynchronous(upload)

    def upload_batches(
        self,
        batches: "Iterable[pd.DataFrame]",
        name: str,
        *,
        overwrite: bool = True,
        metadata: dict[str, str] | None = None,
    ) -> str:
        """Store frames as one artifact, in memory bounded by a batch and a few parts, whatever the sum.

        Args:
            batches: Frames with the same columns, dtypes and index levels; default indexes are numbered through.
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
        return self._write(key, lambda: self._codec.encode_batches(batches, self.format, texts), texts, overwrite)

    aupload_batches = asynchronous(upload_batches)

    def download(
        self,
        name: str,
        *,
        columns: Sequence[Hashable] | None = None,
        filters: "Filters | None" = None,
        version: str = "",
    ) -> "pd.DataFrame":
        """The frame that was uploaded, or a part of it.

        Args:
            name: The artifact's name.
            columns: Only these columns, in this order; the index is kept. Of Parquet only their bytes are fetched.
            filters: Only the rows for which they hold: `[("stay_id", "==", 7)]`, a list of such lists (any of them
                holds), or a pyarrow expression. Of Parquet only the row groups that may have such rows are fetched.
                A default index is renumbered.
            version: A version from `list_versions`; empty, the current one.

        Returns:
            The frame, shape (rows, columns).

        Raises:
            ArtifactNotFoundError: There is no such artifact, or version.
            ArtifactDecodeError: What is stored is damaged, or not of the store's format.
            ArtifactColumnError: A column is not in it, or the filters do not fit its types.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The credentials do not permit it.
            ServiceUnavailableError: The service cannot be reached.
        """
        key = self._key(name)
        frame: pd.DataFrame = self._again(
            lambda: self._codec.download(ObjectReader(self._backend(), key, version), self.format, columns, filters)
        )
        return frame

    adownload = asynchronous(download)

    def iter_batches(
        self,
        name: str,
        *,
        columns: Sequence[Hashable] | None = None,
        filters: "Filters | None" = None,
        rows: int = 100_000,
    ) -> "Iterator[pd.DataFrame]":
        """The artifact in frames of `rows` rows (the last may be shorter), in memory bounded by a few row groups.

        Args:
            name: The artifact's name.
            columns: As in `download`.
            filters: As in `download`.
            rows: Rows of a frame.

        Yields:
            Frames whose concatenation is what `download` returns; one empty frame where there are no rows.

        Raises:
            ServiceUnavailableError: Also when the artifact was overwritten while it was read: begin again.
            Exception: As `download`.
        """
        if rows < 1:
            raise ValueError(f"rows must be at least 1, not {rows}")
        key = self._key(name)

        def begun() -> "tuple[pd.DataFrame, Iterator[pd.DataFrame]]":
            reader = ObjectReader(self._backend(), key)
            frames = self._codec.iter_frames(reader, self.format, columns, filters, rows)
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

    aiter_batches = asynchronous_iterator(iter_batches)

    # --- artifacts ---

    def list_artifacts(self, prefix: str = "") -> list[str]:
        """The names of the artifacts of the store's format, sorted; each can be passed to `download`.

        Args:
            prefix: Only names below this path: `features` finds `features/a`, not `features_old/a`.

        Raises:
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The credentials do not permit it.
        """
        below = check_prefix(prefix)
        root = join(self.prefix, below) if below else self.prefix
        extension = self.format.extension
        keys = self._backend().list(f"{root}/" if root else "")
        return sorted(name for key in keys if (name := name_of(key, self.prefix, extension)) is not None)

    alist_artifacts = asynchronous(list_artifacts)

    def exists(self, name: str) -> bool:
        """Whether there is such an artifact. A missing bucket or a denied access raises: it is not "no"."""
        try:
            self._backend().head(self._key(name))
        except ArtifactNotFoundError:
            return False
        return True

    aexists = asynchronous(exists)

    def stat(self, name: str) -> ArtifactInfo:
        """Size, rows, schema, time, metadata and version of an artifact, without its rows.

        Raises:
            ArtifactNotFoundError: There is no such artifact.
            ArtifactDecodeError: What is stored is damaged, or not of the store's format.
        """
        key = self._key(name)
        info: ArtifactInfo = self._again(lambda: self._codec.info(ObjectReader(self._backend(), key), self.format))
        return info

    astat = asynchronous(stat)

    def list_versions(self, name: str) -> list[ArtifactInfo]:
        """The versions of an artifact that the bucket still keeps, newest first; one where it keeps none.

        Raises:
            ArtifactNotFoundError: There is no version of such an artifact.
        """
        backend, key = self._backend(), self._key(name)
        found = self._again(
            lambda: [
                self._codec.info(ObjectReader(backend, key, info.version), self.format)
                for info in backend.versions(key)
            ]
        )
        if not found:
            raise ArtifactNotFoundError(f"there is no {backend.uri(key)}", uri=backend.uri(key))
        return found

    alist_versions = asynchronous(list_versions)

    def uri(self, name: str) -> str:
        """The URI of an artifact, there or not."""
        return self._backend().uri(self._key(name))

    def copy_artifact(self, source: str, target: str) -> str:
        """Copy an artifact to another name, within the backend: no byte passes through this machine.

        Returns:
            The copy's URI. An artifact of that name is replaced.
        """
        backend, origin, key = self._backend(), self._key(source), self._key(target)
        if origin == key:
            backend.head(key)  # S3 refuses to copy an object to itself
        else:
            self._again(lambda: self._codec.copy(backend, origin, key, self.format))
        return backend.uri(key)

    acopy_artifact = asynchronous(copy_artifact)

    def delete_artifact(self, name: str, *, missing_ok: bool = False) -> None:
        """Remove an artifact.

        Raises:
            ArtifactNotFoundError: There is none, and `missing_ok` is false.
        """
        backend, key = self._backend(), self._key(name)
        if not missing_ok:
            backend.head(key)
        self._codec.remove(backend, key, self.format)

    adelete_artifact = asynchronous(delete_artifact)

    # --- plain objects ---

    def write_bytes(self, path: str, data: bytes, *, content_type: str = "") -> str:
        """Store a plain object (a report, a manifest) beside the artifacts, as atomic and as checked as they are.

        Args:
            path: As an artifact's name, with the extension: `icu/2024-01-01/quality.html`.
            data: The bytes.
            content_type: A media type; empty, guessed from the extension.

        Returns:
            The object's URI.
        """
        key = self._checked_key(join(self.prefix, check_name(path, what="path")))
        backend = self._backend()
        plain.write(backend, key, data, content_type)
        return backend.uri(key)

    awrite_bytes = asynchronous(write_bytes)

    def read_bytes(self, path: str) -> bytes:
        """The bytes of a plain object.

        Raises:
            ArtifactNotFoundError: There is none.
            ArtifactDecodeError: They are damaged.
        """
        key = self._checked_key(join(self.prefix, check_name(path, what="path")))
        return self._again(lambda: plain.read(ObjectReader(self._backend(), key)))

    aread_bytes = asynchronous(read_bytes)

    # --- Prefect results ---

    # `_sync` is what Prefect's sync engine passes; its async engine calls the twins.
    def read_path(self, path: str, *, _sync: bool = True) -> bytes:  # type: ignore[override]
        """The bytes of a Prefect result, for Prefect itself.

        Raises:
            ArtifactNotFoundError: There is none.
            UntrustedResultError: Reading it could run code, and `allow_pickle` is false.
        """
        with self._logged(path):
            content = self.read_bytes(path)
            if not self.allow_pickle:
                check_result(content, self._result_uri(path))
            return content

    aread_path = asynchronous(read_path)

    def write_path(self, path: str, content: bytes, *, _sync: bool = True) -> None:  # type: ignore[override]
        """Store the bytes of a Prefect result, for Prefect itself.

        Raises:
            UntrustedResultError: Reading it could run code, and `allow_pickle` is false; nothing was written.
        """
        with self._logged(path):
            if not self.allow_pickle:
                check_result(content, self._result_uri(path))
            if self._block_document_id and result_block(content) == str(self._block_document_id):
                # Prefect gives both the same path, and would find its own notes where the result was.
                raise ClinopsPrefectError(
                    f"{self._result_uri(path)} is the result itself: a key_storage in the same bucket as the result "
                    "storage must be a block of its own with another prefix",
                    uri=self._result_uri(path),
                )
            self.write_bytes(path, content)

    awrite_path = asynchronous(write_path)

    def _resolve_path(self, path: str) -> None:
        # Prefect asks for this where it has lost the block's id, and takes a path for one below the prefix already:
        # with any answer but None the prefix would be there twice.
        del path

    def _result_uri(self, path: str) -> str:
        return self._backend().uri(join(self.prefix, check_name(path, what="path")))

    @contextmanager
    def _logged(self, path: str) -> Iterator[None]:
        # Prefect takes any error of a read for "there is no such result", runs the task again and overwrites it, and
        # only logs an error of a write as one of many lines. So the store says itself what happened.
        try:
            yield
        except ArtifactNotFoundError:
            raise
        except Exception as error:
            # As ASCII: a line break in a name that was refused would forge a line.
            _logger().error("result %s: %s", ascii(path)[1:-1], error)
            raise

    # --- inner ---

    @property
    def _codec(self) -> Any:
        # At the first frame, not before: pandas and PyArrow take a third as long to import as all else together.
        from clinops_prefect.artifacts import codec

        return codec

    def _key(self, name: str) -> str:
        key = join(self.prefix, check_name(name), self.format.extension)
        return self._checked_key(key, self.format.sidecar_bytes)

    def _checked_key(self, key: str, reserve: int = 0) -> str:
        limits = self._backend_type()
        longest = max(len(segment.encode()) for segment in key.split("/")) + reserve
        size = len(key.encode()) + reserve
        if size > limits.key_bytes or longest > limits.segment_bytes:
            raise InvalidArtifactNameError(
                f"the name is too long for a {type(self).__name__}: with prefix and extension it has {size} bytes (at "
                f"most {limits.key_bytes}), its longest segment {longest} (at most {limits.segment_bytes})"
            )
        return key

    def _write(self, key: str, encode: Callable[[], Any], metadata: dict[str, str], overwrite: bool) -> str:
        backend = self._backend()
        try:
            self._codec.write(backend, key, encode(), self.format, metadata, overwrite)
        except ObjectExistsError:
            uri = backend.uri(key)
            raise ArtifactExistsError(f"{uri} exists, and overwrite=False", uri=uri) from None
        return backend.uri(key)

    def _again(self, read: Callable[[], T]) -> T:
        """A read, begun again when the object was overwritten in the middle of it, and once when it looks damaged."""
        damaged = False
        for _ in range(_TRIES):
            try:
                return read()
            except ObjectChangedError:
                continue
            except ArtifactDecodeError:
                # Damage on the way looks like damage at rest, and only the latter is there the next time.
                if damaged:
                    raise
                damaged = True
        raise ServiceUnavailableError("the artifact is overwritten faster than it can be read")


def _logger() -> Any:
    try:
        return get_run_logger()  # whose lines are on the run's page
    except MissingContextError:
        return get_logger("clinops_prefect")
