"""Lists the artifacts of a dataset, each pinned to the object that the listing found."""

import re
from collections import Counter
from dataclasses import dataclass
from urllib.parse import unquote

from clinops_prefect.errors import ArtifactDecodeError, ArtifactNotFoundError, InvalidArtifactNameError
from clinops_prefect.names import is_name
from clinops_prefect.storage.backend import Backend, ObjectInfo, PinnedObject
from clinops_prefect.storage.transfer import together
from clinops_prefect.storage_format import StorageFormat

# The name that Hive, Spark and compatible programs give to the folder of rows without a value.
MISSING = "__HIVE_DEFAULT_PARTITION__"
_PARTITION = re.compile(r"([^=]+)=(.*)", re.DOTALL)
# In such a table, a log lists the current files. Reading all files would also return old rows.
_TABLE_FORMATS = (
    (re.compile(r"(^|/)_delta_log/"), "Delta Lake"),
    (re.compile(r"(^|/)\.hoodie/"), "Hudi"),
    (re.compile(r"(^|/)metadata/[^/]+\.metadata\.json$"), "Iceberg"),
)


@dataclass(frozen=True)
class Part:
    """One artifact of a dataset.

    Attributes:
        name: The artifact's name in the store.
        key: The artifact's key.
        pinned: The object that the listing found.
        folders: The artifact's partition folders, name -> value. The value is None if it is missing.
    """

    name: str
    key: str
    pinned: ObjectInfo | PinnedObject
    folders: tuple[tuple[str, str | None], ...]


def list_parts(backend: Backend, prefix: str, root: str, format: StorageFormat) -> list[Part]:
    """The artifacts below a path, sorted by name.

    Files and folders that begin with `_` or `.` are left out, as Spark, Dask, polars and DuckDB do. They hold notes,
    checksums and the output of unfinished jobs.

    Args:
        backend: The backend that has the artifacts.
        prefix: The store's prefix.
        root: The path, with the store's prefix.
        format: The store's format.

    Raises:
        ArtifactNotFoundError: There is no artifact. The message says what is there instead.
        ArtifactDecodeError: The path is a table of a format with a log, or the parts have different partition columns.
        InvalidArtifactNameError: An object has a name that no artifact can have.
    """
    start = f"{root}/" if root else ""
    extension = format.extension
    found: list[tuple[str, PinnedObject | None]] = []
    others: Counter[str] = Counter()
    for key, pinned in backend.list_pinned(start):
        below = key[len(start) :]
        for pattern, known in _TABLE_FORMATS:
            if pattern.search(below):
                where = backend.uri(key[: len(start)] + below[: pattern.search(below).start()])  # type: ignore[union-attr]
                raise ArtifactDecodeError(
                    f"{where} is a table of {known}, whose log says which of its files count: read it with a package "
                    "for such tables, or export it to a folder of its own",
                    uri=where,
                )
        if any(_is_hidden(segment) for segment in below.split("/")):
            continue
        if key.endswith(extension) and len(below.rpartition("/")[2]) > len(extension):
            found.append((key, pinned))
        elif not key.endswith("/"):
            others[_kind(below)] += 1
    if not found:
        raise _nothing(backend, root, format, others)
    unknown = [key for key, pinned in found if pinned is None]
    heads = dict(zip(unknown, together(backend.head, unknown), strict=True))
    cut = len(prefix) + 1 if prefix else 0
    parts = []
    for key, pinned in found:
        name = key[cut : len(key) - len(extension)]
        if not is_name(name):
            raise InvalidArtifactNameError(
                f"{ascii(backend.uri(key))[1:-1]} has a name that no artifact can have, so it cannot be a part of a "
                "dataset: rename it, or choose a prefix without it",
                uri=backend.uri(key),
            )
        segments = key[len(start) :].split("/")[:-1]
        parts.append(Part(name, key, pinned or heads[key], _folders(segments)))
    parts.sort(key=lambda part: part.name)
    names = [name for name, _ in parts[0].folders]
    for part in parts:
        if [name for name, _ in part.folders] != names:
            raise ArtifactDecodeError(
                f"{backend.uri(part.key)} lies in {_shown(part.folders)}, and {backend.uri(parts[0].key)} in "
                f"{_shown(parts[0].folders)}: all parts must have the same partitions; choose a prefix with one kind",
                uri=backend.uri(part.key),
            )
    if len(set(names)) < len(names):
        where = backend.uri(parts[0].key)
        raise ArtifactDecodeError(f"{where} lies in two folders of one partition's name", uri=where)
    return parts


def _is_hidden(segment: str) -> bool:
    # A folder such as `_year=2024/` is a partition although it begins with `_`.
    return segment.startswith(".") or (segment.startswith("_") and "=" not in segment)


def _folders(segments: list[str]) -> tuple[tuple[str, str | None], ...]:
    found = []
    for segment in segments:
        if match := _PARTITION.fullmatch(segment):
            name, value = _decoded(match[1]), _decoded(match[2])
            found.append((name, None if value == MISSING else value))
    return tuple(found)


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text  # the writer did not percent-encode the name


def _kind(below: str) -> str:
    file = below.rpartition("/")[2]
    return f".{file.rpartition('.')[2]}" if "." in file else "without an extension"


def _nothing(backend: Backend, root: str, format: StorageFormat, others: Counter[str]) -> ArtifactNotFoundError:
    where = backend.uri(f"{root}/" if root else "")
    key = f"{root}{format.extension}"
    try:
        if root:
            backend.head(key)
            return ArtifactNotFoundError(
                f"there is no {format.extension} file below {where}; {backend.uri(key)} is one artifact: download it",
                uri=where,
            )
    except ArtifactNotFoundError:
        pass
    if not others:
        return ArtifactNotFoundError(f"there is nothing below {where}; see list_artifacts()", uri=where)
    there = ", ".join(f"{count} {kind}" for kind, count in others.most_common(4))
    other = next((one for one in StorageFormat if one is not format and others[one.extension]), None)
    hint = f"; a store with format='{other.value}' reads the {other.extension} files" if other else ""
    return ArtifactNotFoundError(
        f"there is no {format.extension} file below {where}, but other objects: {there}{hint}", uri=where
    )


def _shown(folders: tuple[tuple[str, str | None], ...]) -> str:
    return "/".join(f"{name}=…" for name, _ in folders) or "no partition folder"
