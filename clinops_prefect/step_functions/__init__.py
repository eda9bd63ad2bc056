"""AWS Step Functions: build a state machine of steps, deploy it, run it to its end, and never twice.

- `language`: the steps, and the Amazon States Language that they become. Pure: a Lambda function can import it.
- `service`: what is asked of AWS: deploy, start, wait, redrive, history, and AWS's errors as ours. Needs boto3 only.
- `runs`: what a Prefect run adds: lasting names, progress, cancellation, the task and the job.
- `pipeline`: the Prefect block on top of them.
"""

from typing import TYPE_CHECKING, Any

from clinops_prefect import registry

if TYPE_CHECKING:
    from clinops_prefect.step_functions.pipeline import StepFunctionsPipeline as StepFunctionsPipeline
    from clinops_prefect.step_functions.runs.job import StepFunctionsRun as StepFunctionsRun
    from clinops_prefect.step_functions.service.history import StateEvent as StateEvent
    from clinops_prefect.step_functions.service.inspection import StepTest as StepTest

__all__ = ["StateEvent", "StepFunctionsPipeline", "StepFunctionsRun", "StepTest"]

_MODULES = {
    "StateEvent": "clinops_prefect.step_functions.service.history",
    "StepFunctionsPipeline": "clinops_prefect.step_functions.pipeline",
    "StepFunctionsRun": "clinops_prefect.step_functions.runs.job",
    "StepTest": "clinops_prefect.step_functions.service.inspection",
}


def __getattr__(name: str) -> Any:
    # PEP 562: whoever imports `language` imports this module first, and may have neither Prefect nor boto3.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.load(f"{_MODULES[name]}:{name}", "aws")
