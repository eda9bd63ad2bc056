"""A single network fault in each request of each operation, one after another: the operation still succeeds.

Faults that retries cannot mend are in test_outages.py.
"""

import itertools
import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import ArtifactDecodeError, PipelineStore
from tests.doors import Door
from tests.faults.conftest import FULL
from tests.gallery import assert_same
from tests.proxy import Outcome, Proxy, Seen

RNG = np.random.default_rng(5)
SMALL = pd.DataFrame({"id": range(300), "v": RNG.random(300), "code": ["007", "b", "c"] * 100})
# Large enough for three parts of an upload and three ranges of a download.
BIG = pd.DataFrame({f"c{i}": RNG.random(150_000) for i in range(16)})
HALVES = [BIG.iloc[:90_000], BIG.iloc[90_000:].reset_index(drop=True)]
clouds = pytest.mark.parametrize("door", ["s3", "gcs"], indirect=True)

NETWORK = (Outcome.REFUSE, Outcome.BREAK, Outcome.LOSE, Outcome.CUT)
SERVICE = (Outcome.SLOW_DOWN, Outcome.ERROR)
# Only in bodies with data. In other answers only TLS would notice the fault.
DATA = (Outcome.SHORT, Outcome.FLIP)
_AT_ONCE = 8
# The number of faults per operation in the short form. The full form has a fault in every request.
_DRAWN = 8


@dataclass(frozen=True)
class Operation:
    """An operation on a store that holds `before` at x, its result, and what is at x or y afterwards."""

    do: Callable[[PipelineStore], Any]
    before: pd.DataFrame
    returns: Any = None
    leaves: tuple[tuple[str, pd.DataFrame], ...] = ()
    format: str = "parquet"
    # It yields frames before it has read the end, so it cannot begin again when it finds damage.
    streams: bool = False


UPLOAD = Operation(lambda s: s.upload(SMALL, "x"), SMALL[:5], leaves=(("x", SMALL),))
DOWNLOAD = Operation(lambda s: s.download("x"), SMALL, returns=SMALL)
COPY = Operation(lambda s: s.copy_artifact("x", "y"), SMALL, leaves=(("x", SMALL), ("y", SMALL)))
OPERATIONS = {
    "upload": UPLOAD,
    "upload CSV": replace(UPLOAD, format="csv"),
    "upload if absent": Operation(lambda s: s.upload(SMALL, "y", overwrite=False), SMALL, leaves=(("y", SMALL),)),
    "upload in parts": Operation(lambda s: s.upload(BIG, "x"), SMALL, leaves=(("x", BIG),)),
    "upload in parts if absent": Operation(
        lambda s: s.upload_batches(HALVES, "y", overwrite=False), SMALL, leaves=(("y", BIG),)
    ),
    "download": DOWNLOAD,
    "download CSV": replace(DOWNLOAD, format="csv"),
    "download in ranges": Operation(lambda s: s.download("x"), BIG, returns=BIG),
    "download columns": Operation(lambda s: s.download("x", columns=["c3"]), BIG, returns=BIG[["c3"]]),
    "iter_batches": Operation(
        lambda s: pd.concat(s.iter_batches("x", columns=["c1"]), ignore_index=True),
        BIG,
        returns=BIG[["c1"]],
        streams=True,
    ),
    "list": Operation(lambda s: s.list_artifacts(), SMALL, returns=["x"]),
    "stat": Operation(lambda s: s.stat("x").rows, SMALL, returns=300),
    "copy": COPY,
    "copy CSV": replace(COPY, format="csv"),
    "delete": Operation(lambda s: s.delete_artifact("x", missing_ok=True) or s.exists("x"), SMALL, returns=False),
}


class Strike:
    """Makes one request fail: the one with this number, counted from 0 in the order of arrival."""

    def __init__(self, number: int, outcome: Outcome) -> None:
        self.number = number
        self.outcome = outcome
        self._count = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, seen: Seen) -> Outcome:
        if is_aside(seen):
            return Outcome.FORWARD
        with self._lock:
            mine = next(self._count) == self.number
        return self.outcome if mine and (self.outcome not in DATA or is_data(seen)) else Outcome.FORWARD


def is_data(seen: Seen) -> bool:
    """Whether a request asks for an object's bytes."""
    return seen.method == "GET" and ("range" in seen.headers or seen.query.get("alt") == ["media"])


def is_aside(seen: Seen) -> bool:
    """Whether Google's client asks for the bucket's location, which it does in its own thread for its traces."""
    return seen.query.get("projection") == ["noAcl"] and "/o" not in seen.path


@clouds
@pytest.mark.parametrize("name", OPERATIONS)
def test_any_request_of_an_operation_may_fail_once(door: Door, name: str, chance: random.Random) -> None:
    operation = OPERATIONS[name]
    read_only = not operation.leaves and name != "delete"
    shared = f"shared-{uuid.uuid4().hex[:6]}"
    door.store(prefix=shared, format=operation.format).upload(operation.before, "x")

    def run(number: int, outcome: Outcome) -> int:
        where = shared if read_only else f"{number}-{outcome.name}".lower()
        direct = door.store(prefix=where, format=operation.format)
        if not read_only:
            direct.upload(operation.before, "x")
        with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]
            strike = Strike(number, outcome)
            proxy.answers = strike
            what = f"{outcome.name} of request {number}"
            try:
                returned = operation.do(door.store(endpoint_url=proxy.url, prefix=where, format=operation.format))
            except Exception as error:
                error.add_note(what)
                if operation.streams and outcome is Outcome.FLIP and isinstance(error, ArtifactDecodeError):
                    return 0
                raise
            if isinstance(operation.returns, pd.DataFrame):
                assert_same(returned, operation.returns)
            elif operation.returns is not None:
                assert returned == operation.returns, what
            requests = sum(not is_aside(seen) for seen in proxy.seen)
        for artifact, frame in operation.leaves:
            assert_same(direct.download(artifact), frame)
        return requests

    requests = run(-1, Outcome.FORWARD)
    assert requests
    outcomes = (*NETWORK, *SERVICE, *(DATA if operation.returns is not None else ()))
    strikes = [(number, outcome) for number in range(requests) for outcome in outcomes]
    if not FULL:
        strikes = chance.sample(strikes, min(len(strikes), _DRAWN))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda strike: run(*strike), strikes))
    assert parts_left(door) == []


def parts_left(door: Door) -> list[str]:
    """The unfinished uploads that hold data.

    An unfinished upload without data may remain. If the answer to its creation was lost, nobody knows its id.
    """
    if door.scheme != "s3":
        return door.unfinished()
    client, bucket = door.client, door.bucket  # type: ignore[attr-defined]
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
    parts = (client.list_parts(Bucket=bucket, Key=one["Key"], UploadId=one["UploadId"]) for one in uploads)
    return [answer["Key"] for answer in parts if answer.get("Parts")]
