"""DataFrameSerializer: Prefect results with frames as Parquet and the rest as JSON; nothing is ever pickled.

    @task(result_serializer=DataFrameSerializer(), result_storage="s3-pipeline-store/prod", persist_result=True)

Inside Prefect's JSON envelope the Parquet is base64. Where Prefect stores a serializer's raw bytes (flow results, and
task results whose cache policy has a `key_storage`), it is Parquet itself: `pandas.read_parquet` opens the object.
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


# Not Serializer[Any]: pydantic would make that a class of its own, which Prefect cannot register.
class DataFrameSerializer(Serializer):
    """A Prefect result serializer that stores DataFrames as Parquet, and everything else as JSON.

    Frames come back equal (values, dtypes, index, column order), also inside dictionaries, lists and tuples. Dates,
    times, decimals, UUIDs, bytes, sets, paths, NumPy scalars and arrays, and pandas' Series, Timestamp and Timedelta
    come back as what they were, with their zone, fold, name and attrs. Completed states and futures come back as
    their values. Exceptions come back as themselves (builtin ones and this package's own) or as a
    `StoredFailureError` with the type's name and the message.

    Raises:
        UnsupportedFrameError: A frame would not come back equal.
        UnsupportedResultError: A value of another type. The message names the type, where the value is, and what to
            return instead. Prefect only warns of an error here, so it is also in the log of the run.
    """

    type: str = Field(default=OURS, frozen=True)

    def dumps(self, obj: Any) -> bytes:
        """Encode a result."""
        # Imported here: Prefect imports this module with itself, and a flow without results needs no pandas.
        from clinops_prefect.results import values

        try:
            parquet, document = values.encode(obj)
        except (UnsupportedFrameError, UnsupportedResultError) as error:
            # Prefect takes this for a failed commit: it warns without the reason, and the run is completed.
            _logger().error("the result is not stored: %s", error)
            raise
        return document if parquet is None else _ParquetBytes(parquet)

    def loads(self, blob: bytes) -> Any:
        """Decode a result.

        Raises:
            ArtifactDecodeError: It is damaged, or no result of this serializer.
        """
        from clinops_prefect.results import values

        return values.decode(blob)


class _ParquetBytes(bytes):
    """Parquet that pydantic puts into JSON as base64, and that everybody else takes for the bytes it is.

    Prefect asks a serializer for bytes, and either stores them as they are or makes them a text in a JSON envelope,
    without saying which.
    """

    # Without this, pydantic takes the bytes for UTF-8 text, and no task result with a frame can be stored.
    __pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(
            serialization=core_schema.plain_serializer_function_ser_schema(lambda blob: base64.b64encode(blob).decode())
        )
    )


def _logger() -> Any:
    try:
        return get_run_logger()  # whose lines are on the run's page
    except MissingContextError:
        return get_logger("clinops_prefect")
