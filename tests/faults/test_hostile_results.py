"""Results and outputs that somebody edited: no code of theirs runs when Prefect reads them, and every error is ours."""

import base64
import copy
import json
import pickle
import pickletools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.results import ResultRecord
from prefect.serializers import JSONSerializer, PickleSerializer

from clinops_prefect import (
    ArtifactDecodeError,
    ClinopsPrefectError,
    DataFrameSerializer,
    ServiceUnavailableError,
    StepFunctionsPipeline,
    UntrustedResultError,
)
from clinops_prefect.results import guard
from clinops_prefect.results.guard import OURS, check_result, result_block
from clinops_prefect.step_functions.service import executions, polling
from tests.faults.canaries import CELL

DEEP = "[" * 200_000 + "]" * 200_000
_ran: list[str] = []
_watched = threading.local()


class Code:
    def __reduce__(self) -> Any:
        return _ran.append, ("code of the envelope",)


# On one line, because JSON writes a line break as \\n, and that n would damage the base64.
PICKLED = PickleSerializer().dumps(Code()).decode().replace("\n", "")


def _hook(event: str, details: tuple[Any, ...]) -> None:
    if event in ("pickle.find_class", "os.system", "subprocess.Popen") and getattr(_watched, "on", False):
        _ran.append(f"{event} {details!r:.100}")


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[None]:
    _ran.clear()
    _watched.on = True
    try:
        yield
    finally:
        _watched.on = False


def read_as_prefect_does(content: bytes) -> bool:
    """Return whether the guard accepts it. If so, let Prefect read it with every serializer that a flow may have."""
    try:
        check_result(content, "uri")
    except UntrustedResultError:
        return False
    for serializer in (PickleSerializer(), JSONSerializer(), DataFrameSerializer(), None):
        with watched():
            try:
                ResultRecord.deserialize(content, backup_serializer=serializer)
            except Exception as error:
                del error  # a result that cannot be read does no harm
        assert _ran == [], (content[:200], serializer)
    return True


METADATA: dict[str, Any] = {"storage_key": "k", "prefect_version": "3.8.0", "serializer": {"type": "pickle"}}
POISONED: dict[str, Any] = {
    "a key of ours": {OURS: 1, "metadata": METADATA, "result": PICKLED},
    "keys of ours": {OURS: 1, "value": 1, "metadata": METADATA, "result": PICKLED},
    "ours in the metadata": {"metadata": {**METADATA, OURS: 1, "value": 1}, "result": PICKLED},
    "a JSON text": PICKLED,
    "a JSON list": [PICKLED.strip()],
    "a JSON key": {PICKLED: 1},
    "a second serializer": {"metadata": {**METADATA, "serializer": {"type": "json"}}, "serializer": {"type": "pickle"},
                            "result": PICKLED},
    "a list of metadata": {"metadata": [METADATA], "result": PICKLED},
    "old": {"data": PICKLED, "serializer": {"type": "pickle"}, "prefect_version": "2.0.0"},
    "a serializer in ours": {"metadata": {**METADATA, "serializer": {"type": OURS, "serializer": {"type": "pickle"}}},
                             "result": PICKLED},
}  # fmt: skip


def test_the_pickle_would_run() -> None:
    """Without the guard the code runs, so the other tests can fail."""
    with watched():
        ResultRecord.deserialize(json.dumps({"metadata": METADATA, "result": PICKLED}).encode())
    assert _ran
    with watched():
        ResultRecord.deserialize(json.dumps(PICKLED).encode(), backup_serializer=PickleSerializer())
    assert _ran


@pytest.mark.parametrize("how", POISONED)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_poisoned_result_runs_nothing(how: str, encoding: str) -> None:
    read = read_as_prefect_does(json.dumps(POISONED[how]).encode(encoding))
    # This result has the type of our serializer, and nobody would unpickle its content.
    assert not read or how == "a serializer in ours" or encoding != "utf-8"


