"""Services with an unusual form of S3 or Cloud Storage, and other programs: the result is our error, or the frame.

Each answer of a table is given to every operation. If a service leaves something out, we do not need it, or name it.
"""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import pytest

from clinops_prefect import (
    AccessDeniedError,
    ArtifactArchivedError,
    ArtifactExistsError,
    ArtifactNotFoundError,
    ClinopsPrefectError,
    InvalidStoreError,
    OperationNotSupportedError,
    PipelineStore,
    ServiceUnavailableError,
)
from tests.contract.conftest import clouds
from tests.contract.test_failures import OTHERS, READS
from tests.doors import Can, Door
from tests.gallery import assert_same
from tests.proxy import Headers, Outcome, Proxy, Reply, Seen

FRAME = pd.DataFrame({"a": [1, 2], "code": ["007", None]})
OPERATIONS: dict[str, Callable[[PipelineStore], Any]] = READS | OTHERS
CSV_TEXT = b"a,code\n1,007\n"


def s3_error(status: int, code: str) -> Reply:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>said by the service</Message></Error>'
    return Reply(status, body.encode(), (("Content-Type", "application/xml"),))


def gcs_error(status: int, reason: str) -> Reply:
    body = {"error": {"code": status, "message": "said", "errors": [{"reason": reason, "message": "said"}]}}
    return Reply(status, json.dumps(body).encode(), (("Content-Type", "application/json"),))


def is_conditional(seen: Seen) -> bool:
    return "if-none-match" in seen.headers or "ifGenerationMatch" in seen.query


@clouds
def test_a_service_without_conditional_writes_says_so_before_anything_is_stored(
    door: Door, format: str, proxy: Proxy
) -> None:
    """This holds in one request and in parts. A plain write works."""
    refusal = s3_error(501, "NotImplemented") if door.scheme == "s3" else gcs_error(501, "notImplemented")
    proxy.answers = lambda seen: refusal if is_conditional(seen) else Outcome.FORWARD
    store = door.store(endpoint_url=proxy.url, format=format)
    big = pd.DataFrame({f"c{i}": pd.Series(range(400_000)).sample(frac=1, random_state=i).array for i in range(8)})
    for frame in (FRAME, big):
        with pytest.raises(OperationNotSupportedError, match="overwrite=False") as caught:
            store.upload(frame, "x", overwrite=False)
        assert isinstance(caught.value, NotImplementedError)
        assert not isinstance(caught.value, ConnectionError)
        assert "overwrite=True" in str(caught.value)
        assert len(str(caught.value)) < 300
        assert caught.value.uri == store.uri("x")
        assert door.keys() == []
        assert door.unfinished() == []
    store.upload(FRAME, "x")
    assert_same(store.download("x"), FRAME)
    with pytest.raises(ArtifactExistsError):
        store.upload(FRAME, "x", overwrite=False)


@clouds
@pytest.mark.parametrize("status", [501, 405])
def test_what_a_service_cannot_do_is_named_and_asked_for_once(door: Door, status: int, proxy: Proxy) -> None:
    door.keep_versions()
    store = door.store(endpoint_url=proxy.url)
    store.upload(FRAME, "x")
    word = "NotImplemented" if status == 501 else "MethodNotAllowed"
    proxy.answers = lambda _: (
        s3_error(status, word) if door.scheme == "s3" else gcs_error(status, word[0].lower() + word[1:])
    )
    for name, call in OPERATIONS.items():
        proxy.clear()
        with pytest.raises(OperationNotSupportedError, match=r"does not support|no conditional") as caught:
            call(store)
        asked = [seen for seen in proxy.seen if seen.query.get("projection") != ["noAcl"] or "/o" in seen.path]
        assert len(asked) <= 2, name
        assert caught.value.uri.startswith(f"{door.scheme}://{store.bucket}"), name  # type: ignore[attr-defined]


