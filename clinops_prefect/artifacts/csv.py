"""CSV artifacts: the text, and beside it the Table Schema that restores its types.

The sidecar is named by the text's checksum, so a reader never pairs a text with the types of another version, whatever
is written meanwhile. It is written before the text and removed after the text that it belonged to has been replaced.
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa

from clinops_prefect.artifacts import plain
from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.plain import CHECKSUM
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.errors import ArtifactDecodeError, ArtifactNotFoundError
from clinops_prefect.frames.conversion.frame_builder import to_frame
from clinops_prefect.frames.csv import foreign as foreign_csv
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.csv.options import CsvOptions, Options
from clinops_prefect.frames.encoding import Encoded, dtypes_of
from clinops_prefect.frames.selection.selection import Filters, Selection
from clinops_prefect.names import without_reserved
from clinops_prefect.storage.backend import Backend, ObjectChangedError, ObjectExistsError
from clinops_prefect.storage_format import StorageFormat

_SIDECAR = re.compile(r"\.[0-9a-f]{16}\.schema\.json")
# A reader that found a text without its sidecar gives the writer this long before it looks again. Three seconds in all:
# on a busy machine, or far from it, the few requests that put a sidecar back take one.
_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6)
# Tidying ends once the text stands still.
_TIDYINGS = 5
_SPOOL_BYTES = 64 << 20


@dataclass(frozen=True)
class _Sidecar:
    schema: pa.Schema
    rows: int
    metadata: dict[str, str]


def write(backend: Backend, key: str, encoded: Encoded, metadata: dict[str, str], overwrite: bool) -> None:
    """Store the sidecar, then the text, then remove the sidecars of texts that are gone."""
    if not overwrite and _checksum_now(backend, key) is not None:
        raise ObjectExistsError
    mine = _sidecar_key(key, encoded.sha256)
    _put_sidecar(backend, mine, encoded.sidecar)
    try:
        backend.write(
            key,
            encoded.chunks,
            content_type=StorageFormat.CSV.content_type,
            metadata={**metadata, CHECKSUM: encoded.sha256},
            overwrite=overwrite,
        )
    except ObjectExistsError:
        _withdraw(backend, key, mine, encoded.sidecar)
        raise
    except BaseException:
        # The sidecar of a text that never came is removed too.
        _tidy(backend, key, {mine: encoded.sidecar})
        raise
    if overwrite:
        _tidy(backend, key, {mine: encoded.sidecar})
    elif _put_back(backend, key, {mine: encoded.sidecar})[1]:
        # There was no text before this one, so no sidecar is left of one. But somebody who tidied up before this text
        # was there may have removed ours.
        _tidy(backend, key, {mine: encoded.sidecar})


def download(
    reader: ObjectReader,
    columns: Sequence[Hashable] | None = None,
    filters: Filters | None = None,
    csv_options: CsvOptions | None = None,
) -> pd.DataFrame:
    """The frame, or the part of it that is asked for; the whole text is fetched either way."""
    data = reader.whole()
    sidecar = _sidecar_awaited(reader, _checked(reader, hashlib.sha256(data).hexdigest()))
    if sidecar is None:
        table = foreign_csv.table(data, Options.of(csv_options), reader.uri)
    else:
        _check_no_options(reader, csv_options)
        table = csv_text.decode(data, sidecar.schema, reader.uri)
        _check_rows(reader, sidecar, table.num_rows)
    chosen = Selection(table.schema, columns, filters, reader.uri)
    # Kept by nobody here: the table is freed column by column as the frame is filled, and the text before.
    held = [chosen.apply(table)]
    del data, table
    return to_frame(held.pop(), whole=chosen.whole)


def iter_tables(
    reader: ObjectReader,
    columns: Sequence[Hashable] | None,
    filters: Filters | None,
    csv_options: CsvOptions | None = None,
) -> Iterator[tuple[pa.Table, bool]]:
    """The text in bounded pieces, by way of a temporary file: it is checked before the first piece is given out."""
    file, checksum = _spooled(reader)
    with file:
        sidecar = _sidecar_awaited(reader, _checked(reader, checksum))
        if sidecar is None:
            # Types inferred from a part may not fit the rest: without a sidecar it takes the whole.
            tables = iter([foreign_csv.table(file.read(), Options.of(csv_options), reader.uri)])
        else:
            _check_no_options(reader, csv_options)
            tables = csv_text.decode_batches(file, sidecar.schema, reader.uri)
        rows, none = 0, True
        for table in tables:
            rows += table.num_rows
            none = False
            chosen = Selection(table.schema, columns, filters, reader.uri)
            yield chosen.apply(table), chosen.whole
        if sidecar is not None:
            _check_rows(reader, sidecar, rows)
            if none:
                chosen = Selection(sidecar.schema, columns, filters, reader.uri)
                yield chosen.apply(sidecar.schema.empty_table()), chosen.whole


def info(reader: ObjectReader) -> ArtifactInfo:
    """What the sidecar and the object's head say."""
    sidecar = _sidecar_awaited(reader, reader.info.metadata.get(CHECKSUM, ""))
    return ArtifactInfo(
        uri=reader.uri,
        bytes=reader.info.size,
        rows=sidecar.rows if sidecar else None,
        schema=dtypes_of(sidecar.schema) if sidecar else {},
        created=reader.created,
        metadata=sidecar.metadata if sidecar else without_reserved(reader.info.metadata),
        version=reader.info.version,
    )


