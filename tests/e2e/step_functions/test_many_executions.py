"""One process waits for many executions: a thousand in `make e2e-full`, a hundred otherwise."""

import json
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from clinops_prefect.step_functions import StepFunctionsPipeline
from clinops_prefect.testing.step_functions_emulator import Emulator

logger = logging.getLogger(__name__)

NUMBER = int(os.environ.get("CLINOPS_E2E_EXECUTIONS", "100"))
# So long that all have begun before the first ends. Then all of them end within seconds.
SECONDS = 10 + NUMBER // 20


@pytest.mark.timeout(900)
def test_many_executions_cost_ten_calls_a_second_and_none_is_lost(
    aws: Emulator, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in aws.environment.items():
        monkeypatch.setenv(key, value)
    definition = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": SECONDS, "End": True}}}
    aws.client("stepfunctions").create_state_machine(
        name=machine, definition=json.dumps(definition), roleArn=aws.role_arn
    )
    pipeline = StepFunctionsPipeline(machine, aws.role_arn)
    with ThreadPoolExecutor(8) as pool:
        arns = list(pool.map(lambda number: pipeline.execute({"i": number}, f"e{number}"), range(NUMBER)))
    began = time.monotonic()
    aws.forget_calls()
    outputs: dict[str, object] = {}

    def wait(arn: str) -> None:
        outputs[arn] = pipeline.wait(arn)

    threads = [threading.Thread(target=wait, args=(arn,), daemon=True) for arn in arns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    calls = aws.calls()
    logger.info("%s executions: %.0f s, %s, busiest second %s", NUMBER, took, calls, aws.busiest_second())
    assert [outputs[arn] for arn in arns] == [{"i": number} for number in range(NUMBER)]
    # The average, not the busiest second: an emulator that stood still gets the requests of many seconds in one.
    assert sum(calls.values()) <= 10 * (took + 1)
    # Each output costs one call; the last few are also looked for one by one, and each second has a list at most.
    assert calls["DescribeExecution"] <= NUMBER + 10
