"""Contestants in processes of their own: a fresh interpreter for each and for each round, in turn, and the medians."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """One way to do what a case is about.

    Attributes:
        name: In the tables.
        function: `module:function`, called with a `meter.Meter` and the arguments.
        arguments: What JSON can say.
        python: Another interpreter than this one.
        seldom: Whether every fifth round is enough: no goal is about it.
    """

    name: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    python: str = sys.executable
    seldom: bool = False


@dataclass
class Measured:
    """What a contestant took, round by round."""

    rounds: list[dict[str, Any]] = field(default_factory=list)

    def median(self, key: str) -> float:
        """The median over the rounds."""
        return float(statistics.median(measured[key] for measured in self.rounds))

    def has(self, key: str) -> bool:
        """Whether it was measured."""
        return all(key in measured for measured in self.rounds)

    @property
    def seconds(self) -> float:
        """The median time."""
        return self.median("seconds")

    @property
    def memory(self) -> float:
        """The median of the peak memory beyond what was there before, in bytes."""
        return self.median("memory")

    def times_faster(self, other: "Measured", key: str = "seconds") -> float:
        """How many times what it took the other took, round against round: other work on the machine hits both."""
        theirs = {measured["round"]: measured[key] for measured in other.rounds}
        pairs = [(mine[key], theirs[mine["round"]]) for mine in self.rounds if mine["round"] in theirs]
        return float(statistics.median(their / max(my, 1e-9) for my, their in pairs))


def measure(contestant: Contestant, environment: dict[str, str], timeout: float = 900) -> dict[str, Any]:
    """Run a contestant once.

    Raises:
        RuntimeError: It failed; with the end of what it said.
    """
    command = [contestant.python, "-m", "tests.benchmarks.meter", contestant.function]
    process = subprocess.run(
        [*command, json.dumps(contestant.arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"{contestant.name} ({contestant.function}) failed:\n{process.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return measured


def compare(contestants: Sequence[Contestant], rounds: int, environment: dict[str, str]) -> dict[str, Measured]:
    """Run the contestants in turn, so many times, and keep every measurement."""
    results = {contestant.name: Measured() for contestant in contestants}
    for number in range(rounds):
        # Each is first, once: what the one before leaves behind (caches, memory) is nobody's privilege.
        turn = number % len(contestants)
        for contestant in [*contestants[turn:], *contestants[:turn]]:
            if contestant.seldom and number % 5:
                continue
            measured = measure(contestant, environment)
            results[contestant.name].rounds.append({**measured, "round": number})
            memory = measured.get("memory", 0) / 2**20
            print(f"    {contestant.name}: {measured['seconds']:.2f} s, {memory:,.0f} MiB", file=sys.stderr, flush=True)
    return results
