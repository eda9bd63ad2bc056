"""DataFrameSerializer alone: values that come back equal, the stored bytes, and refused values."""

import base64
import datetime as dt
import decimal
import enum
import io
import json
import uuid
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import (
    CompressedJSONSerializer,
    CompressedSerializer,
    JSONSerializer,
    PickleSerializer,
    Serializer,
)
from pydantic import BaseModel, Field

from clinops_prefect import DataFrameSerializer, UnsupportedFrameError, UntrustedResultError
from clinops_prefect.results.guard import check_result

SERIALIZER = DataFrameSerializer()


def inside_an_envelope(blob: bytes) -> bytes:
    """The bytes as they are after Prefect has stored them as a text in a JSON document."""

    class Envelope(BaseModel):
        result: Any

    return json.loads(Envelope(result=blob).model_dump_json(serialize_as_any=True))["result"].encode()


def both_ways(value: Any) -> list[Any]:
    blob = SERIALIZER.dumps(value)
    check_result(blob, "memory://")
    return [SERIALIZER.loads(blob), SERIALIZER.loads(inside_an_envelope(blob))]


FRAME = pd.DataFrame(
    {
        "stay": pd.array([1, None, 3], dtype="Int64"),
        "sex": pd.Categorical(["F", "M", "F"], categories=["M", "F"], ordered=True),
        "at": pd.date_range("2024-03-31", periods=3, freq="h", tz="Europe/Berlin"),
        "code": ["007", None, ""],
    },
    index=pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["unit", None]),
)


def test_a_frame_comes_back_equal_and_is_raw_parquet() -> None:
    for back in both_ways(FRAME):
        assert_frame_equal(back, FRAME)
    plain = FRAME.reset_index(drop=True)
    assert_frame_equal(pd.read_parquet(io.BytesIO(SERIALIZER.dumps(plain))), plain)


def test_in_an_envelope_a_frame_is_text() -> None:
    assert base64.b64decode(inside_an_envelope(SERIALIZER.dumps(FRAME)), validate=True)[:4] == b"PAR1"


def test_containers_of_frames_come_back_equal() -> None:
    # A slice keeps unused labels, from which pandas 2.3 infers the dtype of an empty level.
    empty = FRAME.iloc[:0].set_axis(FRAME.index[:0].remove_unused_levels())
    value = {"frames": [FRAME, empty], "counts": {"rows": 3}, "pair": (FRAME, None)}
    for back in both_ways(value):
        assert_frame_equal(back["frames"][0], FRAME)
        assert_frame_equal(back["frames"][1], empty)
        assert back["counts"] == {"rows": 3}
        assert type(back["pair"]) is tuple
        assert_frame_equal(back["pair"][0], FRAME)


@pytest.mark.parametrize("name", ["values", None, 7, ("a", "b")])
def test_series_come_back_equal_with_their_name(name: Any) -> None:
    series = pd.Series([1.5, None], index=["a", "b"], name=name)
    for back in both_ways(series):
        assert_series_equal(back, series)


BERLIN = dt.timezone(dt.timedelta(hours=2))
VALUES = [
    None, True, 0, -(2**70), 1.5, float("inf"), "", "\x00é\ud7ff", [], {}, [None, [1]], {"a": {"b": [1]}},
    dt.date(2024, 2, 29), dt.time(23, 59, 59, 999999), dt.datetime(2024, 1, 1, tzinfo=BERLIN),
    dt.datetime(2024, 10, 27, 2, 30), dt.timedelta(days=-1, microseconds=1),
    decimal.Decimal("1.10"), uuid.UUID(int=7), b"\x00\xff", (1, "a", (2,)), {1, 2}, frozenset({"a"}),
    {1: "a", (2, 3): "b"}, {"__clinops__": "frame", "value": "no frame"}, {"clinops/dataframe": 1},
    {"metadata": {"serializer": {"type": "pickle"}}, "result": "x"}, Path("a/b"),
    pd.Timestamp("2024-01-01 00:00:00.000000001", tz="Europe/Berlin"), pd.Timestamp("2024-01-01").as_unit("s"),
    pd.Timedelta(1, "ns"), np.float32(1.5), np.int8(-3), np.bool_(True), np.datetime64("2024-01-01", "D"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{str(value)[:20]}")
def test_values_come_back_equal_and_with_their_type(value: Any) -> None:
    for back in both_ways(value):
        assert type(back) is type(value)
        assert back == value
        if isinstance(value, pd.Timestamp):
            assert (back.unit, str(back.tz)) == (value.unit, str(value.tz))
        if isinstance(value, np.generic):
            assert back.dtype == value.dtype


def test_missing_values_come_back_as_the_same_missing_value() -> None:
    for value in (pd.NA, pd.NaT):
        assert all(back is value for back in both_ways(value))
    assert all(np.isnan(back) and type(back) is float for back in both_ways(float("nan")))


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype="<i2").reshape(2, 3), np.array([], "f4"), np.array(1.5), np.asfortranarray(np.eye(3))]
)
def test_arrays_come_back_equal_and_writable(array: np.ndarray) -> None:
    for back in both_ways(array):
        np.testing.assert_array_equal(back, array)
        assert (back.dtype, back.shape, back.flags.writeable) == (array.dtype, array.shape, True)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [object(), Colour.RED, Level.LOW, Point(1, 2), lambda: 0, np.array([object()]), 1j, [Point(1, 2)]],
)
def test_a_value_that_would_come_back_changed_is_refused_and_its_type_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot (store|be stored)"):
        SERIALIZER.dumps(value)


