"""The protocol for the sidecars of CSV artifacts: when they are written and removed, and by whom, without a lock.

The sidecar S(t) of a text t is named by the checksum of t, so a reader never pairs a text with the types of another
version. A text of ours carries its checksum in its object's metadata; a text without it was written by another program.
On a file system without extended attributes, the checksum of a text is computed instead.

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
it is put back. So a sidecar is removed only by who has read it.
tests/unit/test_sidecar_model.py runs two writers, a reader and a crash at every step through this table.
"""

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from clinops_prefect.artifacts.plain import CHECKSUM
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.errors import AccessDeniedError, ArtifactNotFoundError
from clinops_prefect.frames.conversion.named_ranges import NamedRange, named_range
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.kinds import FrameKind
from clinops_prefect.storage.backend import Backend, ObjectChangedError

if TYPE_CHECKING:
    from hashlib import _Hash

_SIDECAR = re.compile(r"\.[0-9a-f]{16}\.schema\.json")
# A reader that finds a text without its sidecar waits this long before each new look, 3.1 seconds in all. Putting a
# sidecar back takes a few requests, which last one second on a busy machine or a slow network.
_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6)
# Tidying ends once the text no longer changes, at the latest after this many rounds.
_TIDYINGS = 5


@dataclass(frozen=True)
class Sidecar:
    """The content of a sidecar.

    Attributes:
        schema: The Arrow schema of the table, with the layout.
        rows: Number of rows of the text.
        metadata: The metadata that was passed to `upload`.
    """

    schema: pa.Schema
    rows: int
    metadata: dict[str, str]

    def labels(self, kind: FrameKind) -> NamedRange | None:
        """The index, for a frame of this kind, if it is a named range whose labels are not in the text."""
        # A table of Arrow, which has no layout, comes back without a new column.
        is_column = kind == "pandas" or LAYOUT_KEY in (self.schema.metadata or {})
        return named_range(self.schema, self.rows) if is_column and self.schema.names else None


def key_of(key: str, checksum: str) -> str:
    """The key of the sidecar of the text with this checksum, stored at `key`."""
    return f"{key}.{checksum[:16]}.schema.json"


def text_of(key: str) -> str:
    """The key of the text that this sidecar belongs to; empty if the key is not that of a sidecar."""
    found = _SIDECAR.search(key)
    return key[: found.start()] if found and found.end() == len(key) else ""


def put(backend: Backend, key: str, sidecar: bytes) -> None:
    """Write a sidecar."""
    backend.write(key, iter([sidecar]), content_type="application/json", metadata={}, overwrite=True)


def checksum_of(reader: ObjectReader) -> str:
    """The checksum of the text that the reader reads; empty if another program wrote the text.

    Raises:
        ObjectChangedError: The text has been replaced since.
    """
    known = reader.info.metadata.get(CHECKSUM, "")
    if known:
        return known
    keeps = reader.backend.keeps_metadata(reader.key)
    there = _sidecars_there(reader) if keeps else set()
    if keeps and not there:
        return ""
    # A file system without extended attributes, where the text of another program has a checksum too, but no sidecar;
    # or a text that may have lost its metadata, as when another program copies the files.
    checksum = hashlib.sha256()
    for _ in hashed(ObjectReader(reader.backend, reader.key, pinned=reader.info).chunks(), checksum):
        pass
    found = checksum.hexdigest()
    return found if not keeps or key_of(reader.key, found) in there else ""


def _sidecars_there(reader: ObjectReader) -> set[str]:
    """The sidecars beside a text without a checksum. A version of a text has none that is sure to be its own."""
    if reader.version:
        return set()
    try:
        return set(_listed(reader.backend, reader.key))
    except AccessDeniedError:
        return set()  # who may only read sees the text as another program's


def _listed(backend: Backend, key: str) -> list[str]:
    """The keys of all sidecars of the text at `key`, whichever version of it they belong to."""
    return [found for found in backend.list(f"{key}.") if _SIDECAR.fullmatch(found[len(key) :])]


