"""Mutation tests of the code that must not fail silently.

    python -m tests.mutants                          # a hundred mutants of each part
    python -m tests.mutants --total 20               # twenty in all
    python -m tests.mutants --parts s3 --count 10 --seed 7

The tests of each part run once without a mutant, to record which of them execute a line, and how long each takes. A
mutant is then met by those tests alone that execute the changed statement, the quickest first, in a process forked from
this one, which has imported what the tests need and started the emulators. The processes work in a copy of the
repository. With --trust, nothing is recorded: the mutants begin at once and meet all tests of the part, and the first
test that fails has to pass without a mutant.

A mutant that no test notices is printed, and has to be listed in survivors.md with a reason. Of a few in all (--total),
only many of them fail the run: whoever edits a function draws its mutants anew, and should not have to answer at once
for an assertion that was missing before. A busy machine fails no run: a mutant that takes too long counts as noticed,
and what is not known after --within seconds counts neither way.
"""

import argparse
import math
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from tests.mutants.mutations import Mutant, sample
from tests.mutants.parts import PARTS, Part
from tests.mutants.running import Outcome, Runner

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.md")
_LEAST_KILLED = 0.9
# Of twenty, of which nine in ten are noticed, more than five survive once in a hundred draws.
_MOST_SURVIVORS_OF_FEW = 0.25


def main() -> int:
    """0 if enough mutants were killed, and every other one is listed; of a few in all, if few are neither."""
    arguments, begun = _arguments(), time.monotonic()
    # Ended by default, the process would leave its emulators and its copies behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parts = [part for part in PARTS if not arguments.parts or part.name in arguments.parts.split(",")]
    chosen = _chosen(parts, arguments.count, arguments.total, arguments.seed)
    listed = SURVIVORS.read_text()
    known = [(part, mutant) for part, mutant in chosen if _entry(mutant) in listed]
    tried, killed, survived, too_long = Counter[Part](), Counter[Part](), [], 0
    with Runner(ROOT, arguments.workers, arguments.seconds) as runner:
        needed = {part for part, _ in chosen}
        runner.serve(needed)
        if not arguments.trust:
            runner.check_tests(needed)
        todo = [pair for pair in chosen if pair not in known]
        for part, mutant, outcome, test in runner.run(todo, begun + arguments.within):
            tried[part] += 1
            killed[part] += outcome is not Outcome.SURVIVED
            too_long += outcome is Outcome.TIMED_OUT
            if outcome is Outcome.SURVIVED:
                survived.append(mutant)
            print(f"{outcome.value:9} {part.name}: {mutant} (line {mutant.line}) {test}".rstrip(), flush=True)
    for part in parts:
        if count := sum(its is part for its, _ in chosen):
            listed_here = sum(its is part for its, _ in known)
            left = count - listed_here - tried[part]
            print(f"{part.name}: {killed[part]} of {count} killed, {listed_here} listed as survivors, {left} not tried")
    print(f"{len(chosen)} mutants ({too_long} took too long), seed {arguments.seed}, {time.monotonic() - begun:.0f} s")
    if survived:
        print(f"{len(survived)} survived. Add a test that notices, or list each in {SURVIVORS.relative_to(ROOT)}:")
        print("\n".join(f"{_entry(mutant)} REASON" for mutant in survived))
    number = max(1, tried.total() + len(known))
    share = killed.total() / number
    print(f"{share:.0%} killed, {share + len(known) / number:.0%} with those that are listed")
    if arguments.total:
        return 0 if len(survived) <= _MOST_SURVIVORS_OF_FEW * arguments.total else 1
    return 0 if share >= _LEAST_KILLED and not survived else 1


def _chosen(parts: list[Part], count: int, total: int, seed: str) -> list[tuple[Part, Mutant]]:
    """Which mutants are tried: so many of each part, or so many in all, the parts in turn."""
    each = -(-total // len(parts)) if total else count
    by_part = [[(part, mutant) for mutant in sample(ROOT, part.modules, each, f"{seed} {part.name}")] for part in parts]
    in_turn = [group[number] for number in range(each) for group in by_part if number < len(group)]
    return in_turn[: total or None]


def _entry(mutant: Mutant) -> str:
    return f"- {mutant}:"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", default="", help=f"some of {', '.join(part.name for part in PARTS)}")
    parser.add_argument("--count", type=int, default=100, help="mutants of each part")
    parser.add_argument("--total", type=int, default=0, help="mutants of all parts together, instead")
    parser.add_argument("--seed", default="1", help="another seed, other mutants")
    parser.add_argument("--trust", action="store_true", help="do not run all tests without a mutant before")
    parser.add_argument("--seconds", type=float, default=30, help="how long a part's tests take, if trusted")
    parser.add_argument("--within", type=float, default=math.inf, help="seconds after which no more is tried")
    parser.add_argument("--workers", type=int, default=2, help="mutants at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
