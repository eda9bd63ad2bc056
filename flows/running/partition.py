"""One date's partition of the store. A run writes its artifacts to staging, and publishes them when all are complete.

    icu/{date}/cohort, outcomes, events/shard-NNN, features/shard-NNN, quality.json, quality.html, manifest.json
    icu/_staging/{date}/{run}/…        the same, and the raw shards, while a run is under way

A run's name is the fingerprint of what it depends on (inputs, parameters, catalogue, code), and not a time. A new try
after a kill finds what the run had finished, and a run with other inputs does not.
"""

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from clinops_prefect import ArtifactDecodeError, ArtifactNotFoundError, PipelineStore, StorageFormat
from clinops_prefect import __version__ as package_version
from flows.running.claim import check_claim
from flows.sources.files import TableError
from flows.sources.objects import ObjectPath, SourcePath, path_below

_STAGING = "icu/_staging"
_HASHING, _ASKING = 4, 16


@dataclass(frozen=True)
class Partition:
    """The names of one run's artifacts.

    Attributes:
        date: The date, as `YYYY-MM-DD`.
        run: The run's fingerprint.
        owner: The id of the flow run that has claimed the date (`claim`). Empty if dates are not claimed.
    """

    date: str
    run: str
    owner: str = ""

    def final(self, name: str) -> str:
        """The published name of an artifact, where readers find it."""
        return f"icu/{self.date}/{name}"

    def staged(self, name: str) -> str:
        """The name of an artifact in staging, where it is until all artifacts are complete."""
        return f"{_STAGING}/{self.date}/{self.run}/{name}"

    def raw(self, table: str, shard: int, part: int) -> str:
        """The name of one of the artifacts with a shard's raw rows."""
        return self.staged(f"raw/{table}/shard-{shard:03d}/part-{part:05d}")

    def write_note(self, store: PipelineStore, step: str, note: dict[str, Any]) -> None:
        """Record that a step is complete, and its counts."""
        # The note is a frame, so that the store lists it, and the notes of a killed run can be found and removed.
        text = orjson.dumps(note, option=orjson.OPT_NON_STR_KEYS).decode()
        store.upload(pd.DataFrame({"note": [text]}), self.staged(f"notes/{step}"))

    def read_note(self, store: PipelineStore, step: str) -> dict[str, Any] | None:
        """The counts of a complete step. None if the step is not complete."""
        try:
            frame = store.download(self.staged(f"notes/{step}"))
        except ArtifactNotFoundError:
            return None
        note: dict[str, Any] = orjson.loads(frame["note"].iloc[0])
        return note

    def manifest(self, store: PipelineStore) -> dict[str, Any]:
        """The published manifest, of any run. Empty if there is none."""
        try:
            manifest: dict[str, Any] = json.loads(store.read_bytes(self.final("manifest.json")))
        except (ArtifactNotFoundError, ArtifactDecodeError, ValueError):
            return {}
        return manifest

    def is_complete(self, store: PipelineStore, manifest: dict[str, Any]) -> bool:
        """Whether this run made the manifest, and all artifacts in it still exist with the same sizes."""
        if manifest.get("run") != self.run:
            return False
        try:
            for page in ("quality.json", "quality.html"):
                store.read_bytes(self.final(page))
            return all(store.stat(artifact["name"]).bytes == artifact["bytes"] for artifact in manifest["artifacts"])
        except (ArtifactNotFoundError, ArtifactDecodeError):
            return False

    def check_claim(self, store: PipelineStore) -> None:
        """Raise `ClaimLostError` if another run has taken over the date."""
        if self.owner:
            check_claim(store, self.date, self.owner)

    def withdraw(self, store: PipelineStore, before: dict[str, Any]) -> None:
        """Withdraw the published manifest before the first artifact is replaced.

        Each artifact is replaced atomically, but not all of them together. If a run were killed in between, the date
        would have artifacts of two runs under the manifest of the first.

        Args:
            store: The store of the date.
            before: The published manifest.
        """
        self.check_claim(store)
        if not before:
            return
        # Keep the summary of the old result: if this run is killed, the next try is compared with it.
        note = {"run": "", "replaced_by": self.run, "summary": before.get("summary")}
        store.write_bytes(self.final("manifest.json"), json.dumps(note).encode())

    def clear(self, store: PipelineStore) -> None:
        """Remove everything that this and earlier runs of the date left in staging."""
        for name in store.list_artifacts(f"{_STAGING}/{self.date}"):
            store.delete_artifact(name, missing_ok=True)

    def remove_stale(self, store: PipelineStore, keep: set[str]) -> int:
        """Remove the date's artifacts that are not in `keep`, left by a run with more shards or in another format."""
        removed = 0
        for format in StorageFormat:
            same = store if format is store.format else store.model_copy(update={"format": format})
            for name in same.list_artifacts(f"icu/{self.date}"):
                if same is not store or name not in keep:
                    same.delete_artifact(name, missing_ok=True)
                    removed += 1
        return removed


def input_files(paths: Iterable[SourcePath], root: SourcePath) -> list[dict[str, Any]]:
    """The run's inputs: each file's name, its size, and its SHA-256 or, in a bucket, its version."""

    def one(path: SourcePath) -> dict[str, Any]:
        if isinstance(path, ObjectPath):
            # The version is the ETag or generation. For a checksum of our own, every object would be fetched twice.
            return {"file": path_below(path, root).as_posix(), **path.objects.identity(path.key)}
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        return {"file": path_below(path, root).as_posix(), "bytes": path.stat().st_size, "sha256": checksum}

    # Threads help here, since hashing releases the interpreter lock.
    with ThreadPoolExecutor(_ASKING if isinstance(root, ObjectPath) else _HASHING) as pool:
        return list(pool.map(one, paths))


def check_unchanged(paths: Iterable[SourcePath], root: SourcePath, inputs: list[dict[str, Any]]) -> None:
    """Raise `TableError` if an object of the source changed during the run, which may have read both versions."""
    if isinstance(root, ObjectPath) and input_files(paths, root) != inputs:
        raise TableError(f"{root}: changed while the run read it, so nothing is published; run again")


def fingerprint(inputs: list[dict[str, Any]], parameters: dict[str, Any]) -> str:
    """A digest of what a run depends on: inputs, parameters, and the code of the steps."""
    code = hashlib.sha256()
    for module in sorted(Path(__file__).parents[1].rglob("*.py")):
        code.update(module.read_bytes())
    text = json.dumps([inputs, parameters, package_version, code.hexdigest()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
