"""Exceptions as results: they keep their message, and their type if restoring it imports nothing."""

import builtins
import json
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import prefect.exceptions
import pyarrow as pa
import pydantic
import pytest

from clinops_prefect import errors
from clinops_prefect.errors import (
    ArtifactDecodeError,
    ClinopsPrefectError,
    ExecutionFailedError,
    InvalidPipelineError,
    StoredFailureError,
)
from tests.faults.canaries import CELL, PATIENT
from tests.unit.test_serializer import SERIALIZER, both_ways

BUILTIN = [kind for kind in vars(builtins).values() if isinstance(kind, type) and issubclass(kind, BaseException)]


def caught(do: Any) -> BaseException:
    with pytest.raises(BaseException) as info:  # noqa: PT011
        do()
    return info.value


def back(error: BaseException) -> Any:
    (first, second) = both_ways(error)
    assert (type(first), str(first)) == (type(second), str(second))
    return first


@pytest.mark.parametrize("kind", BUILTIN, ids=lambda kind: kind.__name__)
def test_every_builtin_exception_comes_back_as_itself(kind: type[BaseException]) -> None:
    if issubclass(kind, UnicodeDecodeError | UnicodeEncodeError):
        error = kind("utf-8", b"\xff\xff" if kind is UnicodeDecodeError else "\ud800\udc00", 0, 2, "no")
    elif issubclass(kind, UnicodeTranslateError):
        error = kind("\ud800", 0, 1, "no")
    elif issubclass(kind, BaseExceptionGroup):
        error = kind("both", [ValueError("x"), KeyboardInterrupt() if kind is BaseExceptionGroup else KeyError("y")])
    else:
        two = kind("two", ("steps.py", 2, 3, "a")) if issubclass(kind, SyntaxError) else kind("two", 2)
        for error in (kind(), two):
            assert (type(back(error)), str(back(error))) == (kind, str(error))
        error = kind("no bed 7")
    restored = back(error)
    assert (type(restored), str(restored), repr(restored)) == (kind, str(error), repr(error))


REAL = {
    "missing file": lambda: Path("/nowhere/at/all").read_text(),
    "renamed": lambda: Path("/nowhere/a").rename("/nowhere/b"),
    "text for a number": lambda: int("twelve"),
    "no key": lambda: {}["stay_id"],
    "no key of a frame": lambda: pd.DataFrame({"a": [1]})["b"],
    "no row of a multi-index": lambda: pd.Series([1], pd.MultiIndex.from_tuples([("a", 1)])).loc[("b", 2)],
    "no attribute": lambda: (1).none,
    "no name": lambda: eval("no_such_name"),
    "no module": lambda: __import__("no_such_module"),
    "no name in a module": lambda: exec("from pathlib import NoSuchPath"),
    "bad bytes": lambda: b"caf\xe9".decode(),
    "bad text": lambda: "caf\xe9".encode("ascii"),
    "division": lambda: 1 // 0,
    "syntax": lambda: compile("a = = b", "steps.py", "exec"),
    "exit": lambda: exec("raise SystemExit(3)"),
    "a key that is a tuple": lambda: {}[("a", (1, None, 2.5))],
    "a key that is a time": lambda: {}[pd.Timestamp("2024-01-01")],
    "a type": lambda: len(3),
    "not a number": lambda: exec("raise ValueError(float('nan'))"),
}


@pytest.mark.parametrize("what", REAL)
def test_exceptions_that_python_raises_come_back_with_type_and_message(what: str) -> None:
    error = caught(REAL[what])
    restored = back(error)
    assert type(restored) is type(error)
    assert str(restored) == str(error) or what == "a key that is a time"
    assert "2024-01-01" in str(restored) or what != "a key that is a time"
    for name in ("errno", "filename", "filename2", "name", "code", "lineno", "start", "reason"):
        assert getattr(restored, name, None) == getattr(error, name, None)


def test_a_group_in_groups_comes_back_ten_deep() -> None:
    error: Exception = ValueError("x")
    for _ in range(12):
        error = ExceptionGroup("g", [error])
    restored, depth = back(error), 0
    while isinstance(restored, ExceptionGroup):
        restored, depth = restored.exceptions[0], depth + 1
    assert (depth, type(restored)) == (10, StoredFailureError)


