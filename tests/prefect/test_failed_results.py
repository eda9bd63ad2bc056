"""A failed run that is read again says why it failed; states and futures in a result are stored as their values."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal
from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from clinops_prefect import ArtifactNotFoundError, DataFrameSerializer, ExecutionFailedError, StoredFailureError
from tests.prefect.conftest import Saved
from tests.prefect.sample_flows import frame
from tests.prefect.server import PrefectServer
from tests.prefect.test_results import reread


def options(saved: Saved) -> dict[str, Any]:
    return {"result_storage": saved.reference, "result_serializer": DataFrameSerializer(), "persist_result": True}


def failed_flow(saved: Saved, error: BaseException) -> State[Any]:
    @flow(**options(saved))
    def fails() -> None:
        raise error

    return fails(return_state=True)


def failed_async_flow(saved: Saved, error: BaseException) -> State[Any]:
    @flow(**options(saved))
    async def fails() -> None:
        raise error

    return asyncio.run(fails(return_state=True))


def failed_task(saved: Saved, error: BaseException) -> State[Any]:
    @task(**options(saved))
    def fails() -> None:
        raise error

    @flow
    def calls() -> list[State[Any]]:
        states.append(fails(return_state=True))
        return []

    states: list[State[Any]] = []
    calls()
    return states[0]


def failed_async_task(saved: Saved, error: BaseException) -> State[Any]:
    @task(**options(saved))
    async def fails() -> None:
        raise error

    @flow
    async def calls() -> None:
        states.append(await fails(return_state=True))

    states: list[State[Any]] = []
    asyncio.run(calls())
    return states[0]


def flow_of_a_failed_task(saved: Saved, error: BaseException) -> State[Any]:
    @task
    def fails() -> None:
        raise error

    @flow(**options(saved))
    def calls() -> None:
        fails()

    return calls(return_state=True)


def flow_that_returns_failed_states(saved: Saved, error: BaseException) -> State[Any]:
    @task
    def fails(each: int) -> int:
        if each:
            raise error
        return each

    @flow(**options(saved))
    def calls() -> Any:
        return fails.map([0, 1])

    return calls(return_state=True)


WAYS = [
    failed_flow, failed_async_flow, failed_task, failed_async_task, flow_of_a_failed_task,
    flow_that_returns_failed_states,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_failed_run_that_is_read_again_raises_what_it_failed_with(
    way: Callable[[Saved, BaseException], State[Any]], local: Saved
) -> None:
    state = reread(way(local, ValueError("no stays on 2024-01-01")))
    assert state.is_failed()
    with pytest.raises(ValueError, match=r"^no stays on 2024-01-01$") as caught:
        state.result()
    assert type(caught.value) is ValueError


@pytest.mark.parametrize("way", [failed_flow, failed_task])
def test_on_each_store(way: Callable[[Saved, BaseException], State[Any]], saved: Saved) -> None:
    error = ExecutionFailedError("p failed in Ingest", status="TIMED_OUT", execution_arn="arn:x", cause="of a patient")
    with pytest.raises(ExecutionFailedError, match="failed in Ingest") as caught:
        reread(way(saved, error)).result()
    assert (caught.value.status, caught.value.uri, caught.value.cause) == ("TIMED_OUT", "arn:x", "")
    assert all(b"of a patient" not in saved.door.get(key) for key in saved.door.keys())


def test_what_a_store_said_is_not_taken_for_a_missing_result(local: Saved) -> None:
    error = ArtifactNotFoundError("there is no raw/events", uri="s3://b/raw/events.parquet")
    with pytest.raises(ArtifactNotFoundError, match="raw/events") as caught:
        reread(failed_flow(local, error)).result()
    assert caught.value.uri == "s3://b/raw/events.parquet"


def test_errors_of_other_packages_say_their_name(local: Saved) -> None:
    with pytest.raises(StoredFailureError, match=r"pyarrow\.lib\.ArrowInvalid: not a Parquet file"):
        reread(failed_task(local, pa.ArrowInvalid("not a Parquet file"))).result()


READ = """if True:
    import sys
    from uuid import UUID
    from prefect.client.orchestration import get_client
    import clinops_prefect.results
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(sys.argv[1])).state
    try:
        state.result()
    except KeyError as error:
        print(type(error).__name__, error)
