"""A process that runs long: after many outages, the next single fault is survived as the first one was.

In botocore's standard and adaptive modes all requests of a client share one quota of retries, and a client lives as
long as its process. After outages had used up the quota, the next single 503 failed without a retry.
"""

import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from clinops_prefect import PipelineStep, PipelineStore, ServiceUnavailableError, StepFunctionsPipeline
from tests.doors import Door
from tests.emulators import moto_server
from tests.faults.conftest import FULL
from tests.faults.test_wire import NETWORK, OPERATIONS, SERVICE, Operation, clouds, is_aside
from tests.gallery import assert_same
from tests.proxy import Outcome, Proxy, Seen

OUTAGES = 100
_AT_ONCE = 50


class StrikeEach:
    """Makes the first request of each prefix fail. Each round of the test has a prefix of its own."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._lock = threading.Lock()

    def __call__(self, seen: Seen) -> Outcome:
        if is_aside(seen):
            return Outcome.FORWARD
        # For Cloud Storage, the name of a new object is in the body.
        named = seen.path.encode() + (seen.body[:2_000] if seen.path.startswith("/upload") else b"")
        with self._lock:
            for prefix in list(self.outcomes):
                if prefix.encode() in named:
                    return self.outcomes.pop(prefix)
        return Outcome.FORWARD


def _strain(store: PipelineStore) -> None:
    """Let the process's client for this endpoint have a number of outages: each operation fails after its retries."""

    def fail(_: int) -> Exception | None:
        try:
            store.exists("x")
        except ServiceUnavailableError as error:
            return error
        return None

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        failed = list(pool.map(fail, range(OUTAGES)))
    assert all(failed)


@clouds
def test_one_fault_is_survived_after_a_hundred_outages(door: Door, chance: random.Random) -> None:
    with Proxy(door.endpoint) as proxy:  # type: ignore[attr-defined]
        proxy.answers = lambda _: Outcome.SLOW_DOWN
        _strain(door.store(endpoint_url=proxy.url))
        strike = StrikeEach()
        outcomes = (*SERVICE, *NETWORK)
        runs: list[tuple[Operation, str, Outcome]] = []
        for operation in OPERATIONS.values():
            for outcome in outcomes if FULL else chance.sample(outcomes, 2):
                where = f"{outcome.name}-{uuid.uuid4().hex[:8]}".lower()
                door.store(prefix=where, format=operation.format).upload(operation.before, "x")
                strike.outcomes[where] = outcome
                runs.append((operation, where, outcome))
        proxy.answers = strike

        def run(one: tuple[Operation, str, Outcome]) -> None:
            operation, where, outcome = one
            returned = operation.do(door.store(endpoint_url=proxy.url, prefix=where, format=operation.format))
            if isinstance(operation.returns, pd.DataFrame):
                assert_same(returned, operation.returns)
            elif operation.returns is not None:
                assert returned == operation.returns, outcome

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(run, runs))
        assert not strike.outcomes, "every run was struck"


def test_a_pipeline_survives_a_fault_after_a_hundred_outages(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    with moto_server() as upstream, Proxy(upstream) as proxy:
        pipeline = StepFunctionsPipeline(
            name="long-lived",
            role_arn="arn:aws:iam::123456789012:role/machine",
            region="us-east-1",
            endpoint_url=proxy.url,
        )
        pipeline.add_step(PipelineStep("Ingest", "arn:aws:lambda:us-east-1:123456789012:function:ingest"))
        arn = pipeline.deploy()
        proxy.answers = lambda _: Outcome.BUSY

        def fail(_: int) -> bool:
            try:
                pipeline.deploy()
            except ServiceUnavailableError:
                return True
            return False

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            assert all(pool.map(fail, range(OUTAGES)))
        faults = iter([Outcome.BUSY, Outcome.REFUSE, Outcome.ERROR, Outcome.CUT] * 3)
        for fault in faults:
            waiting = [fault]
            proxy.answers = lambda _, waiting=waiting: waiting.pop() if waiting else Outcome.FORWARD
            assert pipeline.deploy() == arn
            assert not waiting
        # botocore reads truncated JSON as an answer without any field.
        proxy.answers = lambda _: Outcome.CUT
        with pytest.raises(ServiceUnavailableError):
            pipeline.deploy()