S3_ANSWERS = [
    (403, "InvalidObjectState", ArtifactArchivedError), (403, "ObjectNotInActiveTierError", ArtifactArchivedError),
    (403, "QuotaExceeded", ServiceUnavailableError), (403, "RequestTimeTooSkewed", AccessDeniedError),
    (400, "AuthorizationHeaderMalformed", InvalidStoreError), (400, "KMS.InvalidKeyUsageException", InvalidStoreError),
    (400, "TokenRefreshRequired", AccessDeniedError), (418, "Teapot", ClinopsPrefectError),
]  # fmt: skip
GCS_ANSWERS = [
    (403, "accountDisabled", AccessDeniedError), (400, "userProjectMissing", InvalidStoreError),
    (403, "userProjectAccessDenied", InvalidStoreError), (400, "invalid", ClinopsPrefectError),
    (403, "retentionPolicyNotMet", AccessDeniedError),
]  # fmt: skip


@clouds
def test_each_kind_of_refusal_has_its_error_in_every_operation(door: Door, format: str, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url, format=format)
    is_s3 = door.scheme == "s3"
    door.store(format=format).upload(FRAME, "x")
    for status, code, error in S3_ANSWERS if is_s3 else GCS_ANSWERS:
        reply = s3_error(status, code) if is_s3 else gcs_error(status, code)
        # An answer to HEAD has no body, so only other requests get an error code.
        proxy.answers = lambda seen, reply=reply: Outcome.FORWARD if seen.method == "HEAD" else reply  # type: ignore[misc]
        for name in ("download", "upload", "list", "versions", "read_bytes") if is_s3 else OPERATIONS:
            with pytest.raises(ClinopsPrefectError) as caught:
                OPERATIONS[name](store)
            assert isinstance(caught.value, error), f"{name}, {code}: {caught.value!r}"
            assert "said" not in str(caught.value)
            assert len(str(caught.value)) < 330
    assert_same(door.store(format=format).download("x"), FRAME)


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_an_archived_object_is_to_be_restored_and_not_a_lack_of_permission(
    door: Door, format: str, proxy: Proxy
) -> None:
    """HEAD succeeds for an archived object, but GET does not."""
    store = door.store(endpoint_url=proxy.url, format=format)
    store.upload(FRAME, "x")
    proxy.answers = lambda seen: (
        s3_error(403, "InvalidObjectState")
        if (seen.method == "GET" and "range" in seen.headers) or "x-amz-copy-source" in seen.headers
        else Outcome.FORWARD
    )
    assert store.exists("x")
    for read in ("download", "download columns", "iter_batches", "copy"):
        with pytest.raises(ArtifactArchivedError, match="restore") as caught:
            READS[read](store)
        assert isinstance(caught.value, OSError)
        assert not isinstance(caught.value, PermissionError | ConnectionError)
        assert "/x." in caught.value.uri


def without(*names: str) -> Callable[[Seen, int, Headers, bytes], tuple[int, Headers, bytes]]:
    lowered = {name.lower() for name in names}
    return lambda _seen, status, headers, body: (
        status,
        [(name, value) for name, value in headers if name.lower() not in lowered],
        body,
    )


HEADERS = [
    "ETag",
    "Last-Modified",
    "Content-Type",
    "Content-Range",
    "Content-Length",
    "x-amz-version-id",
    "Accept-Ranges",
]
GCS_HEADERS = ["X-Goog-Generation", "X-Goog-Hash", "Content-Type", "ETag", "Last-Modified", "Content-Range"]


