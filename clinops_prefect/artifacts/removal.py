"""Removal of many artifacts: as many per request as the service allows, a bounded number of requests at once."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import wait
from typing import TYPE_CHECKING, TypeVar

from clinops_prefect.errors import ClinopsPrefectError, ServiceUnavailableError
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage.transfer import begin

if TYPE_CHECKING:
    from clinops_prefect.artifacts.codec import Codec

T = TypeVar("T")


def remove_all(backend: Backend, codec: "Codec", keys: Sequence[str], leftovers: Iterable[str]) -> None:
    """Remove artifacts, and then the sidecars that earlier removals have left.

    Args:
        backend: The backend that has the artifacts.
        codec: The codec of their format.
        keys: The artifacts' keys.
        leftovers: The keys of removed artifacts that may still have sidecars.

    Raises:
        ClinopsPrefectError: The first error. Its message says how many artifacts were removed; call it again for the
            rest.
    """
    failed: dict[str, ClinopsPrefectError] = {}
    # Not looked for in `failed`, which other threads change meanwhile.
    unavailable: list[ClinopsPrefectError] = []

    def remove(batch: Sequence[str]) -> None:
        found = dict.fromkeys(batch, unavailable[0]) if unavailable else backend.remove_many(batch)
        unavailable.extend(error for error in found.values() if isinstance(error, ServiceUnavailableError))
        failed.update(found)

    def tidy(key: str) -> None:
        try:
            codec.tidy(backend, key)
        except ClinopsPrefectError as error:
            failed.setdefault(key, error)

    size = backend.removed_at_once
    _each(remove, [keys[start : start + size] for start in range(0, len(keys), size)])
    _each(tidy, [key for key in (*keys, *leftovers) if key not in failed])
    if failed:
        error = next(iter(failed.values()))
        removed = sum(key not in failed for key in keys)
        raise type(error)(
            f"{error.message}; {removed} of {len(keys)} artifacts were deleted: call it again for the rest",
            uri=error.uri,
        ) from error


def _each(work: Callable[[T], None], items: Sequence[T]) -> None:
    futures = begin(work, items, small=True)
    wait(futures)
    for future in futures:
        future.result()