def test_doubled_keys_run_nothing() -> None:
    """If a key has two values, two parsers may choose different ones."""
    good, bad = json.dumps({**METADATA, "serializer": {"type": "json"}}), json.dumps(METADATA)
    for first, second in ((good, bad), (bad, good)):
        read_as_prefect_does(f'{{"metadata": {first}, "metadata": {second}, "result": {json.dumps(PICKLED)}}}'.encode())
    doubled = f'{{"type": "json", "type": "pickle"}}, "result": {json.dumps(PICKLED)}'
    read_as_prefect_does(f'{{"metadata": {{"serializer": {doubled}}}}}'.encode())
    read_as_prefect_does(f'{{"{OURS}": 1, "value": 1, "{OURS}": {json.dumps(PICKLED)}}}'.encode())


_NAMES = st.sampled_from(["metadata", "result", "data", "serializer", "type", "storage_key", OURS, "value", "__class__",
                          "object_decoder", "jsonlib", "prefect_version", "expiration", "payload"])  # fmt: skip
_LEAVES = st.sampled_from([PICKLED, "pickle", "json", OURS, "compressed/pickle", "builtins.eval", "k", 1, None, True,
                           "", "subprocess.Popen", "cloudpickle", json.dumps({"__class__": "os.system"})])  # fmt: skip
_DOCUMENTS = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=12
)


@settings(max_examples=400, deadline=None)
@given(_DOCUMENTS, st.dictionaries(_NAMES, _DOCUMENTS, max_size=3), st.dictionaries(_NAMES, _DOCUMENTS, max_size=3))
def test_no_envelope_that_passes_runs_code(document: Any, outer: dict[str, Any], inner: dict[str, Any]) -> None:
    envelope = {"metadata": {**METADATA, **inner}, "result": PICKLED, **outer}
    for each in (document, envelope, {**envelope, "extra": document}):
        read_as_prefect_does(json.dumps(each).encode())


_NOISE = st.sampled_from(["", "{", '"', " =", "\n", "==", "A", "AAA", "{}::", "\u00e9"])


@settings(max_examples=300, deadline=None)
@given(_NOISE, st.integers(2_900, 3_200), _NOISE, st.booleans(), _NOISE)
def test_a_pickle_is_recognized_however_late_its_import_comes(
    front: str, before: int, cut: str, imports: bool, end: str
) -> None:
    """Also if the guard first looks at the beginning of the base64, which may be cut at any letter."""
    pickled = pickle.dumps((bytes(before), Code() if imports else 1), protocol=4)
    text = base64.b64encode(pickled).decode()
    content = f"{front}{text[:2000]}{cut}{text[2000:]}{end}".encode()
    try:
        opcodes = [code.name for code, _, _ in pickletools.genops(base64.decodebytes(content))]
    except ValueError:
        opcodes = []
    assert guard._is_pickle_too(content) == bool(guard._IMPORTING_OPCODES & {*opcodes})
    if not (front or cut or end):
        assert opcodes
        assert guard._is_pickle_too(content) == imports


def test_deep_and_broken_results_are_refused() -> None:
    for content in (
        DEEP.encode(),
        f'{{"result": {DEEP}}}'.encode(),
        b"{",
        b"\xff\xfe",
        b'{"storage_key": ' + b"[" * 99,
    ):
        with pytest.raises(UntrustedResultError):
            check_result(content, "uri")
        assert result_block(content) == ""
    nested = {"metadata": {**METADATA, "serializer": {"type": "json"}}, "result": DEEP}
    with pytest.raises(UntrustedResultError):
        check_result(json.dumps(nested).encode(), "uri")


TAGS = ["frame", "series", "array", "scalar", "timestamp", "timedelta64", "datetime", "date", "time", "timedelta",
        "decimal", "uuid", "bytes", "tuple", "set", "frozenset", "path", "float", "missing", "dict", "int", "text",
        "exception", "eval", ""]  # fmt: skip
