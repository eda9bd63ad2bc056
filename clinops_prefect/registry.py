"""The registry of stores: scheme, block slug, class, extra and documentation. Every look-up of a store reads it.

Another package adds a store with an entry point, whose name is the scheme and whose value is the class:

    [project.entry-points."clinops_prefect.stores"]
    sftp = "their_package.store:SFTPPipelineStore"

`load` is the only function of this package that imports a module of a higher layer. It does so by name, when called.
"""

import functools
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

GROUP = "clinops_prefect.stores"
_PACKAGE = "clinops-prefect"
# Extra -> a package of the extra that shows whether the extra is installed.
_EXTRAS = {"aws": "prefect_aws", "azure": "prefect_azure", "gcp": "prefect_gcp"}


# The pages of the block types in the Prefect UI link here. This is the only place in the package with an address of the
# documentation.
REPOSITORY = "https://github.com/chaitanyakasaraneni/clinops-prefect"
UI_GUIDE = f"{REPOSITORY}/blob/main/docs/how-to/ui.md"
STEP_FUNCTIONS_GUIDE = f"{REPOSITORY}/blob/main/docs/how-to/step-functions.md"


class MissingPackageError(ImportError):
    """A package is missing. The message says what to install."""


@dataclass(frozen=True)
class RegisteredStore:
    """The entry of a kind of store in the registry, known before its class is imported.

    Attributes:
        scheme: The part before `://` in the store's URIs.
        target: The class, as `module:Class`.
        extra: The extra with the packages that the module imports; empty if it needs none.
        package: The distribution that has the store, by its name for pip.
        known_slug: The block type's slug; empty if the class must be imported to learn it.
    """

    scheme: str
    target: str
    extra: str = ""
    package: str = _PACKAGE
    known_slug: str = ""

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.target.rpartition(":")[2]

    @property
    def slug(self) -> str:
        """The block type's slug. The class of another package is imported to learn its slug."""
        if self.known_slug:
            return self.known_slug
        try:
            return str(self.load().get_block_type_slug())
        except ImportError:
            # A reference to the store must still be recognised, so that opening it says which package is missing.
            return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name).lower()

    def load(self) -> Any:
        """Import and return the store's class.

        Raises:
            ImportError: The extra or the package is not installed. The message names it.
        """
        return load(self.target, self.extra, self.package)


STORES = (
    RegisteredStore(
        "az", "clinops_prefect.blocks.azure:AzurePipelineStore", "azure", known_slug="azure-pipeline-store"
    ),
    RegisteredStore("file", "clinops_prefect.blocks.local:LocalPipelineStore", known_slug="local-pipeline-store"),
    RegisteredStore("gs", "clinops_prefect.blocks.gcs:GCSPipelineStore", "gcp", known_slug="gcs-pipeline-store"),
    RegisteredStore("s3", "clinops_prefect.blocks.s3:S3PipelineStore", "aws", known_slug="s3-pipeline-store"),
)


def stores() -> Iterator[RegisteredStore]:
    """Yield all kinds of stores: those of this package, then those that other packages register.

    Another package cannot replace a store of this package, so installing it does not redirect `s3://`.
    """
    yield from STORES
    yield from _registered(tuple(sys.path))


def by_scheme(scheme: str) -> RegisteredStore | None:
    """The kind of store whose URIs begin with `scheme://`; None if there is none."""
    return next((store for store in stores() if store.scheme == scheme), None)


def by_slug(slug: str) -> RegisteredStore | None:
    """The kind of store that a block reference `slug/name` means; None if there is none."""
    return next((store for store in stores() if store.slug == slug), None)


def load(target: str, extra: str = "", package: str = _PACKAGE) -> Any:
    """Import the object `module:name`.

    Args:
        target: The module and the name in it, as `module:name`.
        extra: The extra with the packages that the module imports.
        package: The distribution that has the module.

    Raises:
        ImportError: A package is missing. The message says what to install.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except MissingPackageError:
        raise
    except ImportError as error:
        ours = (error.name or "").partition(".")[0] == "clinops_prefect"
        if package == _PACKAGE and (ours or not extra):
            raise
        wanted = f"{package}[{extra}]" if extra else package
        reason = f"{error.name} is missing" if isinstance(error, ModuleNotFoundError) else str(error)
        packages = f"the packages of the {extra!r} extra" if extra else f"a working {package}"
        raise MissingPackageError(
            f"{name} needs {packages} ({reason}): pip install '{wanted}'", name=error.name
        ) from error
    except Exception as error:
        if package == _PACKAGE:
            raise
        # A faulty store of another package must not break this package's own stores, so any error becomes ImportError.
        raise ImportError(f"{target} of {package} cannot be imported ({type(error).__name__}: {error})") from error


def is_installed(extra: str) -> bool:
    """Whether the packages of an extra are installed. Nothing is imported to find out."""
    return not extra or find_spec(_EXTRAS[extra]) is not None


@functools.lru_cache(maxsize=8)
def _registered(_path: tuple[str, ...]) -> tuple[RegisteredStore, ...]:
    # Cached per sys.path, since searching all installed packages takes longer than opening a store.
    from importlib.metadata import entry_points

    taken, found = {store.scheme for store in STORES}, []
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        if point.name not in taken:
            taken.add(point.name)
            package = point.dist.name if point.dist else point.module.partition(".")[0]
            extra = point.extras[0] if point.extras else ""
            found.append(RegisteredStore(point.name, f"{point.module}:{point.attr}", extra, package))
    return tuple(found)
