"""Workers that are processes, a Dask cluster of two and a pool: the features are the same, also when one dies."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import ray
from distributed import Client, LocalCluster
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner
from prefect_dask.task_runners import DaskTaskRunner

from clinops_prefect import PipelineStore
from flows.icu_features import icu_features
from tests.flows.expected import DATE, expected_features, stored_features

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def pids(cluster: LocalCluster) -> list[int]:
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        return list(client.run(os.getpid).values())


def test_a_dask_cluster_gives_the_features(cluster: LocalCluster, source: Path, tmp_path: Path) -> None:
    workers = pids(cluster)
    assert len(set(workers)) == 2
    assert os.getpid() not in workers
    icu_features(str(source), str(tmp_path), DATE, shards=6, engine=f"dask={cluster.scheduler_address}")
    assert_equal(source, tmp_path)


def test_ray_gives_the_features(source: Path, tmp_path: Path) -> None:
    for tries_left in reversed(range(5)):
        try:
            icu_features(str(source), str(tmp_path), DATE, shards=4, engine="ray")
            break
        except Exception:
            # Ray gives one of its own processes fifteen seconds to start, and else has not begun a task.
            if not tries_left or list(tmp_path.glob("icu/_staging/*")):
                raise
            ray.shutdown()
    assert_equal(source, tmp_path)


def test_the_features_are_complete_after_a_worker_died(cluster: LocalCluster, source: Path, tmp_path: Path) -> None:
    with killing(DaskTaskRunner, tmp_path, lambda: pids(cluster)[0]) as killed:
        icu_features(str(source), str(tmp_path), DATE, shards=8, engine=f"dask={cluster.scheduler_address}")
    assert killed
    assert killed[0] not in pids(cluster)
    assert_equal(source, tmp_path)


def test_a_pool_process_that_dies_is_replaced(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def pool_process() -> int:
        children = psutil.Process().children(recursive=True)
        return next(child.pid for child in children if "spawn_main" in " ".join(child.cmdline()))

    with killing(ProcessPoolTaskRunner, tmp_path, pool_process) as killed:
        icu_features(str(source), str(tmp_path), DATE, shards=8, engine="processes=2")
    assert killed
    assert "a worker process died; what is complete is kept" in caplog.text
    # Only a worker logs this line, and it shares this process's stderr.
    assert "preprocessed by an earlier try of this run; kept" in capfd.readouterr().err
    assert_equal(source, tmp_path)


@contextmanager
def killing(runner: type[TaskRunner[Any]], store: Path, victim: Callable[[], int]) -> Iterator[list[int]]:
    """Kill a worker once a shard is done. Yields the worker's id.

    The last shards are submitted only then: however late the kill comes, the workers have something left to do.
    """
    killed: list[int] = []
    is_killed, is_over = threading.Event(), threading.Event()
    submit = runner.submit

    def kill() -> None:
        while not list((store / "icu").glob(f"_staging/{DATE}/*/notes/events-*")):
            if is_over.wait(0.01):
                return
        killed.append(victim())
        os.kill(killed[0], signal.SIGKILL)
        is_killed.set()

    def submit_later(self: TaskRunner[Any], task: Any, parameters: dict[str, Any], *given: Any, **options: Any) -> Any:
        assert parameters.get("shard", 0) < 4 or is_killed.wait(600)
        return submit(self, task, parameters, *given, **options)

    killer = threading.Thread(target=kill)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runner, "submit", submit_later)
        killer.start()
        try:
            yield killed
        finally:
            is_over.set()
            killer.join()


def assert_equal(source: Path, store: Path) -> None:
    found = stored_features(PipelineStore.from_uri(store))
    pd.testing.assert_frame_equal(found, expected_features(source), check_exact=True)
    assert not (store / "icu/_staging").exists()


def test_worker_processes_share_the_flows_temporary_server(source: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "flows.icu_features", "--source", str(source), "--store", str(tmp_path / "store")]
    command += ["--date", DATE, "--shards", "3", "--engine", "processes=2"]
    servers: set[int] = set()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as flow:
        while flow.poll() is None:
            servers |= {process.pid for process in descendants(flow.pid) if is_server(process)}
            time.sleep(0.1)
    assert flow.returncode == 0
    assert len(servers) == 1
    assert_equal(source, tmp_path / "store")
    # To register all types of blocks, the server would import every installed collection. No note says that this
    # server did, so a server that is started later registers them.
    with closing(sqlite3.connect(tmp_path / "home/prefect.db")) as database:
        assert database.execute("SELECT slug FROM block_type").fetchall() == []
    assert not (tmp_path / "home/memo_store.toml").exists()


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_server(process: psutil.Process) -> bool:
    try:
        return "uvicorn" in process.cmdline()
    except psutil.Error:
        return False
