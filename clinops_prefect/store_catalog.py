"""ArtifactCatalog: the artifacts of a store by name, to find, describe, copy and remove them. No frame is read."""

import abc
from typing import TYPE_CHECKING, Any

from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.asynchronous import asynchronous
from clinops_prefect.errors import ArtifactNotFoundError
from clinops_prefect.names import check_artifact_name, check_prefix, has_extension, join, name_of
from clinops_prefect.store_block import StoreBlock

if TYPE_CHECKING:
    from clinops_prefect.artifacts.codec import Codec


# ABC among the bases themselves is what keeps Prefect from registering a class as a block.
class ArtifactCatalog(StoreBlock, abc.ABC):
    """What a store does with artifacts whose frames it does not read."""

    # Without it, type checkers would take the fields for keyword arguments only.
    def __init__(self, first: Any = None, /, **data: Any) -> None:
        super().__init__(first, **data)

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
        names = (name_of(key, self.prefix, extension) for key in keys)
        # Another program may have written `labs.parquet.parquet`; no method takes `labs.parquet` as a name.
        return sorted(name for name in names if name is not None and not has_extension(name, extension))

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
        return self._again(lambda: self._codec.info(ObjectReader(self._backend(), key)))

    astat = asynchronous(stat)

    def list_versions(self, name: str) -> list[ArtifactInfo]:
        """The versions of an artifact that the bucket still keeps, newest first; one where it keeps none.

        Raises:
            ArtifactNotFoundError: There is no version of such an artifact.
        """
        backend, key = self._backend(), self._key(name)
        found = self._again(
            lambda: [self._codec.info(ObjectReader(backend, key, info.version)) for info in backend.versions(key)]
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
        self.refuse_without_protection()
        backend, origin, key = self._backend(), self._key(source), self._key(target)
        if origin == key:
            backend.head(key)  # S3 refuses to copy an object to itself
        else:
            self._again(lambda: self._codec.copy(backend, origin, key))
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
        self._codec.remove(backend, key)

    adelete_artifact = asynchronous(delete_artifact)

    # --- inner ---

    @property
    def _codec(self) -> "Codec":
        # At the first frame, not before: pandas and PyArrow take a third as long to import as all else together.
        from clinops_prefect.artifacts.codecs import codec_of

        return codec_of(self.format)

    def _key(self, name: str) -> str:
        key = join(self.prefix, check_artifact_name(name, self.format.extension), self.format.extension)
        return self._checked_key(key, self.format.sidecar_bytes)