@clouds
@pytest.mark.parametrize("foreign", [False, True], ids=["ours", "foreign"])
def test_a_header_that_is_missing_is_not_needed_or_named(door: Door, format: str, foreign: bool, proxy: Proxy) -> None:
    direct = door.store(format=format)
    if foreign and format == "csv":
        door.put("x.csv", CSV_TEXT)
    else:
        direct.upload(FRAME, "x")
    direct.write_bytes("plain.bin", b"1")
    expected = direct.download("x")
    store = door.store(endpoint_url=proxy.url, format=format)
    for header in HEADERS if door.scheme == "s3" else GCS_HEADERS:
        proxy.edit = without(header)
        outcomes = [_right_or_ours(lambda: assert_same(store.download("x"), expected), header)]
        outcomes += [_right_or_ours(lambda: assert_same(store.download("x", columns=["a"]), expected[["a"]]), header)]
        outcomes += [_right_or_ours(lambda call=call: call(store), header) for call in OPERATIONS.values()]  # type: ignore[misc]
        if header in ("Content-Type", "x-amz-version-id", "Accept-Ranges", "X-Goog-Hash"):
            assert outcomes[:2] == ["", ""], header
        word = header.rpartition("-")[2].casefold()
        assert all(word in outcome.casefold() for outcome in outcomes if outcome), (header, outcomes)
        proxy.edit = without()
        direct.upload(expected, "x")
        if foreign and format == "csv":
            direct.delete_artifact("x")
            door.put("x.csv", CSV_TEXT)


def _right_or_ours(call: Callable[[], Any], what: str) -> str:
    """The message of an error of this package. Empty if the call worked, or said that an artifact exists or not."""
    error = _failure(call)
    assert not isinstance(error, ServiceUnavailableError), f"{what}: {error!r}"
    return "" if error is None or isinstance(error, ArtifactNotFoundError | ArtifactExistsError) else str(error)


def _failure(call: Callable[[], Any]) -> ClinopsPrefectError | None:
    try:
        call()
    except ClinopsPrefectError as error:
        return error
    return None


EMPTY_LISTS = ("nothing", "null", "a list", "other fields")
PAGE = b"<html><body>Welcome. Please log in.</body></html>"
ODD_BODIES = {
    "a page": PAGE,
    "nothing": b"",
    "a list": b"[]",
    "a number": b"7",
    "a text": b'"text"',
    "null": b"null",
    "half an answer": b'<?xml version="1.0"?><ListBucketResult><Contents><Key>x',
    "half an object": b'{"items": [{"name": ',
    "other elements": b'<?xml version="1.0"?><Other><Contents><Size>1</Size></Contents></Other>',
    "other fields": b'{"items": [{"size": "many"}], "size": "many", "generation": {}, "name": 7}',
    "deep": b"[" * 30_000,
    "no text": bytes(range(256)),
}


