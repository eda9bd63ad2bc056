"""No log and no error, its chain of causes included, quotes a cell, a patient or a secret, whatever goes wrong."""

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_gcp import GcpCredentials

from clinops_prefect import (
    ClinopsPrefectError,
    DataFrameSerializer,
    GCSPipelineStore,
    MapStep,
    PipelineStep,
    PipelineStore,
    S3PipelineStore,
    StepFunctionsPipeline,
)
from tests.doors import Door
from tests.faults.canaries import CELL, NUMBER, PATIENT, SECRET, SUBJECT, watching
from tests.service_account import service_account

GOOD = pd.DataFrame({"subject": [PATIENT, "b"], "note": [CELL, None], "id": [SUBJECT, 2], "v": [NUMBER, 1.0]})


class Thing:
    """A value that no format can hold, and whose text shows its content."""

    def __repr__(self) -> str:
        return CELL


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


REFUSED_FRAMES = {
    "duplicate columns": pd.DataFrame([[PATIENT, CELL]], columns=["a", "a"]),
    "mixed": frame(a=[PATIENT, SUBJECT, NUMBER]),
    "mixed bytes": frame(a=[PATIENT, CELL.encode()]),
    "objects": frame(a=[Thing(), None]),
    "nested mixed": frame(a=[[PATIENT], [SUBJECT], {"k": CELL}]),
    "dictionaries": frame(a=[{PATIENT: CELL}, {CELL: SUBJECT}]),
    "missing markers": frame(a=pd.Series([PATIENT, None, np.nan, pd.NA], dtype=object)),
    "mixed index": pd.DataFrame({"a": [1, 2]}, index=[PATIENT, SUBJECT]),
    "mixed level": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(PATIENT, 1), (SUBJECT, 2)])),
    "mixed categories": frame(a=pd.Categorical([PATIENT, SUBJECT])),
    "sparse": frame(a=pd.arrays.SparseArray([NUMBER, 0.0])),
    "complex": frame(a=[complex(NUMBER, 1)]),
    "large integers": frame(a=[SUBJECT * 10**20, 1]),
    "decimals": frame(a=[decimal.Decimal(NUMBER) ** 9, decimal.Decimal("NaN")]),
    "dates": frame(a=[dt.date(2024, 1, 1), CELL]),
    "surrogates": frame(a=pd.Series([PATIENT + "\ud800"], dtype=object)),
    "attributes": (lambda f: setattr(f, "attrs", {"who": {PATIENT}}) or f)(frame(a=[1])),
    "a series": pd.Series([PATIENT], name="a"),
    "no frame": [PATIENT, CELL],
}
REFUSED_BATCHES = {
    "other dtype": [frame(a=[PATIENT]), frame(a=[SUBJECT])],
    "other columns": [frame(a=[PATIENT]), frame(b=[CELL])],
    "other categories": [frame(a=pd.Categorical([PATIENT])), frame(a=pd.Categorical([CELL]))],
    "mixed": [frame(a=[PATIENT]), frame(a=[PATIENT, NUMBER])],
    "other index": [frame(a=[PATIENT]), pd.DataFrame({"a": [CELL]}, index=[PATIENT])],
}
ASKED: dict[str, Callable[[PipelineStore], Any]] = {
    "another type": lambda s: s.download("x", filters=[("id", "==", PATIENT)]),
    "another type in a list": lambda s: s.download("x", filters=[("id", "in", [PATIENT, CELL])]),
    "an expression": lambda s: s.download("x", filters=pc.field("id") == PATIENT),
    "a cast that fails on a cell": lambda s: s.download("x", filters=pc.field("note").cast("int64") == 7),
    "a cast in batches": lambda s: next(s.iter_batches("x", filters=pc.field("note").cast("date32").is_valid())),
    "an overflow": lambda s: s.download("x", filters=pc.field("id").cast("int8") == 7),
    "an operator": lambda s: s.download("x", filters=[("subject", "like", PATIENT)]),
    "no condition": lambda s: s.download("x", filters=[("subject", PATIENT)]),
    "no filter": lambda s: s.download("x", filters=PATIENT),  # type: ignore[arg-type]
    "a column that is not there": lambda s: s.download("x", columns=["subjct"]),
    "a filter of no column": lambda s: s.download("x", filters=[("nme", "==", PATIENT)]),
    "a version": lambda s: s.download("x", version="271828"),
    "there already": lambda s: s.upload(GOOD, "x", overwrite=False),
    "metadata": lambda s: s.upload(GOOD, "x", metadata={"who": f"{PATIENT}\n"}),
    "metadata of no text": lambda s: s.upload(GOOD, "x", metadata={"who": SUBJECT}),  # type: ignore[dict-item]
    "metadata too long": lambda s: s.upload(GOOD, "x", metadata={"who": PATIENT * 200}),
    "no bytes": lambda s: s.write_bytes("x.txt", PATIENT),  # type: ignore[arg-type]
    "a pickle": lambda s: s.write_path("x", f"pickle of {PATIENT}".encode()),
    "an envelope": lambda s: s.write_path("x", f'{{"serializer": {{"type": "pickle"}}, "result": "{CELL}"}}'.encode()),
}  # fmt: skip