def hashed(chunks: Iterable[bytes], checksum: "_Hash") -> Iterator[bytes]:
    """Yield the chunks, and add each to the checksum before it is yielded."""
    for chunk in chunks:
        checksum.update(chunk)
        yield chunk


def checksum_now(backend: Backend, key: str) -> str | None:
    """The checksum of the stored text; empty if another program wrote the text, None if there is no text."""
    for _ in range(_TIDYINGS):
        try:
            return checksum_of(ObjectReader(backend, key))
        except ArtifactNotFoundError:
            return None
        except ObjectChangedError:
            continue
    return ""


def withdraw(backend: Backend, key: str, mine: str, sidecar: bytes) -> None:
    """Remove the sidecar of a text that lost a race. Each losing writer removes only its own sidecar.

    If all writers tidied, each would remove and put back the sidecars of all others.
    """
    if _key_now(backend, key) == mine:
        return  # the winner wrote the same text
    backend.remove(mine)
    # Another writer may have written the same text meanwhile, relying on the sidecar that we have just removed.
    put_back(backend, key, {mine: sidecar})


def tidy(backend: Backend, key: str, mine: dict[str, bytes]) -> None:
    """Remove the sidecars whose texts are gone.

    Two writers may tidy at once, and the writer whose text was replaced must not remove the sidecar of the other. So a
    removed sidecar is put back if it belongs to the text that is stored in the end.
    """
    removed = dict(mine)
    for _ in range(_TIDYINGS):
        # Put our sidecar back first: another writer may have removed it before our text was stored, and readers wait.
        first, is_back = put_back(backend, key, removed)
        for found in _listed(backend, key):
            if found != first:
                # Whoever removes a sidecar must be able to put it back. If it is not there, another writer has removed
                # it, and may be about to put it back for good.
                content = _content(backend, found)
                if content is not None:
                    removed[found] = content
                    backend.remove(found)
        keep, is_back_now = put_back(backend, key, removed)
        if not (is_back or is_back_now) or first == keep == _key_now(backend, key):
            return
        # The text was replaced meanwhile, perhaps by a writer that listed the sidecars before we put one back: repeat.


def put_back(backend: Backend, key: str, removed: dict[str, bytes]) -> tuple[str, bool]:
    """Put back the removed sidecar of the stored text. Returns the sidecar's key, and whether it was put back."""
    keep = _key_now(backend, key)
    is_missing = keep in removed and not _exists(backend, keep)
    if is_missing:
        put(backend, keep, removed[keep])
    return keep, is_missing


def awaited(reader: ObjectReader, checksum: str) -> Sidecar | None:
    """The sidecar of the text that was read, perhaps after a wait; None if there is none.

    Raises:
        ObjectChangedError: The text has been replaced since, and its sidecar was removed.
    """
    # Only CSV files of other programs have no sidecar. Ours may lack its sidecar for a moment, while two writers tidy.
    # Inferring types in that moment would turn '007' into 7.
    pauses = _PAUSES_SECONDS if CHECKSUM in reader.info.metadata else _PAUSES_SECONDS[:1]
    for pause in (*pauses, 0.0):
        found = _found(reader, checksum)
        if found is not None or reader.version or not checksum:
            return found
        if reader.backend.head(reader.key).pin != reader.info.pin:
            raise ObjectChangedError
        time.sleep(pause)
    return None


def _content(backend: Backend, key: str) -> bytes | None:
    """The content of a sidecar; None if it is not there."""
    for _ in range(_TIDYINGS):
        try:
            return bytes(ObjectReader(backend, key).whole())
        except ArtifactNotFoundError:
            return None
        except ObjectChangedError:
            continue  # another writer put it back meanwhile
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
        # The sidecar of an older version was removed with it, but a bucket that keeps versions keeps that sidecar too.
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
