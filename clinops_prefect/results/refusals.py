"""Refusals of values in a result: where the value is, and what to return instead. No value is quoted."""

import dataclasses
import enum
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel

_SHOWN_KEY = 40
_BYTES = "or store bytes of your own with a store's write_bytes"
_ANYTHING = f"return frames, JSON values, dates, NumPy values, or containers of these, {_BYTES}"


class Refused(Exception):  # noqa: N818 - it never leaves this package
    """Raised for a value that would not be restored exactly.

    Attributes:
        steps: The path to the value, last step first. Each container around the value adds a step.
        why: What the value is, and what to do.
        is_frame: Whether the value is a frame.
    """

    def __init__(self, why: str, *, is_frame: bool = False) -> None:
        super().__init__(why)
        self.steps: list[str] = []
        self.why = why
        self.is_frame = is_frame

    @property
    def where(self) -> str:
        """The path to the value, such as `result['labs'][2]`."""
        return "result" + "".join(reversed(self.steps))


def step_of_key(key: Any, position: int) -> str:
    """The step of the path to a dictionary's value.

    A key that is a name is shown. Any other key may be a patient's number, so only its position is shown.
    """
    if type(key) is str and len(key) <= _SHOWN_KEY and key.isprintable() and not any(map(str.isdigit, key)):
        return f"[{key!r}]"
    return f"[key {position}]"


def refused(value: Any) -> Refused:
    """The refusal of a value because of its type."""
    return Refused(f"a {name_of(value)}; {_remedy(value)}")


def name_of(value: Any) -> str:
    """The qualified name of a value's type."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _remedy(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"return value.model_dump(mode='json'), {_BYTES} (value.model_dump_json())"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"return dataclasses.asdict(value), {_BYTES}"
    if isinstance(value, enum.Enum):
        return "return value.value"
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return "return value._asdict() or tuple(value)"
    if isinstance(value, pd.MultiIndex):
        return "return pd.Series(0, index=value)"
    if isinstance(value, pd.Index | pd.api.extensions.ExtensionArray):
        return "return pd.Series(value)"
    if isinstance(value, pa.RecordBatch):
        return "return pa.Table.from_batches([value])"
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return "return pa.table({'values': value})"
    if isinstance(value, pa.RecordBatchReader):
        return "return value.read_all(), or store it with upload_artifact"
    if name_of(value).startswith("polars.") and hasattr(value, "collect"):
        return "return value.collect(), or store it with upload_artifact"
    if hasattr(value, "to_frame"):
        return "return value.to_frame()"
    if hasattr(value, "__arrow_c_stream__") and not isinstance(value, pd.DataFrame):
        return "return pa.table(value), or store it with upload_artifact"
    if hasattr(value, "to_pandas"):
        return "return value.to_pandas()"
    if isinstance(value, np.ndarray):
        return "return np.asarray(value) or value.tolist()"
    if isinstance(value, complex):
        return "return [value.real, value.imag]"
    if isinstance(value, range | bytearray | memoryview):
        return "return list(value) or bytes(value)"
    for base in (pd.DataFrame, pd.Series, dict, list, tuple, set, frozenset, str, int, float, bytes):
        if isinstance(value, base):
            return f"it would come back as {base.__name__}: return {base.__name__}(value)"
    return _ANYTHING
