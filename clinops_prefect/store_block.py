"""StoreBlock: the part of a store that Prefect uses, a block with a form and a place for results. It has no frames."""

import abc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self, TypeVar, cast

from prefect.exceptions import MissingContextError
from prefect.filesystems import WritableFileSystem
from prefect.logging import get_logger, get_run_logger
from prefect.results import get_result_store
from pydantic import ConfigDict, Field, HttpUrl

from clinops_prefect.artifacts import plain
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.asynchronous import asynchronous
from clinops_prefect.errors import (
    ArtifactDecodeError,
    ArtifactNotFoundError,
    ClinopsPrefectError,
    InvalidArtifactNameError,
    ServiceUnavailableError,
)
from clinops_prefect.form_schemas import form_schema
from clinops_prefect.locations import shown
from clinops_prefect.names import PREFIX_PATTERN, check_name, check_prefix, join, name_of
from clinops_prefect.registry import UI_GUIDE
from clinops_prefect.results.guard import check_result, noted_result, result_block
from clinops_prefect.saved_block import SavedBlock
from clinops_prefect.storage.backend import Backend, ObjectChangedError, UploadDroppedError
from clinops_prefect.storage_format import StorageFormat

T = TypeVar("T")

# If an object changes in this many reads in a row, somebody overwrites it in a loop, and we give up.
_TRIES = 5
# After each of these pauses, a dropped upload is sent again. S3 refuses a conditional upload for as long as another one
# of the same name takes to end.
_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8)


