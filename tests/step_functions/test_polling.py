"""The looks at an execution: how many, how far apart, and shared by those who wait on one machine."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from clinops_prefect.errors import ExecutionFailedError
from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.step_functions.service import polling
from clinops_prefect.step_functions.service.history import failed_state
from clinops_prefect.testing.step_functions_emulator import Emulator


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


def test_requests_are_spread_over_time_and_eight_to_ten_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=slept.append)
    monkeypatch.setattr(polling, "time", clock)
    rate = 0.0
    for seconds in (polling._SECONDS_A_QUESTION, polling._SECONDS_A_LIST):
        pacer = polling._Pacer(seconds)
        slept.clear()
        for number in range(30):
            assert pacer.queue == pytest.approx(number * seconds)
            pacer.wait()
        assert slept == pytest.approx([number * seconds for number in range(30)])
        now[0] += 30 * seconds + 1
        pacer.wait()
        assert slept[-1] == 0.0
        rate += 1 / seconds
    assert 8 < rate < 10


def test_a_list_serves_all_who_look_until_it_is_too_old_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now, listed = [100.0], []

    def list_executions(**_: Any) -> dict[str, Any]:
        listed.append(now[0])
        return {"executions": [{"executionArn": "running"}]}

    monkeypatch.setattr(polling, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda _: None))
    machine = polling._Machine(SimpleNamespace(list_executions=list_executions), "arn:aws:states:eu-west-1:1:m")
    for moment, max_age in ((100.0, 0.8), (100.5, 0.8), (101.0, 2.0), (102.0, 0.8), (102.7, 0.8)):
        now[0] = moment
        for _ in range(30):
            assert machine.is_running("running", max_age)
            assert machine.is_running("ended", max_age) is False
    assert listed == [100.0, 102.0]


def waiting_machine(aws: Emulator, name: str, **how_long: Any) -> str:
    definition = {"StartAt": "W", "States": {"W": {"Type": "Wait", **how_long, "End": True}}}
    created = aws.client("stepfunctions").create_state_machine(
        name=name, definition=json.dumps(definition), roleArn=aws.role_arn
    )
    return str(created["stateMachineArn"])


def test_a_crowd_shares_one_list(aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    machine = waiting_machine(aws, name, SecondsPath="$.seconds")
    pipeline = StepFunctionsPipeline(name, aws.role_arn)
    given = [{"i": number, "seconds": 600 if number == 7 else 8} for number in range(30)]
    arns = [pipeline.execute(each, f"e{number}") for number, each in enumerate(given)]
    pipeline.stop(arns[7])
    client, barrier, turn = pipeline.client(), threading.Barrier(len(arns)), threading.Lock()
    asked, paced, listing = Counter[str](), Counter[polling._Pacer](), set[polling._Machine]()

    def ask(model: Any, **_: Any) -> None:
        with turn:
            asked[model.name] += 1

    # Before a request and its retries, so the count does not depend on how slowly the emulator answers.
    client.meta.events.register("before-call.stepfunctions.*", ask)
    pass_pacer, list_all = polling._Pacer.wait, polling._Machine._list

    def wait_turn(pacer: polling._Pacer) -> None:
        with turn:
            paced[pacer] += 1
        pass_pacer(pacer)

    def list_noted(machine: polling._Machine) -> None:
        listing.add(machine)
        list_all(machine)

    monkeypatch.setattr(polling._Pacer, "wait", wait_turn)
    monkeypatch.setattr(polling._Machine, "_list", list_noted)

    def wait(arn: str) -> object:
        barrier.wait()
        try:
            return pipeline.wait(arn)
        except ExecutionFailedError as error:
            return error.status

    with ThreadPoolExecutor(len(arns)) as pool, ExitStack() as others:
        for arn in arns[: polling._CROWD]:
            # A crowd from the first to the last look, whichever threads run first.
            others.enter_context(polling._waiting(client, arn))
        outputs = list(pool.map(wait, arns))
    assert outputs == ["ABORTED" if number == 7 else each for number, each in enumerate(given)]
    # One list serves them all, and only an execution that is no longer in the list is asked about.
    assert len(listing) == 1
    assert asked == {"DescribeExecution": 30, "ListExecutions": paced[polling._lists]}
    assert paced[polling._questions] == 30
    # Nothing is kept of a machine that nobody waits on any more.
    assert machine not in {arn for _, arn in polling._machines}


def test_the_last_events_are_seen_whichever_request_finds_the_end(
    aws: Emulator, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = aws.client("stepfunctions")
    started = client.start_execution(stateMachineArn=waiting_machine(aws, name, Seconds=1), name="e")
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