@pytest.fixture(params=["parquet", "csv"])
def store(request: pytest.FixtureRequest, door: Door) -> PipelineStore:
    return door.store(format=request.param)


def quiet(calls: dict[str, Callable[[], Any]], *, refusals: int | None = None) -> None:
    """Make all calls, and search what each logs and raises."""
    taken = []
    for what, call in calls.items():
        with watching() as watch:
            try:
                call()
                taken.append(what)
            except Exception as error:
                watch.error(error)
        assert not watch.found(), what
    assert len(calls) - len(taken) >= (len(calls) if refusals is None else refusals), taken


def test_a_frame_that_is_refused_is_not_quoted(store: PipelineStore) -> None:
    calls = {what: lambda df=df: store.upload(df, "x") for what, df in REFUSED_FRAMES.items()}
    # Parquet can hold some of these, which is no error.
    quiet(calls, refusals=12)
    assert not store.exists("x") or store.download("x") is not None


def test_batches_that_are_refused_are_not_quoted(store: PipelineStore) -> None:
    quiet({what: lambda b=b: store.upload_batches(b, "x") for what, b in REFUSED_BATCHES.items()})


def test_arguments_of_a_failed_read_are_not_quoted(store: PipelineStore) -> None:
    store.upload(GOOD, "x")
    quiet({what: lambda ask=ask: ask(store) for what, ask in ASKED.items()})


