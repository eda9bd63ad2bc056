"""The engine of a flow's tasks: threads, processes, Dask or Ray, chosen by a text.

    threads[=N]   processes[=N]   dask[=ADDRESS]   ray[=ADDRESS]

Tasks pass on the store's reference and names of artifacts, so the same tasks run on every engine. Processes and the
workers of Dask and Ray import the flows, which must be installed, or on `PYTHONPATH`, on every worker's machine.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.context import FlowRunContext
from prefect.filesystems import LocalFileSystem
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

DEFAULT_ENGINE = "threads"
_THREADS = 4


@contextmanager
def running(engine: str) -> Iterator[TaskRunner[Any]]:
    """A running task runner for a flow.

    Without a Prefect server, a flow starts a temporary server. Each worker process on this machine would then start its
    own, which takes many seconds, and would write its task runs there. The workers are therefore given the address of
    the flow's server.

    Args:
        engine: As in `task_runner`, which also lists the errors.
    """
    kind, _, address = engine.partition("=")
    flow_run = FlowRunContext.get()
    settings = {}
    # Workers on another machine could not reach the flow's server.
    is_near = kind == "processes" or (kind in ("dask", "ray") and not address)
    if is_near and flow_run is not None and not PREFECT_API_URL.value():
        settings[PREFECT_API_URL] = str(flow_run.client.api_url)
    with temporary_settings(settings), _light_context(kind, flow_run), task_runner(engine) as runner:
        yield runner


def io_engine(engine: str) -> str:
    """The engine for tasks that only move artifacts: threads, which wait as well as processes and start at once.

    Args:
        engine: What the other tasks run on, as in `task_runner`.
    """
    return engine if engine.partition("=")[0] == "threads" else DEFAULT_ENGINE


@contextmanager
def _light_context(kind: str, flow_run: FlowRunContext | None) -> Iterator[None]:
    """Leave Prefect's default result storage out of what every task tells a worker of its flow.

    The worker would make a block of it, for which Prefect imports every collection that is installed: seconds for each
    worker. A task that needs the storage after all finds the same default.
    """
    if kind == "threads" or flow_run is None or flow_run.flow is None:
        yield
        return
    results = flow_run.result_store
    is_default = flow_run.flow.result_storage is None and type(results.result_storage) is LocalFileSystem
    if flow_run.persist_result or not is_default:
        yield
        return
    light = results.model_copy(update={"result_storage": None})
    with flow_run.model_copy(update={"result_store": light}):
        yield


def task_runner(engine: str) -> TaskRunner[Any]:
    """The task runner of an engine, not yet running.

    Args:
        engine: `threads` (4 by default): for short runs, and if most of the time is spent on the network. `processes`
            (one per core by default): each works on one shard at a time. They pay for many millions of rows, since each
            takes more than two seconds to start. `dask`: a temporary cluster with a process per core, or the cluster
            whose scheduler is at `dask=tcp://host:8786`. `ray`: a temporary instance with a worker per core, or the
            cluster at `ray=ray://host:10001`.

    Raises:
        ValueError: There is no such engine.
        ImportError: Dask, or Ray, is not installed.
    """
    kind, _, value = engine.partition("=")
    if kind == "dask":
        return _dask(value)
    if kind == "ray":
        return _ray(value)
    if kind not in ("threads", "processes"):
        raise ValueError(
            f"no engine {engine!r}; there are threads[=N], processes[=N], dask[=ADDRESS] and ray[=ADDRESS]"
        )
    if value and not (value.isdecimal() and int(value)):
        raise ValueError(f"engine {engine!r}: the number of {kind} has to be 1 or more")
    number = int(value) if value else None
    return ThreadPoolTaskRunner(number or _THREADS) if kind == "threads" else ProcessPoolTaskRunner(number)


def _dask(address: str) -> TaskRunner[Any]:
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ModuleNotFoundError as error:
        raise ImportError("the engine dask needs the 'dask' extra: pip install 'clinops-prefect[dask]'") from error
    if address:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"processes": True, "threads_per_worker": 1, "dashboard_address": None})


def _ray(address: str) -> TaskRunner[Any]:
    try:
        from prefect_ray.task_runners import RayTaskRunner
    except ModuleNotFoundError as error:
        raise ImportError("the engine ray needs the 'ray' extra: pip install 'clinops-prefect[ray]'") from error
    runner: TaskRunner[Any] = (
        RayTaskRunner(address=address) if address else RayTaskRunner(init_kwargs={"include_dashboard": False})
    )
    return runner
