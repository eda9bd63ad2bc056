"""ArtifactRef: a small reference to one version of an artifact, for tasks to return instead of the frame."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeVar, cast, overload

from clinops_prefect import registry
from clinops_prefect.asynchronous import asynchronous
from clinops_prefect.errors import ArtifactNotFoundError, InvalidStoreError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from prefect.blocks.core import Block
    from typing_extensions import Unpack

    from clinops_prefect.artifacts.info import ArtifactInfo
    from clinops_prefect.frames.csv.options import CsvOptions
    from clinops_prefect.frames.kinds import FrameKind, ReadFrame
    from clinops_prefect.frames.selection.filters import Filters
    from clinops_prefect.signatures import Asked, DatasetDownload

T = TypeVar("T")

# The fields of a store that a reference may carry. No address is among them: otherwise, whoever can write to the result
# storage could make a worker send its credentials to a foreign server.
_CARRIED = frozenset(
    {
        *("prefix", "format", "region", "profile", "project", "user_project", "request_payer", "checksums"),
        *("kms_key_id", "kms_key_name", "encryption_scope"),
    }
)
# Fields that are not needed to read a frame.
_LEFT_OUT = frozenset({"allow_pickle"})


class _Opened(Protocol):
    """What a reference asks of the store, which is of a higher layer."""

    def uri(self, name: str) -> str: ...

    def stat(self, name: str, *, version: str) -> "ArtifactInfo": ...

    def download(
        self,
        name: str,
        *,
        version: str,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: "CsvOptions | None",
        as_: "FrameKind",
    ) -> "ReadFrame": ...


@dataclass(frozen=True)
class ArtifactRef:
    """A reference to one version of an artifact: a few hundred bytes, whatever the size of the artifact.

    `upload_artifact(…, as_ref=True)` and `store.ref(name)` return references. You can pickle a reference, and store it
    with `DataFrameSerializer` or Prefect's `json` serializer. It contains no secret.

    Attributes:
        uri: The artifact's URI.
        name: The artifact's name in the store.
        version: A version of the store. If the store keeps no versions, `pin:` and a token that changes when the
            artifact is overwritten.
        store: The reference of the saved block, such as `s3-pipeline-store/prod`, or the URI of the bucket or folder.
        settings: Further fields of a store that is not a saved block.
    """

    uri: str
    name: str
    version: str
    store: str
    settings: tuple[tuple[str, str | bool], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        _check(self.settings)

    @overload
    def download(self, *, as_: Literal["pandas"] = "pandas", **asked: "Unpack[Asked]") -> "pd.DataFrame": ...

    @overload
    def download(self, *, as_: Literal["polars"], **asked: "Unpack[Asked]") -> "pl.DataFrame": ...

    @overload
    def download(self, *, as_: Literal["arrow"], **asked: "Unpack[Asked]") -> "pa.Table": ...

    @overload
    def download(self, *, as_: "FrameKind", **asked: "Unpack[Asked]") -> "pd.DataFrame | pl.DataFrame | pa.Table": ...

    def download(
        self,
        *,
        columns: Sequence[Hashable] | None = None,
        filters: "Filters | None" = None,
        csv_options: "CsvOptions | None" = None,
        as_: "FrameKind" = "pandas",
    ) -> "ReadFrame":
        """Read the frame, or a part of it, as `PipelineStore.download` does.

        In a task run, the artifact is recorded as upstream of the run's results (Prefect's Assets page).

        Raises:
            ArtifactNotFoundError: The version is gone: it was overwritten or deleted.
            InvalidStoreError: The block is gone, or now means another place.
            ClinopsPrefectError: As `PipelineStore.download`.
        """
        frame = self._read(
            lambda store: store.download(
                self.name, version=self.version, columns=columns, filters=filters, csv_options=csv_options, as_=as_
            )
        )
        registry.load("clinops_prefect.assets:read")(self.uri)
        return frame

    adownload: ClassVar["DatasetDownload"] = cast("DatasetDownload", asynchronous(download))

    def stat(self) -> "ArtifactInfo":
        """Size, rows, schema, time and metadata of this version.

        Raises:
            ArtifactNotFoundError: The version is gone: it was overwritten or deleted.
            ClinopsPrefectError: As `PipelineStore.stat`.
        """
        return self._read(lambda store: store.stat(self.name, version=self.version))

    astat = asynchronous(stat)

    def _read(self, read: "Callable[[_Opened], T]") -> T:
        store = self._opened()
        try:
            return read(store)
        except ArtifactNotFoundError as error:
            raise ArtifactNotFoundError(
                f"{self.uri}: the version that this reference means is gone, overwritten or deleted since: run again "
                "what made the reference, or give each run a name of its own",
                uri=self.uri,
            ) from error

    def _opened(self) -> "_Opened":
        store: _Opened
        if "://" in self.store:
            store = registry.load("clinops_prefect.store:PipelineStore").from_uri(self.store, **dict(self.settings))
        else:
            store = registry.load("clinops_prefect.tasks:open_store")(self.store)
        if (there := store.uri(self.name)) != self.uri:
            raise InvalidStoreError(
                f"{self.store} means {there} now, and the reference was made for {self.uri}: point the block there "
                "again, or run again what made the reference"
            )
        return store


def place_of(store: "Block", root: str, first_field: str) -> tuple[str, tuple[tuple[str, str | bool], ...]]:
    """The `store` and `settings` of an `ArtifactRef` for this store.

    Args:
        store: A store.
        root: The URI of its bucket or folder.
        first_field: The field that the URI tells.

    Returns:
        The reference of the saved block; or else a URI, and the fields that differ from their defaults.

    Raises:
        InvalidStoreError: The store is not a saved block, and has a field that a reference does not carry.
    """
    kind = type(store)
    # Private names of Prefect. Without them, the reference to a saved store could not name its block
    # (test_private_names.py).
    if store._block_document_name and not store._is_anonymous:
        return f"{kind.get_block_type_slug()}/{store._block_document_name}", ()
    uri = root.rstrip("/")
    registered = registry.by_scheme(uri.partition("://")[0])
    if registered is None or registered.load() is not kind:
        raise InvalidStoreError(
            f"a {kind.__name__} cannot be found again by its URI: save it as a block, with store.save('NAME')"
        )
    settings = {}
    for name, about in kind.model_fields.items():
        value = getattr(store, name)
        if value != about.get_default(call_default_factory=True) and name not in {first_field} | _LEFT_OUT:
            settings[name] = getattr(value, "value", value)
    _check(settings.items())
    return uri, tuple(settings.items())


def _check(settings: Iterable[tuple[str, object]]) -> None:
    if strange := sorted(name for name, _ in settings if name not in _CARRIED):
        raise InvalidStoreError(
            f"a reference carries no {', '.join(strange)} of a store: save the store as a block, with "
            "store.save('NAME'), and use the block"
        )
