"""The error tree of clinops_prefect.

Every error is a `ClinopsPrefectError` and also the builtin a caller would catch without knowing this package:

    ClinopsPrefectError
    ├── InvalidStoreError            ValueError           no store is meant, or its fields cannot work
    ├── InvalidArtifactNameError     ValueError           a name no store would accept
    ├── InvalidMetadataError         ValueError           metadata no store would carry
    ├── ArtifactNotFoundError        FileNotFoundError
    ├── BucketNotFoundError          FileNotFoundError
    ├── ArtifactExistsError          FileExistsError      `overwrite=False` and the artifact exists
    ├── ArtifactDecodeError          ValueError           damaged, or not of its format
    ├── ArtifactColumnError          KeyError             a column that the artifact does not have
    ├── ArtifactArchivedError        OSError              in an archive storage class: restore it first
    ├── UnsupportedFrameError        ValueError           a frame that would not come back equal
    ├── UnsupportedResultError       TypeError            a result that would not be restored exactly
    ├── StoredFailureError           RuntimeError         stands for another package's error in a stored result
    ├── UntrustedResultError         PermissionError      a result that could run code when read
    ├── AccessDeniedError            PermissionError
    ├── OperationNotSupportedError   NotImplementedError  the service does not support the operation
    ├── ServiceUnavailableError      ConnectionError      the only error worth retrying
    ├── InvalidPipelineError         ValueError           a definition that AWS would refuse
    ├── InvalidExecutionError        ValueError           an execution's name or input
    ├── StateMachineNotFoundError    LookupError, RuntimeError
    ├── ExecutionNotFoundError       LookupError
    ├── ExecutionFailedError         RuntimeError         FAILED, TIMED_OUT or ABORTED
    └── ExecutionTimeoutError        TimeoutError         `wait` gave up; the execution continues

Messages name artifacts, columns and ARNs, never a cell value: they end up in logs.
"""

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AccessDeniedError",
    "ArtifactArchivedError",
    "ArtifactColumnError",
    "ArtifactDecodeError",
    "ArtifactExistsError",
    "ArtifactNotFoundError",
    "BucketNotFoundError",
    "ClinopsPrefectError",
    "ExecutionFailedError",
    "ExecutionNotFoundError",
    "ExecutionTimeoutError",
    "InvalidArtifactNameError",
    "InvalidExecutionError",
    "InvalidMetadataError",
    "InvalidPipelineError",
    "InvalidStoreError",
    "OperationNotSupportedError",
    "ServiceUnavailableError",
    "StateMachineNotFoundError",
    "StoredFailureError",
    "UnsupportedFrameError",
    "UnsupportedResultError",
    "UntrustedResultError",
]


class WithoutContext(Exception):  # noqa: N818 - a part of error classes
    """An error that does not show the error during whose handling it was raised, if it was raised `from None`.

    The errors of PyArrow and Python quote cells. `from None` keeps them out of a traceback, but Python still gives them
    to everything that asks for `__context__`, as error trackers do.
    """

    @property
    def __context__(self) -> BaseException | None:
        """The error during whose handling this one was raised."""
        return None if self.__suppress_context__ else super().__context__

    @__context__.setter
    def __context__(self, context: BaseException | None) -> None:
        BaseException.__context__.__set__(self, context)  # type: ignore[union-attr]


