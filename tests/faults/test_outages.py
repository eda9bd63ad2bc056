"""Outages that retries do not mend: the right error within a bounded time, and an unchanged stored artifact."""

import itertools
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest
from prefect_aws import AwsCredentials
from prefect_gcp import GcpCredentials

from clinops_prefect import AccessDeniedError, ArtifactDecodeError, ClinopsPrefectError, ServiceUnavailableError
from tests.doors import Door, GCSDoor, S3Door
from tests.emulators import free_port
from tests.faults.test_wire import BIG, HALVES, OPERATIONS, SMALL, Strike, clouds, is_data
from tests.gallery import assert_same
from tests.proxy import Outcome, Proxy, Seen
from tests.service_account import service_account

WRITES: dict[str, Callable[[Any], Any]] = {
    "upload": lambda s: s.upload(SMALL[::-1], "x"),
    "upload in parts": lambda s: s.upload(BIG, "x"),
    "upload_batches": lambda s: s.upload_batches(HALVES, "x"),
}
# A request with a longer body carries data.
DATA_BYTES = 2_000
# How often a request is sent at most, and seconds in which an operation has given up on the busiest machine: on a quiet
# one it takes 30 where connections are refused, and 125 where nothing is answered.
MOST_TRIES, GIVES_UP = 5, 600.0


@pytest.fixture
def proxy(door: Door) -> Any:
    with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]
        yield proxy


def timed(call: Callable[[Any], Any], store: Any) -> tuple[Exception | None, float]:
    began = time.monotonic()
    try:
        call(store)
    except Exception as error:
        return error, time.monotonic() - began
    return None, time.monotonic() - began


def test_a_service_that_cannot_be_reached_is_an_error_within_a_bounded_time(
    s3_endpoint: str, gcs_endpoint: str
) -> None:
    """The port is closed, or its server never answers. The operations run at once, since in turn they take an hour."""
    calls = [operation.do for operation in OPERATIONS.values()]
    doors: list[Door] = [S3Door(s3_endpoint, "nobody"), GCSDoor(gcs_endpoint, "nobody")]
    with Proxy(s3_endpoint) as silent, ThreadPoolExecutor(4 * len(calls)) as pool:
        silent.answers = lambda _: Outcome.HANG
        running = [
            pool.submit(timed, call, door.store(endpoint_url=url, prefix=f"{door.scheme}-{number}-"))
            for door in doors
            for url in (f"http://127.0.0.1:{free_port()}", silent.url)
            for number, call in enumerate(calls)
        ]
        for future in running:
            error, seconds = future.result()
            assert isinstance(error, ServiceUnavailableError), repr(error)
            assert isinstance(error, ConnectionError)
            assert error.__cause__ is not None
            assert seconds < GIVES_UP
        assert len(silent.seen) > 2 * len(calls)
        tries = Counter(name[0] for seen in silent.seen if (name := re.search(r"(s3|gs)-\d+-", seen.path)))
        assert set(tries.values()) <= set(range(1, MOST_TRIES + 1)), tries


@clouds
def test_one_missing_answer_costs_one_timeout(door: Door, proxy: Proxy) -> None:
    store = door.store(endpoint_url=proxy.url)
    proxy.answers = Strike(0, Outcome.HANG)
    error, seconds = timed(lambda s: s.upload(SMALL, "x"), store)
    assert error is None
    assert seconds > 15
    # Sent again, and again where the machine stood still for as long.
    assert 2 <= sum(seen.length > 0 for seen in proxy.seen) <= MOST_TRIES
    assert_same(door.store().download("x"), SMALL)


@clouds
def test_a_connection_that_breaks_after_an_object_was_not_found_is_asked_again(door: Door, proxy: Proxy) -> None:
    """The second error has the "not found" as its context, and must not be taken for a missing local file."""
    proxy.answers = Strike(1, Outcome.LOSE)
    door.store(endpoint_url=proxy.url).upload(SMALL, "x", overwrite=False)
    assert_same(door.store().download("x"), SMALL)


