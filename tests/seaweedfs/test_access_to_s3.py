"""What only a server shows that checks: logins, permissions, checksums, certificates, encryption."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect_aws import AwsClientParameters, AwsCredentials

from clinops_prefect import AccessDeniedError, ClinopsPrefectError, PipelineStore
from tests.doors import SeaweedFSDoor
from tests.emulators import ADMIN, READER, SeaweedFS
from tests.gallery import assert_same
from tests.proxy import Outcome, Proxy, Seen

SMALL = pd.DataFrame({"id": range(300), "v": np.random.default_rng(1).random(300), "code": ["007", "b", "c"] * 100})
# In parts.
BIG = pd.DataFrame({f"c{i}": np.random.default_rng(i).random(150_000) for i in range(16)})
WRITES: dict[str, Callable[[PipelineStore], Any]] = {
    "upload": lambda s: s.upload(SMALL, "y"),
    "upload in parts": lambda s: s.upload(BIG, "y"),
    "upload_batches": lambda s: s.upload_batches([SMALL, SMALL], "y"),
    "write_bytes": lambda s: s.write_bytes("y.txt", b"-"),
    "copy": lambda s: s.copy_artifact("x", "y"),
    "delete": lambda s: s.delete_artifact("x"),
}
READS: dict[str, Callable[[PipelineStore], Any]] = {
    "download": lambda s: s.download("x"),
    "columns": lambda s: s.download("x", columns=["v"]),
    "list": lambda s: s.list_artifacts(),
    "exists": lambda s: s.exists("x"),
    "stat": lambda s: s.stat("x"),
    "iter_batches": lambda s: list(s.iter_batches("x")),
    "versions": lambda s: s.list_versions("x"),
}


def login(name: str, secret: str, **parameters: Any) -> AwsCredentials:
    return AwsCredentials(
        aws_access_key_id=name,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(**parameters),
    )


@pytest.mark.parametrize("secret", ["another", ADMIN[1] + " ", "x" * 40])
def test_a_wrong_secret_key_is_denied_in_every_call_and_not_repeated(door: SeaweedFSDoor, secret: str) -> None:
    door.store().upload(SMALL, "x")
    store = door.store(credentials=login(ADMIN[0], secret))
    for call in (WRITES | READS).values():
        with pytest.raises(AccessDeniedError) as caught:
            call(store)
        assert secret not in str(caught.value)
    assert door.keys() == ["x.parquet"]
    assert_same(door.store().download("x"), SMALL)


def test_who_may_only_read_reads_all_and_writes_nothing(door: SeaweedFSDoor) -> None:
    door.store().upload(SMALL, "x")
    store = door.store(credentials=login(*READER[:2]))
    assert_same(store.download("x"), SMALL)
    assert_same(store.download("x", columns=["v"]), SMALL[["v"]])
    assert store.list_artifacts() == ["x"]
    assert store.exists("x")
    assert not store.exists("z")
    assert store.stat("x").rows == 300
    for name, call in WRITES.items():
        with pytest.raises(AccessDeniedError, match="AccessDenied"):
            call(store)
        assert door.keys() == ["x.parquet"], name
    assert_same(door.store().download("x"), SMALL)
    assert door.unfinished() == []


@pytest.mark.parametrize("name", ["upload", "upload in parts", "upload_batches", "write_bytes"])
def test_bytes_that_are_damaged_on_their_way_are_refused_by_the_server(door: SeaweedFSDoor, name: str) -> None:
    """One bit of the first body that carries data. Nothing in between checks it: the server does."""
    numbers, struck = itertools.count(), []

    def damage(seen: Seen) -> Outcome:
        if seen.method in ("PUT", "POST") and b"<CompleteMultipartUpload" not in seen.body and seen.body:
            struck.append(next(numbers))
            return Outcome.FLIP_SENT
        return Outcome.FORWARD

    with Proxy(door.endpoint, checks_bodies=False) as proxy:
        proxy.answers = damage
        with pytest.raises(ClinopsPrefectError):
            WRITES[name](door.store(endpoint_url=proxy.url))
    assert struck
    assert door.keys() == []
    assert door.unfinished() == []


def test_a_private_authority_is_trusted_when_it_is_named_and_only_then(
    door: SeaweedFSDoor, server: SeaweedFS, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS the checksum of a body comes after it, as a trailer, and the server checks that too."""
    trusting = login(*ADMIN[:2], verify=True, verify_cert_path=authority)
    store = door.store(endpoint_url=server.tls_url, credentials=trusting)
    for frame in (SMALL, BIG):
        store.upload(frame, "x")
        assert_same(store.download("x"), frame)
    assert_same(door.store().download("x"), BIG)
    with pytest.raises(ClinopsPrefectError) as caught:
        door.store(endpoint_url=server.tls_url, credentials=login(*ADMIN[:2])).download("x")
    assert "certificate" in str(caught.value.__cause__).lower()
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority))
    assert_same(door.store(endpoint_url=server.tls_url, prefix="").download("x"), BIG)


def test_what_is_encrypted_is_not_what_lies_on_the_disk(door: SeaweedFSDoor) -> None:
    """The key is the server's own; who reads needs to name none."""
    store = door.store(kms_key_id="0b0e4fd2-93f7-4a0e-8d2b-4d7a6a0a5a11")
    for frame in (SMALL, BIG):
        store.upload(frame, "x")
        head = door.client.head_object(Bucket=door.bucket, Key="x.parquet")
        assert head["ServerSideEncryption"] == "aws:kms"
        assert_same(door.store().download("x"), frame)
        assert_same(door.store().download("x", columns=[frame.columns[1]]), frame[[frame.columns[1]]])
