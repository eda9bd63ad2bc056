"""Converts results to bytes and back: a frame to Parquet, anything else to JSON, with frames in it as base64."""

import base64
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
import pyarrow as pa
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, PrefectFutureList
from prefect.states import get_state_exception, is_state_iterable

from clinops_prefect.errors import UnsupportedFrameError, UnsupportedResultError
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.encoding import encode_frame
from clinops_prefect.frames.parquet.reader import ParquetReader
from clinops_prefect.frames.turns import turn
from clinops_prefect.results import stored_exceptions
from clinops_prefect.results.guard import IMPORTING_KEYS, OURS
from clinops_prefect.results.refusals import Refused, refused, step_of_key
from clinops_prefect.results.scalars import SCALARS, is_json, tag_of, to_base64
from clinops_prefect.storage_format import PARQUET_MAGIC, StorageFormat

_TAG = "__clinops__"
# A dictionary with one of these keys would look like one of our documents, or like one that names a class to import.
_RESERVED_KEYS = {_TAG, *IMPORTING_KEYS}
# Each level of nesting takes several frames of Python's stack. The limit leaves enough for a reader that is called deep
# in a stack.
_DEEPEST = 100
_SEQUENCES: dict[str, type] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_TAG_OF_SEQUENCE = {kind: tag for tag, kind in _SEQUENCES.items()}
_CONTAINERS = {list, dict, pd.Series, *_TAG_OF_SEQUENCE}


def encode(value: Any) -> tuple[bytes | None, bytes]:
    """Encode a result. Returns `(Parquet, b"")` for a frame, `(None, JSON document)` for anything else.

    Raises:
        UnsupportedFrameError: A frame would not come back equal.
        UnsupportedResultError: Another value would not be restored exactly.
    """
    try:
        value = _settled(value)
        if _is_frame(value):
            return _to_parquet(value), b""
        # The tag distinguishes our document from an envelope of Prefect, whatever keys the value has.
        return None, json.dumps({OURS: 1, "value": _to_json(value, [])}, allow_nan=False).encode()
    except Refused as refusal:
        kind = UnsupportedFrameError if refusal.is_frame else UnsupportedResultError
        raise kind(f"DataFrameSerializer cannot store {refusal.where}: {refusal.why}") from None


def decode(blob: bytes) -> Any:
    """The result that was encoded as these bytes.

    Raises:
        ArtifactDecodeError: The bytes are damaged, or not a result of this serializer.
    """
    with decoding("the stored result cannot be read: damaged, or not written by DataFrameSerializer"):
        if blob[:4] == PARQUET_MAGIC:
            return _from_parquet(blob)
        if blob[:1] != b"{":
            return _from_parquet(base64.b64decode(blob, validate=True))
        return _from_json(json.loads(blob)["value"])


# --- frames ---


def _is_frame(value: Any) -> bool:
    """Whether this is a frame whose type is restored. Subclasses, lazy frames and readers are not."""
    polars = sys.modules.get("polars")
    return type(value) in (pd.DataFrame, pa.Table) or (polars is not None and type(value) is polars.DataFrame)


def _to_parquet(frame: Any) -> bytes:
    try:
        return b"".join(encode_frame(frame, StorageFormat.PARQUET, {}).chunks)
    except UnsupportedFrameError as error:
        raise Refused(error.message, is_frame=True) from error


def _from_parquet(blob: bytes) -> Any:
    where = "the stored result"
    with turn(len(blob)):
        reader = ParquetReader.of(blob, where)
        note = arrow_frames.note_of(reader.stored_schema)
    with turn(max(len(blob), 8 * reader.rows * len(reader.stored_schema))):
        if note is None:
            return reader.frame()
        return arrow_frames.made(reader.stored_table(), "polars" if note["kind"] == "polars" else "arrow", where)


def _series_to(series: "pd.Series[Any]", above: list[int]) -> dict[str, Any]:
    frame = pd.DataFrame({"values": series})
    return {
        "frame": to_base64(_to_parquet(frame)),
        "name": _each([series.name], above, lambda _: ".name")[0],
        "attrs": _each([series.attrs], above, lambda _: ".attrs")[0],
        "duplicates": series.flags.allows_duplicate_labels,
    }


def _series_from(stored: Any) -> Any:
    if isinstance(stored, str):  # written by version 0.1
        frame = _from_parquet(base64.b64decode(stored))
        nameless = bool(frame.attrs.pop("nameless", False))
        series = frame.iloc[:, 0]
        series.attrs = frame.attrs
        return series.rename(None) if nameless else series
    series = _from_parquet(base64.b64decode(stored["frame"])).iloc[:, 0]
    series.name = _from_json(stored["name"])
    series.attrs = _from_json(stored["attrs"])
    return series.set_flags(allows_duplicate_labels=stored["duplicates"])


