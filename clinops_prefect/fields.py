"""Fields given to a block or a step: those that only a newer version knows, and values that a field cannot have. Pure.

In code, an unknown keyword is a slip, and raises. In a saved document it is ignored, so that an older worker can go on
reading what a newer one saved: silently if its value is empty or false, and with one warning otherwise. A field that
protects what is written cannot be ignored: `protections` says which, and nothing is written without them.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic import ValidationError

_MOST_REASONS = 3
_PROTECTING = ("kms", "encrypt")
_reading: ContextVar[bool] = ContextVar("clinops_prefect_reading_saved", default=False)
_warned: set[tuple[str, str]] = set()
# Prefect's logger of that name, whose lines are on a run's page; Prefect is not imported for it.
_logger = logging.getLogger("prefect.clinops_prefect")


@contextmanager
def reading_saved() -> Iterator[None]:
    """While a saved document is made into objects, the nested ones included."""
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def is_reading_saved() -> bool:
    """Whether an object that is made now comes from a saved document."""
    return _reading.get()


def without_unknown(kind: str, data: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The data that this version knows, and a mark for each field that protects what is written.

    The mark is the field's name with the value True, kept on the object: an object that is handed to another process
    is protected there too. No value is kept, since it may be a secret.
    """
    kept = {}
    for name, value in data.items():
        if name in known:
            kept[name] = value
        elif value:
            if any(word in name.casefold() for word in _PROTECTING):
                kept[name] = True
            if (kind, name) not in _warned:
                _warned.add((kind, name))
                _logger.warning(
                    "%s was saved by a newer version, with a field %r that is unknown here and ignored; "
                    "install the newer clinops-prefect on this machine",
                    kind,
                    name,
                )
    return kept


def protections(marks: Mapping[str, Any] | None) -> list[str]:
    """The names of the fields that `without_unknown` has marked."""
    return sorted(name for name in marks or {} if any(word in name.casefold() for word in _PROTECTING))


def reasons(error: ValidationError) -> str:
    """What pydantic finds wrong: fields and reasons, and no value, which may be a secret."""
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        field = ".".join(str(part) for part in each["loc"])
        reason = each["msg"].removeprefix("Value error, ")
        if field.startswith("credentials") and each["type"] in ("value_error", "assertion_error"):
            # The words of somebody else's validator.
            reason = "is not valid"
        found.append(f"{field}: {reason}" if field else reason)
    more = f" (and {len(found) - _MOST_REASONS} more)" if len(found) > _MOST_REASONS else ""
    return "; ".join(found[:_MOST_REASONS]) + more
