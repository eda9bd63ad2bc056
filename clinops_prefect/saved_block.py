"""SavedBlock: how a block of this package is made, saved and loaded, with the errors of this package only."""

import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar

from prefect.exceptions import PrefectException
from pydantic import ValidationError

from clinops_prefect.errors import AccessDeniedError, ClinopsPrefectError, InvalidStoreError, ServiceUnavailableError
from clinops_prefect.fields import is_reading_saved, protections, reading_saved, reasons, without_unknown
from clinops_prefect.forms import unwrapped
from clinops_prefect.names import nearest

# What Prefect puts among the fields of a block that it hydrates in another process.
# These names are private to Prefect. Under other names this module would drop the ids, and a result that another
# process stores could not be found again (tests/prefect/test_results.py).
_PREFECT_KEYS = ("_block_document_id", "_block_document_name", "_is_anonymous")
_SLUG = "block_type_slug"
# Whether our own `load` is under way, which says what is wrong itself.
_loading: ContextVar[bool] = ContextVar("clinops_prefect_loading", default=False)

P = ParamSpec("P")
R = TypeVar("R")


class OfInstances(Generic[P, R]):
    """A method of instances whose name Prefect gives to a method of the class: of the class, Prefect's stays."""

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
    """Put before a class of Prefect's blocks among the bases."""

    # The error of a value that a field cannot have.
    _invalid: ClassVar[type[ClinopsPrefectError]] = InvalidStoreError

    def __init__(self, **data: Any) -> None:
        kind: Any = type(self)
        # Prefect loses these when it hydrates a block in another process; kept, the block stays the saved one there.
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
                # `from None`: what a validator of somebody else says may quote a secret.
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
        """What Prefect makes a block of a saved document with."""
        try:
            with reading_saved():
                made: Self = super().model_validate(obj, **options)  # type: ignore[misc]
        except ValidationError as error:
            if _loading.get():
                raise  # `load` says which block it is
            # Prefect's own `Block.load` would say only that something is invalid, and not what.
            raise cls._invalid(f"a saved {cls.__name__} cannot be loaded: {reasons(error)}") from None
        return made

    @classmethod
    def get_description(cls) -> str | None:
        """Prefect's, without the line breaks of the source."""
        return unwrapped(super().get_description()) or None  # type: ignore[misc]

    def refuse_without_protection(self) -> None:
        """Raise for what must not be written, because a newer version's field that protects it is unknown here.

        Raises:
            ClinopsPrefectError: There is such a field.
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
            InvalidStoreError: There is no such block, or it cannot work. For a pipeline, InvalidPipelineError.
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
            InvalidStoreError: The name is taken or no name of a block; for a pipeline, InvalidPipelineError.
            AccessDeniedError: Prefect's server refuses the access.
            ServiceUnavailableError: Prefect's server cannot be reached.
        """
        # Saved from here, the block would lose the field for everybody.
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
    """Our error for one that Prefect raises while it saves or loads a block; None for what is not Prefect's."""
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
    # Prefect raises a ValueError for each of these; only its words tell them apart. Without them, the error would not
    # say what to do.
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
    return bool(bases & {"httpx", "httpcore"}) or "Failed to reach API" in str(error)