def test_content_that_cannot_be_read_is_not_quoted(store: PipelineStore, door: Door) -> None:
    """The file is damaged, cut or of another format. A decoder's own message would quote the line where it failed."""
    store.upload(GOOD, "x")
    key = f"x.{store.format}"
    good = door.get(key)
    texts = {
        "cut": good[: len(good) // 2], "another": f'a,b\n"{PATIENT}\n{CELL},1,2\n'.encode(), "binary": b"\xff" + good,
        "more": good + f"\n{CELL},{CELL},{CELL},{CELL},{CELL},{CELL}\n".encode(), "json": f'{{"a": "{CELL}"'.encode(),
    }  # fmt: skip
    for what, data in texts.items():
        door.replace_bytes(key, data)
        for read in (store.download, store.stat, lambda n: list(store.iter_batches(n)), store.read_path):
            quiet({what: lambda read=read: read("x")}, refusals=0)
        with pytest.raises(ClinopsPrefectError):
            store.download("x")


def test_a_result_that_is_refused_or_damaged_is_not_quoted() -> None:
    serializer = DataFrameSerializer()
    values = {
        "object": Thing(), "set": {Thing()}, "lambda": lambda: PATIENT, "enum": {PATIENT: Thing()},
        "array": np.array([PATIENT], dtype=object), "frame": REFUSED_FRAMES["mixed"],
        "nested": [REFUSED_FRAMES["duplicate columns"]],
    }  # fmt: skip
    # An exception is stored with the flow's own message, because a failed run must say why.
    quiet({what: lambda value=value: serializer.dumps(value) for what, value in values.items()})
    stored = serializer.dumps({"a": GOOD, PATIENT: CELL})
    quiet({
        "cut": lambda: serializer.loads(stored[:-30]), "tag": lambda: serializer.loads(
            f'{{"value": {{"__clinops__": "date", "value": "{PATIENT}"}}}}'.encode()
        ),
        "number": lambda: serializer.loads(f'{{"value": {{"__clinops__": "float", "value": "{CELL}"}}}}'.encode()),
        "text": lambda: serializer.loads(PATIENT.encode()),
        "json": lambda: serializer.loads(b'{"value": "' + CELL.encode()),
    })  # fmt: skip


LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:f"
ROLE = "arn:aws:iam::123456789012:role/R"


def test_a_pipeline_that_is_refused_quotes_no_parameter_and_no_input() -> None:
    def pipeline(**options: Any) -> StepFunctionsPipeline:
        return StepFunctionsPipeline(name="p", role_arn=ROLE, region="us-east-1", **options)

    def step(**parameters: Any) -> StepFunctionsPipeline:
        return pipeline(steps=[PipelineStep("S", LAMBDA, parameters=parameters)])

    deep: list[Any] = [PATIENT]
    for _ in range(2_000):
        deep = [deep, CELL]
    inputs = {
        "set": {"who": {PATIENT}}, "nan": {"who": PATIENT, "v": float("nan")}, "object": [Thing()],
        "long": PATIENT * 20_000, "key": {SUBJECT: CELL}, "deep": deep, "surrogate": PATIENT + "\ud800",
        "bytes": CELL.encode(), "frame": GOOD, "large": {"n": SUBJECT * 10**30},
    }  # fmt: skip
    quiet({what: lambda value=value: pipeline().execute(value) for what, value in inputs.items()}, refusals=9)
    quiet({what: lambda value=value: step(who=value).definition() for what, value in inputs.items()}, refusals=7)
    quiet({
        "parameters": lambda: PipelineStep("S", LAMBDA, parameters=[PATIENT]),
        "retries": lambda: PipelineStep("S", LAMBDA, parameters={"who": PATIENT}, retry_attempts="often"),
        "items": lambda: MapStep("M", [PipelineStep("S", LAMBDA)], [{"who": {PATIENT}}], max_concurrency="all"),
        "steps": lambda: pipeline(steps=[{"name": "S", "parameters": {"who": PATIENT}}]),
        "tags": lambda: pipeline(tags={"who": [PATIENT]}),
        "logging": lambda: pipeline(logging_configuration=[PATIENT]),
    })  # fmt: skip


def _key(**changed: str) -> dict[str, str]:
    return {
        "type": "service_account", "project_id": "p", "private_key_id": SECRET, "private_key": SECRET,
        "client_email": "e@p.iam.gserviceaccount.com", "client_id": "1", "token_uri": "http://127.0.0.1:9/token",
        **changed,
    }  # fmt: skip


def test_no_secret_is_in_the_text_of_a_block() -> None:
    pem = service_account("")["private_key"]
    aws = AwsCredentials(aws_access_key_id="AKIA", aws_secret_access_key=SECRET, aws_session_token=CELL)
    blocks = [
        S3PipelineStore("b", credentials=aws),
        S3PipelineStore("b", credentials=MinIOCredentials(minio_root_user="u", minio_root_password=SECRET)),
        GCSPipelineStore("b", credentials=GcpCredentials(service_account_info=_key(private_key=pem))),
        StepFunctionsPipeline(name="p", role_arn=ROLE, credentials=aws),
    ]
    for block in blocks:
        # prefect-aws treats a session token as plain text, and saves it so.
        assert CELL not in repr(block) + str(block)
        for text in (repr(block), str(block), f"{block.model_dump()}", block.model_dump_json(), f"{vars(block)}"):
            assert SECRET not in text
            assert pem.splitlines()[3] not in text


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_no_secret_is_in_an_error_about_it(door: Door) -> None:
    """Invalid fields, credentials that cannot be used, and invalid keys."""
    aws = {"aws_access_key_id": "AKIA", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
    dead = "http://127.0.0.1:9"
    quiet({
        "s3 fields": lambda: S3PipelineStore("b", credentials={**aws, "region_name": [SECRET]}),
        "s3 text": lambda: S3PipelineStore("b", credentials=SECRET),
        "s3 misspelt": lambda: S3PipelineStore("b", secret_key=SECRET),
        "minio fields": lambda: S3PipelineStore(
            "b", credentials={"minio_root_user": [SECRET], "minio_root_password": SECRET, "aws_access_key_id": [SECRET]}
        ),
        "gcs fields": lambda: GCSPipelineStore("b", credentials={"service_account_info": SECRET}),
        "gcs both": lambda: GCSPipelineStore(
            "b", credentials={"service_account_info": _key(), "service_account_file": "/none"}
        ),
        "pipeline fields": lambda: StepFunctionsPipeline(
            name="p", role_arn=ROLE, credentials={**aws, "region_name": [SECRET]}
        ),
        "pipeline text": lambda: StepFunctionsPipeline(name="p", role_arn=ROLE, credentials=SECRET),
        "pipeline misspelt": lambda: StepFunctionsPipeline(name="p", role_arn=ROLE, secret_key=SECRET),
        "gcs key": lambda: GCSPipelineStore("b", credentials=GcpCredentials(service_account_info=_key())).exists("x"),
        "aws unreachable": lambda: StepFunctionsPipeline(
            name="p", role_arn=ROLE, region="us-east-1", endpoint_url=dead, credentials=AwsCredentials(**aws)
        ).history("arn:aws:states:us-east-1:123456789012:execution:p:e").__next__(),
    })  # fmt: skip
    bad = AwsCredentials(**{**aws, "aws_secret_access_key": SECRET + "\n"})
    quiet({"s3 header": lambda: door.store(credentials=bad).exists("x")}, refusals=0)
