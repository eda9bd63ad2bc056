"""Turns any error that a decoder raises for stored bytes into an `ArtifactDecodeError`.

Whoever can write to a bucket chooses these bytes, with footer and metadata. So a decoder may raise nearly any error:
deeply nested JSON raises RecursionError, and a dtype that pandas cannot make raises NotImplementedError.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError, ClinopsPrefectError

# All errors that the standard library, NumPy, pandas and pyarrow raise. `Exception` would be too much: the error of an
# object that changed during the read must pass, so that the read starts again.
_ERRORS = (
    pa.ArrowException,
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def decoding(message: str, uri: str = "") -> Iterator[None]:
    """A context that raises an `ArtifactDecodeError` with this message for any error of decoding.

    Args:
        message: What cannot be read, and a possible reason. The class of the error is added, but not its message, which
            may quote stored values.
        uri: The artifact's URI.
    """
    try:
        yield
    except ClinopsPrefectError:
        raise  # such as a ServiceUnavailableError while more bytes are fetched, which is also an OSError
    except MemoryError:
        raise ArtifactDecodeError(f"{message}: there is not enough memory for it", uri=uri) from None
    except _ERRORS as error:
        raise ArtifactDecodeError(f"{message} ({type(error).__name__})", uri=uri) from None


@contextmanager
def decoding_parquet(uri: str) -> Iterator[None]:
    """Like `decoding`, for Parquet. A type or encoding that pyarrow cannot read gets its own message."""
    with decoding(f"{uri} cannot be read as Parquet: damaged, or not Parquet", uri):
        try:
            yield
        except pa.ArrowNotImplementedError:
            raise ArtifactDecodeError(
                f"{uri} has a column of a type, or in an encoding, that pyarrow {pa.__version__} does not read: read "
                "the others with columns=, or have it written otherwise",
                uri=uri,
            ) from None