@clouds
def test_a_service_that_stays_broken_is_unavailable_and_leaves_no_parts(door: Door) -> None:
    """Only requests with data are refused: a multipart upload begins, fails, and must be aborted."""
    calls = [*WRITES.values(), lambda s: s.download("x"), lambda s: s.download("x", columns=["v"])]

    def broken(outcome: Outcome) -> None:
        prefix = outcome.name.lower()
        door.store(prefix=prefix).upload(SMALL, "x")
        with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]
            proxy.answers = lambda seen: outcome if seen.length > DATA_BYTES or is_data(seen) else Outcome.FORWARD
            store = door.store(prefix=prefix, endpoint_url=proxy.url)
            with ThreadPoolExecutor(len(calls)) as pool:
                for error, seconds in pool.map(lambda call: timed(call, store), calls):
                    assert isinstance(error, ServiceUnavailableError), f"{outcome}: {error!r}"
                    assert seconds < GIVES_UP

    outcomes = (Outcome.SLOW_DOWN, Outcome.ERROR, Outcome.REFUSE, Outcome.BREAK)
    with ThreadPoolExecutor(len(outcomes)) as pool:
        list(pool.map(broken, outcomes))
    assert door.unfinished() == []
    for outcome in outcomes:
        assert_same(door.store(prefix=outcome.name.lower()).download("x"), SMALL)


@clouds
@pytest.mark.parametrize("outcome", [Outcome.SHORT, Outcome.FLIP], ids=str)
def test_data_that_always_arrives_damaged_is_never_a_frame(
    door: Door, outcome: Outcome, format: str, proxy: Proxy, chance: random.Random
) -> None:
    door.store(format=format).upload(SMALL, "x")
    proxy.chance = chance
    proxy.answers = lambda seen: outcome if is_data(seen) else Outcome.FORWARD
    store = door.store(endpoint_url=proxy.url, format=format)
    for _ in range(5):
        for read in (
            lambda: store.download("x"),
            lambda: store.download("x", columns=["v"]),
            lambda: pd.concat(store.iter_batches("x", columns=["v"])),
        ):
            try:
                found = read()
            except (ArtifactDecodeError, ServiceUnavailableError):
                continue
            # The flipped bit is in bytes that this read fetched but did not need.
            assert outcome is Outcome.FLIP
            assert_same(found, SMALL[["v"]])


@clouds
@pytest.mark.parametrize("name", WRITES)
def test_data_that_is_damaged_while_it_is_uploaded_is_refused_or_never_read(
    door: Door, name: str, proxy: Proxy, chance: random.Random
) -> None:
    proxy.chance = chance
    numbers, struck = itertools.count(), []

    def damage(seen: Seen) -> Outcome:
        if seen.length > DATA_BYTES and next(numbers) == 0:
            struck.append(seen)
            return Outcome.FLIP_SENT
        return Outcome.FORWARD

    door.store().upload(SMALL, "x")
    proxy.answers = damage
    error, _ = timed(WRITES[name], door.store(endpoint_url=proxy.url))
    assert len(struck) == 1
    if door.scheme == "s3" and error is None:
        # The client has sent the data again: the stored object is whole, or this download would fail.
        door.store().download("x")
    elif door.scheme == "s3":
        assert isinstance(error, ServiceUnavailableError), repr(error)
        assert_same(door.store().download("x"), SMALL)
    elif error is None:
        with pytest.raises(ArtifactDecodeError):
            door.store().download("x")
    else:
        assert isinstance(error, ServiceUnavailableError), repr(error)
    assert door.unfinished() == []


@clouds
def test_slow_bodies_are_waited_for(door: Door, proxy: Proxy) -> None:
    """Each body takes nine seconds, which is longer than the connect timeout, and has only short pauses."""
    proxy.answers = lambda seen: Outcome.SLOW if seen.length > DATA_BYTES or is_data(seen) else Outcome.FORWARD
    store = door.store(endpoint_url=proxy.url)
    began = time.monotonic()
    store.upload(BIG, "x")
    assert time.monotonic() - began > 9
    assert_same(store.download("x"), BIG)


