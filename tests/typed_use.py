"""Code of users with a type checker. `make lint` checks it with mypy's strict rules, and it is never run."""

from collections.abc import Iterator
from typing import Any, assert_type

import pandas as pd
import polars as pl
import pyarrow as pa
from prefect import flow, task

from clinops_prefect import (
    ArtifactInfo,
    ArtifactRef,
    ClinopsPrefectError,
    DataFrameSerializer,
    GCSPipelineStore,
    LocalPipelineStore,
    MapStep,
    PipelineStep,
    PipelineStore,
    S3Items,
    S3PipelineStore,
    S3Results,
    StepFunctionsPipeline,
    StorageFormat,
)
from clinops_prefect.tasks import (
    download_artifact,
    list_artifacts,
    run_step_functions_pipeline,
    start_step_functions_pipeline,
    upload_artifact,
    wait_for_step_functions_execution,
)


def stores() -> list[PipelineStore]:
    """Fields are passed by keyword, and the first field also by position."""
    return [
        GCSPipelineStore(bucket="b", prefix="clinops/prod/v2", format=StorageFormat.CSV, credentials_path="/sa.json"),
        GCSPipelineStore("b", project="p"),
        S3PipelineStore(bucket="b", prefix="clinops/prod", region="us-east-1"),
        S3PipelineStore("b", profile="clinical-prod"),
        LocalPipelineStore("artifacts", prefix="icu"),
        LocalPipelineStore(directory="artifacts"),
        PipelineStore.from_uri("s3://b/p"),
    ]


def frames(store: PipelineStore, df: pd.DataFrame) -> None:
    """Each method has the right return type."""
    assert_type(store.upload(df, "a", overwrite=False, metadata={"run": "1"}), str)
    assert_type(store.download("a", columns=["x"], filters=[("stay_id", "==", 7)]), pd.DataFrame)
    assert_type(store.iter_batches("a", rows=1_000), Iterator[pd.DataFrame])
    assert_type(store.download("a", as_="polars", version="1"), pl.DataFrame)
    assert_type(store.download("a", as_="arrow"), pa.Table)
    assert_type(store.iter_batches("a", as_="polars"), Iterator[pl.DataFrame])
    assert_type(store.upload_batches(store.iter_batches("a"), "b"), str)
    assert_type(store.list_artifacts("features/"), list[str])
    assert_type(store.stat("a"), ArtifactInfo)
    assert_type(store.read_bytes("report.html"), bytes)


async def twins(store: PipelineStore, df: pd.DataFrame) -> None:
    """Each async form has the right return type."""
    assert_type(await store.aupload(df, "a"), str)
    assert_type(await store.adownload("a"), pd.DataFrame)
    assert_type(await store.adownload("a", as_="polars"), pl.DataFrame)
    async for other in store.aiter_batches("a", as_="polars"):
        assert_type(other, pl.DataFrame)
    async for batch in store.aiter_batches("a"):
        assert_type(batch, pd.DataFrame)


def pipelines() -> str:
    """A pipeline is built in a chain of calls."""
    pipeline = StepFunctionsPipeline(name="daily", role_arn="arn:aws:iam::123456789012:role/r", region="us-east-1")
    pipeline.add_step(PipelineStep("Ingest", "arn:ingest", parameters={"date": "2024-01-01"}, timeout_seconds=1800))
    steps = [PipelineStep(name="Features", resource="arn:features", retry_attempts=2)]
    patients, outputs = S3Items("b", prefix="patients/"), S3Results("b", "outputs")
    pipeline.add_step(MapStep("Patients", steps, patients, max_concurrency=10, results=outputs))
    assert_type(pipeline.check(), list[str])
    arn = pipeline.execute(input_data={"date": "2024-01-15"}, execution_name="daily-2024-01-15")
    assert_type(pipeline.wait(arn, timeout=60), Any)
    return pipeline.definition_json()


@task(persist_result=True, result_serializer=DataFrameSerializer())
def features(name: str) -> pd.DataFrame:
    """A task returns a frame."""
    return download_artifact("s3-pipeline-store/prod", name)


def kinds(store: PipelineStore) -> None:
    """The task has the right return type for each kind of frame."""
    assert_type(download_artifact(store, "a", columns=["x"]), pd.DataFrame)
    assert_type(download_artifact(store, "a", as_="polars"), pl.DataFrame)
    assert_type(download_artifact(store, "a", as_="arrow"), pa.Table)


@flow
def daily(store: PipelineStore) -> None:
    """Tasks are called and submitted."""
    try:
        upload_artifact(store, features("cohort"), "features")
        list_artifacts.submit(store).result()
        run_step_functions_pipeline("step-functions-pipeline/daily", {"date": "2024-01-15"})
        started = start_step_functions_pipeline.submit("step-functions-pipeline/daily", {"date": "2024-01-16"})
        wait_for_step_functions_execution("step-functions-pipeline/daily", started)
    except ClinopsPrefectError as error:
        print(error)


@flow
def references(df: pd.DataFrame) -> None:
    """A task returns a reference, and the reference returns its frame."""
    ref = upload_artifact("s3-pipeline-store/prod", df, "a", as_ref=True)
    assert_type(ref, ArtifactRef)
    assert_type(upload_artifact("s3-pipeline-store/prod", df, "a", metadata={"a": "b"}), str)
    assert_type(ref.download(columns=["x"]), pd.DataFrame)
    assert_type(ref.stat(), ArtifactInfo)
    assert_type(download_artifact(ref), pd.DataFrame)
    assert_type(LocalPipelineStore("artifacts").ref("a"), ArtifactRef)
