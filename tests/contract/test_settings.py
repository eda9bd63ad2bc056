"""The settings of a store: fields, URIs, credentials, endpoints, encryption keys."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import requests
from prefect_aws import AwsCredentials, MinIOCredentials
from prefect_gcp import GcpCredentials
from requests.adapters import HTTPAdapter

from clinops_prefect import (
    AccessDeniedError,
    GCSPipelineStore,
    LocalPipelineStore,
    PipelineStore,
    S3PipelineStore,
    StorageFormat,
)
from tests.contract.conftest import clouds
from tests.contract.test_failures import OTHERS, READS
from tests.doors import Can, Door
from tests.gallery import FRAMES, assert_same
from tests.proxy import Proxy
from tests.service_account import service_account

FRAME = pd.DataFrame({"a": [1, 2]})
S3_KEY = "arn:aws:kms:us-east-1:123456789012:key/0b0e4fd2-93f7-4a0e-8d2b-4d7a6a0a5a11"
GCS_KEY = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"


def test_a_misspelt_keyword_raises_and_names_the_nearest(door: Door) -> None:
    for wrong, right in (("prefx", "prefix"), ("fromat", "format"), ("allow_pickl", "allow_pickle")):
        with pytest.raises(TypeError, match=right):
            door.store(**{wrong: "x"})
    with pytest.raises(TypeError, match="nonsense"):
        door.store(nonsense=1)
    with pytest.raises(ValueError, match="format"):
        door.store(format="xlsx")


def test_a_store_by_uri_is_the_same_store(door: Door, format: str) -> None:
    fields: dict[str, Any] = {} if door.scheme == "file" else {"endpoint_url": door.endpoint}  # type: ignore[attr-defined]
    store = door.store(prefix="" if door.scheme == "file" else "p/ä q", format=format)
    store.upload(FRAME, "x")
    root = store.uri("x").removesuffix(f"/x.{format}")
    for uri in (root, f"{root}/"):
        other = PipelineStore.from_uri(uri, format=format, **fields)
        assert type(other) is type(store)
        assert_same(other.download("x"), FRAME)
        assert other.uri("x") == store.uri("x")


def test_a_path_is_a_local_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for where in (tmp_path / "a b%20c#d", str(tmp_path / "ü"), "relative/dir", Path("relative/dir")):
        store = PipelineStore.from_uri(where, format="csv", prefix="p")
        assert isinstance(store, LocalPipelineStore)
        uri = store.upload(FRAME, "x")
        assert (Path(where) / "p" / "x.csv").is_file()
        assert uri == (Path(where).absolute() / "p/x.csv").as_uri()
    again = PipelineStore.from_uri((tmp_path / "a b%20c#d").as_uri(), format="csv", prefix="p")
    assert_same(again.download("x"), FRAME)


@pytest.mark.parametrize("uri", ["ftp://x/y", "http://b/p", "s3a://b", "://x"])
def test_a_uri_of_no_store_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="s3://"):
        PipelineStore.from_uri(uri)


@pytest.mark.parametrize("store", [S3PipelineStore, GCSPipelineStore])
def test_a_bucket_is_the_name_of_a_bucket(store: type) -> None:
    for bucket in ("", "s3://b", "gs://b", "b/p"):
        with pytest.raises(ValueError, match="bucket"):
            store(bucket)
    with pytest.raises(TypeError, match="twice"):
        store("b", bucket="c")
    assert store("b").bucket == store(bucket="b").bucket == "b"


@pytest.mark.parametrize("store", [S3PipelineStore, GCSPipelineStore])
def test_plain_http_on_a_network_is_refused_before_anything_is_sent(
    store: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in (
        "http://minio.hospital.org:9000",
        "http://10.0.0.7",
        "HTTP://EXAMPLE.ORG",
        "http://localhost.example.org",
    ):
        with pytest.raises(ValueError, match="allow_http"):
            store("b", endpoint_url=url)
        assert store("b", endpoint_url=url, allow_http=True).endpoint_url == url
        name = "AWS_ENDPOINT_URL" if store is S3PipelineStore else "STORAGE_EMULATOR_HOST"
        monkeypatch.setenv(name, url)
        with pytest.raises(ValueError, match="allow_http"):
            store("b").list_artifacts()
    for url in ("https://minio.hospital.org", "http://127.0.0.1:9000", "http://localhost:1", "http://[::1]:9000", ""):
        assert store("b", endpoint_url=url).endpoint_url == url


def test_the_documented_s3_example_runs_as_written(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.doors import S3Door

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    door = S3Door(s3_endpoint, "documented-s3")
    windows_df = FRAMES["clinical"]

    store = S3PipelineStore(bucket="documented-s3", prefix="clinops/prod", region="us-east-1")
    uri = store.upload(windows_df, "features/windows_2024_01")
    assert uri == "s3://documented-s3/clinops/prod/features/windows_2024_01.parquet"
    df = store.download("features/windows_2024_01")
    assert_same(df, windows_df)
    assert store.list_artifacts("features/") == ["features/windows_2024_01"]
    assert door.keys() == ["clinops/prod/features/windows_2024_01.parquet"]


def test_the_documented_gcs_example_runs_as_written(gcs_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.doors import GCSDoor

    door = GCSDoor(gcs_endpoint, "my-clinical-bucket")
    windows_df = FRAMES["clinical"]
    for endpoint in (gcs_endpoint, gcs_endpoint.removeprefix("http://")):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        store = GCSPipelineStore(bucket="my-clinical-bucket", prefix="clinops/prod/v2", format=StorageFormat.PARQUET)
        uri = store.upload(windows_df, "features/windows_2024_01")
        assert uri == "gs://my-clinical-bucket/clinops/prod/v2/features/windows_2024_01.parquet"
        df = store.download("features/windows_2024_01")
        assert_same(df, windows_df)
        assert store.list_artifacts("features/") == ["features/windows_2024_01"]
    assert door.keys() == ["clinops/prod/v2/features/windows_2024_01.parquet"]


def _signer(proxy: Proxy) -> set[str]:
    """The access keys in the requests' signatures."""
    return {seen.headers["authorization"].split("Credential=")[1].split("/")[0] for seen in proxy.seen}


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_s3_signs_with_the_block_the_profile_or_the_environment(
    door: Door, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text("[clinical-prod]\naws_access_key_id=FROMPROFILE\naws_secret_access_key=s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    aws = AwsCredentials(aws_access_key_id="FROMBLOCK", aws_secret_access_key="s", region_name="eu-west-1")
    minio = MinIOCredentials(minio_root_user="FROMMINIO", minio_root_password="s")
    for fields, key in (
        ({}, "testing"),
        ({"profile": "clinical-prod"}, "FROMPROFILE"),
        ({"credentials": aws}, "FROMBLOCK"),
        ({"credentials": minio}, "FROMMINIO"),
    ):
        proxy.clear()
        store = door.store(endpoint_url=proxy.url, **fields)  # type: ignore[arg-type]
        if key == "testing" or Can.TAKE_ANY_LOGIN in door.can:
            store.upload(FRAME, "x")
        else:
            with pytest.raises(AccessDeniedError, match="InvalidAccessKeyId"):
                store.upload(FRAME, "x")
        assert _signer(proxy) == {key}
        for text in (repr(store), str(store), store.model_dump_json()):
            assert "'s'" not in text
    with pytest.raises(AccessDeniedError):
        door.store(profile="no-such-profile").exists("x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessDeniedError):
        door.store().exists("x")


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_an_empty_region_is_the_environments(door: Door, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    door.store(endpoint_url=proxy.url, region="").exists("x")
    door.store(endpoint_url=proxy.url, region="us-west-2").exists("x")
    regions = [
        seen.headers["authorization"].split("/")[2] for seen in proxy.seen if seen.path.startswith(f"/{door.bucket}/")
    ]  # type: ignore[attr-defined]
    assert regions == ["eu-central-1", "us-west-2"]


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_gcs_sends_the_token_of_the_credentials_file_or_the_block(door: Door, tmp_path: Path) -> None:
    """A service account's token comes from its `token_uri`, which is the proxy here."""
    from tests.proxy import Outcome, Seen

    with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]

        def tokens(seen: Seen) -> Outcome:
            return Outcome.TOKEN if seen.path == "/token" else Outcome.FORWARD

        proxy.answers = tokens
        info = service_account(f"{proxy.url}/token")
        path = tmp_path / "sa-key.json"
        path.write_text(json.dumps(info))
        for fields in (
            {"credentials_path": str(path)},
            {"credentials": GcpCredentials(service_account_info=info)},
            {"credentials": GcpCredentials(service_account_file=str(path))},
        ):
            proxy.clear()
            store = door.store(endpoint_url=proxy.url, **fields)  # type: ignore[arg-type]
            store.upload(FRAME, "x")
            sent = {seen.headers.get("authorization") for seen in proxy.seen if seen.path != "/token"}
            assert sent == {"Bearer from-the-proxy"}
            assert "PRIVATE KEY" not in repr(store) + store.model_dump_json()
    with pytest.raises(AccessDeniedError):
        door.store(credentials_path=str(tmp_path / "none.json")).exists("x")
    (tmp_path / "rubbish.json").write_text("{}")
    with pytest.raises(AccessDeniedError):
        door.store(credentials_path=str(tmp_path / "rubbish.json")).exists("x")


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_every_s3_object_is_encrypted_with_the_customers_key(door: Door, format: str) -> None:
    """Single puts, multipart uploads, sidecars, plain objects and copies."""
    kms_key = S3_KEY if Can.USE_ANY_KMS_KEY in door.can else S3_KEY.partition("/")[2]
    store = door.store(kms_key_id=kms_key, format=format)
    store.upload(FRAME, "x")
    store.copy_artifact("x", "y")
    store.write_bytes("r.txt", b"1")
    if format == "parquet":
        store.upload(pd.DataFrame({f"c{i}": pd.Series(range(300_000)).sample(frac=1).array for i in range(10)}), "big")
    assert len(door.keys()) == {"parquet": 4, "csv": 5}[format]
    for key in door.keys():
        head = door.client.head_object(Bucket=door.bucket, Key=key)  # type: ignore[attr-defined]
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", kms_key), key


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_every_gcs_write_names_the_customers_key(door: Door, format: str, proxy: Proxy) -> None:
    store = door.store(kms_key_name=GCS_KEY, format=format, endpoint_url=proxy.url)
    store.upload(FRAME, "x")
    store.copy_artifact("x", "y")
    store.write_bytes("r.txt", b"1")
    store.write_bytes("big.bin", bytes(9 << 20))
    writes = [seen for seen in proxy.seen if seen.method == "POST"]
    assert len(writes) == {"parquet": 4, "csv": 6}[format]
    for seen in writes:
        named = seen.query.get("kmsKeyName", seen.query.get("destinationKmsKeyName"))
        assert named == [GCS_KEY], seen.path


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_every_request_to_cloud_storage_has_our_time_outs(
    door: Door, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its time-out, a request to a server that never answers waits for a minute, or for ever."""
    store, sent, send = door.store(format=format), dict[str, Any](), HTTPAdapter.send

    def record(adapter: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        sent[f"{request.method} {request.url}"] = options["timeout"]
        return send(adapter, request, **options)

    monkeypatch.setattr(HTTPAdapter, "send", record)
    for name, call in (OTHERS | READS).items():
        store.upload(FRAME, "x")
        store.write_bytes("x", b"1")
        if "absent" in name:
            store.delete_artifact("x")
        call(store)
    store.write_bytes("big.bin", bytes(17 << 20))
    store.upload(FRAME, "below/1")
    store.upload(FRAME, "below/2")
    store.delete_artifacts("below")
    store.delete_artifact("missing", missing_ok=True)
    assert {method.partition(" ")[0] for method in sent} >= {"GET", "POST", "PUT", "DELETE"}
    assert {request: seconds for request, seconds in sent.items() if seconds != (5.0, 20.0)} == {}


def test_s3_gives_up_on_a_service_that_never_answers_after_five_tries_of_20_seconds() -> None:
    config = S3PipelineStore("bucket", region="us-east-1")._backend().client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (5, 20)
    assert config.retries == {"mode": "legacy", "total_max_attempts": 5}


@clouds
def test_without_a_key_none_is_named(door: Door, proxy: Proxy) -> None:
    door.store(endpoint_url=proxy.url).upload(FRAME, "x")
    assert not any("kms" in f"{seen.path}{seen.headers}".lower() for seen in proxy.seen)
