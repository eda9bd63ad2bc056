"""Refuses to decode a frame that cannot fit into this process's memory, before any memory is allocated.

A file of two kilobytes can declare terabytes: a constant column takes a few bytes for any number of rows, and a long
text in a dictionary is repeated by reference. A limit on the ratio of the sizes would also refuse harmless files with
constant columns. So the limit is the memory of the machine, the container and the process.
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

# So many bytes always fit, since the process itself uses more. Asking the system would take a tenth of the time of
# downloading a small artifact.
_ALWAYS = 64 << 20
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available() -> int:
    """The maximum memory of this process in bytes: the smallest limit of the machine, the container and the process."""
    limits = [sys.maxsize]
    if sys.platform != "win32":
        for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            soft, _ = resource.getrlimit(kind)
            if soft != resource.RLIM_INFINITY:
                limits.append(soft)
    try:
        # Swap counts too: it is slow, but a frame that needs it can be read.
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        limits.append((kilobytes["MemTotal"] + kilobytes.get("SwapTotal", 0)) << 10)
    except (OSError, LookupError, ValueError):
        pass  # not Linux
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):
            continue  # another version of cgroups, no cgroups, or no limit ("max")
    return min(limits)


def fits(needed: int) -> bool:
    """Whether so many bytes can fit into the memory of this process."""
    return needed <= _ALWAYS or needed <= available()


def check(needed: int, where: str) -> None:
    """Refuse to read what cannot fit into the memory of this process.

    Raises:
        ArtifactDecodeError: `needed` bytes do not fit.
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
    """The minimum size in bytes of so many rows of these fields, whatever their values are."""
    return rows * sum(_bits(field.type) for field in fields) // 8


def decoded_bytes(column: pa.ChunkedArray) -> int:
    """The size in bytes of a column that was read as dictionaries, if each row had its own copy of its text."""
    return sum(_decoded(chunk) for chunk in column.chunks)


def arrow_owned(data: Any) -> pa.Buffer:
    """A copy of these bytes in memory that pyarrow owns, for pyarrow's threads; see `frames.parquet.parallel_decode`.

    Args:
        data: The bytes. A buffer of pyarrow is returned unchanged, since it is assumed to own its memory.
    """
    if isinstance(data, pa.Buffer):
        return data
    view = memoryview(data).cast("B")
    copy = pa.allocate_buffer(len(view))
    memoryview(copy).cast("B")[:] = view
    return copy


def _bits(kind: pa.DataType) -> int:
    if pa.types.is_primitive(kind):
        return int(kind.bit_width)
    if isinstance(kind, pa.BaseExtensionType):
        return _bits(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _bits(kind.index_type)
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _bits(kind.value_type)  # a null takes the same space
    if pa.types.is_struct(kind):
        return sum(_bits(kind.field(position).type) for position in range(kind.num_fields))
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind) or pa.types.is_large_list(kind):
        return 64
    if pa.types.is_null(kind):
        return 0
    try:
        return int(kind.bit_width)
    except ValueError:
        return 32  # types of variable width take at least an offset for each value


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