def remove(backend: Backend, key: str) -> None:
    """Remove the text, then its sidecars."""
    backend.remove(key)
    _tidy(backend, key, {})


def copy(backend: Backend, source: str, target: str) -> None:
    """Copy the sidecar, then the text.

    Raises:
        ObjectChangedError: The source was overwritten meanwhile, so that the one might not be the other's.
    """
    checksum = _checksum_now(backend, source)
    mine = {}
    if checksum:
        try:
            sidecar = bytes(ObjectReader(backend, _sidecar_key(source, checksum)).whole())
        except ArtifactNotFoundError:
            if _checksum_now(backend, source) != checksum:
                raise ObjectChangedError from None
        else:
            mine = {_sidecar_key(target, checksum): sidecar}
            _put_sidecar(backend, _sidecar_key(target, checksum), sidecar)
    backend.copy(source, target)
    _tidy(backend, target, mine)
    if _checksum_now(backend, target) != checksum:
        raise ObjectChangedError


def _withdraw(backend: Backend, key: str, mine: str, sidecar: bytes) -> None:
    """Remove the sidecar of a text that lost a race, and no other: each of the rivals removes its own.

    If all of them tidied up, each would remove and put back the sidecars of all.
    """
    if _sidecar_now(backend, key) == mine:
        return  # the winner wrote the same text
    backend.remove(mine)
    # The same text may have been written meanwhile, by somebody who then saw the sidecar that is gone now.
    _put_back(backend, key, {mine: sidecar})


def _tidy(backend: Backend, key: str, mine: dict[str, bytes]) -> None:
    """Remove the sidecars that belong to no text any more.

    Two writers may do this at once, and the one whose text was replaced must not take the other's sidecar: what was
    removed is put back if it belongs to the text that is there in the end.
    """
    removed = dict(mine)
    for _ in range(_TIDYINGS):
        # At once: somebody may have tidied up before our text was there, and readers of it are waiting.
        first, is_back = _put_back(backend, key, removed)
        for found in list(backend.list(f"{key}.")):
            if found != first and _SIDECAR.fullmatch(found[len(key) :]):
                with suppress(ArtifactNotFoundError, ObjectChangedError):
                    removed[found] = bytes(ObjectReader(backend, found).whole())
                backend.remove(found)
        keep, is_back_now = _put_back(backend, key, removed)
        if not (is_back or is_back_now) or first == keep == _sidecar_now(backend, key):
            return
        # Replaced meanwhile, perhaps by somebody who looked for what to remove before this was put back: again.


def _put_back(backend: Backend, key: str, removed: dict[str, bytes]) -> tuple[str, bool]:
    """The sidecar of the text that is there, and whether it was missing and is there again."""
    keep = _sidecar_now(backend, key)
    is_missing = keep in removed and not _exists(backend, keep)
    if is_missing:
        _put_sidecar(backend, keep, removed[keep])
    return keep, is_missing


