"""Shows a run's progress in Prefect's UI and on a terminal, measured in rows of the source, not in tasks.

A task that reads a file writes to staging how many rows it has read, so its progress is known on every engine.
"""

import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.futures import PrefectFuture

from flows.running.terminal import rate, terminal_line

# Each look costs one request for each file that is being read, and one request to Prefect.
_LOOK_EVERY_SECONDS = 3.0
# The time left is not shown before this share is done: it would be a guess.
_KNOWN_FROM = 0.02
_SPANS = ((60, " a minute"), (3600, " an hour"), (86_400, " a day"))


@dataclass(frozen=True)
class Step:
    """A task of a run.

    Attributes:
        name: The task's name, which its note in staging has too.
        work: The task's share of the run's work, in rows of the source.
        rows: An estimate of the rows that the task reads. 0 for a task that does not read the source.
        kind: What such a task makes, as in "3 of 8 artifacts stored". Empty for a task that is not counted.
    """

    name: str
    work: float
    rows: int = 0
    kind: str = ""


class Progress:
    """Shows how much of a run's work is done.

    Args:
        artifact: The id of the progress artifact.
        steps: All steps of the run.
        rows_read: A function that returns how many rows a running step has read.
        show: A function that gets the share that is done, and a text.
    """

    def __init__(
        self,
        artifact: UUID,
        steps: list[Step],
        rows_read: Callable[[str], int],
        show: Callable[[float, str], None],
    ) -> None:
        self._artifact, self._rows_read, self._show = artifact, rows_read, show
        self._steps = {step.name: step for step in steps}
        self._done: dict[str, float] = {}
        self._began = time.monotonic()
        self._next_look = 0.0
        self._kind_began: dict[str, float] = {}

    def follow(self, futures: dict[str, PrefectFuture[Any]]) -> None:
        """Show progress until all futures have ended, also if they fail. The keys are the names of steps."""
        ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        waiting = dict(futures)
        for name, future in futures.items():
            future.add_done_callback(lambda _, name=name: ended.put(name))  # type: ignore[misc]
        while waiting:
            try:
                name = ended.get(timeout=max(self._next_look - time.monotonic(), 0) or _LOOK_EVERY_SECONDS)
            except queue.Empty:
                pass
            else:
                del waiting[name]
                self._done[name] = 1.0
            if time.monotonic() >= self._next_look:
                self._look(waiting)
                # The pause starts after the answer, so a slow store is not asked without a break.
                self._next_look = time.monotonic() + _LOOK_EVERY_SECONDS
            else:
                # This costs no request. Without it, the line of a short run would stay at 0 % until the end.
                self._show(*self._now())

    def end(self, failed: int = 0) -> None:
        """Show what was done, and in which time.

        Args:
            failed: Number of steps that failed, of those with a kind.
        """
        rows = sum(step.rows for step in self._steps.values())
        kinds = Counter(step.kind for step in self._steps.values() if step.kind)
        parts = [f"{'about ' * (rows >= 1000)}{_coarse(rows)} rows read"] if rows else []
        parts += [f"{f'{all - failed} of ' * bool(failed)}{all} {kind}" for kind, all in kinds.items()]
        parts += [f"{failed} failed"] if failed else []
        text = f"{'ended' if failed else 'done'} in {_time(time.monotonic() - self._began)}"
        text += f": {', '.join(parts)}" if parts else ""
        update_progress_artifact(self._artifact, progress=100.0, description=text)
        self._show(1.0, text)

    def _look(self, waiting: dict[str, Any]) -> None:
        for name in waiting:
            step = self._steps[name]
            if step.rows and (read := self._rows_read(name)):
                # The number of rows was estimated, so a file counts as read only when its task has ended.
                self._done[name] = min(read / step.rows, 0.99)
        share, text = self._now()
        update_progress_artifact(self._artifact, progress=round(100 * share, 1), description=text)
        self._show(share, text)

    def _now(self) -> tuple[float, str]:
        total = sum(step.work for step in self._steps.values())
        share = sum(self._steps[name].work * done for name, done in self._done.items()) / total
        return share, self._text(share)

    def _text(self, share: float) -> str:
        rows = sum(step.rows for step in self._steps.values())
        read = sum(self._steps[name].rows * done for name, done in self._done.items())
        now = time.monotonic()
        seconds = max(now - self._began, 0.001)
        kind = self._kind()
        if rows and (read < rows or not kind):
            text = f"{_coarse(read)} of about {_coarse(rows)} rows read"
            text += f", {_coarse(read / seconds)} rows/s" if read < rows else ""
        else:
            names = [name for name, step in self._steps.items() if step.kind == kind]
            done = sum(self._done.get(name) == 1 for name in names)
            began = self._kind_began.setdefault(kind, now if rows else self._began)
            text = f"{done} of {len(names)} {kind or 'done'}"
            text += f", {rate(done, max(now - began, 1.0), _SPANS)}" if done else ""
        return text if share < _KNOWN_FROM else f"{text}, about {_time(seconds * (1 - share) / share)} left"

    def _kind(self) -> str:
        """The kind of the first step that is not done, of those that have a kind; of the last step if all are done."""
        kinds = [step.kind for step in self._steps.values() if step.kind and self._done.get(step.name) != 1]
        return kinds[0] if kinds else next((step.kind for step in reversed(self._steps.values()) if step.kind), "")


@contextmanager
def following(
    key: str, title: str, steps: list[Step], rows_read: Callable[[str], int] = lambda _: 0
) -> Iterator[Progress]:
    """Show the progress of the run that is under way.

    Args:
        key: The artifact's key. It is the same in each run, so that the artifact is a timeline.
        title: The title of the terminal's line.
        steps: All steps of the run.
        rows_read: A function that returns how many rows a running step has read.
    """
    artifact = create_progress_artifact(0.0, key=key, description="begun")
    assert isinstance(artifact, UUID)  # Prefect returns a coroutine only in async code
    with terminal_line(title) as show:
        yield Progress(artifact, steps, rows_read, show)


def _coarse(number: float) -> str:
    """A number as text, with two digits. More would change with each look, and could reveal small numbers of rows."""
    whole = int(number)
    return "under 1,000" if whole < 1000 else f"{round(whole, 2 - len(str(whole))):,}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
