"""AWS Step Functions: build a state machine of steps, deploy it, and run it to its end exactly once.

- `language`: the steps and their translation to the Amazon States Language. It imports neither Prefect nor boto3, so
  a Lambda function can use it.
- `service`: all requests to AWS (deploy, start, wait, redrive, history), and the translation of AWS's errors to ours.
  It needs boto3 only.
- `runs`: what a Prefect run adds: names that survive a retry, progress, cancellation, the task and the job.
- `pipeline`: the Prefect block on top of these three.
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
    # Lazy (PEP 562), since an import of `language` imports this module first, and Prefect and boto3 may be missing.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return registry.load(f"{_MODULES[name]}:{name}", "aws")
