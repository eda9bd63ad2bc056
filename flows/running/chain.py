"""The ICU chain on an engine: the order of the tasks, and the lineage of each artifact.

Tasks take names, and wait for each other by `wait_for` only. If a parameter were a future, the run's graph would draw
the task beside its predecessor or inside it, depending on whether the predecessor was done at the submission.
"""

from collections.abc import Iterable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from clinops_prefect import PipelineStore
from flows.icu.counts import Counts, add_counts
from flows.icu.description import describe_cohort
from flows.running.partition import Partition
from flows.running.progress import Progress, Step
from flows.running.source_store import reference_of
from flows.running.tasks import (
    features_shard,
    find_observation_versions,
    ingest_file,
    make_cohort,
    preprocess_shard,
    publish_artifact,
)
from flows.sources.folder import Source
from flows.sources.sizes import estimated_rows

Future = PrefectFuture[Any]
# Work for each row of the source, relative to reading it (measured with tests/benchmarks/flow.py).
_CLEANING, _WINDOWS, _PUBLISHING = 0.3, 0.1, 0.05


@dataclass(frozen=True)
class Chain:
    """The steps of one date.

    Attributes:
        source: The source's files.
        store: The store's reference.
        partition: The names of the artifacts.
        shards: The number of parts into which the subjects are split.
        code_table: The file that maps codes of FHIR or MEDS to items.
        options: `catalogue`, `window_hours` and `horizon_hours`.
    """

    source: Source
    store: str
    partition: Partition
    shards: int
    code_table: str
    options: dict[str, Any]

    def steps(self) -> list[Step]:
        """All steps, each with its share of the work."""
        files = {
            f"ingest-{events.name}": estimated_rows(self.source.root / events.path) for events in self.source.events
        }
        total = max(sum(files.values()), 1)
        shards, publishing = range(self.shards), _PUBLISHING * total / (2 * self.shards + 2)
        return [
            Step("versions", 0.3 * total * self.source.is_fhir),
            Step("cohort", 0.01 * total),
            *(Step(name, max(rows, 1), rows) for name, rows in files.items()),
            *(
                Step(f"events-{shard:03d}", _CLEANING * total / self.shards, kind="steps of shards computed")
                for shard in shards
            ),
            *(
                Step(f"features-{shard:03d}", _WINDOWS * total / self.shards, kind="steps of shards computed")
                for shard in shards
            ),
            *(Step(f"publish-{name}", publishing, kind="artifacts stored") for name in self._names()),
            Step("report", 0.01 * total),
        ]

    def compute(self, runner: TaskRunner[Any], progress: Progress) -> dict[str, Future]:
        """Compute every artifact in staging. A task does nothing if an earlier try has already finished its work.

        Returns:
            The future of each artifact's task, by the artifact's name.
        """
        common = {"store": self.store, "partition": self.partition}
        reading = {"source": reference_of(self.source.root), "fhir": self.code_table, **common}
        ingest = {"shards": self.shards, "catalogue": self.options["catalogue"], **reading}
        read: dict[str, Future] = {}
        if self.source.is_fhir:
            read["versions"] = runner.submit(
                find_observation_versions, {"source": reference_of(self.source.root), **common}
            )
        versions = list(read.values())
        read["cohort"] = runner.submit(make_cohort, reading)
        for events in self.source.events:
            read[f"ingest-{events.name}"] = runner.submit(ingest_file, {"events": events, **ingest}, wait_for=versions)
        files = [events.name for events in self.source.events]
        cleaning = {"files": files, "catalogue": self.options["catalogue"], **common}
        made, futures = {"cohort": read["cohort"], "outcomes": read["cohort"]}, dict(read)
        for shard in range(self.shards):
            name = f"{shard:03d}"
            cleaned = runner.submit(preprocess_shard, {"shard": shard, **cleaning}, wait_for=list(read.values()))
            making = {"shard": shard, "shards": self.shards, **self.options, **common}
            windows = runner.submit(features_shard, making, wait_for=[cleaned])
            futures |= {f"events-{name}": cleaned, f"features-{name}": windows}
            made |= {f"events/shard-{name}": cleaned, f"features/shard-{name}": windows}
        _finish(futures, progress)
        return made

    def counted(self, target: PipelineStore) -> dict[str, Counts]:
        """The added counts of every step, and a description of the whole cohort."""

        def counted(steps: Iterable[str]) -> list[dict[str, Any]]:
            return [self.partition.read_note(target, step) or {} for step in steps]

        shards = range(self.shards)
        (cohort,) = counted(["cohort"])
        files = counted(f"ingest-{events.name}" for events in self.source.events)
        stays, outcomes = (target.download(self.partition.staged(name)) for name in ("cohort", "outcomes"))
        return {
            "description": describe_cohort(stays, outcomes),
            "ingested": add_counts(*(note["counts"] for note in files)),
            "cohort": cohort,
            "cleaned": add_counts(*counted(f"events-{shard:03d}" for shard in shards)),
            "features": add_counts(*counted(f"features-{shard:03d}" for shard in shards)),
        }

    def publish(
        self, runner: TaskRunner[Any], target: PipelineStore, made: dict[str, Future], progress: Progress
    ) -> dict[str, Future]:
        """Publish the artifacts, each with its lineage: tables → cohort and events → features."""
        sources = [path.as_uri() for path in self.source.paths]
        cohort = target.uri(self.partition.final("cohort"))
        futures: dict[str, Future] = {}
        for name in self._names():
            kind, _, shard = name.partition("/")
            made_from = sources if kind == "cohort" else [*sources, cohort]
            if kind == "features":
                made_from = [target.uri(self.partition.final(f"events/{shard}")), cohort]
            parameters = {"store": self.store, "partition": self.partition, "name": name, "made_from": made_from}
            after: list[Any] = [made[name].state]
            futures[f"publish-{name}"] = runner.submit(publish_artifact, parameters, wait_for=after)
        _finish(futures, progress)
        return futures

    def _names(self) -> list[str]:
        shards = [f"shard-{shard:03d}" for shard in range(self.shards)]
        return ["cohort", "outcomes", *(f"{kind}/{shard}" for kind in ("events", "features") for shard in shards)]


def published_artifacts(futures: dict[str, Future]) -> list[dict[str, Any]]:
    """The published artifacts, sorted by name.

    Args:
        futures: The result of `Chain.publish`.
    """
    return sorted((future.result().artifact for future in futures.values()), key=lambda artifact: str(artifact["name"]))


def states(futures: dict[str, Future], kind: str = "") -> list[State[Any]]:
    """The states of tasks, for which other tasks wait.

    We pass states and not futures: waiting again for a future of Ray would start another instance of Ray.

    Args:
        futures: Futures of tasks, by the names of what they made.
        kind: Only the tasks whose names begin with this.
    """
    return [future.state for name, future in futures.items() if name.startswith(kind)]


def _finish(futures: dict[str, Future], progress: Progress) -> None:
    """Wait for all tasks, so that all possible work is done and kept, and then raise the first failure.

    A broken pool is raised first. Tasks that depend on it fail with other errors, and are tried again with it.
    """
    progress.follow(futures)
    failures: list[Exception] = []
    for future in futures.values():
        try:
            future.result()
        except Exception as failure:
            failures.append(failure)
    if failures:
        raise next((failure for failure in failures if isinstance(failure, BrokenExecutor)), failures[0])
