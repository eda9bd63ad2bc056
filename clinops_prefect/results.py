"""DataFrameSerializer: Prefect results with frames as Parquet and the rest as JSON; nothing is ever pickled.

    @task(result_serializer=DataFrameSerializer(), result_storage="s3-pipeline-store/prod", persist_result=True)

Inside Prefect's JSON envelope the Parquet is base64. Where Prefect stores a serializer's raw bytes (flow results, and
task results whose cache policy has a `key_storage`), it is Parquet itself: `pandas.read_parquet` opens the object.
"""

import base64
import datetime as dt
import decimal
import json
import math
import uuid
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
from prefect.serializers import Serializer
from pydantic import Field
from pydantic_core import SchemaSerializer, core_schema

from clinops_prefect.frames.decoding import decoding
from clinops_prefect.frames.encoding import encode_frame
from clinops_prefect.frames.parquet_reader import ParquetReader
from clinops_prefect.storage_format import StorageFormat
from clinops_prefect.trust import OURS

_MAGIC = b"PAR1"
_TAG = "__clinops__"


# Not Serializer[Any]: pydantic would make that a class of its own, which Prefect cannot register.
class DataFrameSerializer(Serializer):
    """A Prefect result serializer for DataFrames, and for whatever JSON can say about the rest.

    Frames come back equal (values, dtypes, index, column order), also inside dictionaries, lists and tuples. Dates,
    times, decimals, UUIDs, bytes, sets, NumPy scalars and arrays, and pandas' Series, Timestamp and Timedelta come back
    as what they were.

    Raises:
        UnsupportedFrameError: A frame would not come back equal.
        TypeError: A value of another type; the message names the type.
    """

    type: str = Field(default=OURS, frozen=True)

    def dumps(self, obj: Any) -> bytes:
        """Encode a result."""
        if isinstance(obj, pd.DataFrame):
            return _ParquetBytes(_to_parquet(obj))
        # The tag tells a document of ours from an envelope of Prefect's, whatever keys the value has.
        return json.dumps({OURS: 1, "value": _to_json(obj)}, allow_nan=False).encode()

    def loads(self, blob: bytes) -> Any:
        """Decode a result.

        Raises:
            ArtifactDecodeError: It is damaged, or no result of this serializer.
        """
        with decoding("the stored result cannot be read: damaged, or not written by DataFrameSerializer"):
            if blob[:4] == _MAGIC:
                return _from_parquet(blob)
            if blob[:1] != b"{":
                return _from_parquet(base64.b64decode(blob, validate=True))
            return _from_json(json.loads(blob)["value"])


def _as_base64(blob: bytes) -> str:
    return base64.b64encode(blob).decode()


class _ParquetBytes(bytes):
    """Parquet that pydantic puts into JSON as base64, and that everybody else takes for the bytes it is.

    Prefect asks a serializer for bytes, and either stores them as they are or makes them a text in a JSON envelope,
    without saying which.
    """

    # Without this, pydantic takes the bytes for UTF-8 text, and no task result with a frame can be stored.
    __pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(_as_base64))
    )


def _to_parquet(frame: pd.DataFrame) -> bytes:
    return b"".join(encode_frame(frame, StorageFormat.PARQUET, {}).chunks)


def _from_parquet(blob: bytes) -> pd.DataFrame:
    return ParquetReader.of(blob, "the stored result").frame()


def _series_from(frame: pd.DataFrame) -> "pd.Series[Any]":
    series = frame.iloc[:, 0]
    return series.rename(None) if frame.attrs.get("nameless") else series


def _series_to(series: "pd.Series[Any]") -> str:
    frame = series.to_frame()
    if series.name is None:
        frame.attrs = {"nameless": True}
    return _as_base64(_to_parquet(frame))


def _array_to(array: np.ndarray[Any, Any]) -> list[Any]:
    if array.dtype.kind not in "biufmM":
        raise TypeError(f"a result with a NumPy array of dtype {array.dtype} cannot be stored")
    return [array.dtype.str, list(array.shape), _as_base64(np.ascontiguousarray(array).tobytes())]


