"""Refuses to decode what cannot fit into this process's memory, before any of it is allocated.

A file of two kilobytes can declare terabytes: a constant column takes a few bytes for any number of rows, and a long
text in a dictionary is repeated by reference. No ratio of sizes tells such a file from an honest one, whose constant
columns are as small; but what needs more memory than the machine or the container has can be read by nobody.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clinops_prefect.errors import ArtifactDecodeError

if sys.platform != "win32":
    import resource

# Less than this process has taken already. Asking the system takes a tenth of the time of a small artifact's download.
_ALWAYS = 64 << 20
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available() -> int:
    """The bytes that this process could have at most: of the machine, its container and its own limits the least."""
    limits = [sys.maxsize]
    if sys.platform != "win32":
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            soft, _ = resource.getrlimit(kind)
            if soft != resource.RLIM_INFINITY:
                limits.append(soft)
    try:
        # With swap: what fits there is slow, and read all the same.
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        limits.append((kilobytes["MemTotal"] + kilobytes.get("SwapTotal", 0)) << 10)
    except (OSError, LookupError, ValueError):
        pass  # not Linux
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # another version of cgroups, none, or "max"
    return min(limits)


def fits(needed: int) -> bool:
    """Whether this process could have so much."""
    return needed <= _ALWAYS or needed <= available()


def check(needed: int, where: str) -> None:
    """Refuse what needs more.

    Raises:
        ArtifactDecodeError: It needs more than there is.
    """
    if not fits(needed):
        limit = available()
        raise ArtifactDecodeError(
            f"{where} takes at least {needed / 1e9:,.1f} GB of memory when it is read, and this process can have "
            f"{limit / 1e9:,.1f} GB; read less of it at a time, with columns=, filters= or iter_batches, or do not "
            "trust whoever wrote it",
            uri=where,
        )


def least_bytes(fields: Iterable[pa.Field], rows: int) -> int:
    """What so many rows of these fields take at least, whatever is in them."""
    return rows * sum(_bits(field.type) for field in fields) // 8


def decoded_bytes(column: pa.ChunkedArray) -> int:
    """What a column that was read as dictionaries takes when each row has its own copy of its text."""
    return sum(_decoded(chunk) for chunk in column.chunks)


def arrow_owned(data: Any) -> pa.Buffer:
    """These bytes in memory that pyarrow owns, for what its own threads read; see `frames.parquet.parallel_decode`.

    Args:
        data: Bytes. A buffer of pyarrow's is taken for one that owns its memory, and returned as it is.
    """
    if isinstance(data, pa.Buffer):
        return data
    view = memoryview(data).cast("B")
    copy = pa.allocate_buffer(len(view))
    memoryview(copy).cast("B")[:] = view
    return copy


def _bits(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _bits(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _bits(kind.index_type)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _bits(kind.value_type)  # also of a null: its place is filled
    if pa.types.is_struct(kind):
        return sum(_bits(kind.field(position).type) for position in range(kind.num_fields))
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) or pa.types.is_large_list(kind):
        return 64
    if pa.types.is_null(kind):
        return 0
    try:
        return int(kind.bit_width)
    except ValueError:
        return 32  # an offset, of what has no fixed width


def _decoded(array: pa.Array) -> int:
    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = pc.cast(pc.binary_length(array.dictionary), pa.int64())
        return int(pc.sum(lengths.take(array.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(_decoded(array.field(position)) for position in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _decoded(array.keys) + _decoded(array.items)
    if pa.types.is_nested(kind):
        return _decoded(array.flatten())
    return int(array.nbytes)
