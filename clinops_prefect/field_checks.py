"""Checks of the fields of a block or a step: fields that only a newer version knows, and invalid values. Pure.

In code, an unknown keyword is a mistake and raises. In a saved document an unknown field is ignored, so that an older
worker can read what a newer one saved: silently if its value is empty or false, with one warning otherwise. A field
that protects written data (such as encryption) cannot be ignored: `protections` lists such fields, and writes raise.
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
# Prefect shows this logger's lines on the page of a run. The name alone is enough, so Prefect is not imported.
_logger = logging.getLogger("prefect.clinops_prefect")


@contextmanager
def reading_saved() -> Iterator[None]:
    """A context in which objects, nested ones included, are made from a saved document."""
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def is_reading_saved() -> bool:
    """Whether the object that is being made comes from a saved document."""
    return _reading.get()


def without_unknown(kind: str, data: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The known fields of the data, and a mark for each unknown field that protects written data.

    The mark is the field's name with the value True. It stays on the object, also when the object is passed to another
    process. The field's value is dropped, since it may be a secret.
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
    """The problems that pydantic found: fields and reasons, but no values, which may be secrets."""
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        field = ".".join(str(part) for part in each["loc"])
        reason = each["msg"].removeprefix("Value error, ")
        if field.startswith("credentials") and each["type"] in ("value_error", "assertion_error"):
            # The message comes from another package's validator and may quote a secret.
            reason = "is not valid"
        found.append(f"{field}: {reason}" if field else reason)
    more = f" (and {len(found) - _MOST_REASONS} more)" if len(found) > _MOST_REASONS else ""
    return "; ".join(found[:_MOST_REASONS]) + more