def _array_from(value: list[Any]) -> np.ndarray[Any, Any]:
    dtype, shape, data = value
    if np.dtype(dtype).kind not in "biufmM":
        raise ValueError("the stored result has an array of another kind")
    return np.frombuffer(base64.b64decode(data), dtype=dtype).reshape(shape).copy()


def _timestamp_from(value: list[Any]) -> Any:
    text, unit, zone = value
    stamp = pd.Timestamp(text)
    return (stamp.tz_convert(zone) if zone else stamp).as_unit(unit)


# Tag -> (type, to JSON, from JSON). The order matters: a Timestamp is a datetime, and a datetime is a date.
_KINDS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "frame": (pd.DataFrame, lambda v: _as_base64(_to_parquet(v)), lambda v: _from_parquet(base64.b64decode(v))),
    "series": (pd.Series, _series_to, lambda v: _series_from(_from_parquet(base64.b64decode(v)))),
    "array": (np.ndarray, _array_to, _array_from),
    "scalar": (np.generic, lambda v: _array_to(np.asarray(v)), lambda v: _array_from(v)[()]),
    "timestamp": (
        pd.Timestamp,
        lambda v: [v.isoformat(), v.unit, None if v.tz is None else str(v.tz)],
        _timestamp_from,
    ),
    "timedelta64": (
        pd.Timedelta,
        lambda v: [int(v.asm8.astype("int64")), v.unit],
        lambda v: pd.Timedelta(v[0], v[1]).as_unit(v[1]),
    ),
    "datetime": (dt.datetime, dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "time": (dt.time, dt.time.isoformat, dt.time.fromisoformat),
    "timedelta": (dt.timedelta, lambda v: [v.days, v.seconds, v.microseconds], lambda v: dt.timedelta(*v)),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "uuid": (uuid.UUID, str, uuid.UUID),
    "bytes": (bytes, _as_base64, base64.b64decode),
    "tuple": (tuple, lambda v: [_to_json(item) for item in v], lambda v: tuple(_from_json(item) for item in v)),
    "set": (set, lambda v: [_to_json(item) for item in v], lambda v: {_from_json(item) for item in v}),
    "frozenset": (
        frozenset,
        lambda v: [_to_json(item) for item in v],
        lambda v: frozenset(_from_json(item) for item in v),
    ),
    "path": (PurePath, str, Path),
}


def _to_json(value: Any) -> Any:
    if value is None or type(value) in (bool, str, int):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {_TAG: "float", "value": repr(value)}
    if value is pd.NA or value is pd.NaT:
        return {_TAG: "missing", "value": "NA" if value is pd.NA else "NaT"}
    if type(value) is list:
        return [_to_json(item) for item in value]
    if type(value) is dict:
        # Pairs where the keys are not text, or one of them looks like a tag of ours.
        if all(type(key) is str for key in value) and _TAG not in value:
            return {key: _to_json(item) for key, item in value.items()}
        return {_TAG: "dict", "value": [[_to_json(key), _to_json(item)] for key, item in value.items()]}
    for tag, (kind, encode, _) in _KINDS.items():
        # A subclass (an enumeration, a named tuple) would come back as something else.
        if type(value) is kind or (kind in (np.generic, PurePath) and isinstance(value, kind)):
            return {_TAG: tag, "value": encode(value)}
    raise TypeError(
        f"DataFrameSerializer cannot store a {type(value).__module__}.{type(value).__qualname__}; "
        "return frames, JSON values, dates, NumPy values, or containers of these"
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get(_TAG)
    if tag is None:
        return {key: _from_json(item) for key, item in value.items()}
    stored = value["value"]
    if tag == "float":
        return float(stored)
    if tag == "missing":
        return pd.NA if stored == "NA" else pd.NaT
    if tag == "dict":
        return {_from_json(key): _from_json(item) for key, item in stored}
    return _KINDS[tag][2](stored)
