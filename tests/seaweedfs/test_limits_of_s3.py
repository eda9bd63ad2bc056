"""What SeaweedFS cannot: the day one of these fails, the server has learnt it, and the contract is to ask for it.

`can` of `SeaweedFSDoor` names what it can; the contract asks the door and not for a vendor.
"""

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from clinops_prefect.testing.contracts.races import winners
from tests.doors import Can, SeaweedFSDoor

RACERS, ROUNDS = 16, 40


def takes_any_login(door: SeaweedFSDoor) -> bool:
    login = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
    client = boto3.client("s3", endpoint_url=door.endpoint, region_name="us-east-1", **login)
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        client.list_objects_v2(Bucket=door.bucket)
    return False


def uses_any_kms_key(door: SeaweedFSDoor) -> bool:
    arn = "arn:aws:kms:us-east-1:123456789012:key/0b0e4fd2-93f7-4a0e-8d2b-4d7a6a0a5a11"
    client = boto3.client(
        "s3", endpoint_url=door.endpoint, region_name="us-east-1", config=Config(retries={"total_max_attempts": 1})
    )
    with pytest.raises(ClientError, match="InternalError"):
        client.put_object(Bucket=door.bucket, Key="x", Body=b"-", ServerSideEncryption="aws:kms", SSEKMSKeyId=arn)
    return False


def keeps_backslashes(door: SeaweedFSDoor) -> bool:
    door.put("a\\b", b"-")
    assert door.keys() in (["a/b"], ["a\\b"])
    return door.keys() == ["a\\b"]


def keeps_long_segments(door: SeaweedFSDoor) -> bool:
    door.put("s" * 255, b"-")
    try:
        door.put("s" * 300, b"-")
    except ClientError as error:
        return error.response["Error"]["Code"] != "KeyTooLongError"
    return True


def tells_unknown_versions(door: SeaweedFSDoor) -> bool:
    door.put("x", b"what is there")
    try:
        answer = door.client.get_object(Bucket=door.bucket, Key="x", VersionId="no-such-version")
    except ClientError:
        return True
    assert answer["Body"].read() == b"what is there"
    return False


def completes_conditionally(door: SeaweedFSDoor) -> bool:
    """Whether of uploads in parts that end at once only one wins, in as many rounds as it takes to see two.

    Of a server that lets two win, a machine that runs one thread after the other shows only one.
    """
    client = boto3.client(
        "s3", endpoint_url=door.endpoint, region_name="us-east-1", config=Config(max_pool_connections=RACERS)
    )

    def begun(key: str) -> dict[str, Any]:
        ids = {"Bucket": door.bucket, "Key": key}
        ids["UploadId"] = client.create_multipart_upload(**ids)["UploadId"]
        tag = client.upload_part(**ids, PartNumber=1, Body=b"-")["ETag"]
        return {**ids, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": tag}]}, "IfNoneMatch": "*"}

    def end(upload: dict[str, Any]) -> object:
        return client.complete_multipart_upload(**upload)

    rounds = ([begun(f"x{number}") for _ in range(RACERS)] for number in range(ROUNDS))
    return all(len(winners(end, uploads, ClientError)) == 1 for uploads in rounds)


PROBES: dict[Can, Callable[[SeaweedFSDoor], bool]] = {
    Can.TAKE_ANY_LOGIN: takes_any_login,
    Can.USE_ANY_KMS_KEY: uses_any_kms_key,
    Can.KEEP_BACKSLASHES: keeps_backslashes,
    Can.KEEP_LONG_SEGMENTS: keeps_long_segments,
    Can.TELL_UNKNOWN_VERSIONS: tells_unknown_versions,
    Can.COMPLETE_CONDITIONALLY: completes_conditionally,
}


@pytest.mark.parametrize("thing", Can)
def test_the_server_can_what_its_door_says_and_no_more(door: SeaweedFSDoor, thing: Can) -> None:
    found = PROBES[thing](door)
    # Two winners prove that it cannot; that none were seen proves nothing.
    assert found == (thing in door.can) or (found and thing is Can.COMPLETE_CONDITIONALLY)


def test_the_condition_of_an_upload_in_parts_is_heeded_when_nobody_else_ends_one(door: SeaweedFSDoor) -> None:
    door.put("x", b"first")
    upload = door.client.create_multipart_upload(Bucket=door.bucket, Key="x")["UploadId"]
    ids = {"Bucket": door.bucket, "Key": "x", "UploadId": upload}
    tag = door.client.upload_part(**ids, PartNumber=1, Body=b"second")["ETag"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        door.client.complete_multipart_upload(
            **ids, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]}, IfNoneMatch="*"
        )
    assert door.get("x") == b"first"
