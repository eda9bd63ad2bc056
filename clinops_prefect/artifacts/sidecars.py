"""The sidecars of CSV artifacts: who writes and removes them, and when, without a lock.

The sidecar S(t) of a text t is named by the checksum of t, so a reader never pairs a text with the types of another
version. A text of ours carries its checksum in its object's metadata; a text without it was written by another program.

The states of an artifact:

    state       text    sidecars           comes from                                     a reader gets
    empty       none    none               nothing was written, or all was removed        ArtifactNotFoundError
    announced   old     S(old) and S(new)  a writer wrote its sidecar, not yet its text   old
    stored      new     S(old) and S(new)  the writer's text replaced the old one         new
    settled     new     S(new)             the writer removed the other sidecars          new
    bare        new     without S(new)     another writer removed S(new) before it saw    waits up to 3.1 s for S(new),
                                           the new text; whoever wrote or removed         then new
                                           S(new) puts it back
    leftover    any     and S(dead)        a writer died; the next writer removes S(dead) as without S(dead)
    foreign     other   any                another program replaced the text              inferred types

Who may do what, in this order:

    writer, overwrite=True    write S(new); write the text; tidy
    writer, overwrite=False   write S(new); write the text if there is none; put S(new) back if it was removed.
                              If the writer lost the race: withdraw, which removes S(new) and no other sidecar
    copier                    write S at the target; copy the text; tidy the target
    remover                   remove the text; tidy
    reader                    writes and removes nothing

Tidying removes the sidecars of texts that are gone. If a removed sidecar belongs to the text that is there in the end,
it is put back.
tests/unit/test_sidecar_model.py runs two writers, a reader and a crash at every step through this table.
"""

import re
import time
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from clinops_prefect.artifacts.plain import CHECKSUM
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.errors import ArtifactNotFoundError
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.storage.backend import Backend, ObjectChangedError

_SIDECAR = re.compile(r"\.[0-9a-f]{16}\.schema\.json")
# A reader that found a text without its sidecar gives the writer this long before it looks again. Three seconds in all:
# on a busy machine, or far from it, the few requests that put a sidecar back take one.
_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6)
# Tidying ends once the text stands still.
_TIDYINGS = 5


@dataclass(frozen=True)
class Sidecar:
    """The content of a sidecar.

    Attributes:
        schema: The Arrow schema of the table, layout included.
        rows: The number of rows of the text.
        metadata: What was passed to `upload`.
    """

    schema: pa.Schema
    rows: int
    metadata: dict[str, str]


def key_of(key: str, checksum: str) -> str:
    """The key of the sidecar of the text with this checksum, stored at `key`."""
    return f"{key}.{checksum[:16]}.schema.json"


def text_of(key: str) -> str:
    """The key of the text that the sidecar with this key belongs to; empty where the key is of no sidecar."""
    found = _SIDECAR.search(key)
    return key[: found.start()] if found and found.end() == len(key) else ""


def put(backend: Backend, key: str, sidecar: bytes) -> None:
    """Write a sidecar."""
    backend.write(key, iter([sidecar]), content_type="application/json", metadata={}, overwrite=True)


def checksum_now(backend: Backend, key: str) -> str | None:
    """The checksum of the stored text; empty where another program wrote it, None where there is none."""
    try:
        return backend.head(key).metadata.get(CHECKSUM, "")
    except ArtifactNotFoundError:
        return None


def withdraw(backend: Backend, key: str, mine: str, sidecar: bytes) -> None:
    """Remove the sidecar of a text that lost a race, and no other: each of the rivals removes its own.

    If all of them tidied up, each would remove and put back the sidecars of all.
    """
    if _key_now(backend, key) == mine:
        return  # the winner wrote the same text
    backend.remove(mine)
    # The same text may have been written meanwhile, by somebody who then saw the sidecar that is gone now.
    put_back(backend, key, {mine: sidecar})


def tidy(backend: Backend, key: str, mine: dict[str, bytes]) -> None:
    """Remove the sidecars that belong to no text any more.

    Two writers may do this at once, and the one whose text was replaced must not take the other's sidecar: what was
    removed is put back if it belongs to the text that is there in the end.
    """
    removed = dict(mine)
    for _ in range(_TIDYINGS):
        # At once: somebody may have tidied up before our text was there, and readers of it are waiting.
        first, is_back = put_back(backend, key, removed)
        for found in list(backend.list(f"{key}.")):
            if found != first and _SIDECAR.fullmatch(found[len(key) :]):
                with suppress(ArtifactNotFoundError, ObjectChangedError):
                    removed[found] = bytes(ObjectReader(backend, found).whole())
                backend.remove(found)
        keep, is_back_now = put_back(backend, key, removed)
        if not (is_back or is_back_now) or first == keep == _key_now(backend, key):
            return
        # Replaced meanwhile, perhaps by somebody who looked for what to remove before this was put back: again.


def put_back(backend: Backend, key: str, removed: dict[str, bytes]) -> tuple[str, bool]:
    """The sidecar of the text that is there, and whether it was missing and is there again."""
    keep = _key_now(backend, key)
    is_missing = keep in removed and not _exists(backend, keep)
    if is_missing:
        put(backend, keep, removed[keep])
    return keep, is_missing


def awaited(reader: ObjectReader, checksum: str) -> Sidecar | None:
    """The sidecar of the text that was read; None once it is clear that there is none.

    Raises:
        ObjectChangedError: The text has been replaced since, and its sidecar removed with it.
    """
    # Only a text of another program never had one. Ours may be without for the moment in which two writers tidy up,
    # and to infer its types then would turn '007' into 7.
    pauses = _PAUSES_SECONDS if CHECKSUM in reader.info.metadata else _PAUSES_SECONDS[:1]
    for pause in (*pauses, 0.0):
        found = _found(reader, checksum)
        if found is not None or reader.version or not checksum:
            return found
        if reader.backend.head(reader.key).pin != reader.info.pin:
            raise ObjectChangedError
        time.sleep(pause)
    return None


def _key_now(backend: Backend, key: str) -> str:
    checksum = checksum_now(backend, key)
    return key_of(key, checksum) if checksum else ""


def _found(reader: ObjectReader, checksum: str) -> Sidecar | None:
    if not checksum:
        return None
    key = key_of(reader.key, checksum)
    sidecar = ObjectReader(reader.backend, key)
    try:
        data = sidecar.whole()
    except ArtifactNotFoundError:
        # An older version's sidecar was removed with it, and the bucket that keeps the one keeps the other.
        if not reader.version or (kept := next(iter(reader.backend.versions(key)), None)) is None:
            return None
        data = ObjectReader(reader.backend, key, kept.version).whole()
    return Sidecar(*csv_text.read_sidecar(bytes(data), sidecar.uri))


def _exists(backend: Backend, key: str) -> bool:
    try:
        backend.head(key)
    except ArtifactNotFoundError:
        return False
    return True
