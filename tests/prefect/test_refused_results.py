"""Results that could run code: refused when they are written and when they are read, and said so where a user looks."""

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.client.schemas.objects import State
from prefect.serializers import PickleSerializer

from clinops_prefect import UntrustedResultError
from tests.prefect.conftest import Saved, save
from tests.prefect.sample_flows import awhole, frame, make_once, said, whole
from tests.prefect.server import PrefectServer
from tests.prefect.test_cache import run
from tests.prefect.test_results import reread

SAYS_WHAT_TO_SET = "result_serializer=DataFrameSerializer()"


def default_flow(local: Saved) -> State[Any]:
    @flow(result_storage=local.reference, persist_result=True)
    def forgot() -> Any:
        return frame()

    return forgot(return_state=True)


def default_async_flow(local: Saved) -> State[Any]:
    @flow(result_storage=local.reference, persist_result=True)
    async def forgot() -> Any:
        return frame()

    return asyncio.run(forgot(return_state=True))


def default_task(local: Saved) -> State[Any]:
    @task(result_storage=local.reference, persist_result=True)
    def forgot() -> Any:
        return frame()

    @flow
    def calls() -> dict[str, Any]:
        return {"state": forgot(return_state=True)}

    return calls()["state"]


@pytest.mark.parametrize("forgetful", [default_flow, default_async_flow, default_task])
def test_the_default_serializer_is_refused_and_the_log_of_the_run_says_which_argument_to_add(
    forgetful: Any, local: Saved, server: PrefectServer
) -> None:
    state = forgetful(local)
    assert state.is_completed(), "Prefect swallows the error: if this fails, it no longer does"
    assert local.door.keys() == []
    details = state.state_details
    wanted = str(details.task_run_id or details.flow_run_id)
    assert server.logged(wanted, SAYS_WHAT_TO_SET)


@pytest.fixture
def trap(tmp_path: Path) -> tuple[Path, str]:
    """A file that must not come to be, and code that makes it."""
    proof = tmp_path / "code-ran"
    return proof, f"__import__('pathlib').Path({str(proof)!r}).touch()"


class Code:
    """What runs code when it is unpickled."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        return eval, (self.code,)


def poisoned(envelope: dict[str, Any], how: str, code: str) -> dict[str, Any]:
    """The envelope as who can write to the bucket might leave it."""
    pickled = PickleSerializer().dumps(Code(code)).decode()
    changed = envelope | {"result": pickled}
    metadata = envelope["metadata"]
    if how == "pickle":
        return changed | {"metadata": metadata | {"serializer": {"type": "pickle"}}}
    if how == "compressed pickle":
        inner = {"type": "compressed", "serializer": {"type": "pickle"}, "compressionlib": "base64"}
        return changed | {"metadata": metadata | {"serializer": inner}}
    if how == "no serializer":
        return changed | {"metadata": {k: v for k, v in metadata.items() if k != "serializer"}}
    if how == "no metadata":
        return {"result": pickled}
    if how == "old format":
        return {"data": pickled, "serializer": {"type": "pickle"}, "prefect_version": "2.0.0"}
    if how == "JSON decoder":
        serializer = {"type": "json", "object_decoder": "builtins.eval"}
    elif how == "JSON library":
        serializer = {"type": "json", "jsonlib": "pickle"}
    else:
        serializer = {"type": "json"}
        return envelope | {
            "metadata": metadata | {"serializer": serializer},
            "result": json.dumps({"__class__": "subprocess.Popen", "data": {"args": "true"}}),
        }
    return envelope | {"metadata": metadata | {"serializer": serializer}, "result": json.dumps({"a": code})}


HOW = [
    "pickle", "compressed pickle", "no serializer", "no metadata", "old format",
    "JSON decoder", "JSON library", "class to import",
]  # fmt: skip


@pytest.mark.parametrize("how", HOW)
def test_an_edited_envelope_is_refused_and_runs_no_code(
    how: str, local: Saved, tmp_path: Path, trap: tuple[Path, str], server: PrefectServer
) -> None:
    proof, code = trap
    run(local, tmp_path / "journal")
    (key,) = local.door.keys()
    envelope = poisoned(json.loads(local.door.get(key)), how, code)
    local.door.put(key, json.dumps(envelope).encode())
    path = key.removeprefix("results/here/")
    with pytest.raises(UntrustedResultError, match="allow_pickle=True"):
        local.store.read_path(path)
    run(local, tmp_path / "journal")  # takes it for a miss, makes the result again and overwrites it
    assert not proof.exists()
    assert len(said(tmp_path / "journal")) == 2
    assert server.logged(f"result {path}", "refused")


@pytest.mark.parametrize("kind", ["flow", "key"])
def test_raw_pickle_is_refused(kind: str, local: Saved, tmp_path: Path, trap: tuple[Path, str]) -> None:
    proof, code = trap
    if kind == "flow":
        state = whole.with_options(result_storage=local.reference)(3, return_state=True)
    else:
        run(local, tmp_path / "journal", keys=save(local.door, prefix="results/keys"))
    (key,) = [key for key in local.door.keys() if local.door.get(key)[:4] == b"PAR1"]
    local.door.put(key, pickle.dumps(Code(code)))
    with pytest.raises(UntrustedResultError):
        local.store.read_path(key.removeprefix("results/here/"))
    if kind == "flow":
        with pytest.raises(UntrustedResultError):
            reread(state).result()
    assert not proof.exists()


def test_metadata_kept_apart_that_names_pickle_is_refused(local: Saved, tmp_path: Path) -> None:
    run(local, tmp_path / "journal", keys=save(local.door, prefix="results/keys"))
    (key,) = [key for key in local.door.keys() if local.door.get(key)[:4] != b"PAR1"]
    metadata = json.loads(local.door.get(key))
    local.door.put(key, json.dumps(metadata | {"serializer": {"type": "pickle"}}).encode())
    with pytest.raises(UntrustedResultError):
        local.door.store(prefix="results/keys").read_path(key.removeprefix("results/keys/"))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_store_that_trusts_its_writers_lets_pickle_through(asynchronous: bool, local: Saved) -> None:
    trusting = save(local.door, allow_pickle=True)
    options: dict[str, Any] = {"result_storage": trusting.reference, "result_serializer": "pickle"}
    if asynchronous:
        state = asyncio.run(awhole.with_options(**options)(3, return_state=True))
    else:
        state = whole.with_options(**options)(3, return_state=True)
    assert reread(state).result().equals(frame())


def test_plain_json_needs_no_trust(local: Saved) -> None:
    @task(result_storage=local.reference, persist_result=True, result_serializer="json")
    def numbers() -> dict[str, Any]:
        return {"rows": 3, "at": [1.5, None, "x"]}

    @flow
    def calls() -> dict[str, Any]:
        return {"state": numbers(return_state=True)}

    assert reread(calls()["state"]).result() == {"rows": 3, "at": [1.5, None, "x"]}


def test_a_fixed_policy_is_what_the_samples_have() -> None:
    """The tests above rest on it: with `INPUTS` alone, one task was served another's frame."""
    assert make_once.cache_policy == INPUTS + TASK_SOURCE
