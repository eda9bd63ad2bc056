"""The boundary that stored bytes cross: whatever a decoder raises on them is an `ArtifactDecodeError`.

Anybody who can write to a bucket chooses these bytes, footer and metadata included, so no list of what a decoder may
raise is complete: nested deeply enough, JSON is a RecursionError; a dtype that pandas has no form for, a
NotImplementedError.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from clinops_prefect.errors import ArtifactDecodeError, ClinopsPrefectError

# All that the standard library, numpy, pandas and pyarrow raise. Not `Exception`: a read that must begin again, because
# the object changed under it, passes.
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
    """Raise an `ArtifactDecodeError` with this message for whatever goes wrong.

    Args:
        message: What cannot be read, and why perhaps. The error's class is added; never its words, which may quote what
            is stored.
        uri: The artifact's.
    """
    try:
        yield
    except ClinopsPrefectError:
        raise  # also what fetching more of the bytes raises: a ServiceUnavailableError is an OSError
    except MemoryError:
        raise ArtifactDecodeError(f"{message}: there is not enough memory for it", uri=uri) from None
    except _ERRORS as error:
        raise ArtifactDecodeError(f"{message} ({type(error).__name__})", uri=uri) from None


@contextmanager
def decoding_parquet(uri: str) -> Iterator[None]:
    """As `decoding`, for Parquet: what pyarrow cannot do yet is not taken for damage."""
    with decoding(f"{uri} cannot be read as Parquet: damaged, or not Parquet", uri):
        try:
            yield
        except pa.ArrowNotImplementedError:
            raise ArtifactDecodeError(
                f"{uri} has a column of a type, or in an encoding, that pyarrow {pa.__version__} does not read: read "
                "the others with columns=, or have it written otherwise",
                uri=uri,
            ) from None
