"""Settings alone turn the results of flows that never heard of this package into Parquet and JSON in a store."""

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments import run_deployment

import clinops_prefect.results  # noqa: F401
from tests.prefect.conftest import Saved
from tests.prefect.server import PrefectServer

PLAIN = """
import sys

import pandas as pd
from prefect import flow, task


@task
def windows(frame: pd.DataFrame, hours: int) -> pd.DataFrame:
    return frame.assign(hours=hours)


@task
def fails() -> None:
    raise LookupError("no stays")


@flow
def daily(hours: int = 6) -> pd.DataFrame:
    return windows(pd.DataFrame({"stay_id": pd.array([1, None], "Int64")}), hours)


@flow
def broken() -> None:
    fails()


if __name__ == "__main__":
    for each in (daily, broken):
        print(each(return_state=True).state_details.flow_run_id)
    assert "clinops_prefect.collection" in sys.modules, "as Prefect imports it with the block"
"""
READ = """
import sys
from uuid import UUID

from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    good, bad = [client.read_flow_run(UUID(run)).state for run in sys.argv[1:]]
print(good.result().to_json())
try:
    bad.result()
except LookupError as error:
    print(type(error).__name__, error)
"""
EXPECTED = pd.DataFrame({"stay_id": pd.array([1, None], "Int64"), "hours": [6, 6]})


@pytest.fixture
def settings(local: Saved) -> dict[str, str]:
    """As the guide has them."""
    return {
        "PREFECT_PLUGINS_ENABLED": "true",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "clinops/dataframe",
        "PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK": local.reference,
        "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
    }


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "plain.py"
    path.write_text(PLAIN)
    return path


def run(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def frames(saved: Saved) -> list[pd.DataFrame]:
    """The results that are raw Parquet, which a flow's are."""
    stored = [saved.door.get(key) for key in saved.door.keys()]
    return [pd.read_parquet(io.BytesIO(blob)) for blob in stored if blob[:4] == b"PAR1"]


@pytest.mark.parametrize("how", ["environment", "profile"])
def test_a_plain_script_stores_its_results_and_another_reads_them(
    how: str, server: PrefectServer, local: Saved, settings: dict[str, str], program: Path
) -> None:
    environment = server.environment
    if how == "environment":
        environment |= settings
    else:  # as `prefect config set` leaves it
        lines = [f'{name} = "{value}"' for name, value in settings.items()]
        (program.parent / "profiles.toml").write_text("\n".join(['active = "here"', "[profiles.here]", *lines]))
        environment |= {"PREFECT_HOME": str(program.parent)}
    runs = run(sys.executable, str(program), environment=environment).split()
    (stored,) = frames(local)
    pd.testing.assert_frame_equal(stored, EXPECTED)
    assert run(sys.executable, "-c", READ, *runs, environment=environment).splitlines() == [
        EXPECTED.to_json(),
        "LookupError no stays",
    ]


def test_a_flow_run_of_a_worker_has_the_settings_of_the_worker(
    server: PrefectServer, local: Saved, settings: dict[str, str], program: Path
) -> None:
    pool = f"pool-{local.reference[-12:]}"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    source = flow.from_source(str(program.parent), "plain.py:daily")
    deployment = source.deploy("settings", work_pool_name=pool, build=False, push=False, print_next_steps=False)
    started = run_deployment(deployment, timeout=0)
    worker = ["worker", "start", "--pool", pool, "--type", "process", "--run-once"]
    run(sys.executable, "-m", "prefect", *worker, environment=server.environment | settings)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(started.id).state
    assert state is not None
    assert state.is_completed(), state
    # Of this process no setting says what it reads; it has imported the serializer.
    pd.testing.assert_frame_equal(state.result(), EXPECTED)
    assert len(frames(local)) == 1


# It looks at the states: Prefect's own wait is for an event, which may have passed before it listens.
DELAY = """
import time
import pandas as pd
from plain import fails, windows

def ended(future):
    while not future.state.is_final():
        time.sleep(0.2)
    return future

good = ended(windows.delay(pd.DataFrame({"stay_id": pd.array([1, None], "Int64")}), hours=6))
bad = ended(fails.delay())
print(good.result().to_json())
try:
    bad.result()
except LookupError as error:
    print(type(error).__name__, error)
"""


def test_a_task_worker_takes_its_parameters_and_leaves_its_results(
    server: PrefectServer, local: Saved, settings: dict[str, str], program: Path
) -> None:
    settings |= {
        "PREFECT_TASKS_SCHEDULING_DEFAULT_STORAGE_BLOCK": local.reference,
        # Prefect 3.9.1: the first log line of a task and the first event of the worker may block each other for ever.
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }
    environment = server.environment | settings | {"PYTHONPATH": str(program.parent)}
    serve = "from prefect.task_worker import serve; from plain import fails, windows; serve(fails, windows)"
    worker = subprocess.Popen([sys.executable, "-c", serve], env=environment)
    try:
        lines = run(sys.executable, "-c", DELAY, environment=environment).splitlines()
    finally:
        worker.kill()
        worker.wait()
    assert lines == [EXPECTED.to_json(), "LookupError no stays"]


def test_in_a_running_event_loop_prefect_has_no_plugins_and_an_import_does_it(settings: dict[str, str]) -> None:
    program = """if True:
        import asyncio, os
        async def notebook():
            import prefect
            from prefect.results import get_default_result_serializer
            import clinops_prefect.results
            print(get_default_result_serializer().type)
        asyncio.run(notebook())
    """
    assert run(sys.executable, "-c", program, environment={**os.environ, **settings}).split()[-1] == "clinops/dataframe"


def test_the_plugin_takes_no_pandas_into_processes_without_results(settings: dict[str, str]) -> None:
    program = (
        "import prefect, sys; print('clinops_prefect.results' in sys.modules, {'pandas', 'pyarrow'} & {*sys.modules})"
    )
    assert run(sys.executable, "-c", program, environment={**os.environ, **settings}) == "True set()\n"
