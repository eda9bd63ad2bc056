"""SavedBlock: makes, saves and loads the blocks of this package, with the errors of this package only."""

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar

from prefect.exceptions import PrefectException
from pydantic import ValidationError

from clinops_prefect.errors import AccessDeniedError, ClinopsPrefectError, InvalidStoreError, ServiceUnavailableError
from clinops_prefect.field_checks import is_reading_saved, protections, reading_saved, reasons, without_unknown
from clinops_prefect.form_schemas import unwrapped
from clinops_prefect.names import nearest

# Private names of Prefect, which it adds to the fields of a block that it hydrates in another process. If Prefect
# renamed them, the ids would be lost, and a result that another process stored could not be found
# (tests/prefect/test_results.py).
_PREFECT_KEYS = ("_block_document_id", "_block_document_name", "_is_anonymous")
_SLUG = "block_type_slug"
# Whether our own `load` is running, which makes the error message itself.
_loading: ContextVar[bool] = ContextVar("clinops_prefect_loading", default=False)

P = ParamSpec("P")
R = TypeVar("R")


class OfInstances(Generic[P, R]):
    """A method of instances that has the name of one of Prefect's class methods. On the class, Prefect's stays."""

    def __init__(self, method: Callable[Concatenate[Any, P], R]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: Any, owner: type) -> Callable[P, R]:
        if instance is None:
            return getattr(super(self._owner, owner), self._name)  # type: ignore[no-any-return]
        return self._method.__get__(instance, owner)  # type: ignore[no-any-return]


class SavedBlock:
    """A mixin for blocks. Put it before Prefect's class among the bases."""

    # The error class for an invalid value of a field.
    _invalid: ClassVar[type[ClinopsPrefectError]] = InvalidStoreError

    def __init__(self, **data: Any) -> None:
        kind: Any = type(self)
        # Prefect loses these when it hydrates a block in another process. We keep them, so that the block is still the
        # saved block there.
        kept = {key: data.pop(key) for key in _PREFECT_KEYS if key in data}
        saved = is_reading_saved() or bool(kept) or _SLUG in data
        data.pop(_SLUG, None)
        if saved:
            with reading_saved():
                aliases = [field.alias for field in kind.model_fields.values() if field.alias]
                super().__init__(**without_unknown(kind.__name__, data, [*kind.model_fields, *aliases]))
        else:
            self._refuse_unknown(data)
            try:
                super().__init__(**data)
            except ValidationError as error:
                # `from None`, because the message of another package's validator may quote a secret.
                raise self._invalid(f"{kind.__name__}: {reasons(error)}") from None
        for key, value in kept.items():
            setattr(self, key, value)

    @classmethod
    def _refuse_unknown(cls, data: dict[str, Any]) -> None:
        fields: Any = cls.model_fields  # type: ignore[attr-defined]
        for key in data:
            if key not in fields:
                raise TypeError(f"{cls.__name__} has no field {key!r}{nearest(key, fields)}")

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Make a block from a saved document. Prefect calls this."""
        try:
            with reading_saved():
                made: Self = super().model_validate(obj, **options)  # type: ignore[misc]
        except ValidationError as error:
            if _loading.get():
                raise  # `load` adds the block's name to the message
            # Prefect's own `Block.load` would say that something is invalid, but not what.
            raise cls._invalid(f"a saved {cls.__name__} cannot be loaded: {reasons(error)}") from None
        return made

    @classmethod
    def get_description(cls) -> str | None:
        """Prefect's description of the block type, without the line breaks of the source."""
        return unwrapped(super().get_description()) or None  # type: ignore[misc]

    def refuse_without_protection(self) -> None:
        """Refuse to write with a block whose encryption field is unknown to this version.

        Raises:
            ClinopsPrefectError: A newer version saved the block with such a field. Install the newer version.
        """
        if unknown := protections(self.model_extra):  # type: ignore[attr-defined]
            raise self._invalid(
                f"this {type(self).__name__} was saved by a newer version, with {', '.join(unknown)}, which is unknown "
                "here: it would be written without that encryption. Install the newer clinops-prefect on this machine"
            )

    @classmethod
    def load(cls, name: str, validate: bool = True, client: Any = None, **options: Any) -> Self:
        """Load a saved block by its name; in async code, await it.

        Raises:
            InvalidStoreError: The block does not exist, or cannot work. For a pipeline, InvalidPipelineError.
            AccessDeniedError: Prefect's server refuses the access.
            ServiceUnavailableError: Prefect's server cannot be reached.
        """
        with cls._translated(name):
            found: Any = super().load(name, validate=validate, client=client, **options)  # type: ignore[misc]
            return cls._awaited(found, name) if inspect.isawaitable(found) else found  # type: ignore[return-value]

    @classmethod
    async def aload(cls, name: str, validate: bool = True, client: Any = None) -> Self:
        """Like `load`, for async code."""
        loaded: Self = await cls._awaited(super().aload(name, validate=validate, client=client), name)  # type: ignore[misc]
        return loaded

    def save(self, name: str | None = None, overwrite: bool = False, client: Any = None, **options: Any) -> Any:
        """Save the block under a name; in async code, await it.

        Raises:
            InvalidStoreError: The name is taken, or invalid for a block. For a pipeline, InvalidPipelineError.
            AccessDeniedError: Prefect's server refuses the access.
            ServiceUnavailableError: Prefect's server cannot be reached.
        """
        # Saving the block with this version would remove the unknown field for everybody.
        self.refuse_without_protection()
        with self._translated(name or ""):
            saved: Any = super().save(name, overwrite=overwrite, client=client, **options)  # type: ignore[misc]
            return self._awaited(saved, name or "") if inspect.isawaitable(saved) else saved

    async def asave(self, name: str | None = None, overwrite: bool = False, client: Any = None) -> Any:
        """Like `save`, for async code."""
        self.refuse_without_protection()
        return await self._awaited(super().asave(name, overwrite=overwrite, client=client), name or "")  # type: ignore[misc]

    @classmethod
    async def _awaited(cls, waiting: Awaitable[Any], name: str) -> Any:
        with cls._translated(name):
            return await waiting

    @classmethod
    @contextmanager
    def _translated(cls, name: str) -> Iterator[None]:
        token = _loading.set(True)
        try:
            yield
        except (ClinopsPrefectError, ImportError, TypeError):
            raise
        except Exception as error:
            ours = _ours(cls, error, f"{cls.get_block_type_slug()}/{name}")  # type: ignore[attr-defined]
            if ours is None:
                raise
            raise ours from None
        finally:
            _loading.reset(token)


