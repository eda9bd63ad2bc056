"""ArtifactCatalog: lists, describes, copies and removes the artifacts of a store. It reads no frames."""

import abc
from collections.abc import Iterable
from typing import TYPE_CHECKING

from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.reader import PIN, ObjectReader
from clinops_prefect.artifacts.removal import remove_all
from clinops_prefect.asynchronous import asynchronous
from clinops_prefect.errors import (
    ArtifactNotFoundError,
    InvalidArtifactNameError,
    InvalidStoreError,
    ServiceUnavailableError,
)
from clinops_prefect.names import check_artifact_name, check_prefix, has_extension, join, name_of
from clinops_prefect.references import ArtifactRef, place_of
from clinops_prefect.storage.backend import Backend, ObjectChangedError
from clinops_prefect.store_block import StoreBlock

if TYPE_CHECKING:
    from clinops_prefect.artifacts.codec import Codec
    from clinops_prefect.dataset.artifact_dataset import ArtifactDataset


# Prefect does not register a class as a block if ABC is among its direct bases.
class ArtifactCatalog(StoreBlock, abc.ABC):  # type: ignore[explicit-any]  # in what pydantic adds
    """The operations of a store that read no frames."""

    # Without this, type checkers would not allow a positional argument.
    def __init__(self, first: object = None, /, **data: object) -> None:
        super().__init__(first, **data)

    def list_artifacts(self, prefix: str = "") -> list[str]:
        """The names of the artifacts of the store's format, sorted. Pass one to `download`.

        Args:
            prefix: Only names below this path: `features` finds `features/a`, not `features_old/a`.

        Raises:
            BucketNotFoundError: The bucket does not exist.
            AccessDeniedError: The credentials do not permit the listing.
        """
        below = check_prefix(prefix)
        root = join(self.prefix, below) if below else self.prefix
        return self._names(self._backend().list(f"{root}/" if root else ""))

    alist_artifacts = asynchronous(list_artifacts)

    def dataset(self, prefix: str = "") -> "ArtifactDataset":
        """All artifacts below a prefix as one frame: shards, partitions, and folders that other programs wrote.

        Args:
            prefix: A path, as in `list_artifacts`.

        Returns:
            The dataset. Its parts are pinned: reading a part that was overwritten or removed since raises an error.

        Raises:
            ArtifactNotFoundError: There is no artifact below the prefix. The message says what is there.
            ArtifactDecodeError: The folder is a table of a format with a log (Delta Lake, Iceberg, Hudi), or its parts
                do not have the same partition columns.
            BucketNotFoundError: The bucket does not exist.
            AccessDeniedError: The credentials do not permit the listing.
        """
        from clinops_prefect.dataset.artifact_dataset import ArtifactDataset

        return ArtifactDataset(self, prefix)

    adataset = asynchronous(dataset)

    def exists(self, name: str) -> bool:
        """Whether the artifact exists. A missing bucket or a denied access raises an error; it does not mean "no"."""
        try:
            self._backend().head(self._key(name))
        except ArtifactNotFoundError:
            return False
        return True

    aexists = asynchronous(exists)

    def stat(self, name: str, *, version: str = "") -> ArtifactInfo:
        """Size, number of rows, schema, time, metadata and version of an artifact. Its rows are not read.

        Args:
            name: The artifact's name.
            version: A version from `list_versions`. If empty, the current one is described.

        Raises:
            ArtifactNotFoundError: The artifact, or the version, does not exist.
            ArtifactDecodeError: The stored object is damaged, or not of the store's format.
        """
        key = self._key(name)
        return self._again(lambda: self._codec.info(ObjectReader(self._backend(), key, version)))

    astat = asynchronous(stat)

    def list_versions(self, name: str) -> list[ArtifactInfo]:
        """The versions of an artifact that can be read, newest first. Without versioning, only the current one.

        Raises:
            ArtifactNotFoundError: The artifact has no version.
        """
        backend, key = self._backend(), self._key(name)
        found = self._again(
            lambda: [self._codec.info(ObjectReader(backend, key, info.version)) for info in backend.versions(key)]
        )
        if not found:
            raise ArtifactNotFoundError(f"there is no {backend.uri(key)}", uri=backend.uri(key))
        return found

    alist_versions = asynchronous(list_versions)

    def ref(self, name: str) -> ArtifactRef:
        """A reference to the current version of an artifact, for tasks to return instead of the frame.

        Raises:
            ArtifactNotFoundError: The artifact does not exist.
            InvalidStoreError: The store is not a saved block, and has credentials or an address in its fields. Save it
                as a block.
        """
        return self._ref(name, {})

    aref = asynchronous(ref)

    def uri(self, name: str) -> str:
        """The URI of an artifact, whether it exists or not."""
        return self._backend().uri(self._key(name))

    def copy_artifact(self, source: str, target: str, *, store: "ArtifactCatalog | None" = None) -> str:
        """Copy an artifact to another name, or to another store. An existing artifact of that name is replaced.

        Within a bucket, the service copies, and no byte passes through this machine. To another bucket or service, the
        bytes pass through it in bounded memory. The copy is exact: the file, its metadata, and the sidecar of a CSV.

        Args:
            source: The artifact's name in this store, or its URI.
            target: The copy's name.
            store: The store for the copy, of the same format. If None, this store.

        Returns:
            The copy's URI.

        Raises:
            ArtifactNotFoundError: The artifact does not exist.
            InvalidStoreError: The other store has another format.
            InvalidMetadataError: Another program gave the artifact metadata that not every store can carry.
            ServiceUnavailableError: Also if the artifact was overwritten during a copy to another store; copy again.
        """
        other = self if store is None else store
        if not isinstance(other, ArtifactCatalog):
            raise TypeError(f"store must be a PipelineStore, not {type(other).__name__}; open_store(…) makes one")
        other.refuse_without_protection()
        backend, origin, key = self._backend(), self._key(source), other._key(target)
        there = other._backend()
        if other.format is not self.format:
            raise InvalidStoreError(
                f"{backend.uri(origin)} is {self.format.value} and the store of the copy keeps {other.format.value}; a "
                "copy has the same bytes: upload what you download, or give the store the same format"
            )
        if not self._is_same_place(other):
            self._kept(lambda: self._copy_to(ObjectReader(backend, origin), there, key))
        elif origin == key:
            backend.head(key)  # only check that it exists, because S3 refuses to copy an object to itself
        else:
            self._kept(lambda: self._again(lambda: self._codec.copy(backend, origin, key)))
        return there.uri(key)

    acopy_artifact = asynchronous(copy_artifact)

    def delete_artifact(self, name: str, *, missing_ok: bool = False) -> None:
        """Remove an artifact.

        Raises:
            ArtifactNotFoundError: The artifact does not exist, and `missing_ok` is false.
        """
        backend, key = self._backend(), self._key(name)
        if not missing_ok:
            backend.head(key)
        self._codec.remove(backend, key)

    adelete_artifact = asynchronous(delete_artifact)

    def delete_artifacts(self, prefix: str, *, dry_run: bool = False) -> list[str]:
        """Remove all artifacts of the store's format below a path. Plain objects are kept.

        Args:
            prefix: A path as in `list_artifacts`, but not empty, since that would mean the whole store.
            dry_run: Whether to remove nothing and only return the names.

        Returns:
            The names of the artifacts, sorted.

        Raises:
            InvalidArtifactNameError: The prefix is empty.
            ClinopsPrefectError: An artifact could not be removed. All others were tried (unless the service cannot be
                reached), and the message says how many were removed. Call the method again for the rest.
        """
        if not (below := check_prefix(prefix)):
            raise InvalidArtifactNameError(
                f"the prefix is empty, which means every artifact below {self._backend().uri(self.prefix)}: give the "
                "path of what is to be deleted"
            )
        backend, codec = self._backend(), self._codec
        keys = list(backend.list(f"{join(self.prefix, below)}/"))
        names = self._names(keys)
        if not dry_run:
            mine = [self._key(name) for name in names]
            remove_all(backend, codec, mine, codec.leftovers(keys) - {*mine})
        return names

    adelete_artifacts = asynchronous(delete_artifacts)

    # --- internal ---

    @property
    def _codec(self) -> "Codec":
        # Imported for the first frame only, because pandas and PyArrow are slow to import.
        from clinops_prefect.artifacts.codecs import codec_of

        return codec_of(self.format)

    def _names(self, keys: Iterable[str]) -> list[str]:
        extension = self.format.extension
        names = (name_of(key, self.prefix, extension) for key in keys)
        # Skip names such as `labs.parquet` (an object `labs.parquet.parquet`), because no method accepts such a name.
        return sorted(name for name in names if name is not None and not has_extension(name, extension))

    def _copy_to(self, reader: ObjectReader, backend: Backend, key: str) -> None:
        try:
            self._codec.copy_to(reader, backend, key)
        except ObjectChangedError:
            raise ServiceUnavailableError(
                f"{reader.uri} was overwritten while it was copied; nothing was written. Begin again", uri=reader.uri
            ) from None

    def _ref(self, name: str, mark: dict[str, str]) -> ArtifactRef:
        """A reference to the version whose metadata contains this mark."""
        backend, key, (place, settings) = self._backend(), self._key(name), self._place()
        found = backend.head(key)
        if not mark.items() <= found.metadata.items() and backend.keeps_metadata(key):
            # Another writer has overwritten our artifact. If the bucket keeps versions, ours can still be read.
            kept = (backend.head(key, version=info.version) for info in backend.versions(key) if info.version)
            ours = next((info for info in kept if mark.items() <= info.metadata.items()), None)
            if ours is None:
                raise ArtifactNotFoundError(
                    f"{backend.uri(key)} was overwritten by another writer before a reference to it could be made: "
                    "give each writer a name of its own",
                    uri=backend.uri(key),
                )
            found = ours
        own = name_of(key, self.prefix, self.format.extension) or name
        return ArtifactRef(backend.uri(key), own, found.version or f"{PIN}{found.pin}", place, settings)

    def _place(self) -> tuple[str, tuple[tuple[str, str | bool], ...]]:
        """What a reference says about this store; see `place_of`."""
        return place_of(self, self._backend().uri(""), self._first_field)

    def _is_same_place(self, other: "ArtifactCatalog") -> bool:
        """Whether both stores have the same bucket and settings, so that the service can copy by itself."""
        if type(self) is not type(other):
            return False
        fields = type(self).model_fields.keys() - {"prefix", "format", "allow_pickle"}
        return all(getattr(self, field) == getattr(other, field) for field in fields)

    def _key(self, name: str) -> str:
        extension = self.format.extension
        key = join(self.prefix, check_artifact_name(self._own(name, extension), extension), extension)
        return self._checked_key(key, self.format.sidecar_bytes)
