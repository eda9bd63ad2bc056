"""Requester pays, access points and checksum settings: they apply to every request, or to none."""

import re
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from botocore.utils import is_valid_endpoint_url

from clinops_prefect import (
    AccessDeniedError,
    GCSPipelineStore,
    InvalidStoreError,
    OperationNotSupportedError,
    PipelineStore,
    S3PipelineStore,
)
from clinops_prefect.storage.s3.backend import S3Backend
from tests.contract.conftest import clouds
from tests.contract.test_failures import OTHERS, READS
from tests.contract.test_odd_answers import s3_error
from tests.doors import Can, Door
from tests.gallery import assert_same
from tests.proxy import Outcome, Proxy, Reply, Seen

FRAME = pd.DataFrame({"a": ["007", "b"], "v": [1, 2]})
# Three parts.
BIG = pd.DataFrame({f"c{i}": pd.Series(range(200_000)).sample(frac=1, random_state=i).array for i in range(10)})
ARN = "arn:aws:s3:us-east-1:123456789012:accesspoint"


def _everything(store: PipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every operation, in one request and in parts, on existing and on missing objects."""
    store.upload(FRAME, "x")
    store.upload(FRAME, "x")
    store.upload(BIG, "big")
    with pytest.raises(FileExistsError):
        store.upload(BIG, "big", overwrite=False)
    store.download("big")
    store.write_bytes("x", b"1")
    store.download("x", version=store.list_versions("x")[-1].version)
    for call in (*READS.values(), *OTHERS.values()):
        store.upload(FRAME, "x")
        with suppress(FileExistsError):
            call(store)
    assert not store.exists("missing")
    store.delete_artifact("x", missing_ok=True)
    # Smaller limits, since an object of the real size for a copy in parts would be too large for the emulator.
    monkeypatch.setattr(S3Backend, "copy_bytes", 1 << 20)
    monkeypatch.setattr(S3Backend, "copy_part_bytes", 5 << 20)
    store.copy_artifact("big", "copied")
    assert_same(store.download("copied"), BIG)


@clouds
@pytest.mark.parametrize("pays", [True, False])
def test_who_pays_is_said_in_every_request_or_in_none(
    door: Door, format: str, pays: bool, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.keep_versions()
    is_s3 = door.scheme == "s3"
    fields: dict[str, Any] = {"request_payer": True} if is_s3 else {"user_project": "my-billing"}
    _everything(door.store(endpoint_url=proxy.url, format=format, **fields if pays else {}), monkeypatch)
    said = set()
    for seen in proxy.seen:
        if is_s3 and seen.path.rstrip("/") == f"/{door.bucket}" and seen.method == "HEAD":  # type: ignore[attr-defined]
            continue  # HeadBucket has no parameter for the payer
        if seen.query.get("projection") == ["noAcl"] and "/o" not in seen.path:
            continue  # Google's client sends this for its traces, in its own thread
        if not is_s3 and seen.query.get("upload_id"):
            continue  # the request that began the upload has the parameter
        paid = seen.headers.get("x-amz-request-payer") if is_s3 else (seen.query.get("userProject") or [None])[0]
        assert paid == (None if not pays else "requester" if is_s3 else "my-billing"), f"{seen.method} {seen.path}"
        said.add(
            (seen.method, *sorted(set(seen.query) & {"uploads", "uploadId", "partNumber", "versions", "uploadType"}))
        )
    assert len(said) > (6 if is_s3 and format == "parquet" else 4), said


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_a_service_that_refuses_the_newer_checksums_works_without_them(
    door: Door, format: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old_service(seen: Seen) -> Outcome | Reply:
        new = [
            name
            for name in seen.headers
            if "checksum" in name or name in ("x-amz-trailer", "x-amz-sdk-checksum-algorithm")
        ]
        return s3_error(501, "NotImplemented") if new else Outcome.FORWARD

    proxy.answers = old_service
    with pytest.raises(OperationNotSupportedError, match="checksums='when_required'"):
        door.store(endpoint_url=proxy.url, format="parquet").upload(FRAME, "x")
    _everything(door.store(endpoint_url=proxy.url, format=format, checksums="when_required"), monkeypatch)
    # Empty means that the environment decides, and another environment needs another client.
    for name in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        monkeypatch.setenv(name, "when_required")
    door.store(endpoint_url=proxy.url).upload(FRAME, "y")
    with pytest.raises(OperationNotSupportedError):
        door.store(endpoint_url=proxy.url, checksums="when_supported").upload(FRAME, "y")
    with pytest.raises(InvalidStoreError, match="checksums"):
        door.store(checksums="never")


@pytest.mark.parametrize("door", ["s3"], indirect=True)
@pytest.mark.parametrize("separator", ["/", ":"])
def test_an_access_point_is_a_bucket(
    door: Door, format: str, separator: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client turns the ARN into a host name. Here the proxy treats this host as the emulator's bucket."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **named: resolve("127.0.0.1" if str(host).endswith(".localhost") else host, *rest, **named),
    )
    proxy.rewrite = lambda path: f"/{door.bucket}{path}"  # type: ignore[attr-defined]
    proxy.host = proxy.upstream.netloc
    url = proxy.url.replace("127.0.0.1", "localhost")
    arn = f"{ARN}{separator}my-ap"
    assert is_valid_endpoint_url(url)
    store = PipelineStore.from_uri(f"s3://{arn}/a/b", endpoint_url=url, region="us-east-1", format=format)
    assert isinstance(store, S3PipelineStore)
    assert (store.bucket, store.prefix) == (arn, "a/b")
    if Can.TAKE_ANY_LOGIN not in door.can:
        # The proxy changed the request, so the signature does not match.
        with pytest.raises(AccessDeniedError, match="SignatureDoesNotMatch"):
            store.upload(FRAME, "x")
        return
    uri = store.upload(FRAME, "x")
    assert uri == store.uri("x") == f"s3://{arn}/a/b/x.{format}"
    assert {seen.headers["host"].split(":")[0] for seen in proxy.seen} == {"my-ap-123456789012.localhost"}
    again = PipelineStore.from_uri(uri.rpartition("/")[0], endpoint_url=url, region="us-east-1", format=format)
    assert again.list_artifacts() == ["x"]
    assert_same(again.download("x"), FRAME)
    assert f"a/b/x.{format}" in door.keys()
    # For the source of a copy, the client makes the ARN of the object.
    proxy.answers = lambda seen: (
        Reply(200, b"<CopyObjectResult><ETag>1</ETag></CopyObjectResult>")
        if "x-amz-copy-source" in seen.headers
        else Outcome.FORWARD
    )
    if format == "parquet":
        again.copy_artifact("x", "y")
        source = unquote(proxy.seen[-1].headers["x-amz-copy-source"])
        assert source == f"{arn}/object/a/b/x.parquet"
    again.delete_artifact("x")
    assert again.list_artifacts() == []


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        (f"s3://{ARN}/my-ap", f"{ARN}/my-ap", ""),
        (f"s3://{ARN}:my-ap/", f"{ARN}:my-ap", ""),
        (f"s3://{ARN}/my-ap/my-ap/x", f"{ARN}/my-ap", "my-ap/x"),
        ("s3://arn:aws:s3::123456789012:accesspoint/m.mrap/p", "arn:aws:s3::123456789012:accesspoint/m.mrap", "p"),
        (f"s3://{ARN.replace('aws', 'aws-cn')}/n-p/p/q", f"{ARN.replace('aws', 'aws-cn')}/n-p", "p/q"),
        ("s3://my-ap-ab12cd-s3alias/p", "my-ap-ab12cd-s3alias", "p"),
    ],
)  # fmt: skip
def test_the_arn_in_a_uri_is_taken_first(uri: str, bucket: str, prefix: str) -> None:
    store = PipelineStore.from_uri(uri)
    assert isinstance(store, S3PipelineStore)
    assert (store.bucket, store.prefix) == (bucket, prefix)
    twin = PipelineStore.from_uri(store.uri("a/x").rpartition("/")[0])
    assert isinstance(twin, S3PipelineStore)
    assert (twin.bucket, twin.uri("x")) == (bucket, store.uri("a/x"))


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:s3:::my-bucket",
        "arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/my-olap",
        "arn:aws:s3-outposts:us-east-1:123456789012:outpost/op-01/accesspoint/my-ap",
        "arn:aws:s3:us-east-1:1234:accesspoint/my-ap",
        "arn:aws:s3:us-east-1:123456789012:accesspoint",
    ],
)
def test_another_arn_is_refused_with_what_is_one(arn: str) -> None:
    for make in (lambda: S3PipelineStore(arn), lambda: PipelineStore.from_uri(f"s3://{arn}/p")):
        with pytest.raises(InvalidStoreError, match="accesspoint"):
            make()


@pytest.mark.parametrize("store", [S3PipelineStore, GCSPipelineStore])
def test_every_field_of_a_form_says_what_it_is_and_refuses_what_cannot_work(store: type[PipelineStore]) -> None:
    properties = store.model_json_schema()["properties"]
    positions = [field["position"] for field in properties.values()]
    assert len(set(positions)) == len(positions)
    for name, field in properties.items():
        assert field["title"], name
        assert field["description"].endswith("."), name
        assert field.get("default", "") in ("", False, None, "parquet"), name
        if "pattern" in field and name != "bucket":
            assert re.search(field["pattern"], ""), name
    examples: dict[str, tuple[list[str], list[str]]] = {
        "endpoint_url": (
            ["https://minio.example.org:9000", "http://localhost:1"],
            ["minio:9000", "https://u:p@h", "s3://x"],
        ),
    }
    if store is S3PipelineStore:
        examples["bucket"] = (
            ["my-bucket", "Old_Bucket.1", f"{ARN}/my-ap"],
            ["s3://b", "b/p", "a b", "", f"{ARN}/my-ap/p"],
        )
        examples["kms_key_id"] = (["alias/a", "arn:aws:kms:us-east-1:1:key/0b-1"], ["a b"])
    else:
        examples["bucket"] = (["my-bucket", "a_b.c"], ["gs://b", "b/p", "My-Bucket", ""])
        examples["kms_key_name"] = (["projects/p/locations/eu/keyRings/r/cryptoKeys/k"], ["k", "keyRings/r"])
        examples["user_project"] = (["my-project-1", "example.org:p1"], ["a/b", "A b"])
    for name, (good, bad) in examples.items():
        pattern = properties[name]["pattern"]
        assert [value for value in good if not re.search(pattern, value)] == [], name
        assert [value for value in bad if re.search(pattern, value)] == [], name
