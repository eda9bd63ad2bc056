"""What a flow's tasks run on: threads, processes or a Dask cluster, by one text.

    threads[=N]   processes[=N]   dask[=ADDRESS]   ray[=ADDRESS]

Tasks hand each other the store's reference and names, so the same tasks run on each of them. Processes and the workers
of Dask and Ray import the flows: these have to be installed, or on `PYTHONPATH`, wherever a worker runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

DEFAULT_ENGINE = "threads"
_THREADS = 4


@contextmanager
def running(engine: str) -> Iterator[TaskRunner[Any]]:
    """A flow's task runner, entered.

    Without a Prefect server, a flow starts a temporary one. Each worker process on this machine would start another,
    which costs it many seconds, and its task runs would be written where nobody looks; so it is told of the flow's.

    Args:
        engine: As in `task_runner`, which says what it raises too.
    """
    kind, _, address = engine.partition("=")
    flow_run = FlowRunContext.get()
    settings = {}
    # Workers on another machine could not reach it.
    is_near = kind == "processes" or (kind in ("dask", "ray") and not address)
    if is_near and flow_run is not None and not PREFECT_API_URL.value():
        settings[PREFECT_API_URL] = str(flow_run.client.api_url)
    with temporary_settings(settings), task_runner(engine) as runner:
        yield runner


def task_runner(engine: str) -> TaskRunner[Any]:
    """The task runner that an engine means, not entered yet.

    Args:
        engine: `threads` (4 by default): for short runs, and where the network is what is waited for. `processes` (one
            per core by default): one shard's work in each at a time. `dask`: a temporary cluster of a process per core,
            or the cluster whose scheduler is at `dask=tcp://host:8786`. `ray`: a temporary instance with a worker per
            core, or the cluster at `ray=ray://host:10001`.

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
