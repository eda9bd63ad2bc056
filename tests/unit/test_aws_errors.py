"""Every error that AWS's client raises by itself becomes an error of ours that says what to do and shows no secret."""

from pathlib import Path
from typing import Any

import botocore.exceptions
import pandas as pd
import pytest
from prefect_aws import AwsCredentials

from clinops_prefect import (
    AccessDeniedError,
    ClinopsPrefectError,
    InvalidPipelineError,
    InvalidStoreError,
    PipelineStep,
    PipelineStore,
    S3PipelineStore,
    ServiceUnavailableError,
    StepFunctionsPipeline,
)
from clinops_prefect.aws.errors import client_failure
from clinops_prefect.step_functions.service.errors import translated
from clinops_prefect.tasks import download_artifact, list_artifacts, upload_artifact
from tests.provider_errors import errors_of, of_botocore

ROLE = "arn:aws:iam::123456789012:role/R"
STEP = PipelineStep("a", "arn:aws:lambda:us-east-1:123456789012:function:x")
SSO = "[profile x]\nregion = us-east-1\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\n[sso-session s]\n"
SSO += "sso_start_url = https://example.org\nsso_region = us-east-1\n"
PROCESS = "[profile x]\nregion = us-east-1\ncredential_process = {}\n"

# The configuration file, other settings, and words of the message.
WRONG: dict[str, tuple[str, dict[str, Any], type[ClinopsPrefectError] | None, str]] = {
    "no such profile": ("", {"profile": "nope"}, AccessDeniedError, "'nope'"),
    "half a profile": ("[profile x]\naws_access_key_id = A\n", {"profile": "x"}, AccessDeniedError, "incomplete"),
    "no configuration": ("[profile x\nhunter2", {"profile": "x"}, None, "configuration file"),
    "a source that is not there": (
        "[profile x]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = y\n", {"profile": "x"}, AccessDeniedError,
        "sts get-caller-identity",
    ),
    "a process that fails": (
        PROCESS.format("sh -c 'echo hunter2 >&2; exit 1'"), {"profile": "x"}, AccessDeniedError,
        "sts get-caller-identity",
    ),
    "a process that says nonsense": (PROCESS.format("echo hunter2"), {"profile": "x"}, None, "credential_process"),
    "a process that is not there": (PROCESS.format("/no/such/program"), {"profile": "x"}, None, "/no/such/program"),
    "an expired sign-in": (SSO, {"profile": "x"}, AccessDeniedError, "aws sso login"),
    "no endpoint": ("", {"endpoint_url": "not a url"}, None, "endpoint_url"),
    "no region": ("", {"region": "not a region"}, None, "region"),
}  # fmt: skip


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty AWS configuration."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "config"


def ways_of_a_store(**fields: Any) -> list[Any]:
    store = S3PipelineStore("b", **fields)
    frame = pd.DataFrame({"a": [1]})
    return [
        lambda: store.upload(frame, "x"), lambda: store.upload(frame, "x", overwrite=False),
        lambda: store.upload_batches([frame], "x"), lambda: store.download("x"), lambda: next(store.iter_batches("x")),
        lambda: store.list_artifacts(), lambda: store.exists("x"), lambda: store.stat("x"),
        lambda: store.list_versions("x"), lambda: store.copy_artifact("x", "y"), lambda: store.delete_artifact("x"),
        lambda: store.write_bytes("x", b""), lambda: store.read_bytes("x"), lambda: store.read_path("x"),
        lambda: store.write_path("x", b"{}"), lambda: PipelineStore.from_uri("s3://b", **fields).list_artifacts(),
        lambda: list_artifacts.fn(store), lambda: download_artifact.fn(store, "x"),
        lambda: upload_artifact.fn(store, frame, "x"),
    ]  # fmt: skip


