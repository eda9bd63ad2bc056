"""`python -m clinops_prefect.step_functions policy module:pipeline` prints the IAM policies that a pipeline needs."""

import importlib
import json
import os
import sys
from typing import Any

from clinops_prefect.command_line import Parser, run
from clinops_prefect.errors import InvalidPipelineError
from clinops_prefect.step_functions.language.structure import is_distributed, states_of
from clinops_prefect.step_functions.pipeline import StepFunctionsPipeline
from clinops_prefect.step_functions.runs.pipeline_protocol import SLUG
from clinops_prefect.step_functions.service.caller_policy import caller_grants
from clinops_prefect.step_functions.service.policies import Place, policy
from clinops_prefect.step_functions.service.role_policy import role_grants


def policies(pipeline: StepFunctionsPipeline, *, delete: bool = False) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The two IAM policies that a pipeline needs, and notes on what you must add yourself.

    Args:
        pipeline: The pipeline.
        delete: Whether the caller may also delete the state machine.

    Returns:
        The policy `caller` is for the user who deploys and runs the pipeline. The policy `role` is for the state
        machine's role. The notes name states whose definition does not say on which resources they act.

    Raises:
        InvalidPipelineError: The pipeline has a mistake, or no region.
    """
    definition = pipeline.definition()
    place = Place(pipeline.state_machine_arn)
    caller = caller_grants(
        place,
        role_arn=pipeline.role_arn,
        express=pipeline.type == "EXPRESS",
        tags=bool(pipeline.tags),
        alias=bool(pipeline.alias),
        removes_versions=bool(pipeline.keep_versions),
        maps=any(is_distributed(state) for _, state in states_of(definition)),
        key=pipeline.kms_key_id,
        delete=delete,
    )
    role, notes = role_grants(
        definition,
        place,
        logs=pipeline.logging_configuration.get("level", "OFF") != "OFF",
        traces=bool(pipeline.tracing_configuration.get("enabled")),
        key=pipeline.kms_key_id,
    )
    return {"caller": policy(caller), "role": policy(role)}, notes


def _pipeline(given: str) -> StepFunctionsPipeline:
    """The pipeline that `given` names: a saved one, one in a module, or the result of a function without arguments."""
    if given.startswith(f"{SLUG}/"):
        loaded: Any = StepFunctionsPipeline.load(given.removeprefix(f"{SLUG}/"), _sync=True)
        return loaded  # type: ignore[no-any-return]
    module, _, name = given.partition(":")
    # `python -m` also adds the working directory. Without it, the user's own modules there would not be found.
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - text, as sys.path has it
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidPipelineError(f"{given!r} is no pipeline ({error}): write module:name or {SLUG}/NAME") from error
    pipeline = found() if callable(found) else found
    if not isinstance(pipeline, StepFunctionsPipeline):
        raise InvalidPipelineError(f"{given!r} is a {type(pipeline).__name__}, and no StepFunctionsPipeline")
    return pipeline


def main() -> None:
    """Print the policies to standard output and the notes to standard error."""
    text = "Print the IAM policies that a pipeline needs, as JSON."
    parser = Parser("clinops_prefect.step_functions", text, "policy deployments.permissions.example:pipeline")
    parser.add_argument("command", choices=["policy"], help="what to print")
    parser.add_argument("pipeline", help=f"module:name of a pipeline or of a function that makes one, or {SLUG}/NAME")
    parser.add_argument("--only", choices=["caller", "role"], help="one of the two: who deploys and runs; the machine")
    parser.add_argument("--delete", action="store_true", help="let the caller delete the machine, too")
    given = parser.parse_args()
    made, notes = run(lambda: policies(_pipeline(given.pipeline), delete=given.delete), debug=given.debug)
    sys.stdout.write(json.dumps(made[given.only] if given.only else made, indent=2) + "\n")
    for note in notes:
        sys.stderr.write(f"note: {note}\n")


if __name__ == "__main__":
    main()
