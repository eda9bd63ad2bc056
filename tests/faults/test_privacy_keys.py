"""The customer's key encrypts every object, however it is written, and nothing is sent over a network unencrypted."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_aws.client_parameters import AwsClientParameters

from clinops_prefect import ClinopsPrefectError, GCSPipelineStore, PipelineStore, S3PipelineStore, StepFunctionsPipeline
from clinops_prefect.storage.s3.backend import S3Backend
from tests.doors import Door
from tests.faults.canaries import SECRET
from tests.proxy import Proxy

S3_KEY = "arn:aws:kms:us-east-1:123456789012:key/0b0e4fd2-93f7-4a0e-8d2b-4d7a6a0a5a11"
GCS_KEY = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"
ROLE = "arn:aws:iam::123456789012:role/R"
FRAME = pd.DataFrame({"a": [1, 2]})


def write_in_every_way(store: PipelineStore) -> int:
    """Write tables, sidecars, results, reports and copies, large and small. Returns the number of objects."""
    rng = np.random.default_rng(1)
    large = pd.DataFrame(rng.random((150_000, 10)), columns=[f"c{i}" for i in range(10)])
    store.upload(FRAME, "one")
    store.upload(FRAME, "new", overwrite=False)
    store.upload(FRAME, "one", metadata={"k": "v"})
    store.upload_batches([FRAME, FRAME], "batches")
    store.upload_batches([large, large], "large-batches")
    store.copy_artifact("one", "copy")
    store.copy_artifact("large-batches", "large-copy")
    store.write_bytes("report.html", b"<p>")
    store.write_bytes("large.bin", bytes(9 << 20))
    store.write_path("result", b'{"clinops/dataframe": 1, "value": 1}')
    return 6 * (2 if store.format == "csv" else 1) + 3


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_every_s3_object_has_the_key(door: Door, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A lower limit, so that the copy is made in parts as if the object were larger than 5 GB.
    monkeypatch.setattr(S3Backend, "copy_bytes", 6 << 20)
    monkeypatch.setattr(S3Backend, "copy_part_bytes", 6 << 20)
    made = write_in_every_way(door.store(kms_key_id=S3_KEY, format=format))
    assert len(door.keys()) == made
    multipart = 0
    for key in door.keys():
        head = door.client.head_object(Bucket=door.bucket, Key=key)  # type: ignore[attr-defined]
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", S3_KEY), key
        multipart += "-" in head["ETag"]
    assert multipart >= 3


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_every_gcs_write_names_the_key(door: Door, format: str) -> None:
    with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]
        made = write_in_every_way(door.store(kms_key_name=GCS_KEY, format=format, endpoint_url=proxy.url))
        assert len(door.keys()) == made
        # The requests that make an object: an upload in one request, the start of a resumable upload, and a rewrite.
        writes = [seen for seen in proxy.seen if seen.method == "POST"]
        assert len(writes) >= made
        for seen in writes:
            named = seen.query.get("kmsKeyName", seen.query.get("destinationKmsKeyName"))
            assert named == [GCS_KEY], seen.path
        # A rewrite with a body takes nothing from the source, so the body has to say all; the emulator merges it.
        bodies = [json.loads(seen.body) for seen in writes if "/rewriteTo/" in seen.path]
        assert bodies
        for body in bodies:
            assert body["contentType"] in ("application/vnd.apache.parquet", "text/csv", "application/json")
            assert any(name.startswith("clinops-") for name in body["metadata"])


def pipeline(**fields: Any) -> StepFunctionsPipeline:
    return StepFunctionsPipeline(name="p", role_arn=ROLE, region="us-east-1", **fields)


def aws(**parameters: Any) -> AwsCredentials:
    return AwsCredentials(
        aws_access_key_id="a", aws_secret_access_key=SECRET, aws_client_parameters=AwsClientParameters(**parameters)
    )


def minio(**parameters: Any) -> MinIOCredentials:
    return MinIOCredentials(
        minio_root_user="a", minio_root_password=SECRET, aws_client_parameters=AwsClientParameters(**parameters)
    )


ON_A_NETWORK = "http://minio.hospital.org:9000"
FAKE_TLS = {"endpoint_url": "https://minio.hospital.org", "verify": False}
EXECUTION = "arn:aws:states:us-east-1:123456789012:execution:machine:name"
INSECURE = {
    "s3 field": lambda **f: S3PipelineStore("b", endpoint_url=ON_A_NETWORK, **f).exists("x"),
    "s3 block": lambda **f: S3PipelineStore("b", credentials=aws(endpoint_url=ON_A_NETWORK), **f).exists("x"),
    "s3 block without ssl": lambda **f: S3PipelineStore("b", credentials=aws(use_ssl=False), **f).exists("x"),
    "s3 block unverified": lambda **f: S3PipelineStore("b", credentials=aws(**FAKE_TLS), **f).exists("x"),
    "minio block": lambda **f: S3PipelineStore("b", credentials=minio(endpoint_url=ON_A_NETWORK), **f).exists("x"),
    "minio block unverified": lambda **f: S3PipelineStore("b", credentials=minio(**FAKE_TLS), **f).exists("x"),
    "gcs field": lambda **f: GCSPipelineStore("b", endpoint_url=ON_A_NETWORK, **f).exists("x"),
    "pipeline field": lambda **f: pipeline(endpoint_url=ON_A_NETWORK, **f).execute(),
    "pipeline block": lambda **f: pipeline(credentials=aws(endpoint_url=ON_A_NETWORK), **f).execute(),
    "pipeline block without ssl": lambda **f: pipeline(credentials=aws(use_ssl=False), **f).execute(),
    "pipeline block unverified": lambda **f: pipeline(credentials=aws(**FAKE_TLS), **f).execute(),
    "pipeline history": lambda **f: next(pipeline(credentials=aws(**FAKE_TLS), **f).history(EXECUTION)),
}
BY_ENVIRONMENT = {
    "AWS_ENDPOINT_URL": [lambda **f: S3PipelineStore("b", **f).exists("x"), lambda **f: pipeline(**f).execute()],
    "AWS_ENDPOINT_URL_S3": [lambda **f: S3PipelineStore("b", **f).exists("x")],
    "AWS_ENDPOINT_URL_SFN": [lambda **f: pipeline(**f).execute()],
    "STORAGE_EMULATOR_HOST": [lambda **f: GCSPipelineStore("b", **f).exists("x")],
}


@pytest.fixture
def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The host names that were looked up and the addresses that were connected to. There may be none."""
    asked: list[Any] = []

    def refuse(*what: Any, **_: Any) -> Any:
        asked.append(what[:2])
        raise OSError("there is no network here")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    return asked


