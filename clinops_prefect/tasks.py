"""Thin Prefect tasks around the stores.

    frame = download_artifact("s3-pipeline-store/prod", "raw/events")
    uri = upload_artifact("s3-pipeline-store/prod", features, "features/windows_2024_01")

Each task takes a store, a URI, or the reference of a saved block, and has an `a…` form for async flows. The tasks retry
on `ServiceUnavailableError`, and record what they read and write as assets. Their results are never cached.
"""

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypedDict, TypeVar, cast, overload
from uuid import uuid4

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff

from clinops_prefect import assets, locations, registry
from clinops_prefect.artifacts.codec import content_hash
from clinops_prefect.asynchronous import asynchronous_function
from clinops_prefect.errors import ArtifactExistsError, ArtifactNotFoundError
from clinops_prefect.frames.csv.options import CsvOptions
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.frames.streams import is_repeatable
from clinops_prefect.names import RESERVED, check_metadata
from clinops_prefect.references import ArtifactRef
from clinops_prefect.retrying import worth_retrying
from clinops_prefect.store import PipelineStore

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from clinops_prefect.frames.kinds import Frame
    from clinops_prefect.frames.selection.filters import Filters
    from clinops_prefect.signatures import DownloadTask
    from clinops_prefect.step_functions.runs.cancellation import stop_executions_on_cancellation
    from clinops_prefect.step_functions.runs.tasks import (
        arun_step_functions_pipeline,
        astart_step_functions_pipeline,
        await_for_step_functions_execution,
        run_step_functions_pipeline,
        start_step_functions_pipeline,
        wait_for_step_functions_execution,
    )

    class Kept(TypedDict, total=False):
        """Keyword arguments of `upload_artifact`."""

        overwrite: bool
        metadata: dict[str, str] | None

    class UploadTask(Task[..., Any]):
        """The signature of `tasks.upload_artifact`."""

        @overload  # type: ignore[override]
        def __call__(
            self, store: Any, df: Any, name: str, *, as_ref: Literal[False] = False, **kept: Unpack[Kept]
        ) -> str: ...

        @overload
        def __call__(
            self, store: Any, df: Any, name: str, *, as_ref: Literal[True], **kept: Unpack[Kept]
        ) -> ArtifactRef: ...

        @overload
        def __call__(
            self, store: Any, df: Any, name: str, *, as_ref: bool, **kept: Unpack[Kept]
        ) -> str | ArtifactRef: ...

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Returns the URI, or the reference."""
            ...


__all__ = [
    "adownload_artifact",
    "alist_artifacts",
    "arun_step_functions_pipeline",
    "astart_step_functions_pipeline",
    "aupload_artifact",
    "await_for_step_functions_execution",
    "download_artifact",
    "list_artifacts",
    "open_store",
    "run_step_functions_pipeline",
    "start_step_functions_pipeline",
    "stop_executions_on_cancellation",
    "upload_artifact",
    "wait_for_step_functions_execution",
    "worth_retrying",
]

P = ParamSpec("P")
R = TypeVar("R")

# The metadata key for a hash of flow run, URI and frame, by which a retry recognises its own write.
_OWNER = f"{RESERVED}owner"

StoreReference = PipelineStore | str | os.PathLike[str]

# Name -> module, imported on first use: it needs boto3, which users of other clouds may not have.
_STEP_FUNCTIONS = {
    **dict.fromkeys(
        (
            *("arun_step_functions_pipeline", "run_step_functions_pipeline"),
            *("astart_step_functions_pipeline", "start_step_functions_pipeline"),
            *("await_for_step_functions_execution", "wait_for_step_functions_execution"),
        ),
        "clinops_prefect.step_functions.runs.tasks",
    ),
    "stop_executions_on_cancellation": "clinops_prefect.step_functions.runs.cancellation",
}


def __getattr__(name: str) -> Any:
    if name not in _STEP_FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.load(f"{_STEP_FUNCTIONS[name]}:{name}", "aws")


def open_store(store: StoreReference) -> PipelineStore:
    """Return the store that a reference means.

    Args:
        store: A store, a URI or path as in `PipelineStore.from_uri`, or the reference of a saved block, such as
            `s3-pipeline-store/prod`.

    Raises:
        InvalidStoreError: The block does not exist, no store has the URI's scheme, or the text looks mistyped.
        ImportError: The extra of that store is not installed.
    """
    if isinstance(store, PipelineStore):
        return store
    found = locations.parse(store)
    if isinstance(found, locations.BlockReference):
        loaded: PipelineStore = found.kind.load().load(found.name, _sync=True)
        return loaded
    return PipelineStore.from_uri(store)


def _run_id() -> str:
    """The id of the flow run, which a retry keeps. Outside a flow, the id of the task run; outside a run, empty."""
    context = TaskRunContext.get()
    return str(context.task_run.flow_run_id or context.task_run.id) if context else ""


def _upload_once(store: PipelineStore, df: "Frame", name: str, texts: dict[str, str], run: str) -> str:
    """Upload with `overwrite=False`, and accept an artifact that an earlier try of this run has written.

    Returns:
        The owner, a hash that is stored in the artifact's metadata.
    """
    mine = hashlib.sha256(f"{run} {store.uri(name)} {content_hash(df)}".encode()).hexdigest()
    try:
        store._upload(df, name, texts, overwrite=False, mark={_OWNER: mine})
    except ArtifactExistsError:
        with suppress(ArtifactNotFoundError):
            if store._backend().head(store._key(name)).metadata.get(_OWNER) == mine:
                return mine
        raise
    return mine


def _store_task(description: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    def make(function: Callable[P, R]) -> Task[P, R]:
        # No tags: for each tagged task run, Prefect asks the server whether the tag has a concurrency limit, and waits
        # for a server that is busy with SQLite for up to two seconds. Nobody could take a tag away again.
        options = task(
            name=function.__name__.replace("_", "-"),
            description=description,
            retries=3,
            retry_delay_seconds=exponential_backoff(2),
            retry_jitter_factor=0.5,
            retry_condition_fn=worth_retrying,
            # A cached result may be outdated, because a store changes. And a cache key would need a hash of the frame,
            # which takes several times as long as storing it.
            cache_policy=NO_CACHE,
        )
        return options(function)

    return make


def _typed_upload(made: Task[..., Any]) -> "UploadTask":
    """Cast for type checkers: the task's result type depends on `as_ref`."""
    return cast("UploadTask", made)