def ways_of_a_pipeline(**fields: Any) -> list[Any]:
    pipeline = StepFunctionsPipeline("p", ROLE, steps=[STEP], **fields)
    execution = "arn:aws:states:us-east-1:123456789012:execution:p:e"
    return [
        pipeline.deploy, pipeline.execute, lambda: pipeline.wait(execution), lambda: pipeline.stop(execution),
        lambda: pipeline.redrive(execution), lambda: list(pipeline.history(execution)), pipeline.run, pipeline.trigger,
    ]  # fmt: skip


@pytest.mark.parametrize("ways", [ways_of_a_store, ways_of_a_pipeline])
@pytest.mark.parametrize("what", WRONG)
def test_faults_of_the_configuration_are_reported_on_every_way_in(what: str, ways: Any, aws: Path) -> None:
    config, fields, kind, said = WRONG[what]
    aws.write_text(config)
    expected = kind or (InvalidStoreError if ways is ways_of_a_store else InvalidPipelineError)
    for way in ways(**{"region": "us-east-1", **fields}):
        with pytest.raises(expected) as refused:
            way()
        assert said in str(refused.value)
        shown: BaseException | None = refused.value
        while shown is not None:
            assert "hunter2" not in f"{shown!r}{shown}"
            shown = None if shown.__suppress_context__ else (shown.__cause__ or shown.__context__)


def test_a_pipeline_reports_a_missing_region(aws: Path) -> None:
    pipeline = StepFunctionsPipeline("p", ROLE)
    for way in [*ways_of_a_pipeline(), lambda: pipeline.state_machine_arn, pipeline.client]:
        with pytest.raises(InvalidPipelineError, match=r"region=.*AWS_DEFAULT_REGION"):
            way()


def test_a_key_without_its_secret_in_the_environment_is_reported(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A")
    for way in [*ways_of_a_store(region="us-east-1"), *ways_of_a_pipeline(region="us-east-1")]:
        with pytest.raises(AccessDeniedError, match="incomplete"):
            way()


def test_a_role_that_cannot_be_assumed_is_reported(aws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token service cannot be reached, which is an error that may pass and that shows no secret."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    login = AwsCredentials(
        aws_access_key_id="A", aws_secret_access_key="hunter2", region_name="us-east-1", assume_role_arn=ROLE
    )
    for ways in (ways_of_a_store, ways_of_a_pipeline):
        with pytest.raises(ServiceUnavailableError) as refused:
            ways(credentials=login)[0]()
        assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("kind", errors_of(botocore.exceptions), ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_is_classified(kind: type[Exception]) -> None:
    ours = client_failure(of_botocore(kind, "StartExecution"), "S3")
    assert isinstance(ours, ClinopsPrefectError)
    assert type(ours) in (AccessDeniedError, InvalidStoreError, ServiceUnavailableError)
    assert str(ours).startswith("S3: ")
    assert ";" in str(ours)
    if isinstance(ours, ServiceUnavailableError):
        assert issubclass(kind, botocore.exceptions.ConnectionError | botocore.exceptions.HTTPClientError)


# Without the answers of the service, which have a test suite of their own.
_OF_THE_CLIENT = [
    kind
    for kind in errors_of(botocore.exceptions)
    if issubclass(kind, botocore.exceptions.BotoCoreError) and not issubclass(kind, botocore.exceptions.ClientError)
]


@pytest.mark.parametrize("kind", _OF_THE_CLIENT, ids=lambda kind: kind.__name__)
def test_every_error_of_the_client_becomes_one_of_ours_in_a_pipeline(kind: type[Exception]) -> None:
    error = of_botocore(kind, "StartExecution")
    with pytest.raises(ClinopsPrefectError) as refused, translated("arn:x"):
        raise error
    assert refused.value.uri == "arn:x"


@pytest.mark.parametrize("error", [ValueError("theirs"), KeyError("x"), MemoryError(), AssertionError()])
def test_errors_that_are_not_the_clients_are_not_translated(error: Exception) -> None:
    assert client_failure(error, "S3") is None