def _sidecar_now(backend: Backend, key: str) -> str:
    checksum = _checksum_now(backend, key)
    return _sidecar_key(key, checksum) if checksum else ""


def _spooled(reader: ObjectReader) -> tuple[pa.NativeFile, str]:
    """All of the text, in a file that pyarrow reads without Python, and its checksum."""
    checksum = hashlib.sha256()
    pieces = reader.pieces()
    first = next(pieces)

    def text() -> Iterator[bytes]:
        for piece in chain([first], pieces):
            checksum.update(piece)
            yield piece

    if reader.size <= _SPOOL_BYTES:
        memory = pa.BufferOutputStream()
        for piece in text():
            memory.write(piece)
        return pa.BufferReader(memory.getvalue()), checksum.hexdigest()
    descriptor, path = tempfile.mkstemp(prefix="clinops-")
    with os.fdopen(descriptor, "wb") as disk:
        try:
            file = pa.OSFile(path)
        finally:
            # Before anything is in it, so that a process that is killed leaves nothing behind.
            Path(path).unlink()
        disk.writelines(text())
    return file, checksum.hexdigest()


def _sidecar_awaited(reader: ObjectReader, checksum: str) -> _Sidecar | None:
    """The sidecar of the text that was read; None once it is clear that there is none.

    Raises:
        ObjectChangedError: The text has been replaced since, and its sidecar removed with it.
    """
    # Only a text of another program never had one. Ours may be without for the moment in which two writers tidy up,
    # and to infer its types then would turn '007' into 7.
    pauses = _PAUSES_SECONDS if CHECKSUM in reader.info.metadata else _PAUSES_SECONDS[:1]
    for pause in (*pauses, 0.0):
        found = _sidecar_for(reader, checksum)
        if found is not None or reader.version or not checksum:
            return found
        if reader.backend.head(reader.key).pin != reader.info.pin:
            raise ObjectChangedError
        time.sleep(pause)
    return None


def _sidecar_for(reader: ObjectReader, checksum: str) -> _Sidecar | None:
    if not checksum:
        return None
    key = _sidecar_key(reader.key, checksum)
    sidecar = ObjectReader(reader.backend, key)
    try:
        data = sidecar.whole()
    except ArtifactNotFoundError:
        # An older version's sidecar was removed with it, and the bucket that keeps the one keeps the other.
        if not reader.version or (kept := next(iter(reader.backend.versions(key)), None)) is None:
            return None
        data = ObjectReader(reader.backend, key, kept.version).whole()
    return _Sidecar(*csv_text.read_sidecar(bytes(data), sidecar.uri))


def _put_sidecar(backend: Backend, key: str, sidecar: bytes) -> None:
    backend.write(key, iter([sidecar]), content_type="application/json", metadata={}, overwrite=True)


def _sidecar_key(key: str, checksum: str) -> str:
    return f"{key}.{checksum[:16]}.schema.json"


def _checksum_now(backend: Backend, key: str) -> str | None:
    """The checksum of the stored text; empty where another program wrote it, None where there is none."""
    try:
        return backend.head(key).metadata.get(CHECKSUM, "")
    except ArtifactNotFoundError:
        return None


def _exists(backend: Backend, key: str) -> bool:
    try:
        backend.head(key)
    except ArtifactNotFoundError:
        return False
    return True


def _checked(reader: ObjectReader, checksum: str) -> str:
    plain.check(reader, checksum)
    return checksum


def _check_no_options(reader: ObjectReader, csv_options: CsvOptions | None) -> None:
    if csv_options:
        raise ArtifactDecodeError(
            f"{reader.uri} was written by this package, and its sidecar says how to read it: leave csv_options out",
            uri=reader.uri,
        )


def _check_rows(reader: ObjectReader, sidecar: _Sidecar, rows: int) -> None:
    if sidecar.schema.names and rows != sidecar.rows:
        raise ArtifactDecodeError(f"{reader.uri} has {rows} rows; its schema says {sidecar.rows}", uri=reader.uri)