def test_a_frame_that_would_not_come_back_equal_is_refused() -> None:
    with pytest.raises(UnsupportedFrameError):
        SERIALIZER.dumps(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_anything_else_is_a_document_that_names_the_serializer_and_the_form() -> None:
    assert json.loads(SERIALIZER.dumps({"rows": 3})) == {"clinops/dataframe": 1, "value": {"rows": 3}}


def test_prefect_finds_it_by_its_type() -> None:
    assert isinstance(Serializer(type="clinops/dataframe"), DataFrameSerializer)


@pytest.mark.parametrize(
    "blob", [b"PAR1 and then nothing", b"!!", b'{"value": {"__clinops__": "eval", "value": "1"}}', b"{}"]
)
def test_damaged_results_raise(blob: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        SERIALIZER.loads(blob)


class Own(DataFrameSerializer):
    type: str = Field(default="own/frame", frozen=True)


@pytest.mark.parametrize(
    ("serializer", "why"),
    [
        (CompressedSerializer(serializer=SERIALIZER), "compressionlib"),
        (CompressedSerializer(serializer=SERIALIZER, compressionlib="zlib"), "compressionlib"),
        (CompressedJSONSerializer(), "compressionlib"),
        (Own(), "a subclass of a serializer is code of its own"),
        (PickleSerializer(), "'pickle'"),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
def test_the_guard_says_why_it_refuses_other_serializers_and_what_to_set(serializer: Serializer, why: str) -> None:
    metadata = ResultRecordMetadata(serializer=serializer, storage_key="k")
    with pytest.raises(UntrustedResultError, match=why) as caught:
        check_result(ResultRecord(metadata=metadata, result={"rows": 3}).serialize(), "memory://k")
    assert "result_serializer=DataFrameSerializer()" in str(caught.value)


def test_the_guard_also_names_a_raw_compressed_result() -> None:
    with pytest.raises(UntrustedResultError, match="compressed"):
        check_result(CompressedSerializer(serializer=SERIALIZER).dumps(FRAME), "memory://k")


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"a": [{"__class__": "os.system"}]}, "its JSON names a class to import"),
        *[
            ({part: '{"__class__": "os.system"}', "serializer": {"type": "json"}}, "its JSON names a class to import")
            for part in ("result", "data")
        ],
        ({"result": "1", "serializer": "pickle"}, "its serializer cannot be read"),
        ({"result": "1"}, "it names no serializer, which Prefect takes for pickle"),
        *[
            (
                {"result": "1", "serializer": {"type": "json", **named}},
                "its JSON serializer names a decoder or a library",
            )
            for named in ({"jsonlib": "os"}, {"object_decoder": "os.system"}, {"loads_kwargs": {"cls": "os.system"}})
        ],
    ],
)
def test_the_guard_says_what_is_wrong_with_a_result(document: dict[str, Any], why: str) -> None:
    with pytest.raises(UntrustedResultError, match=why) as caught:
        check_result(json.dumps(document).encode(), "memory://x")
    assert caught.value.uri == "memory://x"


@pytest.mark.parametrize("key", ["metadata", "expiration", "storage_key", "prefect_version", "serializer"])
def test_a_dictionary_that_prefect_takes_for_no_envelope_is_kept_as_json(key: str) -> None:
    for value in ("x", 1, {"a": 1}, None):
        document = {key: value, "n": 1}
        if key == "serializer" and isinstance(value, dict):
            continue  # Prefect would make this serializer
        content = json.dumps(document).encode()
        check_result(content, "memory://x")
        assert ResultRecord.deserialize(content, backup_serializer=JSONSerializer()).result == document


@pytest.mark.parametrize("key", ["result", "data"])
def test_the_refusal_of_a_dictionary_like_an_envelope_says_what_to_set(key: str) -> None:
    with pytest.raises(UntrustedResultError, match=f"key {'result'!r} or {'data'!r}.*another name") as caught:
        check_result(json.dumps({key: [1, 2], "n": 1}).encode(), "memory://x")
    assert "'json'" not in str(caught.value)
    assert SERIALIZER.loads(SERIALIZER.dumps({key: [1, 2], "n": 1})) == {key: [1, 2], "n": 1}
