"""An execution as a Prefect job run."""

from typing import Any

from prefect.blocks.abstract import JobRun

from clinops_prefect.step_functions.runs.pipeline_protocol import RunnablePipeline


class StepFunctionsRun(JobRun[Any]):
    """An execution that `StepFunctionsPipeline.trigger` started.

    Attributes:
        execution_arn: The execution's ARN.
    """

    def __init__(self, pipeline: RunnablePipeline, execution_arn: str) -> None:
        self._pipeline = pipeline
        self.execution_arn = execution_arn
        self._output: tuple[Any] | None = None

    def wait_for_completion(self) -> None:  # type: ignore[override]
        """Wait until the execution has ended.

        Raises:
            ExecutionFailedError: The execution did not succeed.
        """
        self.fetch_result()

    def fetch_result(self) -> Any:
        """The execution's output, once it has ended."""
        if self._output is None:
            self._output = (self._pipeline.wait(self.execution_arn),)
        return self._output[0]

    async def await_for_completion(self) -> None:
        """Like `wait_for_completion`, for async code."""
        await self.afetch_result()

    async def afetch_result(self) -> Any:
        """Like `fetch_result`, for async code."""
        if self._output is None:
            self._output = (await self._pipeline.await_(self.execution_arn),)
        return self._output[0]