@pytest.mark.parametrize("way", INSECURE)
def test_an_unencrypted_endpoint_is_refused_before_anything_is_sent(way: str, nobody_answers: list[Any]) -> None:
    with pytest.raises(ClinopsPrefectError, match="allow_http") as caught:
        INSECURE[way]()
    assert isinstance(caught.value, ValueError)
    assert nobody_answers == []


@pytest.mark.parametrize("name", BY_ENVIRONMENT)
def test_an_unencrypted_endpoint_of_the_environment_is_refused_too(
    name: str, nobody_answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (ON_A_NETWORK, "http://10.1.2.3", "http://127.0.0.1.nip.io"):
        monkeypatch.setenv(name, url)
        for ask in BY_ENVIRONMENT[name]:
            with pytest.raises(ClinopsPrefectError, match="allow_http"):
                ask()
    assert nobody_answers == []


@pytest.mark.parametrize("name", BY_ENVIRONMENT)
@pytest.mark.parametrize("url", ["http://user:pw@127.0.0.1:9000", "https://:pw@minio.hospital.org"])
def test_a_password_in_an_endpoint_is_refused_and_not_repeated(
    name: str, url: str, nobody_answers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on this machine and with TLS, because pages show the endpoint, and it is stored with an execution."""
    asks = [
        lambda: S3PipelineStore("b", endpoint_url=url),
        lambda: GCSPipelineStore("b", endpoint_url=url),
        lambda: pipeline(endpoint_url=url),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match="leave them out") as caught:
            ask()
        assert "pw" not in str(caught.value)
    monkeypatch.setenv(name, url)
    for ask in BY_ENVIRONMENT[name]:
        with pytest.raises(ClinopsPrefectError, match="leave them out") as caught:
            ask(allow_http=True)
        assert "pw" not in str(caught.value)
    assert nobody_answers == []


def test_a_profile_that_names_an_unencrypted_endpoint_is_refused_too(
    nobody_answers: list[Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[profile p]\nregion = us-east-1\nendpoint_url = {ON_A_NETWORK}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for ask in (lambda: S3PipelineStore("b", profile="p").exists("x"), lambda: pipeline(profile="p").execute()):
        with pytest.raises(ClinopsPrefectError, match="allow_http"):
            ask()
    assert nobody_answers == []


def test_allow_http_accepts_an_unencrypted_endpoint(nobody_answers: list[Any]) -> None:
    store = S3PipelineStore("b", credentials=aws(**FAKE_TLS), allow_http=True)
    assert store._backend().client.meta.endpoint_url == FAKE_TLS["endpoint_url"]
    told = pipeline(credentials=aws(endpoint_url=ON_A_NETWORK), allow_http=True).client()
    assert told.meta.endpoint_url == ON_A_NETWORK
    assert GCSPipelineStore("b", endpoint_url=ON_A_NETWORK, allow_http=True).endpoint_url == ON_A_NETWORK
    # Without it, an already cached client is not returned either.
    with pytest.raises(ClinopsPrefectError, match="allow_http"):
        pipeline(credentials=aws(endpoint_url=ON_A_NETWORK)).client()
    assert nobody_answers == []
