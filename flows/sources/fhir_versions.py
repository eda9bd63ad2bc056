"""Versions of FHIR resources: which lines of a source a later version of the same resource, in any file, supersedes."""

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
    """Lines of which the source has another version.

    Attributes:
        superseded: Per file, the lines that a later version supersedes.
        tied: Per file, the lines of resources of which several may be the latest.
        settled: The superseded lines, and of those that are tied all but the one that is read last.
    """

    superseded: Lines
    tied: Lines
    settled: Lines


def find_versions(paths: Iterable[SourcePath], kind: str) -> Versions:
    """Find which lines are versions of the same resource, by its `id`, and which of them counts.

    The highest `meta.versionId` counts, where these are whole numbers, then the latest `meta.lastUpdated`; of what is
    left, one that is `entered-in-error`. A resource without an id has no versions.

    Args:
        paths: NDJSON files, in the order in which they are read.
        kind: The resources' type.

    Raises:
        TableError: A file is damaged, or a line is not such a resource.
    """
    paths = list(paths)
    # Eight bytes a line first: nearly all resources are there once, and need no more.
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
