"""The fields of a block: a misspelt field in code raises, a newer version's field does not. No error has a secret."""

import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import cloudpickle
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect_aws import AwsCredentials

from clinops_prefect import (
    ClinopsPrefectError,
    GCSPipelineStore,
    InvalidArtifactNameError,
    InvalidPipelineError,
    InvalidStoreError,
    LocalPipelineStore,
    PipelineStep,
    PipelineStore,
    S3PipelineStore,
    StepFunctionsPipeline,
    field_checks,
)
from clinops_prefect.names import PREFIX_PATTERN, check_prefix

ROLE = "arn:aws:iam::123456789012:role/R"
LAMBDA = "arn:aws:lambda:us-east-1:123456789012:function:x"
STEP = {"name": "a", "resource": LAMBDA}
FRAME = pd.DataFrame({"a": [1]})


@pytest.fixture(autouse=True)
def _no_warning_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_checks, "_warned", set())


def saved(kind: type, **data: Any) -> Any:
    """The block of a saved document."""
    required: dict[type, dict[str, Any]] = {
        LocalPipelineStore: {"directory": "/nowhere"}, S3PipelineStore: {"bucket": "b"},
        GCSPipelineStore: {"bucket": "b"},
        StepFunctionsPipeline: {"name": "p", "role_arn": ROLE},
    }  # fmt: skip
    return kind.model_validate({**required[kind], **data})  # type: ignore[attr-defined]