@pytest.mark.parametrize("door", ["s3"], indirect=True)
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_completion_that_was_carried_out_and_lost_is_a_success(door: Door, overwrite: bool, proxy: Proxy) -> None:
    """When the completion is sent again, S3 may no longer know the upload."""
    completions: list[Seen] = []

    def lose(seen: Seen) -> Outcome:
        if seen.method != "POST" or "uploadId" not in seen.query:
            return Outcome.FORWARD
        completions.append(seen)
        return Outcome.LOSE if len(completions) == 1 else Outcome.GONE

    proxy.answers = lose
    door.store(endpoint_url=proxy.url).upload(BIG, "x", overwrite=overwrite)
    assert len(completions) == 2
    assert_same(door.store().download("x"), BIG)
    proxy.answers = lambda seen: Outcome.GONE if seen.method == "POST" and "uploadId" in seen.query else Outcome.FORWARD
    with pytest.raises(ClinopsPrefectError, match="NoSuchUpload"):
        door.store(endpoint_url=proxy.url).upload(BIG, "y")
    assert door.unfinished() == []


@pytest.mark.parametrize("door", ["s3"], indirect=True)
def test_an_s3_token_that_expires_during_an_upload_is_an_access_error_and_the_unfinished_upload_is_logged(
    door: Door, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """The upload cannot be aborted with an expired token, so a log line must tell what is left."""
    door.store().upload(SMALL, "x")
    parts: list[Seen] = []

    def expire(seen: Seen) -> Outcome:
        assert seen.headers["x-amz-security-token"] == "short-lived"
        if "partNumber" in seen.query:
            parts.append(seen)
        return Outcome.EXPIRED if len(parts) > 1 else Outcome.FORWARD

    proxy.answers = expire
    login = AwsCredentials(aws_access_key_id="a", aws_secret_access_key="not-logged", aws_session_token="short-lived")
    with caplog.at_level(logging.WARNING), pytest.raises(AccessDeniedError, match="ExpiredToken"):
        door.store(endpoint_url=proxy.url, credentials=login).upload(BIG, "x")
    assert len(parts) > 1
    assert_same(door.store().download("x"), SMALL)
    (key,) = door.unfinished()
    assert f"s3://{door.bucket}/{key}" in caplog.text  # type: ignore[attr-defined]
    assert "AbortIncompleteMultipartUpload" in caplog.text
    assert "not-logged" not in caplog.text
    assert "short-lived" not in caplog.text


@pytest.mark.parametrize("door", ["gcs"], indirect=True)
def test_a_gcs_token_that_expires_during_an_upload_is_renewed_or_is_an_access_error(door: Door, proxy: Proxy) -> None:
    """The token server gives a new token, or one that is refused again."""
    door.store().upload(SMALL, "x")
    tokens: list[Seen] = []
    chunks: list[Seen] = []

    def expire(seen: Seen) -> Outcome:
        if seen.path == "/token":
            tokens.append(seen)
            return Outcome.TOKEN
        if "upload_id" not in seen.query or seen.method != "PUT":
            return Outcome.FORWARD
        chunks.append(seen)
        return Outcome.EXPIRED if len(chunks) in refused else Outcome.FORWARD

    proxy.answers = expire
    login = GcpCredentials(service_account_info=service_account(f"{proxy.url}/token"))
    store = door.store(endpoint_url=proxy.url, credentials=login)
    refused = range(2, 100)
    error, seconds = timed(lambda s: s.upload(BIG, "x"), store)
    assert isinstance(error, AccessDeniedError), repr(error)
    assert seconds < GIVES_UP
    assert len(chunks) > 1
    assert_same(door.store().download("x"), SMALL)
    chunks.clear()
    tokens.clear()
    refused = range(2, 3)
    store.upload(BIG, "x")
    assert len(chunks) > 2
    assert tokens
    assert_same(door.store().download("x"), BIG)