@clouds
def test_what_is_no_such_service_is_an_error_of_the_tree_and_never_a_success(door: Door) -> None:
    """Such as a login page. `delete` with `missing_ok` is left out, since a 200 looks like its success."""

    def ask(name: str, body: str) -> None:
        with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]
            proxy.answers = lambda _: Reply(200, ODD_BODIES[body], (("Content-Type", "text/html"),))
            store = door.store(endpoint_url=proxy.url)
            error = _failure(lambda: OPERATIONS[name](store))
        assert error is not None, f"{name}, {body}"
        assert not isinstance(error, ArtifactNotFoundError), f"{name}, {body}"
        assert "Welcome" not in str(error)

    # botocore retries some of these, which takes time, so all run at once.
    with ThreadPoolExecutor(64) as pool:
        asked = [
            pool.submit(ask, name, body)
            for name in OPERATIONS
            for body in ODD_BODIES
            # For an empty bucket, Cloud Storage returns a JSON object in which no field is required.
            if not (door.scheme == "gs" and name.startswith("list") and body in EMPTY_LISTS)
        ]
        for one in asked:
            one.result()


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_a_listing_that_breaks_off_is_not_a_short_listing(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    store.upload(FRAME, "x")

    def truncate(seen: Seen, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        return status, headers, body.replace(b"<IsTruncated>false<", b"<IsTruncated>true<")

    proxy.edit = truncate
    with pytest.raises(OperationNotSupportedError, match="NextContinuationToken"):
        store.list_artifacts()


@pytest.mark.parametrize("door", ["s3"], indirect=True)
@pytest.mark.parametrize(
    ("operation", "missing"),
    [
        ("list", "Name"),
        *[("versions", name) for name in ("Name", "Key", "Size", "ETag")],
    ],
)
def test_what_is_missing_in_a_listing_is_named(door: Door, proxy: Proxy, operation: str, missing: str) -> None:
    def remove(seen: Seen, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        return status, headers, re.sub(f"<{missing}>[^<]*</{missing}>".encode(), b"", body)

    store = door.store(endpoint_url=proxy.url)
    store.upload(FRAME, "x")
    proxy.edit = remove
    with pytest.raises(OperationNotSupportedError, match=rf"\b{missing}\b"):
        OPERATIONS[operation](store)


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_a_service_that_ignores_ranges_is_read_all_the_same(door: Door, format: str, proxy: Proxy) -> None:
    big = pd.DataFrame({f"c{i}": pd.Series(range(200_000)).sample(frac=1, random_state=i).array for i in range(8)})
    door.store(format=format).upload(big, "x")

    def all_of_it(seen: Seen, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        if status != 206:
            return status, headers, body
        kept = [(name, value) for name, value in headers if name.lower() != "content-range"]
        return 200, kept, door.get(urlsplit(seen.path).path.removeprefix(f"/{door.bucket}/"))  # type: ignore[attr-defined]

    proxy.edit = all_of_it
    store = door.store(endpoint_url=proxy.url, format=format)
    assert_same(store.download("x"), big)
    assert_same(store.download("x", columns=["c3"]), big[["c3"]])


@clouds
def test_a_service_that_ignores_which_version_is_asked_for_gives_none(door: Door, format: str, proxy: Proxy) -> None:
    """Otherwise the current version would be returned silently."""
    door.keep_versions()
    store = door.store(format=format, endpoint_url=proxy.url)
    big = pd.DataFrame({f"c{i}": pd.Series(range(200_000)).sample(frac=1, random_state=i).array for i in range(8)})
    for old, new in ((FRAME, FRAME[:1]), (big, big[::-1])):
        proxy.rewrite = lambda path: path
        store.upload(old, "x")
        version = store.stat("x").version
        assert version
        store.upload(new, "x")
        assert_same(store.download("x", version=version), old)
        proxy.rewrite = lambda path: path.replace("versionId=", "ignored=").replace("generation=", "ignored=")
        if Can.TAKE_ANY_LOGIN not in door.can:
            # The proxy changed the request, so the signature does not match.
            with pytest.raises(AccessDeniedError, match="SignatureDoesNotMatch"):
                store.download("x", version=version)
            return
        for columns in (None, list(old.columns[:1])):
            with pytest.raises(OperationNotSupportedError, match=version):
                store.download("x", version=version, columns=columns)
        if door.scheme == "s3":
            assert_same(store.download("x"), new)


@pytest.mark.parametrize("door", ["s3"], indirect=True)
@pytest.mark.parametrize(
    ("header", "text", "named"),
    [
        ("content-range", "bytes ?", "a Content-Range that can be read, as no S3 service"),
        ("etag", "", "ETag, as no S3"),
    ],
)
def test_an_answer_that_cannot_be_read_is_named(door: Door, proxy: Proxy, header: str, text: str, named: str) -> None:
    def edit(seen: Seen, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        return status, [(name, text if name.lower() == header else said) for name, said in headers], body

    store = door.store(endpoint_url=proxy.url)
    store.upload(FRAME, "x")
    proxy.edit = edit
    with pytest.raises(OperationNotSupportedError, match=named) as caught:
        store.download("x")
    assert caught.value.uri == store.uri("x")


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_a_copy_that_ends_before_all_is_copied_is_named(door: Door, proxy: Proxy) -> None:
    def edit(seen: Seen, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        return status, headers, re.sub(rb'("totalBytesRewritten": *"?)\d+', rb"\g<1>1", body)

    store = door.store(endpoint_url=proxy.url)
    store.upload(FRAME, "x")
    proxy.edit = edit
    with pytest.raises(
        OperationNotSupportedError, match="the token to go on copying with, as no Cloud Storage"
    ) as caught:
        store.copy_artifact("x", "y")
    assert caught.value.uri == store.uri("y")
