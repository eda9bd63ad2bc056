"""The looks at an execution: how many, how far apart, and shared by those who wait on one machine."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from clinops_prefect.errors import ExecutionFailedError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.service import polling
from clinops_prefect.step_functions.service.history import failed_state
from clinops_prefect.testing.step_functions_emulator import Emulator

# Seconds that a busy machine may take on top; what is wrong here takes minutes, or a call for each that waits.
BUSY = 30


def looks(until: float, first: float) -> list[float]:
    """When an execution is looked at, in seconds since the wait began."""
    moments = [first]
    while moments[-1] < until:
        moments.append(moments[-1] + polling.gap_after(moments[-1]))
    return moments


@pytest.mark.parametrize("first", [0.3, 0.65, 1.0])
def test_an_hour_costs_at_most_150_calls(first: float) -> None:
    # Beside the looks: what the task does before and after: deploy (2 calls), start, describe the end.
    assert len(looks(3600, first)) + 4 <= 150


@pytest.mark.parametrize("first", [0.3, 1.0])
def test_the_end_is_noticed_within_a_tenth_of_the_time_or_half_a_minute(first: float) -> None:
    moments = looks(24 * 3600, first)
    for before, after in pairwise(moments):
        # The end may come right after a look. Under 25 s, two and a half seconds are the bound.
        assert after - before <= max(2.5, min(0.1 * after, 30.0)) + 1e-9


def waiting_machine(aws: Emulator, name: str, seconds: int) -> str:
    definition = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": seconds, "End": True}}}
    created = aws.client("stepfunctions").create_state_machine(
        name=name, definition=json.dumps(definition), roleArn=aws.role_arn
    )
    return str(created["stateMachineArn"])


def test_a_crowd_shares_one_list(
    aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch, function: Callable[[str], str]
) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    machine = waiting_machine(aws, name, 12)
    pipeline = StepFunctionsPipeline(name, aws.role_arn)
    arns = [pipeline.execute({"i": number}, f"e{number}") for number in range(30)]
    pipeline.stop(arns[7])
    aws.forget_calls()
    barrier = threading.Barrier(len(arns))

    def wait(arn: str) -> object:
        barrier.wait()
        try:
            return pipeline.wait(arn)
        except ExecutionFailedError as error:
            return error.status

    began = time.monotonic()
    with ThreadPoolExecutor(len(arns)) as pool:
        outputs = list(pool.map(wait, arns))
    assert outputs == ["ABORTED" if number == 7 else {"i": number} for number in range(30)]
    assert time.monotonic() - began < 12 + 3 + 30 / 7.5 + BUSY
    calls = aws.calls()
    assert calls["DescribeExecution"] == 30
    # One list a second serves them all, and not one each.
    assert calls["ListExecutions"] < 20 + BUSY
    assert aws.busiest_second() <= 10
    # Nothing is kept of a machine that nobody waits on any more.
    assert machine not in {arn for _, arn in polling._machines}


def test_the_last_events_are_seen_whichever_request_finds_the_end(
    aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = aws.client("stepfunctions")
    started = client.start_execution(stateMachineArn=waiting_machine(aws, name, 1), name="e")
    monkeypatch.setattr(polling, "_DESCRIBED_EVERY", 1)
    seen: list[str] = []
    ended = polling.wait_for_end(
        client, started["executionArn"], on_events=lambda events: seen.extend(event.event for event in events)
    )
    assert ended["status"] == "SUCCEEDED"
    assert seen == ["started", "entered", "exited", "ended"]


def test_the_failed_state_is_found_behind_a_hundred_events_and_empty_after_a_success(
    aws: Emulator, run: Callable[..., list[dict[str, Any]]], name: str
) -> None:
    """One branch waits, the other one runs through sixty states; then the execution is stopped."""
    names = [f"P{number}" for number in range(60)]
    states = {one: {"Type": "Pass", "Next": after} for one, after in pairwise(names)}
    passes = {"StartAt": names[0], "States": states | {names[-1]: {"Type": "Pass", "End": True}}}
    waits = {"StartAt": "Waits", "States": {"Waits": {"Type": "Wait", "Seconds": 100, "End": True}}}
    both = {"Type": "Parallel", "Branches": [waits, passes], "End": True}
    client = aws.client("stepfunctions")
    definition = json.dumps({"StartAt": "Both", "States": {"Both": both}})
    machine = client.create_state_machine(name=name, definition=definition, roleArn=aws.role_arn)["stateMachineArn"]

    def last_events(arn: str) -> list[dict[str, Any]]:
        return client.get_execution_history(executionArn=arn, reverseOrder=True)["events"]

    def stopped() -> str:
        arn = client.start_execution(stateMachineArn=machine)["executionArn"]
        while not any(event.get("stateExitedEventDetails", {}).get("name") == names[-1] for event in last_events(arn)):
            time.sleep(0.05)
        client.stop_execution(executionArn=arn)
        return arn

    def is_far_behind(arn: str) -> bool:
        return not any(event.get("stateEnteredEventDetails", {}).get("name") == "Waits" for event in last_events(arn))

    # The branches begin at the same time, so on a busy machine the waiting one may be late.
    arn = next(arn for arn in (stopped() for _ in range(20)) if is_far_behind(arn))
    assert failed_state(client, arn) == "Waits"
    (ended,) = run(passes, {})
    assert failed_state(client, ended["executionArn"]) == ""
