"""AWS Step Functions: build a state machine of steps, deploy it, run it to its end, and never twice."""

from clinops_prefect.step_functions.history import StateEvent
from clinops_prefect.step_functions.job import StepFunctionsRun
from clinops_prefect.step_functions.pipeline import StepFunctionsPipeline

__all__ = ["StateEvent", "StepFunctionsPipeline", "StepFunctionsRun"]
