"""A plain http endpoint on a network is refused, in every way to name it. One on this machine is accepted.

Otherwise patient data and credentials would cross the network in clear text. A field, a credentials block, a connection
string, a profile and the environment can each decide where the client sends them.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_aws.client_parameters import AwsClientParameters
from prefect_azure import AzureBlobStorageCredentials
from prefect_gcp import GcpCredentials
from pydantic import SecretStr

from clinops_prefect import (
    AzurePipelineStore,
    GCSPipelineStore,
    InvalidPipelineError,
    InvalidStoreError,
    PipelineStep,
    PipelineStore,
    S3PipelineStore,
    StepFunctionsPipeline,
)
from tests.emulators import AZURE_KEY
from tests.service_account import service_account

# A public name, an address of a private network, and two names that only look like this machine.
ON_A_NETWORK = [
    "http://storage.hospital.org:9000",
    "http://10.1.2.3:9000",
    "http://127.0.0.1.nip.io:9000",
    "http://localhost.example.org:9000",
]
HERE = ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:9000", "http://s3.localhost:9000"]

# The environment variables and the store's fields that set the endpoint to a URL.
Named = tuple[dict[str, str], dict[str, Any]]
Way = Callable[[str, Path], Named]


def _profile(url: str, folder: Path) -> Named:
    # The client cache uses the file's name, not its content, so each test needs a new name.
    config = folder / f"config-{len(list(folder.iterdir()))}"
    config.write_text(f"[profile p]\nendpoint_url = {url}\n")
    return {"AWS_CONFIG_FILE": str(config)}, {"profile": "p"}


def _aws_block(kind: type[Any], **login: Any) -> Way:
    return lambda url, _: (
        {},
        {"credentials": kind(**login, aws_client_parameters=AwsClientParameters(endpoint_url=url))},
    )


def _connection(url: str) -> str:
    return f"DefaultEndpointsProtocol=https;AccountName=icu;AccountKey={AZURE_KEY};BlobEndpoint={url}"


def _azure_block(url: str, _: Path) -> Named:
    return {}, {"credentials": AzureBlobStorageCredentials(connection_string=SecretStr(_connection(url)))}


WAYS: dict[str, tuple[type[PipelineStore], Way]] = {
    "s3 field": (S3PipelineStore, lambda url, _: ({}, {"endpoint_url": url})),
    "s3 block": (S3PipelineStore, _aws_block(AwsCredentials)),
    "s3 minio block": (S3PipelineStore, _aws_block(MinIOCredentials, minio_root_user="a", minio_root_password="b")),
    "s3 profile": (S3PipelineStore, _profile),
    "s3 AWS_ENDPOINT_URL": (S3PipelineStore, lambda url, _: ({"AWS_ENDPOINT_URL": url}, {})),
    "s3 AWS_ENDPOINT_URL_S3": (S3PipelineStore, lambda url, _: ({"AWS_ENDPOINT_URL_S3": url}, {})),
    "gcs field": (GCSPipelineStore, lambda url, _: ({}, {"endpoint_url": url})),
    "gcs STORAGE_EMULATOR_HOST": (GCSPipelineStore, lambda url, _: ({"STORAGE_EMULATOR_HOST": url}, {})),
    "gcs STORAGE_EMULATOR_HOST, without http": (
        GCSPipelineStore,
        lambda url, _: ({"STORAGE_EMULATOR_HOST": url.removeprefix("http://")}, {}),
    ),
    "azure field": (AzurePipelineStore, lambda url, _: ({}, {"endpoint_url": url})),
    "azure account_url": (AzurePipelineStore, lambda url, _: ({}, {"account_url": url})),
    "azure block": (AzurePipelineStore, _azure_block),
    "azure AZURE_STORAGE_CONNECTION_STRING": (
        AzurePipelineStore,
        lambda url, _: ({"AZURE_STORAGE_CONNECTION_STRING": _connection(url)}, {}),
    ),
}


@functools.cache
def _login() -> GcpCredentials:
    return GcpCredentials(service_account_info=service_account("https://token.example.org"))


def _client_of(way: str, url: str, folder: Path, environment: pytest.MonkeyPatch, **fields: Any) -> str:
    """The endpoint of a store's client, when the endpoint is set in this way."""
    kind, name = WAYS[way]
    variables, named = name(url, folder)
    for variable, value in variables.items():
        environment.setenv(variable, value)
    if kind is S3PipelineStore:
        return str(S3PipelineStore("bucket", **named, **fields)._backend().client.meta.endpoint_url)
    if kind is GCSPipelineStore:
        return str(GCSPipelineStore("bucket", credentials=_login(), **named, **fields)._backend().client.api_endpoint)
    return str(AzurePipelineStore("bucket", **named, **fields)._backend()._client().primary_endpoint)


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lookup and no connection is allowed: only the endpoint's text decides, since name servers may change."""

    def refuse(*_: Any, **__: Any) -> Any:
        pytest.fail("a name was looked up, or somebody connected to")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.mark.parametrize("way", WAYS)
def test_clear_text_on_a_network_is_refused_unless_it_is_accepted(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ON_A_NETWORK:
        with pytest.raises(InvalidStoreError, match="allow_http"):
            _client_of(way, url, tmp_path, monkeypatch)
    assert _client_of(way, ON_A_NETWORK[0], tmp_path, monkeypatch, allow_http=True).startswith(ON_A_NETWORK[0])


@pytest.mark.parametrize("way", WAYS)
def test_clear_text_within_this_machine_and_https_are_taken(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [*HERE, "https://storage.hospital.org:9000"] if "without http" not in way else HERE
    for url in urls:
        assert _client_of(way, url, tmp_path, monkeypatch).startswith(url)


def test_azures_own_endpoint_is_refused_in_clear_text_too(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = f"DefaultEndpointsProtocol=http;AccountName=icu;AccountKey={AZURE_KEY};EndpointSuffix=core.windows.net"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    with pytest.raises(InvalidStoreError, match=r"http://icu\.blob\.core\.windows\.net is not encrypted"):
        AzurePipelineStore("container")._backend()._client()


@pytest.mark.parametrize("url", ON_A_NETWORK)
def test_azures_tokens_are_not_sent_in_clear_text_either(url: str) -> None:
    """Azure's client refuses it too, with its own message."""
    block = AzureBlobStorageCredentials(account_url=url)
    with pytest.raises(InvalidStoreError, match="is not encrypted"):
        AzurePipelineStore("container", credentials=block)._backend()._client()


def test_of_a_pipeline_it_is_an_error_of_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ingest", "arn:aws:iam::123456789012:role/r")
    with pytest.raises(InvalidPipelineError, match="is not encrypted"):
        StepFunctionsPipeline(*names, endpoint_url=ON_A_NETWORK[0])
    monkeypatch.setenv("AWS_ENDPOINT_URL_SFN", ON_A_NETWORK[0])
    step = PipelineStep("Ingest", "arn:aws:lambda:us-east-1:123456789012:function:ingest")
    with pytest.raises(InvalidPipelineError, match="is not encrypted"):
        StepFunctionsPipeline(*names, region="us-east-1").add_step(step).deploy()