KINDS = [LocalPipelineStore, S3PipelineStore, GCSPipelineStore, StepFunctionsPipeline]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("empty", ["", None, False, 0, [], {}])
def test_an_unknown_empty_field_is_ignored_silently(kind: type, empty: Any, caplog: pytest.LogCaptureFixture) -> None:
    block = saved(kind, from_the_future=empty, kms_of_tomorrow=empty)
    block.refuse_without_protection()
    assert not caplog.records


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_field_with_a_value_is_ignored_with_one_warning(
    kind: type, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        block = saved(kind, from_the_future="hunter2")
    block.refuse_without_protection()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "from_the_future" in record.getMessage()
    assert "hunter2" not in record.getMessage() + repr(block) + block.model_dump_json() + str(vars(block))


@pytest.mark.parametrize("name", ["kms_key_arn", "KMSKey", "encryption", "encrypt_with", "client_side_encryption_key"])
def test_an_unknown_field_that_protects_data_prevents_writing(name: str, tmp_path: Any) -> None:
    store = saved(LocalPipelineStore, directory=str(tmp_path), **{name: "hunter2"})
    LocalPipelineStore(str(tmp_path)).upload(FRAME, "x")
    before = sorted(tmp_path.iterdir())
    ways: list[Callable[[PipelineStore], Any]] = [
        lambda store: store.upload(FRAME, "y"),
        lambda store: store.upload(FRAME, "y", overwrite=False),
        lambda store: store.upload_batches([FRAME], "y"),
        lambda store: store.copy_artifact("x", "y"),
        lambda store: store.write_bytes("y.txt", b"1"),
        lambda store: store.write_path("y", b"{}"),
        lambda store: store.save("it-would-lose-the-field"),
    ]
    # Every way in which a block gets to another process or is copied.
    dump = store.model_dump(serialize_as_any=True)
    brought = [
        store, pickle.loads(pickle.dumps(store)), cloudpickle.loads(cloudpickle.dumps(store)),
        LocalPipelineStore(**dump), LocalPipelineStore.model_validate(dump),
        store.model_copy(), store.model_copy(update={"prefix": ""}),
    ]  # fmt: skip
    for each in brought:
        for way in ways:
            with pytest.raises(InvalidStoreError, match=name) as refused:
                way(each)
            assert "hunter2" not in str(refused.value)
        assert each.list_artifacts() == ["x"]
        assert len(each.download("x")) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_unknown_fields_of_a_pipeline_and_its_steps_are_ignored_too(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = saved(StepFunctionsPipeline, steps=[{**STEP, "from_the_future": 3}], other=1)
    assert [type(step).__name__ for step in pipeline.steps] == ["PipelineStep"]
    assert len(caplog.records) == 2
    pipeline.definition()
    for data in ({"kms_of_tomorrow": "x"}, {"steps": [{**STEP, "encryption": {"key": "x"}}]}):
        pipeline = saved(StepFunctionsPipeline, **data)
        for each in (pipeline, StepFunctionsPipeline(**pipeline.model_dump()), pickle.loads(pickle.dumps(pipeline))):
            with pytest.raises(InvalidPipelineError, match=r"kms_of_tomorrow|encryption"):
                each.deploy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_field_in_code_raises_and_names_the_nearest_field(kind: type) -> None:
    near = {"name": "p", "role_arn": ROLE, "regoin": "x"} if kind is StepFunctionsPipeline else {"prefx": "x"}
    with pytest.raises(TypeError, match="'region'" if kind is StepFunctionsPipeline else "'prefix'"):
        kind(**near)
    with pytest.raises(TypeError, match="kms_of_tomorrow"):
        kind(kms_of_tomorrow="x")
    with pytest.raises(TypeError, match="retry_attemps"):
        PipelineStep("a", LAMBDA, retry_attemps=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: S3PipelineStore("b", format="xlsx"), InvalidStoreError, "format"),
        (lambda: S3PipelineStore(), InvalidStoreError, "bucket"),
        (lambda: S3PipelineStore(""), InvalidStoreError, "bucket"),
        (lambda: S3PipelineStore("s3://b"), InvalidStoreError, "bucket"),
        (lambda: GCSPipelineStore(7), InvalidStoreError, "bucket"),  # type: ignore[arg-type]
        (lambda: LocalPipelineStore(), InvalidStoreError, "directory"),
        (lambda: LocalPipelineStore("x", prefix="/y"), InvalidArtifactNameError, "prefix"),
        (lambda: S3PipelineStore("b", allow_http="perhaps"), InvalidStoreError, "allow_http"),
        (lambda: S3PipelineStore("b", endpoint_url="http://hospital.org"), ClinopsPrefectError, "allow_http"),
        (lambda: S3PipelineStore("b", credentials="hunter2"), InvalidStoreError, "credentials"),
        (lambda: S3PipelineStore("b", credentials={"aws_secret_access_key": ["hunter2"]}), InvalidStoreError, "secret"),
        (
            lambda: GCSPipelineStore("b", credentials={"service_account_info": "hunter2"}),
            InvalidStoreError,
            "credentials",
        ),
        (lambda: GCSPipelineStore("b", credentials=AwsCredentials()), InvalidStoreError, "credentials"),
        (lambda: StepFunctionsPipeline("p", ROLE, type="FAST"), InvalidPipelineError, "type"),
        (lambda: StepFunctionsPipeline("p"), InvalidPipelineError, "role_arn"),
        (lambda: StepFunctionsPipeline("p", ROLE, steps=[{"name": "a"}]), InvalidPipelineError, "resource"),
        (lambda: PipelineStep("a", LAMBDA, timeout_seconds="hunter2"), InvalidPipelineError, "timeout_seconds"),
    ],
)
def test_the_error_about_a_bad_value_names_field_and_reason_and_shows_no_secret(
    make: Callable[[], Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind) as refused:
        make()
    assert isinstance(refused.value, ValueError)
    assert said in str(refused.value)
    shown: BaseException | None = refused.value
    while shown is not None:
        assert "hunter2" not in f"{shown!r}{shown}"
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)


@given(st.text(st.sampled_from("a/.. b\u00e9\n\t\\")) | st.text())
def test_the_form_refuses_a_prefix_that_the_store_would_refuse(prefix: str) -> None:
    try:
        check_prefix(prefix)
    except InvalidArtifactNameError as error:
        # A browser sends no lone surrogates. The store itself refuses invisible marks.
        if "U+" not in str(error):
            assert not re.search(PREFIX_PATTERN, prefix), prefix
    else:
        assert prefix == "/" or re.search(PREFIX_PATTERN, prefix), prefix


def test_the_pattern_is_in_the_form_of_each_store() -> None:
    for kind in (LocalPipelineStore, S3PipelineStore, GCSPipelineStore):
        assert kind.model_json_schema()["properties"]["prefix"]["pattern"] == PREFIX_PATTERN
