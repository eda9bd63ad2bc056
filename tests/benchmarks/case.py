"""What a case is, and what it runs in."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.benchmarks.processes import Contestant, Measured, compare
from tests.benchmarks.servers import Server, gcs_server, s3_server


@dataclass(frozen=True)
class Goal:
    """What a case is to reach, and what it did.

    Attributes:
        reach: The goal.
        measured: What was measured of it.
        reached: Whether it was reached.
        least: What counts as some of it; empty if there is no such step.
        is_least: Whether that was reached.
    """

    reach: str
    measured: str
    reached: bool
    least: str = ""
    is_least: bool = False


def at_least(what: str, wanted: float, got: float, least: float = 0) -> Goal:
    """A ratio that should not be lower; `least`: what a prototype has shown."""
    step = f"≥ {least:g}×" if least else ""
    return Goal(f"≥ {wanted:g}× {what}", f"{got:.2f}×", got >= wanted, step, bool(least) and got >= least)


def at_most(what: str, wanted: float, got: float, unit: str = "×", least: float = 0) -> Goal:
    """A ratio, or an amount, that should not be higher; `least`: what a prototype has shown."""
    step = f"≤ {least:g}{unit}" if least else ""
    return Goal(f"≤ {wanted:g}{unit} {what}", f"{got:.2f}{unit}", got <= wanted, step, bool(least) and got <= least)


@dataclass
class Outcome:
    """What came of a case, as it is kept and rendered.

    Attributes:
        title: Its heading.
        server: What it ran against.
        results: Contestant -> each round's measurements.
        goals: Reached or not.
        notes: What a reader has to know.
        frame_bytes: The frame's memory, for `memory` as a share of it; 0 where there is no frame.
    """

    title: str
    server: str
    results: dict[str, Measured]
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frame_bytes: int = 0

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "results": {name: measured.rounds for name, measured in self.results.items()}}


@dataclass
class Bench:
    """What cases run in: the servers, started when first asked for, the rounds, and a folder for scratch files."""

    rounds: int
    scratch: Path
    null_s3: str
    peers_python: str
    clinops_python: str
    servers: ExitStack
    stored: set[str] = field(default_factory=set)
    shard_mb: int = 50
    shards: int = 0
    dataset_gb: int = 30

    @cached_property
    def s3(self) -> Server:
        """The S3 server."""
        return self.servers.enter_context(s3_server(self.null_s3, self.scratch))

    @cached_property
    def gcs(self) -> Server:
        """The Cloud Storage server."""
        return self.servers.enter_context(gcs_server())

    def compare(
        self, contestants: Sequence[Contestant], server: Server | None = None, rounds: int = 0
    ) -> dict[str, Measured]:
        """Measure contestants in turn; see `processes.compare`."""
        environment = {
            "PREFECT_HOME": str(self.scratch / "prefect"),
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }
        return compare(contestants, rounds or self.rounds, {**environment, **(server.environment if server else {})})


@dataclass(frozen=True)
class Case:
    """One case of the suite.

    Attributes:
        name: For `CASES=`.
        run: Measures it.
        rounds: How many, unless `ROUNDS=` says it: as many as its noise asks for and its length allows.
    """

    name: str
    run: Callable[[Bench], Outcome]
    rounds: int = 3