def test_groups_and_notes_come_back() -> None:
    inner = ExceptionGroup("inner", [ValueError("a"), pa.ArrowInvalid("b")])
    inner.add_note("in the second shard")
    restored = back(ExceptionGroup("outer", [inner, KeyError("c")]))
    assert str(restored) == "outer (2 sub-exceptions)"
    assert [type(error) for error in restored.exceptions] == [ExceptionGroup, KeyError]
    assert restored.exceptions[0].__notes__ == ["in the second shard"]
    (_, of_arrow) = restored.exceptions[0].exceptions
    assert (of_arrow.type_name, of_arrow.message) == ("pyarrow.lib.ArrowInvalid", "b")
    deep: Exception = ValueError("at the bottom")
    for _ in range(200):
        deep = ExceptionGroup("level", [deep])
    assert str(back(deep)) == "level (1 sub-exception)"


class Lost(Exception):
    def __init__(self, patient: str, *, rows: pd.DataFrame) -> None:
        super().__init__("no such patient")
        self.patient, self.rows = patient, rows


class Missing(KeyError):
    pass


class Model(pydantic.BaseModel):
    hour: int


OTHERS = {
    "own": (Lost(PATIENT, rows=pd.DataFrame({"a": [CELL]})), f"{__name__}.Lost"),
    "own, of a builtin": (Missing("x"), f"{__name__}.Missing"),
    "Arrow": (pa.ArrowInvalid("not a Parquet file"), "pyarrow.lib.ArrowInvalid"),
    "zip": (zipfile.BadZipFile("bad"), "zipfile.BadZipFile"),
    "process": (subprocess.CalledProcessError(3, ["ls"]), "subprocess.CalledProcessError"),
    "pydantic": (caught(lambda: Model(hour="x")), "pydantic_core._pydantic_core.ValidationError"),
    "Prefect": (prefect.exceptions.MissingResult("State data is missing."), "prefect.exceptions.MissingResult"),
    "Prefect, failed": (prefect.exceptions.FailedRun("1/2 states failed."), "prefect.exceptions.FailedRun"),
    "a signal": (prefect.exceptions.TerminationSignal(15), "prefect.exceptions.TerminationSignal"),
    "in a function": (type("In", (Exception,), {"__module__": "m", "__qualname__": "f.<locals>.In"})("x"),
                      "m.f.<locals>.In"),
}  # fmt: skip


@pytest.mark.parametrize("what", OTHERS)
def test_exceptions_of_other_packages_come_back_as_name_and_message(what: str) -> None:
    error, name = OTHERS[what]
    for restored in (back(error), back(back(error)), pickle.loads(pickle.dumps(back(error)))):
        assert type(restored) is StoredFailureError
        assert isinstance(restored, RuntimeError)
        assert (restored.type_name, restored.message) == (name, str(error))
        assert str(restored) == f"{name}: {error}"
        assert not hasattr(restored, "patient")
    stored = SERIALIZER.dumps(error).decode()
    assert PATIENT not in stored
    assert CELL not in stored


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"StoredFailureError"}))
def test_every_error_of_this_package_comes_back_as_itself(name: str) -> None:
    error: ClinopsPrefectError = getattr(errors, name)("no s3://b/x.parquet: 'quoted'")
    error.uri = "s3://b/x.parquet"
    restored = back(error)
    assert (type(restored), str(restored), restored.args) == (type(error), str(error), error.args)
    assert restored.uri == error.uri
    assert vars(restored).keys() == vars(error).keys()
    assert type(pickle.loads(pickle.dumps(restored))) is type(error)


def test_details_from_aws_and_from_checks_come_back_but_causes_do_not() -> None:
    failed = ExecutionFailedError(
        "the execution failed", status="ABORTED", error="States.Timeout", cause=f'{{"patient": "{PATIENT}"}}',
        execution_arn="arn:x", failed_state="Ingest",
    )  # fmt: skip
    restored = back(failed)
    assert (restored.status, restored.error, restored.execution_arn, restored.failed_state, restored.uri) == (
        "ABORTED", "States.Timeout", "arn:x", "Ingest", "arn:x",
    )  # fmt: skip
    assert restored.cause == ""
    assert PATIENT not in SERIALIZER.dumps(failed).decode()
    assert back(InvalidPipelineError("m", problems=["a", "b"])).problems == ["a", "b"]


