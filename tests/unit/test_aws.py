"""Clients save time: they do not guess the format of times in answers, and do not compose a User-Agent each time."""

import datetime as dt
import io
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.utils import parse_timestamp
from urllib3 import HTTPResponse

from clinops_prefect.aws.clients import _timestamp, aws_client
from tests.emulators import moto_server


@pytest.mark.parametrize(
    "value",
    [
        "2026-01-02T03:04:05.678Z",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05+02:00",
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "Fri, 02 Jan 2026 03:04:05 +0000",
        "20260102T030405Z",
        "1767323045",
        1767323045,
        1767323045.5,
    ],
)
def test_a_time_is_parsed_as_boto3_parses_it(value: object) -> None:
    expected = parse_timestamp(value)
    assert _timestamp(value) == expected
    assert _timestamp(value).utcoffset() == expected.utcoffset()


def test_a_text_that_is_no_time_is_refused_as_boto3_refuses_it() -> None:
    with pytest.raises(ValueError, match="Invalid timestamp"):
        _timestamp("not a time GMT")


def test_the_client_uses_this_parser() -> None:
    with moto_server() as url:
        client = aws_client("s3", region="us-east-1", profile="", credentials=None, endpoint_url=url, allow_http=False)
        client.create_bucket(Bucket="times")
        client.put_object(Bucket="times", Key="k", Body=b"-")
        (listed,) = client.list_objects_v2(Bucket="times")["Contents"]
        head = client.head_object(Bucket="times", Key="k")
    # botocore's own parser would set a time zone of dateutil.
    assert listed["LastModified"].tzinfo is dt.UTC
    assert head["LastModified"].tzinfo is dt.UTC
    assert abs(dt.datetime.now(dt.UTC) - head["LastModified"]) < dt.timedelta(minutes=5)


def _user_agent() -> str:
    """The User-Agent of a request."""
    sent: list[str] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append(request.headers["User-Agent"].decode())
        return AWSResponse(request.url, 200, {"Content-Length": "0"}, HTTPResponse(io.BytesIO(), preload_content=False))

    endpoint = "http://127.0.0.1:9"  # no request is sent
    client = aws_client("s3", region="us-east-1", profile="", credentials=None, endpoint_url=endpoint, allow_http=False)
    client.meta.events.register_first("before-send.s3.HeadObject", answer)
    client.head_object(Bucket="b", Key="k")
    return sent[0]


def test_the_user_agent_is_composed_before_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's own text, which begins with Boto3/… md/Botocore#…, is composed twice for each request."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SDK_UA_APP_ID", raising=False)
    assert _user_agent().startswith(f"Boto3/{boto3.__version__} Python/")


def test_a_request_has_the_application_id_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SDK_UA_APP_ID", "icu-features")
    assert "app/icu-features" in _user_agent()


@pytest.mark.parametrize(("size", "waits"), [(20_000, False), (1 << 20, True)])
def test_only_a_large_body_waits_until_the_service_agrees(
    size: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait takes a round trip."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    sent: list[bool] = []

    def answer(request: Any, **_: Any) -> AWSResponse:
        sent.append("Expect" in request.headers)
        return AWSResponse(request.url, 200, {"Content-Length": "0"}, HTTPResponse(io.BytesIO(), preload_content=False))

    endpoint = f"http://127.0.0.1:{10 + waits}"  # no request is sent; a client of its own
    client = aws_client("s3", region="us-east-1", profile="", credentials=None, endpoint_url=endpoint, allow_http=False)
    client.meta.events.register_first("before-send.s3.PutObject", answer)
    client.put_object(Bucket="b", Key="k", Body=bytes(size))
    assert sent == [waits]