def _typed(made: Task[..., Any]) -> "DownloadTask":
    """Cast for type checkers: the task's result type depends on `as_`."""
    return cast("DownloadTask", made)


@_typed_upload
@_store_task("Store a DataFrame as an artifact of a pipeline store.")
def upload_artifact(
    store: StoreReference,
    df: "Frame",
    name: str,
    *,
    overwrite: bool = True,
    metadata: dict[str, str] | None = None,
    as_ref: bool = False,
) -> Any:
    """Store a frame and record it as an asset.

    Args:
        store: A store, a URI, or a block's reference.
        df: The frame, shape (rows, columns).
        name: The artifact's name.
        overwrite: Whether to replace an artifact of that name. If false, the task still succeeds if the same flow run
            has already stored the same frame under this name, because a retry finds its own write.
        metadata: A few short texts to keep with the artifact.
        as_ref: Whether to return an `ArtifactRef` to this version, which has `download()`, instead of the URI.

    Returns:
        The artifact's URI, or a reference to what was stored.

    Raises:
        ClinopsPrefectError: As `PipelineStore.upload`.
        InvalidStoreError: `as_ref` is true, and the store has credentials or an address in its fields: save it as a
            block. Nothing was written.
    """
    opened, run = open_store(store), _run_id()
    texts = check_metadata(metadata)
    if as_ref:
        opened._place()  # refused before anything is written
    # Only a frame that can be read twice has a hash by which a retry recognises its own write.
    if run and not overwrite and is_repeatable(df):
        mark = {_OWNER: _upload_once(opened, df, name, texts, run)}
    else:
        mark = {_OWNER: uuid4().hex} if as_ref else {}
        opened._upload(df, name, texts, overwrite, mark)
    ref = opened._ref(name, mark) if as_ref else None
    assets.wrote(opened.stat(name, version=ref.version if ref else ""))
    return ref or opened.uri(name)


@_typed
@_store_task("Read a DataFrame, or some of its columns and rows, from a pipeline store.")
def download_artifact(
    store: StoreReference | ArtifactRef,
    name: str = "",
    *,
    columns: Sequence[Hashable] | None = None,
    filters: "Filters | None" = None,
    version: str = "",
    csv_options: CsvOptions | None = None,
    as_: FrameKind = "pandas",
) -> Any:
    """Read a frame and record the artifact as upstream of the run's results.

    Args:
        store: A store, a URI, or a block's reference; or an `ArtifactRef`, which includes name and version.
        name: The artifact's name.
        columns: Only these columns.
        filters: Only these rows, as in `PipelineStore.download`.
        version: A version of the artifact.
        csv_options: How to read a CSV of another program, as in `PipelineStore.download`.
        as_: "pandas", "polars" or "arrow".

    Returns:
        The frame, shape (rows, columns).

    Raises:
        ClinopsPrefectError: As `PipelineStore.download`.
    """
    if isinstance(store, ArtifactRef):
        if name or version:
            raise TypeError(
                "an ArtifactRef says itself which artifact and version it means: leave name and version out"
            )
        return store.download(columns=columns, filters=filters, csv_options=csv_options, as_=as_)
    if isinstance(name, ArtifactRef):
        raise TypeError("an ArtifactRef says itself which store, artifact and version it means: download_artifact(ref)")
    opened = open_store(store)
    frame = opened.download(name, columns=columns, filters=filters, version=version, csv_options=csv_options, as_=as_)
    assets.read(opened.uri(name))
    return frame


@_store_task("List the artifacts of a pipeline store.")
def list_artifacts(store: StoreReference, prefix: str = "") -> list[str]:
    """The names of the artifacts below a path, sorted.

    Args:
        store: A store, a URI, or a block's reference.
        prefix: A path. If empty, the whole store.

    Returns:
        Names that can be passed to `download_artifact`.

    Raises:
        ClinopsPrefectError: As `PipelineStore.list_artifacts`.
    """
    return open_store(store).list_artifacts(prefix)


def _async_task(original: Task[P, Any]) -> Task[P, Any]:
    return _store_task(original.description or "")(asynchronous_function(original.fn))


aupload_artifact = _async_task(upload_artifact)
adownload_artifact = _async_task(download_artifact)
alist_artifacts = _async_task(list_artifacts)
