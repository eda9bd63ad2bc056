"""A date's claim: one run of a date at a time, whatever machine it is on.

    icu/_claims/{date}

A conditional write makes it, so of two runs that begin at once exactly one has it; a heartbeat writes it again every
minute. A run that is killed leaves it behind. The next run takes it over if its process is known to be gone, or once
nobody has written it for ten minutes. A run that slept for so long finds by `check_claim`, before each step that
publishes, that the date is another's; only the instant between that check and the write is not covered.
"""

import datetime as dt
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from clinops_prefect import ArtifactExistsError, ArtifactNotFoundError, ClinopsPrefectError, PipelineStore

HEARTBEAT_SECONDS = 60.0
STALE_AFTER = dt.timedelta(minutes=10)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class DateClaimedError(RuntimeError):
    """Another run of the date is under way."""


class ClaimLostError(RuntimeError):
    """Another run has taken the date over: this one may publish nothing more."""


@dataclass(frozen=True)
class _Claim:
    owner: str
    host: str
    process: int
    began: str


@contextmanager
def claimed(store: PipelineStore, date: str, owner: str, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold the date's claim.

    Args:
        store: Where the date is.
        date: `YYYY-MM-DD`.
        owner: Whose it is: the flow run's id, so that a run which Prefect retries finds its own.
        warn: Called with a message where the claim of a run that is gone was taken over.

    Raises:
        DateClaimedError: Another run has it; says since when.
    """
    name = _name(date)
    mine = _Claim(owner, _host(), os.getpid(), dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    while not _written(store, name, mine):
        found = _read(store, name)
        if found is None:
            continue  # given back meanwhile
        if found.owner != owner:
            age = dt.datetime.now(dt.UTC) - _last_beat(store, name)
            if not _is_gone(found) and age < STALE_AFTER:
                minutes = STALE_AFTER.total_seconds() / 60
                raise DateClaimedError(
                    f"another run of {date} is under way: flow run {found.owner or 'unknown'} began at {found.began}. "
                    f"If it was killed elsewhere, start this one again {minutes:.0f} minutes after it, or remove the "
                    f"artifact {name!r}"
                )
            warn(f"{date}: the run that began at {found.began} is gone; its claim is taken over")
        store.delete_artifact(name, missing_ok=True)
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(store, name, mine, ended), name="clinops-claim", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
        # What cannot be given back now is taken over later; the run's own error is what matters.
        with suppress(ClinopsPrefectError):
            if (found := _read(store, name)) is not None and found.owner == owner:
                store.delete_artifact(name, missing_ok=True)


def check_claim(store: PipelineStore, date: str, owner: str) -> None:
    """Check, before something is published, that the date is still this run's.

    Raises:
        ClaimLostError: It is not.
    """
    found = _read(store, _name(date))
    if found is None or found.owner != owner:
        raise ClaimLostError(f"another run of {date} has begun since; this one publishes nothing more")


def _beat(store: PipelineStore, name: str, mine: _Claim, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        # A beat that fails is followed by another one: nine of them may.
        with suppress(ClinopsPrefectError):
            if (found := _read(store, name)) is None or found.owner != mine.owner:
                return
            store.upload(pd.DataFrame([asdict(mine)]), name)


def _written(store: PipelineStore, name: str, claim: _Claim) -> bool:
    try:
        store.upload(pd.DataFrame([asdict(claim)]), name, overwrite=False)
    except ArtifactExistsError:
        return False
    return True


def _read(store: PipelineStore, name: str) -> _Claim | None:
    try:
        row = store.download(name).iloc[0]
    except ArtifactNotFoundError:
        return None
    return _Claim(str(row["owner"]), str(row["host"]), int(row["process"]), str(row["began"]))


def _last_beat(store: PipelineStore, name: str) -> dt.datetime:
    try:
        return store.stat(name).created
    except ArtifactNotFoundError:
        return dt.datetime.now(dt.UTC)  # given back meanwhile: asked for again


def _is_gone(claim: _Claim) -> bool:
    """Whether the claim is of a process of this machine that does not exist any more."""
    if claim.host != _host():
        return False
    try:
        os.kill(claim.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's, and so it is there
    return False


def _host() -> str:
    # With the boot, so that a process of before a restart is not looked for among those of after it.
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    return f"{socket.gethostname()} {boot}".strip()


def _name(date: str) -> str:
    return f"icu/_claims/{date}"
