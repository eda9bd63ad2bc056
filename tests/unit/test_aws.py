"""Times in S3's answers are parsed as boto3 parses them, without the time that boto3 takes to guess their format."""

import datetime as dt

import pytest
from botocore.utils import parse_timestamp

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
