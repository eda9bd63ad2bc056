"""The stores as Prefect result storage: every kind of run, every runner, another process, a restarted server."""

import asyncio
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.futures import wait
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect_dask import DaskTaskRunner

from tests.prefect.conftest import Saved
from tests.prefect.sample_flows import amake, awhole, frame, make, said, whole
from tests.prefect.server import PrefectServer

ROOT = Path(__file__).parents[2]


def flow_result(saved: Saved) -> State[Any]:
    return whole.with_options(result_storage=saved.reference)(3, return_state=True)


def async_flow_result(saved: Saved) -> State[Any]:
    return asyncio.run(awhole.with_options(result_storage=saved.reference)(3, return_state=True))


def task_result(saved: Saved) -> State[Any]:
    stored = make.with_options(result_storage=saved.reference)

    @flow
    def calls() -> dict[str, State[Any]]:
        return {"state": stored(3, os.devnull, return_state=True)}

    return calls()["state"]


def async_task_result(saved: Saved) -> State[Any]:
    stored = amake.with_options(result_storage=saved.reference)

    @flow
    async def calls() -> dict[str, State[Any]]:
        return {"state": await stored(3, os.devnull, return_state=True)}

    return asyncio.run(calls())["state"]


def result_of_a_task_in_a_storing_flow(saved: Saved) -> State[Any]:
    @flow(result_storage=saved.reference)
    def calls() -> dict[str, State[Any]]:
        return {"state": make(3, os.devnull, return_state=True)}

    return calls()["state"]


def reread(state: State[Any]) -> State[Any]:
    """The state as the server knows it: nothing of it, nor of its result, is in this process's memory."""
    details = state.state_details
    with get_client(sync_client=True) as client:
        run = (
            client.read_task_run(details.task_run_id)
            if details.task_run_id
            else client.read_flow_run(details.flow_run_id)
        )
    assert run.state is not None
    return run.state


@pytest.mark.parametrize(
    "run", [flow_result, async_flow_result, task_result, async_task_result, result_of_a_task_in_a_storing_flow]
)
def test_every_kind_of_run_stores_an_equal_frame_below_the_prefix(
    run: Callable[[Saved], State[Any]], saved: Saved
) -> None:
    state = run(saved)
    (key,) = saved.door.keys()
    assert key.startswith("results/here/")
    assert_frame_equal(reread(state).result(), frame())


@pytest.mark.parametrize("run", [flow_result, async_flow_result])
def test_a_flow_result_is_raw_parquet(run: Callable[[Saved], State[Any]], saved: Saved) -> None:
    run(saved)
    (key,) = saved.door.keys()
    assert_frame_equal(pd.read_parquet(io.BytesIO(saved.door.get(key))), frame())


RUNNERS = {
    "threads": lambda: ThreadPoolTaskRunner(max_workers=2),
    "processes": lambda: ProcessPoolTaskRunner(max_workers=2),
    "dask": lambda: DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_task_runner_stores_below_the_prefix_and_by_the_saved_block(
    runner: str, saved: Saved, tmp_path: Path
) -> None:
    journal = str(tmp_path / "journal")

    @flow(task_runner=RUNNERS[runner](), result_storage=saved.reference)
    def calls() -> dict[str, list[State[Any]]]:
        futures = [make.submit(rows, journal) for rows in range(1, 5)]
        wait(futures)
        return {"states": [future.state for future in futures]}

    states = calls()["states"]
    for rows, state in enumerate(states, start=1):
        assert_frame_equal(reread(state).result(), frame(rows))
    keys = saved.door.keys()
    assert len(keys) == len(states)
    assert all(key.startswith("results/here/") and key.count("/") == 2 for key in keys)
    # Prefect loses the block's id where it hydrates it in another process; then a result could not be found again.
    envelopes = [json.loads(saved.door.get(key)) for key in keys]
    ids = {UUID(envelope["metadata"]["storage_block_id"]) for envelope in envelopes}
    assert ids == {type(saved.store).load(saved.reference.split("/")[1], _sync=True)._block_document_id}
    processes = {process for process, _ in said(journal)}
    assert (processes == {os.getpid()}) == (runner == "threads")


def test_a_task_of_its_own_storage_resolves_the_reference_in_the_worker(local: Saved, tmp_path: Path) -> None:
    @flow(task_runner=RUNNERS["dask"]())
    def calls() -> dict[str, State[Any]]:
        future = make.with_options(result_storage=local.reference).submit(3, str(tmp_path / "journal"))
        future.wait()
        return {"state": future.state}

    assert_frame_equal(reread(calls()["state"]).result(), frame())
    assert len(local.door.keys()) == 1
    assert [process for process, _ in said(tmp_path / "journal")] != [os.getpid()]


READ = """if True:
    import pickle, sys
    from uuid import UUID
    from prefect.client.orchestration import get_client
    from clinops_prefect import DataFrameSerializer  # a result's reader must know its serializer, as its writer did
    flow_run, task_run = map(UUID, sys.argv[1:])
    with get_client(sync_client=True) as client:
        states = [client.read_flow_run(flow_run).state, client.read_task_run(task_run).state]
    sys.stdout.buffer.write(pickle.dumps([state.result() for state in states]))
"""


def test_another_process_finds_the_results_also_after_the_server_was_restarted(
    server: PrefectServer, saved: Saved
) -> None:
    of_flow, of_task = flow_result(saved), task_result(saved)
    if saved.door.scheme == "s3":  # once is enough, it takes its time
        server.stop()
        server.start()
    runs = [str(of_flow.state_details.flow_run_id), str(of_task.state_details.task_run_id)]
    done = subprocess.run([sys.executable, "-c", READ, *runs], env=server.environment, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr.decode()
    for result in pickle.loads(done.stdout):
        assert_frame_equal(result, frame())


def test_a_deployment_run_by_a_worker_stores_by_the_block_that_its_environment_names(
    server: PrefectServer, local: Saved
) -> None:
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=f"pool-{local.reference[-12:]}", type="process"))
    source = flow.from_source(str(ROOT), "tests/prefect/sample_flows.py:whole")
    pool = f"pool-{local.reference[-12:]}"
    environment = {"PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": local.reference, "PYTHONPATH": str(ROOT)}
    deployment = source.deploy(
        pool, work_pool_name=pool, job_variables={"env": environment}, build=False, push=False, print_next_steps=False
    )
    run = run_deployment(deployment, parameters={"rows": 3}, timeout=0)
    worker = ["worker", "start", "--pool", pool, "--type", "process", "--run-once"]
    subprocess.run(
        [sys.executable, "-m", "prefect", *worker], env=server.environment, check=True, capture_output=True, timeout=900
    )
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_completed(), state
    assert_frame_equal(state.result(), frame())
    (key,) = local.door.keys()
    assert key.startswith("results/here/")
