"""What the serializer refuses: Prefect completes the run without its result, so the run's own log says what and why."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from prefect import flow, task
from prefect.client.schemas.objects import State

from clinops_prefect import DataFrameSerializer
from tests.faults.canaries import CELL, PATIENT
from tests.prefect.conftest import Saved
from tests.prefect.server import PrefectServer


@dataclasses.dataclass
class Visit:
    patient: str = PATIENT


BAD = {"labs": [1, pd.DataFrame({"mixed": [1, CELL]})]}


def options(saved: Saved) -> dict[str, Any]:
    return {"result_storage": saved.reference, "result_serializer": DataFrameSerializer(), "persist_result": True}


def of_flow(saved: Saved, value: Any) -> State[Any]:
    return flow(lambda: value, name="f", **options(saved))(return_state=True)


def of_async_flow(saved: Saved, value: Any) -> State[Any]:
    @flow(**options(saved))
    async def returns() -> Any:
        return value

    return asyncio.run(returns(return_state=True))


def of_task(saved: Saved, value: Any) -> State[Any]:
    returns = task(lambda: value, name="t", **options(saved))
    states = []
    flow(lambda: states.append(returns(return_state=True)), name="f")()
    return states[0]


def of_async_task(saved: Saved, value: Any) -> State[Any]:
    @task(**options(saved))
    async def returns() -> Any:
        return value

    @flow
    async def calls() -> None:
        states.append(await returns(return_state=True))

    states: list[State[Any]] = []
    asyncio.run(calls())
    return states[0]


def of_submitted_task(saved: Saved, value: Any) -> State[Any]:
    returns = task(lambda: value, name="t", **options(saved))
    states: list[State[Any]] = []

    def calls() -> None:
        future = returns.submit()
        future.wait()
        states.append(future.state)

    flow(calls, name="f")()
    return states[0]


def said(server: PrefectServer, state: State[Any]) -> list[str]:
    """The errors on the run's page."""
    details = state.state_details
    of = {"task_run_id": details.task_run_id} if details.task_run_id else {"flow_run_id": details.flow_run_id}
    chosen = {name: {"any_": [str(run)]} for name, run in of.items()} | {"level": {"ge_": 40}}
    deadline = time.monotonic() + 600
    while True:
        lines = [line["message"] for line in server.post("logs/filter", logs=chosen)]
        if lines or time.monotonic() > deadline:
            time.sleep(2)  # in which a second line would arrive
            return [line["message"] for line in server.post("logs/filter", logs=chosen)]
        time.sleep(0.3)


@pytest.mark.parametrize("kind", [of_flow, of_async_flow, of_task, of_async_task, of_submitted_task])
def test_the_runs_page_says_once_what_is_not_stored_and_what_to_do(
    kind: Callable[[Saved, Any], State[Any]], local: Saved, server: PrefectServer
) -> None:
    state = kind(local, BAD)
    assert state.is_completed(), "Prefect swallows the error: if this fails, it no longer does"
    assert local.door.keys() == []
    (line,) = said(server, state)
    assert line.startswith("the result is not stored: DataFrameSerializer cannot store result['labs'][1]: ")
    assert "'mixed'" in line
    assert ".map(str" in line
    assert CELL not in line


def test_a_type_that_is_refused_is_said_with_what_to_return_instead(local: Saved, server: PrefectServer) -> None:
    (line,) = said(server, of_task(local, {"visits": (Visit(),)}))
    assert "result['visits'][0]" in line
    assert "dataclasses.asdict" in line
    assert "write_bytes" in line
    assert PATIENT not in line


def test_with_keys_stored_apart_it_is_said_too(local: Saved, server: PrefectServer) -> None:
    from prefect.cache_policies import INPUTS, TASK_SOURCE

    from tests.prefect.conftest import save

    policy = (INPUTS + TASK_SOURCE).configure(key_storage=save(local.door, prefix="results/keys").reference)
    returns = task(lambda: Visit(), name="t", cache_policy=policy, **options(local))
    states: list[State[Any]] = []
    flow(lambda: states.append(returns(return_state=True)), name="f")()
    (line,) = said(server, states[0])
    assert "Visit" in line
    assert local.door.keys() == []


def test_outside_of_a_run_it_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TypeError):
        DataFrameSerializer().dumps([Visit()])
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("ERROR", "prefect.clinops_prefect")
    assert "result[0]" in record.message