class StoreBlock(SavedBlock, WritableFileSystem, abc.ABC):  # type: ignore[explicit-any]  # in what pydantic adds
    """The block of a store: the fields that all stores share, plain objects, and Prefect results."""

    # Without hide_input_in_errors, pydantic's messages would quote the whole input, secrets included.
    model_config = ConfigDict(hide_input_in_errors=True)

    _documentation_url = HttpUrl(UI_GUIDE)
    # The field that may be given by position.
    _first_field: ClassVar[str] = "bucket"

    # `position`: see `model_json_schema`.
    prefix: str = Field(
        default="",
        description="The path below which the store keeps everything it writes, such as clinops/prod.",
        json_schema_extra={"position": 1, "pattern": PREFIX_PATTERN},
    )
    format: StorageFormat = Field(
        default=StorageFormat.PARQUET,
        description="Parquet, or CSV for tools that cannot read Parquet. A store lists artifacts of its own format.",
        json_schema_extra={"position": 2},
    )
    allow_pickle: bool = Field(
        default=False,
        description="Whether Prefect results may be read with a serializer that can run code, such as pickle. "
        "Then whoever can write to the store can run code in your workers.",
        json_schema_extra={"position": 21},
    )

    def __new__(cls, *_: object, **data: object) -> Self:
        """Accept positional arguments, which Prefect's `Block.__new__` does not. `__init__` stores them."""
        return super().__new__(cls, **data)

    def __init__(self, first: object = None, /, **data: object) -> None:
        if first is not None:
            if self._first_field in data:
                raise TypeError(f"{type(self).__name__} got {self._first_field!r} twice")
            data[self._first_field] = first
        data["prefix"] = check_prefix(cast("str", data.get("prefix") or ""))
        super().__init__(**data)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[explicit-any]  # pydantic's
        """Prefect's schema, changed into one for a readable form, without the docstring of `StorageFormat`."""
        schema = form_schema(super().model_json_schema(*args, **kwargs), cls.model_fields)
        formats = schema["definitions"].pop("StorageFormat")["enum"]
        del schema["properties"]["format"]["$ref"]
        schema["properties"]["format"] |= {"title": "Format", "type": "string", "enum": formats}
        return schema

    @abc.abstractmethod
    def _backend(self) -> Backend:
        """The backend, with the process's client. This must be cheap, because every operation calls it."""

    @classmethod
    @abc.abstractmethod
    def _backend_type(cls) -> type[Backend]:
        """The class of `_backend()`, whose limits are needed before a backend is made."""

    # --- plain objects ---

    def write_bytes(self, path: str, data: bytes, *, content_type: str = "") -> str:
        """Store a plain object, such as a report, in the store: atomically, and with a checksum.

        Args:
            path: A name like an artifact's, but with extension: `icu/2024-01-01/quality.html`. Or a URI from a previous
                call.
            data: The bytes.
            content_type: A media type. If empty, it is guessed from the extension.

        Returns:
            The object's URI.
        """
        self.refuse_without_protection()
        key = self._path_key(path)
        backend = self._backend()
        self._kept(lambda: plain.write(backend, key, data, content_type))
        return backend.uri(key)

    awrite_bytes = asynchronous(write_bytes)

    def read_bytes(self, path: str) -> bytes:
        """Read the bytes of a plain object.

        Raises:
            ArtifactNotFoundError: The object does not exist.
            ArtifactDecodeError: The bytes are damaged.
        """
        key = self._path_key(path)
        return self._again(lambda: plain.read(ObjectReader(self._backend(), key)))

    aread_bytes = asynchronous(read_bytes)

    def browser_url(self, path: str) -> str:
        """The URL that shows a plain object or an artifact in a browser. Sends no request.

        For a cloud store, this is the object's page in the provider's console, which asks users to sign in. With your
        own endpoint, it is the object's address there. For a local store, it is a `file://` URL.

        Args:
            path: The path of a plain object, or the URI of one or of an artifact: `store.browser_url(store.uri(name))`.
        """
        return self._backend().browser_url(self._path_key(path))

    # --- Prefect results ---

    # Prefect's sync engine passes `_sync`. Its async engine calls the async wrappers.
    def read_path(self, path: str, *, _sync: bool = True) -> bytes:  # type: ignore[override]
        """Read the bytes of a Prefect result. Prefect calls this.

        Raises:
            ArtifactNotFoundError: The result does not exist.
            UntrustedResultError: Reading the result could run code, and `allow_pickle` is false.
        """
        with self._logged(path):
            content = self.read_bytes(path)
            if not self.allow_pickle:
                check_result(content, self._result_uri(path))
            _refuse_note_of_missing(content)
            return content

    aread_path = asynchronous(read_path)

    def write_path(self, path: str, content: bytes, *, _sync: bool = True) -> None:  # type: ignore[override]
        """Store the bytes of a Prefect result. Prefect calls this.

        Raises:
            UntrustedResultError: Reading the result could run code, and `allow_pickle` is false. Nothing was written.
        """
        with self._logged(path):
            if not self.allow_pickle:
                check_result(content, self._result_uri(path))
            # A private name of Prefect. Without it, we would not notice a key_storage that overwrites the results
            # (test_cache.py).
            if self._block_document_id and result_block(content) == str(self._block_document_id):
                # Prefect gives metadata and result the same path, so the metadata would overwrite the result.
                raise ClinopsPrefectError(
                    f"{self._result_uri(path)} is the result itself: a key_storage in the same bucket as the result "
                    "storage must be a block of its own with another prefix",
                    uri=self._result_uri(path),
                )
            self.write_bytes(path, content)

    awrite_path = asynchronous(write_path)

    def _resolve_path(self, path: str) -> None:
        # Prefect calls this if it has lost the block's id, and takes the answer for a path below the prefix. With any
        # answer but None, the prefix would be added twice.
        del path

    def _result_uri(self, path: str) -> str:
        return self._backend().uri(join(self.prefix, check_name(path, what="path")))

    @contextmanager
    def _logged(self, path: str) -> Iterator[None]:
        # Prefect treats any error of a read as "there is no such result", runs the task again and overwrites the
        # result. It hides an error of a write among many log lines. So the store logs the error itself.
        try:
            yield
        except ArtifactNotFoundError:
            raise
        except Exception as error:
            # The path is logged as ASCII, because a line break in a refused name could forge a log line.
            run_logger().error("result %s: %s", ascii(path)[1:-1], error)
            raise

    # --- internal ---

    def _path_key(self, path: str) -> str:
        return self._checked_key(join(self.prefix, check_name(self._own(path), what="path")))

    def _own(self, name: str, extension: str = "") -> str:
        """The name of the artifact with this URI in this store. A name is returned unchanged."""
        if not isinstance(name, str) or "://" not in name:  # no name has two slashes
            return name
        backend = self._backend()
        key = backend.key_of(name)
        own = None if key is None else name_of(key, self.prefix, extension)
        if own is None:
            there = shown(name)
            is_below = key is not None and name_of(key, self.prefix) is not None
            why = f"does not end in {extension}, as the artifacts of" if is_below else "is not in"
            raise InvalidArtifactNameError(
                f"{there} {why} this store, {shown(backend.uri(self.prefix))}: use the store that it was uploaded with"
            )
        return own

    def _head(self, path: str) -> None:
        self._backend().head(self._path_key(path))

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

    def _again(self, read: Callable[[], T]) -> T:
        """Call `read`. Repeat it if the object was overwritten meanwhile, and once if the object looks damaged."""
        damaged = False
        for _ in range(_TRIES):
            try:
                return read()
            except ObjectChangedError:
                continue
            except ArtifactDecodeError:
                # Damage in transit looks like damage at rest, but only damage at rest shows again in the second read.
                if damaged:
                    raise
                damaged = True
        raise ServiceUnavailableError("the artifact is overwritten faster than it can be read")

    def _kept(self, write: Callable[[], None], *, is_repeatable: bool = True) -> None:
        """Call `write`. Repeat it if another upload of the same name ended first and the service dropped this one.

        S3 and Cloud Storage keep both uploads and the last one wins. Azure drops the blocks of all others.

        Raises:
            ServiceUnavailableError: The service has dropped each try.
        """
        for pause in (*(_PAUSES_SECONDS if is_repeatable else ()), None):
            try:
                write()
            except UploadDroppedError as dropped:
                if pause is None:
                    # Callers, and stored results, know only the types of `clinops_prefect.errors`.
                    raise ServiceUnavailableError(str(dropped), uri=dropped.uri) from dropped.__cause__
            else:
                return
            time.sleep(pause)


def _refuse_note_of_missing(content: bytes) -> None:
    """Raise ArtifactNotFoundError for the metadata (stored by `key_storage`) of a result that is gone.

    Prefect only checks the metadata to decide whether there is a result. Without this error, it would find the metadata
    and then fail, in every run, to read the result.
    """
    if not (key := noted_result(content)):
        return
    results = get_result_store()
    if isinstance(results.result_storage, StoreBlock) and str(results.result_storage_block_id) == result_block(content):
        try:
            results.result_storage._head(key)
        except ArtifactNotFoundError:
            raise
        except ClinopsPrefectError:
            return  # reading the result raises this error again


def run_logger() -> "logging.Logger | logging.LoggerAdapter[logging.Logger]":
    """The logger of the current Prefect run; outside a run, the package's logger."""
    try:
        return get_run_logger()  # Prefect shows its lines on the page of the run
    except MissingContextError:
        return get_logger("clinops_prefect")
