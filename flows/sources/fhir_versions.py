"""Versions of FHIR resources: finds the lines that a later version of the same resource, in any file, supersedes."""

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flows.sources.fhir_resources import read_resources
from flows.sources.fhir_table import canonical_id
from flows.sources.objects import SourcePath

_INTEGER = re.compile(r"\d{1,18}")
_ERROR = "entered-in-error"
Lines = dict[SourcePath, set[int]]
_NEVER = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True)
class Versions:
    """The lines of resources with several versions in the source.

    Attributes:
        superseded: For each file, the lines that a later version supersedes.
        tied: For each file, the lines of resources whose latest version is not known.
        settled: The superseded lines, and of the tied lines all except the last one that is read.
    """

    superseded: Lines
    tied: Lines
    settled: Lines


def find_versions(paths: Iterable[SourcePath], kind: str) -> Versions:
    """The lines that are versions of the same resource (by its `id`), and which version counts.

    The version with the highest `meta.versionId` counts if these are whole numbers, then the latest `meta.lastUpdated`,
    and then a version that is `entered-in-error`. A resource without an id has no versions.

    Args:
        paths: NDJSON files, in the order in which they are read.
        kind: The type of the resources.

    Raises:
        TableError: A file is damaged, or a line is not a resource of this type.
    """
    paths = list(paths)
    # The first pass keeps only eight bytes per line, since nearly all resources have one version.
    hashes = [hash(id) for path in paths for _, resource in read_resources(path, kind) if (id := _id(resource))]
    numbers, times = np.unique(np.array(hashes, np.int64), return_counts=True)
    repeated = set(numbers[times > 1].tolist())
    del hashes, numbers, times
    found = Versions({}, {}, {})
    if not repeated:
        return found
    groups: dict[str, list[tuple[tuple[int, dt.datetime, bool], SourcePath, int]]] = {}
    for path in paths:
        for number, resource in read_resources(path, kind):
            if (id := _id(resource)) and hash(id) in repeated:
                groups.setdefault(id, []).append((_rank(resource), path, number))
    for versions in groups.values():
        newest = max(rank for rank, _, _ in versions)
        later = [(path, number) for rank, path, number in versions if rank == newest]
        for rank, path, number in versions:
            if rank < newest:
                found.superseded.setdefault(path, set()).add(number)
            elif len(later) > 1:
                found.tied.setdefault(path, set()).add(number)
            if (path, number) != later[-1]:
                found.settled.setdefault(path, set()).add(number)
    return found


def _id(resource: dict[str, Any]) -> str:
    text = resource.get("id")
    return canonical_id(text) if isinstance(text, str) else ""


def _rank(resource: dict[str, Any]) -> tuple[int, dt.datetime, bool]:
    meta = resource.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    version = str(meta.get("versionId", ""))
    try:
        updated = dt.datetime.fromisoformat(str(meta.get("lastUpdated", "")))
    except ValueError:
        updated = _NEVER
    if updated.tzinfo is None:
        updated = updated.replace(tzinfo=dt.UTC)
    return int(version) if _INTEGER.fullmatch(version) else -1, updated, resource.get("status") == _ERROR