# --- states and futures ---


def _settled(value: Any) -> Any:
    """For a run that returned failed states, the exception that Prefect raises; else the value itself."""
    states = [value] if isinstance(value, State) else value
    if isinstance(states, list | tuple | set) and is_state_iterable(states):
        for state in states:
            if state.is_failed() or state.is_crashed() or state.is_cancelled():
                return get_state_exception(state, _sync=True)  # type: ignore[call-arg]  # as `async_dispatch` adds it
    return value


def _value_of(run: "State[Any] | PrefectFuture[Any]") -> Any:
    if isinstance(run, PrefectFuture):
        run.wait()
        run = run.state
    if not run.is_completed():
        raise Refused(f"the state of a run that is {run.name}; return what you make of it, or raise")
    try:
        return run.result(retry_result_failure=False, _sync=True)  # type: ignore[call-overload]  # as above
    except Exception as error:
        raise Refused(
            f"the state of a run whose own result cannot be read ({type(error).__name__}); set persist_result=True "
            "on that run's flow or task"
        ) from error


# --- everything ---


def _to_json(value: Any, above: list[int]) -> Any:
    """The value as JSON.

    Args:
        value: Any value.
        above: The ids of the containers around the value.

    Raises:
        Refused: The value would not be restored exactly.
    """
    if is_json(value):
        return value
    if tag := tag_of(value):
        return {_TAG: tag, "value": SCALARS[tag][1](value)}
    kind = type(value)
    if isinstance(value, State | PrefectFuture):
        return _to_json(_value_of(value), above)
    if isinstance(value, BaseException):
        return {_TAG: "exception", "value": stored_exceptions.encode(value)}
    if _is_frame(value):
        return {_TAG: "frame", "value": to_base64(_to_parquet(value))}
    if isinstance(value, PrefectFutureList):
        kind, value = list, list(value)
    if kind not in _CONTAINERS:
        raise refused(value)
    if id(value) in above:
        raise Refused(f"a {kind.__name__} that holds itself; return a value without a cycle")
    if len(above) == _DEEPEST:
        raise Refused(f"nested more than {_DEEPEST} levels deep; return a flatter value, or a frame")
    above.append(id(value))
    try:
        if kind is pd.Series:
            return {_TAG: "series", "value": _series_to(value, above)}
        if kind is dict:
            return _dict_to(value, above)
        if kind is list:
            return _items_to(value, above, "[{}]")
        step = "[{}]" if kind is tuple else "[member {}]"
        return {_TAG: _TAG_OF_SEQUENCE[kind], "value": _items_to(value, above, step)}
    finally:
        above.pop()


def _items_to(items: Iterable[Any], above: list[int], step: str) -> list[Any]:
    return _each(items, above, lambda position: step.format(position))


def _dict_to(value: dict[Any, Any], above: list[int]) -> dict[str, Any]:
    keys = _items_to(value, above, ".keys()[{}]")
    items = _each(value.values(), above, lambda position: step_of_key(list(value)[position], position))
    # A dictionary is stored as pairs if a key is not text, or if a key has a meaning in a stored document.
    if all(type(key) is str and is_json(key) for key in value) and not _RESERVED_KEYS & value.keys():
        return dict(zip(keys, items, strict=True))
    return {_TAG: "dict", "value": [list(pair) for pair in zip(keys, items, strict=True)]}


def _each(items: Iterable[Any], above: list[int], step: Callable[[int], str]) -> list[Any]:
    """The items as JSON. If an item is refused, the refusal's path gets one more step."""
    found: list[Any] = []
    try:
        for item in items:
            found.append(item if is_json(item) else _to_json(item, above))
    except Refused as refusal:
        refusal.steps.append(step(len(found)))
        raise
    return found


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get(_TAG)
    if tag is None:
        return {key: _from_json(item) for key, item in value.items()}
    stored = value["value"]
    if tag in SCALARS:
        return SCALARS[tag][2](stored)
    if tag in _SEQUENCES:
        return _SEQUENCES[tag](_from_json(item) for item in stored)
    if tag == "dict":
        return {_from_json(key): _from_json(item) for key, item in stored}
    if tag == "frame":
        return _from_parquet(base64.b64decode(stored))
    if tag == "series":
        return _series_from(stored)
    if tag == "exception":
        return stored_exceptions.decode(stored)
    raise ValueError("the stored result has a value of another kind")
