"""DataFrameSerializer: stores Prefect results, frames as Parquet and everything else as JSON. It never pickles.

    @task(result_serializer=DataFrameSerializer(), result_storage="s3-pipeline-store/prod", persist_result=True)

Inside Prefect's JSON envelope, the Parquet bytes are base64. If Prefect stores a serializer's raw bytes (flow results,
and task results whose cache policy has a `key_storage`), the object is a Parquet file for `pandas.read_parquet`.
"""

import base64
from typing import Any

from prefect.exceptions import MissingContextError
from prefect.logging import get_logger, get_run_logger
from prefect.serializers import Serializer
from pydantic import Field
from pydantic_core import SchemaSerializer, core_schema

from clinops_prefect.errors import UnsupportedFrameError, UnsupportedResultError
from clinops_prefect.results.guard import OURS


# The base is not Serializer[Any], because pydantic would make that a separate class, which Prefect cannot register.
class DataFrameSerializer(Serializer):
    """A Prefect result serializer that stores DataFrames as Parquet, and everything else as JSON.

    Frames come back equal (values, dtypes, index, column order), also inside dictionaries, lists and tuples. Dates,
    times, decimals, UUIDs, bytes, sets, paths, NumPy scalars and arrays, and pandas' Series, Timestamp and Timedelta
    are restored with their type, time zone, fold, name and attrs. A completed state or future is stored as its value.
    An exception is restored with its type if that is builtin or of this package, else as a `StoredFailureError` with
    the type's name and the message.

    Raises:
        UnsupportedFrameError: A frame would not come back equal.
        UnsupportedResultError: A value has another type. The message names the type, where the value is, and what to
            return instead. Prefect only warns about this error, so it is also in the log of the run.
    """

    type: str = Field(default=OURS, frozen=True)

    def dumps(self, obj: Any) -> bytes:
        """Encode a result."""
        # Imported here, because Prefect itself may import this module, and a flow without results needs no pandas.
        from clinops_prefect.results import values

        try:
            parquet, document = values.encode(obj)
        except (UnsupportedFrameError, UnsupportedResultError) as error:
            # Prefect treats this as a failed commit: it warns without the reason, and the run completes.
            _logger().error("the result is not stored: %s", error)
            raise
        return document if parquet is None else _ParquetBytes(parquet)

    def loads(self, blob: bytes) -> Any:
        """Decode a result.

        Raises:
            ArtifactDecodeError: The bytes are damaged, or not a result of this serializer.
        """
        from clinops_prefect.results import values

        return values.decode(blob)


class _ParquetBytes(bytes):
    """Parquet bytes that pydantic writes into JSON as base64.

    Prefect takes bytes from a serializer and either stores them unchanged or puts them into a JSON envelope as text.
    The serializer does not know which.
    """

    # Without this, pydantic would decode the bytes as UTF-8, and no task result with a frame could be stored.
    __pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(
            serialization=core_schema.plain_serializer_function_ser_schema(lambda blob: base64.b64encode(blob).decode())
        )
    )


def _logger() -> Any:
    try:
        return get_run_logger()  # Prefect shows its lines on the page of the run
    except MissingContextError:
        return get_logger("clinops_prefect")
