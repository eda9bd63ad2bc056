"""The address of an object in a browser: the provider's console, in the bucket's region and AWS partition."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import pytest

from clinops_prefect import (
    AzurePipelineStore,
    GCSPipelineStore,
    InvalidArtifactNameError,
    LocalPipelineStore,
    S3PipelineStore,
)

PAGE = "icu/2024-01-01/quality report.html"


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "STORAGE_EMULATOR_HOST",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-central-1", "eu-central-1.console.aws.amazon.com"),
        ("cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("us-gov-west-1", "console.amazonaws-us-gov.com"),
    ],
)
def test_the_url_of_an_s3_object_is_the_console_of_its_region(region: str, host: str) -> None:
    url = urlsplit(S3PipelineStore("my-bucket", prefix="a/b", region=region).browser_url(PAGE))
    assert (url.scheme, url.hostname, url.path) == ("https", host, "/s3/object/my-bucket")
    assert parse_qs(url.query) == {"region": [region], "prefix": [f"a/b/{PAGE}"]}


def test_the_url_without_a_region_is_the_console_that_finds_the_region() -> None:
    url = urlsplit(S3PipelineStore("my-bucket", region="aws-global").browser_url(PAGE))
    assert (url.hostname, url.path) == ("console.aws.amazon.com", "/s3/object/my-bucket")
    assert parse_qs(url.query) == {"prefix": [PAGE]}


def test_the_url_on_another_service_is_the_objects_own_address() -> None:
    store = S3PipelineStore("b", endpoint_url="https://minio.example:9000", region="us-east-1")
    assert store.browser_url(PAGE) == "https://minio.example:9000/b/icu/2024-01-01/quality%20report.html"


def test_the_url_of_a_gcs_object_is_googles_console() -> None:
    url = GCSPipelineStore("my-bucket", prefix="a").browser_url(PAGE)
    console = "https://console.cloud.google.com/storage/browser/_details"
    assert url == f"{console}/my-bucket/a/icu/2024-01-01/quality%20report.html"


def test_the_url_of_an_azure_object_is_its_own_address_without_a_signature() -> None:
    store = AzurePipelineStore("b-c", account_url="https://icu.blob.core.windows.net?sv=2024-01-01&sig=secret")
    address = "https://icu.blob.core.windows.net/b-c/icu/2024-01-01/quality%20report.html"
    assert store.browser_url(PAGE) == address


def test_the_url_in_a_local_folder_is_the_file(tmp_path: Path) -> None:
    store = LocalPipelineStore(tmp_path)
    store.write_bytes(PAGE, b"<p>")
    assert store.browser_url(PAGE) == (tmp_path / PAGE).as_uri()
    with pytest.raises(InvalidArtifactNameError):
        store.browser_url("../x.html")


@pytest.mark.parametrize("name", ["x", "features/windows_2024_01", "v1.2/x", "date=2024-01-01/part 1", "windows.v2"])
@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("kind", [S3PipelineStore, GCSPipelineStore, LocalPipelineStore])
def test_the_url_of_an_artifact_takes_its_uri(kind: Any, format: str, name: str) -> None:
    store = kind("my-bucket", prefix="a/b", format=format)
    assert store.browser_url(store.uri(name)) == store.browser_url(f"{name}.{format}")
    # A path is used as it is, and never taken for a name.
    assert unquote_plus(store.browser_url(name)).endswith(f"a/b/{name}")
    for wrong in ("", "a/", "a//b", "../a", 5):
        with pytest.raises(InvalidArtifactNameError):
            store.browser_url(wrong)
