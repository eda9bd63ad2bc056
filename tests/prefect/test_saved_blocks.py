"""Blocks saved by others: by a newer version, by the form, or not at all; and what saving and loading say."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow, task
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from clinops_prefect import (
    ClinopsPrefectError,
    DataFrameSerializer,
    InvalidPipelineError,
    InvalidStoreError,
    LocalPipelineStore,
    PipelineStep,
    S3PipelineStore,
    ServiceUnavailableError,
    StepFunctionsPipeline,
)
from clinops_prefect.tasks import (
    list_artifacts,
    open_store,
    run_step_functions_pipeline,
    start_step_functions_pipeline,
    wait_for_step_functions_execution,
)
from tests.emulators import free_port
from tests.prefect.conftest import Saved
from tests.prefect.sample_flows import frame
from tests.prefect.server import PrefectServer

PIPELINE_TASKS = (run_step_functions_pipeline, start_step_functions_pipeline, wait_for_step_functions_execution)


def change(server: PrefectServer, block: Any, **data: Any) -> None:
    """What a newer version, or the form, writes into the saved document."""
    document = f"block_documents/{block._block_document_id}"
    server.ask("PATCH", document, {"data": data, "merge_existing_data": True}).raise_for_status()


def test_what_a_newer_version_saved_is_read_by_this_one(saved: Saved, server: PrefectServer) -> None:
    saved.store.upload(frame(), "a")
    change(server, saved.store, from_the_future="x", another="")
    for loaded in (open_store(saved.reference), Block.load(saved.reference, _sync=True)):
        assert type(loaded) is type(saved.store)
        assert loaded.list_artifacts() == ["a"]
        loaded.upload(frame(), "b")
        loaded.delete_artifact("b")


def test_results_are_read_and_not_written_where_a_newer_version_encrypts(saved: Saved, server: PrefectServer) -> None:
    ran = []

    @task(persist_result=True, result_serializer=DataFrameSerializer(), result_storage_key="{flow_run.name}")
    def makes() -> Any:
        ran.append(1)
        return frame()

    @flow(result_storage=saved.reference)
    def calls() -> int:
        return len(makes())

    named = calls.with_options(flow_run_name=f"run-{uuid4().hex}")
    assert named() == 3
    stored = saved.door.keys()
    assert len(stored) == 1
    change(server, saved.store, kms_of_tomorrow="key")
    assert named() == 3
    assert len(ran) == 1
    calls.with_options(flow_run_name=f"run-{uuid4().hex}")()
    assert len(ran) == 2
    assert saved.door.keys() == stored
    assert server.logged("result run-", "kms_of_tomorrow")


def test_a_pipelines_block_is_read_likewise(server: PrefectServer) -> None:
    step = PipelineStep("a", "arn:aws:lambda:us-east-1:123456789012:function:x")
    pipeline = StepFunctionsPipeline("p", "arn:aws:iam::123456789012:role/R", steps=[step])
    pipeline.save("newer", overwrite=True, _sync=True)
    newer = [{**step.model_dump(), "from_the_future": 1}]
    change(server, pipeline, steps=newer, another=[1])
    loaded = StepFunctionsPipeline.load("newer", _sync=True)
    assert loaded.steps == [step]
    assert loaded.definition() == pipeline.definition()


@pytest.mark.parametrize("prefix", ["/clinops/prod", "a//b", "../x"])
def test_a_bad_prefix_of_a_form_is_said_when_it_is_loaded(prefix: str, local: Saved, server: PrefectServer) -> None:
    change(server, local.store, prefix=prefix)
    with pytest.raises(InvalidStoreError, match="prefix") as refused:
        open_store(local.reference)
    assert local.reference in str(refused.value)


def test_a_bad_value_in_a_saved_block_names_the_field(local: Saved, server: PrefectServer) -> None:
    change(server, local.store, format="xlsx", allow_pickle="perhaps")
    with pytest.raises(InvalidStoreError, match=r"format.*allow_pickle"):
        open_store(local.reference)


def test_prefect_s_own_way_to_load_a_block_says_what_is_wrong_too(local: Saved, server: PrefectServer) -> None:
    """`Block.load`, with which Prefect loads a result storage, would only say that something is."""
    change(server, local.store, prefix="/clinops")
    with pytest.raises(InvalidStoreError, match=r"LocalPipelineStore.*prefix") as refused:
        Block.load(local.reference, _sync=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "error"), [(S3PipelineStore, InvalidStoreError), (StepFunctionsPipeline, InvalidPipelineError)]
)
def test_a_missing_block_is_said_with_where_to_look(kind: Any, error: type[Exception]) -> None:
    reference = f"{kind.get_block_type_slug()}/nobody-saved-this"

    async def loads() -> None:
        await kind.aload("nobody-saved-this")

    async def loads_too() -> None:
        await kind.load("nobody-saved-this")

    ways = [lambda: kind.load("nobody-saved-this"), lambda: asyncio.run(loads()), lambda: asyncio.run(loads_too())]
    if kind is S3PipelineStore:
        ways += [lambda: open_store(reference), lambda: list_artifacts.fn(reference)]
    else:
        ways += [lambda task=task: task.fn(reference, "") for task in PIPELINE_TASKS]
    for way in ways:
        with pytest.raises(error, match=reference) as refused:
            way()
        assert "prefect block ls" in str(refused.value)


def test_saving_says_what_is_wrong_with_the_name(local: Saved) -> None:
    taken = local.reference.partition("/")[2]

    store = LocalPipelineStore("x")

    async def saves(name: str) -> None:
        await store.asave(name)

    for name, said in ((taken, "overwrite=True"), ("No Name", "cannot be saved"), ("", "cannot be saved")):
        for way in (lambda name=name: store.save(name), lambda name=name: asyncio.run(saves(name))):
            with pytest.raises(InvalidStoreError, match=said):
                way()


def test_a_server_that_is_away_is_worth_another_try() -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api", PREFECT_CLIENT_MAX_RETRIES: 0}):
        for way in (
            lambda: open_store("local-pipeline-store/x"),
            lambda: StepFunctionsPipeline.load("x"),
            *(lambda task=task: task.fn("step-functions-pipeline/x", "") for task in PIPELINE_TASKS),
            lambda: LocalPipelineStore("x").save("x"),
        ):
            with pytest.raises(ServiceUnavailableError, match="PREFECT_API_URL"):
                way()
    assert issubclass(ServiceUnavailableError, ClinopsPrefectError)
