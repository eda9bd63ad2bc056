"""The produced definitions against JavaScript: asl-validator, and the reference implementation of JSONata.

`make node` installs both below `.node` and runs this; a missing one fails.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from clinops_prefect.step_functions.language.merge import merged_input
from clinops_prefect.step_functions.language.states_language import states_language
from clinops_prefect.step_functions.language.steps import Handler, MapStep, PipelineStep, Retry, Step
from tests.step_functions.test_definition import (
    LAMBDA,
    all_kinds,
    documented_merge,
    json_values,
    language,
    objects,
    same,
)

MODULES = Path(__file__).parents[2] / ".node/node_modules"

PROGRAM = """
const jsonata = require('jsonata'), lines = require('fs').readFileSync(0, 'utf8').split('\\n').filter(Boolean);
(async () => {
  for (const {expression, states} of lines.map(line => JSON.parse(line)))
    console.log(JSON.stringify(await jsonata(expression).evaluate({}, {states})));
})();
"""


# Without shrinking: each attempt starts Node.
@settings(max_examples=5, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(json_values | objects, objects, json_values | objects), min_size=20, max_size=40))
def test_the_reference_implementation_of_jsonata_merges_alike(cases: list[Any]) -> None:
    asked = [
        {
            "expression": merged_input(parameters).removeprefix("{%").removesuffix("%}"),
            "states": {"input": flow, "context": {"Execution": {"Input": given_input}}},
        }
        for flow, parameters, given_input in cases
    ]
    lines = "\n".join(json.dumps(question) for question in asked)
    environment = os.environ | {"NODE_PATH": str(MODULES)}
    command = ["node", "-e", PROGRAM]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, env=environment)
    for case, answer in zip(cases, done.stdout.split("\n")[:-1], strict=True):
        assert same(json.loads(answer), documented_merge(*case))


def with_handlers() -> dict[str, Any]:
    """Handlers from JSONata and JSONPath states, kept results, and a map in batches whose steps have parameters."""
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "Notify", "ResultPath": "$.error"}]
    steps: list[Step] = [
        PipelineStep("Merged", LAMBDA, {"x": 1}, catch=catch, result_key="merged"),
        PipelineStep("Own", LAMBDA, {"x.$": "$.x"}, catch=catch, output="keep"),
        MapStep("Batches", [PipelineStep("B", LAMBDA, {"x": 1})], "$.items", batch_size=2, catch=catch, result_key="r"),
        MapStep("Plain", [PipelineStep("P", LAMBDA)], "$", catch=catch, retry=[Retry(["E"])], output="keep"),
    ]
    return states_language(steps, "c", 0, "aws", [Handler(PipelineStep("Notify", LAMBDA))])


@pytest.mark.parametrize("make", [lambda: language(*all_kinds(), timeout_seconds=60), with_handlers])
def test_every_kind_of_step_passes_asl_validator(make: Callable[[], dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "definition.json"
    path.write_text(json.dumps(make()))
    command = [MODULES / ".bin/asl-validator", "--json-path", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