def _ours(kind: type[SavedBlock], error: Exception, reference: str) -> ClinopsPrefectError | None:
    """Our error for an error of Prefect while it saves or loads a block; None for any other error."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        return AccessDeniedError(f"Prefect's server refuses access to the block {reference} ({status}); log in again")
    if status == 429 or status >= 500 or (not status and _is_unreached(error)):
        return ServiceUnavailableError(
            f"Prefect's server cannot be reached for the block {reference} ({status or type(error).__name__}); check "
            "PREFECT_API_URL and the network"
        )
    cause = error if isinstance(error, ValidationError) else error.__cause__
    if isinstance(cause, ValidationError):
        return kind._invalid(f"the block {reference} cannot be saved or loaded: {reasons(cause)}")
    # Prefect raises a ValueError in both cases, and only its text tells them apart. If the text changes, our error no
    # longer says what to do.
    if isinstance(error, ValueError) and "Unable to find block document" in str(error):
        return kind._invalid(
            f"there is no block {reference}: save it in the Prefect UI, or look for its name with `prefect block ls`"
        )
    if isinstance(error, ValueError) and "already in use" in str(error):
        return kind._invalid(f"there is a block {reference} already: save under another name, or with overwrite=True")
    if status or isinstance(error, PrefectException | ValueError | IndexError):
        return kind._invalid(
            f"the block {reference} cannot be saved or loaded: {status or type(error).__name__}: {error}"
        )
    return None


def _is_unreached(error: Exception) -> bool:
    bases = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    # Prefect raises a RuntimeError if its server is not there, and only its text says so. If the text changes, a
    # RuntimeError leaves the package.
    return (
        bool(bases & {"httpx", "httpcore"})
        or "Failed to reach API" in str(error)
        or "connect to ephemeral Prefect API server" in str(error)
    )