class ClinopsPrefectError(WithoutContext):
    """Base of every error that this package raises on purpose.

    Attributes:
        uri: The URI of the artifact or bucket, or the ARN of the state machine or execution, that the error is
            about; empty when it is about neither.
    """

    def __init__(self, message: str, *, uri: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.uri = uri

    def __str__(self) -> str:
        # KeyError's own __str__ would show the repr, and OSError's would show an errno.
        return self.message

    def __reduce__(self) -> Any:
        # Errors are pickled (by Dask, for Prefect's results). Without this, pickling would lose the keyword arguments.
        return _rebuild, (type(self), self.message, dict(self.__dict__))


def _rebuild(cls: type[ClinopsPrefectError], message: str, state: dict[str, Any]) -> ClinopsPrefectError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class InvalidStoreError(ClinopsPrefectError, ValueError):
    """A URI or reference means no store, or a field of a store or a pipeline has a value that cannot work."""


class InvalidArtifactNameError(ClinopsPrefectError, ValueError):
    """The artifact name breaks the grammar of `clinops_prefect.names`."""


class InvalidMetadataError(ClinopsPrefectError, ValueError):
    """Not every store can carry this metadata of an upload."""


class ArtifactNotFoundError(ClinopsPrefectError, FileNotFoundError):
    """The artifact does not exist."""


class BucketNotFoundError(ClinopsPrefectError, FileNotFoundError):
    """The bucket does not exist, so the store cannot say whether the artifact exists."""


class ArtifactExistsError(ClinopsPrefectError, FileExistsError):
    """An artifact of that name exists, and `overwrite` is false. Nothing was written."""


class ArtifactDecodeError(ClinopsPrefectError, ValueError):
    """A stored object, result or output of an execution is damaged, or not of its format."""


class ArtifactColumnError(ClinopsPrefectError, KeyError):
    """`columns` or `filters` name a column that the artifact does not have."""


class ArtifactArchivedError(ClinopsPrefectError, OSError):
    """The artifact is in an archive storage class, such as Glacier. Restore the object, then read again."""


class UnsupportedFrameError(ClinopsPrefectError, ValueError):
    """The frame would not come back equal from this format. Nothing was written."""


class UnsupportedResultError(ClinopsPrefectError, TypeError):
    """A value in a Prefect result would not be restored exactly. The result is not stored."""


class StoredFailureError(ClinopsPrefectError, RuntimeError):
    """Stands for an error of another package in the stored result of a failed run.

    Reading a result imports nothing, so the error itself cannot be restored.

    Attributes:
        type_name: The qualified name of the error's type, such as `sqlalchemy.exc.NoResultFound`.
        message: The error's own message.
    """

    def __init__(self, type_name: str, message: str | None = None) -> None:
        # Every error of this tree can be made from a message alone.
        super().__init__(type_name if message is None else message)
        self.type_name = "" if message is None else type_name

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.type_name else self.message


class UntrustedResultError(ClinopsPrefectError, PermissionError):
    """A Prefect result names a serializer that could run code, and the store does not allow it."""


class AccessDeniedError(ClinopsPrefectError, PermissionError):
    """The credentials are missing, wrong, expired, or lack a permission."""


class OperationNotSupportedError(ClinopsPrefectError, NotImplementedError):
    """This service does not support the operation, or a quota is used up. Trying again does not help."""


class ServiceUnavailableError(ClinopsPrefectError, ConnectionError):
    """The service could not be reached, or answered that it is overloaded, after the client's own retries."""


class InvalidPipelineError(ClinopsPrefectError, ValueError):
    """AWS would refuse the pipeline's definition.

    Attributes:
        problems: Every problem found, each naming its step.
    """

    def __init__(self, message: str, *, problems: list[str] | None = None, uri: str = "") -> None:
        super().__init__(message, uri=uri)
        self.problems = problems or []


class InvalidExecutionError(ClinopsPrefectError, ValueError):
    """AWS would refuse an execution's name or input, or an execution with another input has taken the name."""


class StateMachineNotFoundError(ClinopsPrefectError, LookupError, RuntimeError):
    """The state machine does not exist; `deploy()` creates it."""


class ExecutionNotFoundError(ClinopsPrefectError, LookupError):
    """No execution has that ARN."""


@dataclass(frozen=True)
class FailedItem:
    """An item of a map whose child execution failed. Its values may be patient data, so no message or log shows them.

    Attributes:
        item: The item. For a map in batches, the child execution's whole input.
        error: The error's name.
        cause: The failed task's own text about the error.
        execution_arn: The ARN of the child execution.
    """

    item: Any = field(repr=False)
    error: str
    cause: str = field(repr=False)
    execution_arn: str


class ExecutionFailedError(ClinopsPrefectError, RuntimeError):
    """An execution ended FAILED, TIMED_OUT or ABORTED.

    Attributes:
        status: `FAILED`, `TIMED_OUT` or `ABORTED`.
        error: The error name that Step Functions reports, such as `States.Timeout`.
        cause: The cause that Step Functions reports.
        execution_arn: The execution's ARN.
        failed_state: The name of the state that failed; empty if no state failed.
        failed_items: Up to fifty failed items of a failed map. Like the cause, they are never logged.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str = "FAILED",
        error: str = "",
        cause: str = "",
        execution_arn: str = "",
        failed_state: str = "",
        failed_items: list[FailedItem] | None = None,
    ) -> None:
        super().__init__(message, uri=execution_arn)
        self.status = status
        self.error = error
        self.cause = cause
        self.execution_arn = execution_arn
        self.failed_state = failed_state
        self.failed_items = failed_items or []


class ExecutionTimeoutError(ClinopsPrefectError, TimeoutError):
    """`wait` reached its own time limit. The execution continues."""
