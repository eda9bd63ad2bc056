"""Endpoints whose certificate is not accepted: the error says so at once, without retries."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pandas as pd
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters

from clinops_prefect import InvalidStoreError, S3PipelineStore, ServiceUnavailableError
from tests.contract.conftest import clouds
from tests.doors import Door
from tests.gallery import assert_same
from tests.proxy import Proxy

FRAME = pd.DataFrame({"a": [1, 2]})


def _certificate(folder: Path, *, host: str = "localhost", days: int = 1) -> tuple[Path, Path]:
    """A self-signed certificate. It is also the authority that a client may be told to trust."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    end = datetime.now(UTC) + timedelta(days=days)
    names: list[x509.GeneralName] = [x509.DNSName(host), x509.IPAddress(ip_address("127.0.0.2"))]
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(end - timedelta(days=30)).not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate, private = folder / "server.pem", folder / "server.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


def _trusting(door: Door, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE" if door.scheme == "s3" else "REQUESTS_CA_BUNDLE", str(certificate))


@clouds
@pytest.mark.parametrize(
    ("host", "days", "trusted", "word"),
    [
        ("localhost", 1, False, "self-signed certificate"),
        ("localhost", -1, True, "certificate has expired"),
        ("minio.example.org", 1, True, "Hostname mismatch"),
    ],
)
def test_a_certificate_that_is_not_accepted_is_named_at_once(
    door: Door, host: str, days: int, trusted: bool, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path, host=host, days=days)
    if trusted:
        _trusting(door, certificate, monkeypatch)
    proxy = Proxy(door.endpoint)  # type: ignore[attr-defined]
    proxy.speak_tls(certificate, key)
    with proxy:
        store = door.store(endpoint_url=proxy.url)
        for call in (lambda: store.upload(FRAME, "x"), lambda: store.download("x"), store.list_artifacts):
            before = proxy.connections
            with pytest.raises(InvalidStoreError, match="certificate") as caught:
                call()
            # Not asked again: another answer would not differ.
            assert proxy.connections == before + 1
            assert word.casefold() in str(caught.value).casefold()
            assert not isinstance(caught.value, ServiceUnavailableError | PermissionError)
            assert "check the network" not in str(caught.value)
            assert "CA_BUNDLE" in str(caught.value)
    assert proxy.seen == []


@clouds
def test_a_private_authority_that_the_client_knows_is_accepted(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path)
    proxy = Proxy(door.endpoint)  # type: ignore[attr-defined]
    proxy.speak_tls(certificate, key)
    with proxy:
        if door.scheme == "s3":
            for verify in (True, None):
                parameters = AwsClientParameters(verify_cert_path=certificate, verify=verify)
                login = AwsCredentials(
                    aws_access_key_id="testing", aws_secret_access_key="testing", aws_client_parameters=parameters
                )
                saved = AwsCredentials.model_validate(login.model_dump(context={"include_secrets": True}))
                store = S3PipelineStore(
                    door.bucket,
                    endpoint_url=proxy.url,
                    region="us-east-1",
                    credentials=saved,  # type: ignore[attr-defined]
                )
                if verify:
                    store.upload(FRAME, "x")
                else:
                    # prefect-aws has dropped the path of the authority. The error says what to set.
                    with pytest.raises(InvalidStoreError, match="verify=True"):
                        store.upload(FRAME, "x")
        _trusting(door, certificate, monkeypatch)
        store = door.store(endpoint_url=proxy.url)
        store.upload(FRAME, "x")
        assert_same(store.download("x"), FRAME)
        _trusting(door, tmp_path / "missing.pem", monkeypatch)
        with pytest.raises(InvalidStoreError):
            door.store(endpoint_url=proxy.url).download("x")


@clouds
def test_an_endpoint_that_speaks_no_tls_is_a_wrong_setting(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url.replace("http://", "https://"))
    with pytest.raises(InvalidStoreError, match="TLS"):
        store.download("x")
    assert proxy.connections == 1


def test_the_hint_for_an_unverified_endpoint_says_what_prefect_aws_saves() -> None:
    login = AwsCredentials(aws_client_parameters=AwsClientParameters(verify=False))
    with pytest.raises(InvalidStoreError, match=r"verify_cert_path .* and verify=True"):
        S3PipelineStore("b", endpoint_url="https://minio.example.org", credentials=login).list_artifacts()
