"""Converts exceptions in results to JSON and back, so that the stored result of a failed run says why it failed.

Reading an exception imports nothing and runs no user code. Only builtin exceptions and those of this package are
restored with their type. Causes and other attributes are not stored. Arguments are stored as numbers or text.
"""

import base64
import builtins
import math
from typing import Any

from clinops_prefect import errors
from clinops_prefect.errors import ClinopsPrefectError, StoredFailureError
from clinops_prefect.results.refusals import name_of
from clinops_prefect.results.scalars import surrogates_from, surrogates_to, to_base64

_BUILTIN: dict[str, type[BaseException]] = {
    name: kind for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}
_OURS: dict[str, type[ClinopsPrefectError]] = {
    name: getattr(errors, name) for name in errors.__all__ if name != StoredFailureError.__name__
}
# The attributes of our errors that are stored in addition to the message. `cause` is not among them, because it is the
# output of a user's Lambda or container.
_TOLD = ("uri", "problems", "status", "error", "execution_arn", "failed_state")
# Attributes of builtin errors that are useful to people but are not among the arguments.
_NAMED = ("name", "path")
_UNICODE = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError)
_LONGEST_UNICODE = 1 << 20
_DEEPEST_GROUP = 10


def encode(error: BaseException, depth: int = 0) -> dict[str, Any]:
    """The exception as JSON. Every exception is accepted, since a failed run must be able to say why it failed."""
    text = _text(error)
    notes = [note for note in getattr(error, "__notes__", ()) if type(note) is str]
    for stored in _candidates(error, text, depth):
        if _is_told(error, text, stored):
            return {**stored, "notes": notes}
    return {"other": name_of(error), "message": text, "notes": notes}


def decode(stored: dict[str, Any]) -> BaseException:
    """The exception, or a `StoredFailureError` if its type is neither builtin nor of this package."""
    error = _decoded(stored)
    for note in stored.get("notes", ()):
        error.add_note(str(note))
    return error


def _candidates(error: BaseException, text: str, depth: int) -> list[dict[str, Any]]:
    """The forms in which the exception may be stored, the most exact one first."""
    kind = type(error)
    if isinstance(error, StoredFailureError):
        return [{"other": error.type_name, "message": error.message}]
    if kind in _OURS.values():
        told = {name: value for name in _TOLD if _is_text(value := getattr(error, name, None))}
        return [{"ours": kind.__name__, "message": text, "attributes": told}]
    if kind not in _BUILTIN.values():
        return []
    name = kind.__name__
    if isinstance(error, _UNICODE):
        return [{"unicode": name, **_unicode_to(error)}]
    if isinstance(error, BaseExceptionGroup):
        if depth >= _DEEPEST_GROUP:
            return []
        return [{"group": name, "message": error.message, "errors": [encode(e, depth + 1) for e in error.exceptions]}]
    named = {each: value for each in _NAMED if type(value := getattr(error, each, None)) is str}
    return [
        {"builtin": name, "args": arguments, "attributes": named, "message": text}
        for arguments in (_arguments(error), [text])
    ]


def _is_told(error: BaseException, text: str, stored: dict[str, Any]) -> bool:
    """Whether this stored form is restored as an exception of the same type and text."""
    try:
        back = _decoded(stored)
    except Exception:
        return False
    if isinstance(error, StoredFailureError):
        return True
    # A KeyError shows the repr of its argument, and the stored argument is text.
    says = (text, repr(text)) if isinstance(error, KeyError) else (text,)
    return type(back) is type(error) and (_text(back) in says or isinstance(error, _UNICODE))


def _decoded(stored: dict[str, Any]) -> BaseException:
    if "other" in stored:
        return StoredFailureError(str(stored["other"]), str(stored["message"]))
    if "group" in stored:
        inner = [decode(each) for each in stored["errors"]]
        kind = {"ExceptionGroup": ExceptionGroup, "BaseExceptionGroup": BaseExceptionGroup}[stored["group"]]
        return kind(str(stored["message"]), inner)
    if "unicode" in stored:
        return _unicode_from(stored)
    attributes = stored["attributes"]
    error: BaseException
    allowed: tuple[str, ...]
    if stored.get("ours") in _OURS:
        error, allowed = _OURS[stored["ours"]](str(stored["message"])), _TOLD
    elif stored.get("builtin") in _BUILTIN:
        error, allowed = _BUILTIN[stored["builtin"]](*map(_argument_from, stored["args"])), _NAMED
    else:  # written by a newer version of this package or of Python
        return StoredFailureError(str(stored.get("ours") or stored["builtin"]), str(stored["message"]))
    for name in allowed:
        if hasattr(error, name) and _is_text(value := attributes.get(name)):
            setattr(error, name, value)
    return error


# --- arguments ---


def _arguments(error: BaseException) -> list[Any]:
    arguments: tuple[Any, ...] = error.args
    if isinstance(error, OSError) and error.filename is not None and len(arguments) == 2:
        # Python shows the file names in the message, but does not keep them in `args`.
        arguments = (*arguments, error.filename)
        if error.filename2 is not None:
            arguments = (*arguments, None, error.filename2)
    return [_argument_to(argument) for argument in arguments]


def _argument_to(argument: Any) -> Any:
    if argument is None or type(argument) in (bool, str) or (type(argument) is int and argument.bit_length() < 64):
        return argument
    if type(argument) is float and math.isfinite(argument):
        return argument
    if type(argument) is tuple:
        return {"tuple": [_argument_to(each) for each in argument]}
    return _text(argument)


def _argument_from(stored: Any) -> Any:
    return tuple(map(_argument_from, stored["tuple"])) if isinstance(stored, dict) else stored


def _unicode_to(error: Any) -> dict[str, Any]:
    """The error as JSON, with only the bytes or characters at fault. The text around them may be a whole file."""
    span = error.object[error.start : error.end] if error.end <= _LONGEST_UNICODE else error.object[:0]
    return {
        "encoding": getattr(error, "encoding", None),
        "span": to_base64(span) if isinstance(span, bytes) else surrogates_to(span),
        "start": error.start,
        "end": error.end,
        "reason": error.reason,
    }


def _unicode_from(stored: dict[str, Any]) -> BaseException:
    start, end, reason = stored["start"], stored["end"], stored["reason"]
    before = start if start >= 0 and end <= _LONGEST_UNICODE else 0
    if stored["unicode"] == "UnicodeDecodeError":
        return UnicodeDecodeError(
            stored["encoding"], bytes(before) + base64.b64decode(stored["span"]), start, end, reason
        )
    text = "\x00" * before + surrogates_from(stored["span"])
    if stored["unicode"] == "UnicodeEncodeError":
        return UnicodeEncodeError(stored["encoding"], text, start, end, reason)
    return UnicodeTranslateError(text, start, end, reason)


# --- text ---


def _text(value: Any) -> str:
    """The value's `str`, or a placeholder if that raises."""
    try:
        return str.__str__(str(value))
    except Exception:
        return f"<{name_of(value)} that cannot be shown>"


def _is_text(value: Any) -> bool:
    return type(value) is str or (type(value) is list and all(type(each) is str for each in value))