class Silent:
    def __repr__(self) -> str:
        raise RuntimeError(PATIENT)


def test_exceptions_with_arguments_of_any_kind_are_stored_as_text() -> None:
    frame = pd.DataFrame({"a": [1]})
    for error in (ValueError(frame), ValueError(1, frame), KeyError(frame), ValueError(10**5_000), ValueError(b"\xff")):
        restored = back(error)
        assert type(restored) is type(error)
        assert all(type(argument) in (str, int) for argument in restored.args)
    for error in (ValueError(Silent()), ValueError(1, Silent()), KeyError(Silent())):
        assert "that cannot be shown" in str(back(error))
        assert PATIENT not in str(back(error))
    unprintable = type("Unprintable", (Exception,), {"__str__": lambda _: 1 / 0})
    assert "Unprintable that cannot be shown" in str(back(unprintable()))


def test_a_decoding_error_is_stored_without_the_surrounding_text() -> None:
    file = (CELL + "caf").encode() + b"\xe9" + CELL.encode() * 1_000
    error = caught(file.decode)
    assert CELL not in SERIALIZER.dumps(error).decode()
    assert len(SERIALIZER.dumps(error)) < 500
    assert str(back(error)) == str(error)
    late = caught((b"a" * (2 << 20) + b"\xff").decode)
    restored = back(late)
    assert (type(restored), restored.start, restored.reason) == (UnicodeDecodeError, 2 << 20, "invalid start byte")


def test_exceptions_inside_values_come_back_too() -> None:
    (value, _) = both_ways({"failed": [ValueError("a"), pa.ArrowInvalid("b")], "rows": 3})
    assert [type(error) for error in value["failed"]] == [ValueError, StoredFailureError]


@pytest.mark.parametrize(
    "stored",
    [
        {"builtin": "eval", "args": ["1"], "attributes": {}, "message": "x"},
        {"builtin": "print", "args": ["1"], "attributes": {}, "message": "x"},
        {"ours": "ClinopsPrefectError.__init__", "attributes": {}, "message": "x"},
        {"ours": "NewerError", "attributes": {"uri": "x"}, "message": "x"},
        {"builtin": "PythonError99", "args": [], "attributes": {}, "message": "x"},
    ],
)
def test_only_exceptions_are_restored_and_an_unknown_one_keeps_its_message(stored: Any) -> None:
    restored = SERIALIZER.loads(json.dumps({"value": {"__clinops__": "exception", "value": stored}}).encode())
    assert type(restored) is StoredFailureError
    assert restored.message == "x"


@pytest.mark.parametrize(
    "stored",
    [
        {}, [], 1, None, {"other": "x"}, {"builtin": "ValueError"}, {"group": "eval", "message": "x", "errors": []},
        {"group": "ExceptionGroup", "message": "x", "errors": []},
        {"unicode": "UnicodeDecodeError", "encoding": "a", "span": "", "start": 10**15, "end": 1, "reason": "x"},
        {"unicode": "UnicodeEncodeError", "encoding": 1, "span": [], "start": 1, "end": 1, "reason": "x"},
    ],
)  # fmt: skip
def test_damaged_stored_exceptions_are_errors_of_ours(stored: Any) -> None:
    with pytest.raises(ArtifactDecodeError):
        SERIALIZER.loads(json.dumps({"value": {"__clinops__": "exception", "value": stored}}).encode())


def test_attributes_that_somebody_added_to_a_stored_exception_are_not_set() -> None:
    attributes = {"uri": {"x": 1}, "cause": PATIENT, "__class__": "x", "status": "FAILED"}
    stored = {"ours": "ExecutionFailedError", "message": "m", "attributes": attributes}
    restored = SERIALIZER.loads(json.dumps({"value": {"__clinops__": "exception", "value": stored}}).encode())
    assert (type(restored), restored.uri, restored.cause) == (ExecutionFailedError, "", "")