"""


def test_another_process_is_told_too(server: PrefectServer, local: Saved) -> None:
    run = failed_flow(local, KeyError("stay_id")).state_details.flow_run_id
    command = [sys.executable, "-c", READ, str(run)]
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, timeout=900)
    assert done.stdout == "KeyError 'stay_id'\n", done.stderr


def test_a_task_that_fails_twice_and_then_works_is_completed(local: Saved) -> None:
    tries: list[int] = []

    @task(retries=2, **options(local))
    def sometimes() -> pd.DataFrame:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return frame()

    @flow(**options(local))
    def calls() -> pd.DataFrame:
        return sometimes()

    assert_frame_equal(reread(calls(return_state=True)).result(), frame())
    assert len(tries) == 3


@task
def made(rows: int) -> pd.DataFrame:
    return frame(rows)


RETURNED: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "a state": (lambda: made(3, return_state=True), lambda value: value),
    "a future": (lambda: made.submit(3), lambda value: value),
    "states": (lambda: [made(3, return_state=True), made(2, return_state=True)], lambda value: value[0]),
    "mapped": (lambda: made.map([3, 2]), lambda value: value[0]),
    "in a dictionary": (lambda: {"a": 1, "b": [made.submit(3)]}, lambda value: value["b"][0]),
    "in a tuple": (lambda: (1, made(3, return_state=True)), lambda value: value[1]),
    "a state of its own": (lambda: Completed(message="fine", data=frame()), lambda value: value),
}


@pytest.mark.parametrize("what", RETURNED)
def test_completed_states_and_futures_are_stored_as_their_values(what: str, local: Saved) -> None:
    returned, pick = RETURNED[what]

    @flow(**options(local))
    def calls() -> Any:
        return returned()

    state = reread(calls(return_state=True))
    assert state.is_completed()
    assert_frame_equal(pick(state.result()), frame())


@pytest.mark.parametrize("what", ["mapped", "in a dictionary"])
def test_of_async_flows_too(what: str, local: Saved) -> None:
    returned, pick = RETURNED[what]

    @flow(**options(local))
    async def calls() -> Any:
        return returned()

    state = reread(asyncio.run(calls(return_state=True)))
    assert_frame_equal(pick(state.result()), frame())


def test_a_state_that_was_read_from_the_server_is_stored_as_its_value(local: Saved) -> None:
    """As `run_deployment` returns it: its value is in the store, not in this process."""

    @flow(**options(local))
    def inner() -> pd.DataFrame:
        return frame()

    read = reread(inner(return_state=True))

    @flow(**options(local))
    async def asynchronous() -> Any:
        return {"of": read}

    @flow(**options(local))
    def outer() -> Any:
        return {"of": read}

    assert_frame_equal(reread(outer(return_state=True)).result()["of"], frame())
    assert_frame_equal(reread(asyncio.run(asynchronous(return_state=True))).result()["of"], frame())


def test_a_failed_state_that_a_flow_returns_says_why(local: Saved) -> None:
    @flow(**options(local))
    def calls() -> Any:
        return Failed(message="the quality is too low")

    state = reread(calls(return_state=True))
    assert state.is_failed()
    with pytest.raises(Exception, match="the quality is too low"):
        state.result()


def test_a_failed_state_inside_a_completed_result_is_refused(local: Saved, server: PrefectServer) -> None:
    @task
    def fails() -> None:
        raise ValueError("x")

    @flow(**options(local))
    def calls() -> Any:
        return {"a": fails(return_state=True)}

    state = calls(return_state=True)
    assert state.is_completed()
    assert len(local.door.keys()) == 1, "what is there is the task's"
    assert server.logged(str(state.state_details.flow_run_id), "result['a']", "Failed")
