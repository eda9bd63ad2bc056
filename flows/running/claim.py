"""The claim of a date, so that only one run of a date is under way, on any machine.

    icu/_claims/{date}

A conditional write makes the claim, so when two runs begin at once, exactly one gets it. A heartbeat writes the claim
again every minute. A killed run leaves its claim behind. The next run takes it over if that process no longer exists,
or if nobody has written the claim for ten minutes. A run that slept for ten minutes notices that it lost the date by
`check_claim`, which precedes each step that publishes. Only the moment between this check and the write is not covered.
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
    """Another run has taken over the date. This run must not publish anything more."""


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
        store: The store of the date.
        date: The date, as `YYYY-MM-DD`.
        owner: The id of the flow run, so that a run which Prefect retries finds its own claim.
        warn: A function that gets a message when the claim of a dead run is taken over.

    Raises:
        DateClaimedError: Another run has the claim. The message says since when.
    """
    name = _name(date)
    mine = _Claim(owner, _host(), os.getpid(), dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
    while not _written(store, name, mine):
        found = _read(store, name)
        if found is None:
            continue  # the claim was released meanwhile
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
        # If the release fails, the next run takes over the claim later. The run's own error must not be hidden.
        with suppress(ClinopsPrefectError):
            if (found := _read(store, name)) is not None and found.owner == owner:
                store.delete_artifact(name, missing_ok=True)


def check_claim(store: PipelineStore, date: str, owner: str) -> None:
    """Raise, before something is published, if this run has lost the claim of the date.

    Raises:
        ClaimLostError: Another run has taken over the date.
    """
    found = _read(store, _name(date))
    if found is None or found.owner != owner:
        raise ClaimLostError(f"another run of {date} has begun since; this one publishes nothing more")


def _beat(store: PipelineStore, name: str, mine: _Claim, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        # One failed heartbeat does no harm: nine in a row may fail before the claim can be taken over.
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
        return dt.datetime.now(dt.UTC)  # the claim was released meanwhile, so the caller tries again


def _is_gone(claim: _Claim) -> bool:
    """Whether the claim belongs to a process of this machine that no longer exists."""
    if claim.host != _host():
        return False
    try:
        os.kill(claim.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # the process exists and belongs to another user
    return False


def _host() -> str:
    # The boot id tells processes before a restart from those after it, which may have the same process id.
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    return f"{socket.gethostname()} {boot}".strip()


def _name(date: str) -> str:
    return f"icu/_claims/{date}"