_STORED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(TAGS), _STORED)
def test_whatever_a_tag_holds_is_a_value_or_an_error_of_ours(tag: str, stored: Any) -> None:
    blob = json.dumps({OURS: 1, "value": {"__clinops__": tag, "value": stored}}).encode()
    with watched(), suppress(ArtifactDecodeError):
        DataFrameSerializer().loads(blob)
    assert _ran == []


def test_hostile_results_of_ours_are_errors_of_ours() -> None:
    serializer = DataFrameSerializer()
    frame = serializer.dumps(pd.DataFrame({"a": [CELL]}))
    array = ["V1000000000", [1], ""], ["O", [1], ""], ["<f8", [10**12], ""], ["<f8", [-1], "AAA="], ["<f8", [2], "AAAA"]
    blobs = [
        b"", b"PAR1", b"PAR1" + b"\x00" * 99, frame[:-9], b"{", b"{}", b"[1]", b'{"value": ' + DEEP.encode() + b"}",
        base64.b64encode(frame)[:-8], base64.b64encode(pickle.dumps(Code())), pickle.dumps(Code()),
        *(json.dumps({"value": {"__clinops__": "array", "value": value}}).encode() for value in array),
        json.dumps({"value": {"__clinops__": "set", "value": [[1]]}}).encode(),
        json.dumps({"value": {"__clinops__": "timedelta", "value": [10**12, 0, 0]}}).encode(),
    ]  # fmt: skip
    for blob in blobs:
        with watched(), pytest.raises(ArtifactDecodeError) as caught:
            serializer.loads(blob)
        assert CELL not in str(caught.value)
        assert _ran == []


ARN = "arn:aws:states:us-east-1:123456789012:execution:p:e"


@pytest.mark.parametrize("output", [DEEP, f'{{"who": "{CELL}"', CELL, "", "\x00", "9" * 5_000, "{'a': 1}"])
def test_an_output_that_is_no_json_is_an_error_of_ours_that_does_not_quote_it(output: str) -> None:
    description = {"status": "SUCCEEDED", "executionArn": ARN, "output": output}
    with pytest.raises(ArtifactDecodeError) as caught:
        executions.outcome(None, description, show_cause=True)  # type: ignore[arg-type]
    assert CELL not in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.uri == ARN


def test_a_large_output_is_returned_whole() -> None:
    """AWS passes on at most a megabyte. This output has ten megabytes."""
    output = json.dumps({"names": ["x" * 1_000] * 10_000})
    description = {"status": "SUCCEEDED", "executionArn": ARN, "output": output}
    assert len(executions.outcome(None, description, show_cause=False)["names"]) == 10_000  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [CELL, DEEP, f"<html>{CELL}</html>", f'{{"executionArn": "{CELL}"'])
def test_an_answer_that_is_not_from_step_functions_is_an_error_of_ours(body: str) -> None:
    """For example the page of a proxy, or of a portal that asks for a login."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        pipeline = StepFunctionsPipeline(
            name="p",
            role_arn="arn:aws:iam::123456789012:role/R",
            region="us-east-1",
            endpoint_url=f"http://127.0.0.1:{server.server_address[1]}",
        )
        for ask in (
            lambda: polling.describe(pipeline.client(), ARN),
            lambda: next(pipeline.history(ARN)),
            lambda: pipeline.execute({}),
        ):
            with pytest.raises(ServiceUnavailableError) as caught:
                ask()
            assert CELL not in "".join(map(str, (caught.value, caught.value.__cause__)))
    finally:
        server.shutdown()
        server.server_close()


def test_any_other_serializer_is_refused() -> None:
    """A new serializer of Prefect is refused until this package allows it."""
    envelope = {"metadata": copy.deepcopy(METADATA), "result": "1"}
    for kind in ("pickle", "compressed/pickle", "compressed/json", "anything-new"):
        envelope["metadata"]["serializer"] = {"type": kind}
        with pytest.raises(ClinopsPrefectError):
            check_result(json.dumps(envelope).encode(), "uri")
