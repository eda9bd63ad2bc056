"""CSV artifacts: a text, and a sidecar with the Table Schema that restores its types. `sidecars` has the protocol."""

import hashlib
import os
import tempfile
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from clinops_prefect.artifacts import plain, sidecars
from clinops_prefect.artifacts.codec import Codec, opened
from clinops_prefect.artifacts.info import ArtifactInfo
from clinops_prefect.artifacts.plain import CHECKSUM
from clinops_prefect.artifacts.reader import ObjectReader
from clinops_prefect.errors import ArtifactDecodeError, ArtifactNotFoundError
from clinops_prefect.frames.conversion import arrow_frames
from clinops_prefect.frames.conversion.schemas import LAYOUT_KEY, null_table
from clinops_prefect.frames.csv import text as csv_text
from clinops_prefect.frames.csv.options import CsvOptions, Options
from clinops_prefect.frames.encoding import Encoded
from clinops_prefect.frames.kinds import FrameKind, ReadFrame
from clinops_prefect.frames.selection.selection import Selection
from clinops_prefect.frames.turns import turn
from clinops_prefect.names import without_reserved
from clinops_prefect.storage.backend import Backend, ObjectChangedError, ObjectExistsError
from clinops_prefect.storage_format import StorageFormat

if TYPE_CHECKING:
    from clinops_prefect.frames.selection.filters import Filters

_SPOOL_BYTES = 64 << 20


class CsvCodec(Codec):
    """Stores a frame as a CSV text and its sidecar."""

    format = StorageFormat.CSV

    def write(self, backend: Backend, key: str, encoded: Encoded, metadata: dict[str, str], overwrite: bool) -> None:
        """Store the sidecar, then the text, then remove the sidecars of texts that are gone."""
        if not overwrite and sidecars.checksum_now(backend, key) is not None:
            raise ObjectExistsError
        mine = sidecars.key_of(key, encoded.sha256)
        sidecars.put(backend, mine, encoded.sidecar)
        try:
            backend.write(
                key,
                encoded.chunks,
                content_type=StorageFormat.CSV.content_type,
                metadata={**metadata, CHECKSUM: encoded.sha256},
                overwrite=overwrite,
            )
        except ObjectExistsError:
            sidecars.withdraw(backend, key, mine, encoded.sidecar)
            raise
        except BaseException:
            # The text was not written, so tidying removes its sidecar too.
            sidecars.tidy(backend, key, {mine: encoded.sidecar})
            raise
        if overwrite:
            sidecars.tidy(backend, key, {mine: encoded.sidecar})
        elif sidecars.put_back(backend, key, {mine: encoded.sidecar})[1]:
            # There was no text before, so there is no old sidecar to remove. But if another writer removed our sidecar,
            # because it tidied before it saw our text, we have to tidy too.
            sidecars.tidy(backend, key, {mine: encoded.sidecar})

    def download(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,
        kind: FrameKind = "pandas",
    ) -> ReadFrame:
        """Read the frame, or the selected part of it. The whole text is fetched in both cases."""
        data = reader.whole()
        sidecar = sidecars.awaited(reader, _checked(reader, hashlib.sha256(data).hexdigest()))
        with turn(len(data)):
            if sidecar is None:
                from clinops_prefect.frames.csv import foreign as foreign_csv

                table = foreign_csv.table(data, Options.of(csv_options), reader.uri)
            else:
                _check_no_options(reader, csv_options)
                table = csv_text.decode(data, sidecar.schema, reader.uri)
                _check_rows(reader, sidecar, table.num_rows)
                table = _labelled(_as_read(table, sidecar.rows, kind, reader.uri), sidecar, 0, kind)
            chosen = Selection(table.schema, columns, filters, reader.uri, by_field=kind != "pandas")
            # Release the text, and keep the table only in a list, so that its columns are freed as the frame is filled.
            held = [chosen.apply(table)]
            del data, table
            if kind != "pandas":
                return arrow_frames.made(held.pop(), kind, reader.uri)
            from clinops_prefect.frames.conversion.frame_builder import to_frame

            return to_frame(held.pop(), whole=chosen.whole)

    def iter_tables(
        self,
        reader: ObjectReader,
        columns: Sequence[Hashable] | None,
        filters: "Filters | None",
        csv_options: CsvOptions | None,
        kind: FrameKind = "pandas",
    ) -> Iterator[tuple[pa.Table, bool]]:
        """Yield the rows in bounded tables. A temporary file lets us check the whole text before the first table."""
        file, checksum = _spooled(reader)
        with file:
            sidecar = sidecars.awaited(reader, _checked(reader, checksum))
            if sidecar is None:
                from clinops_prefect.frames.csv import foreign as foreign_csv

                # Types inferred from a part of the text may not fit the rest, so without a sidecar we read all of it.
                tables = iter([foreign_csv.table(file.read(), Options.of(csv_options), reader.uri)])
            else:
                _check_no_options(reader, csv_options)
                batches = csv_text.decode_batches(file, sidecar.schema, reader.uri)
                whole = sidecar.rows
                tables = (_as_read(batch, whole, kind, reader.uri) for batch in batches)
            rows, none = 0, True
            for text in tables:
                table = text if sidecar is None else _labelled(text, sidecar, rows, kind)
                rows += table.num_rows
                none = False
                chosen = Selection(table.schema, columns, filters, reader.uri, by_field=kind != "pandas")
                yield chosen.apply(table), chosen.whole
            if sidecar is not None:
                _check_rows(reader, sidecar, rows)
                if none:
                    empty = _labelled(_as_read(null_table(sidecar.schema), 0, kind, reader.uri), sidecar, 0, kind)
                    chosen = Selection(empty.schema, columns, filters, reader.uri, by_field=kind != "pandas")
                    yield chosen.apply(empty), chosen.whole

    def info(self, reader: ObjectReader) -> ArtifactInfo:
        """Describe the artifact from its sidecar and the answer to HEAD."""
        sidecar = sidecars.awaited(reader, sidecars.checksum_of(reader))
        return ArtifactInfo(
            uri=reader.uri,
            bytes=reader.info.size,
            rows=sidecar.rows if sidecar else None,
            schema=_dtypes_of(sidecar, reader.uri) if sidecar else {},
            created=reader.created,
            metadata=sidecar.metadata if sidecar else without_reserved(reader.info.metadata),
            version=reader.info.version,
        )

    def tidy(self, backend: Backend, key: str) -> None:
        """Remove the sidecars of a text that is gone."""
        sidecars.tidy(backend, key, {})

    def leftovers(self, keys: Iterable[str]) -> set[str]:
        """The keys of the texts that have sidecars among these keys, whether the texts exist or not."""
        return {text for key in keys if (text := sidecars.text_of(key))}

    def copy(self, backend: Backend, source: str, target: str) -> None:
        """Copy the sidecar, then the text.

        Raises:
            ObjectChangedError: The source was overwritten meanwhile, so the copied sidecar may not fit the copied text.
        """
        checksum = sidecars.checksum_now(backend, source)
        mine = {}
        if checksum and (sidecar := _sidecar_to_copy(backend, source, checksum)):
            mine = {sidecars.key_of(target, checksum): sidecar}
            sidecars.put(backend, sidecars.key_of(target, checksum), sidecar)
        backend.copy(source, target)
        sidecars.tidy(backend, target, mine)
        if sidecars.checksum_now(backend, target) != checksum:
            raise ObjectChangedError

    def copy_to(self, reader: ObjectReader, backend: Backend, key: str) -> None:
        """Copy the text and its sidecar to another backend; see `Codec.copy_to`.

        Raises:
            ArtifactDecodeError: The text is damaged. Nothing was written.
        """
        text, metadata = opened(reader)
        checksum = sidecars.checksum_of(reader)
        sidecar = _sidecar_to_copy(reader.backend, reader.key, checksum) if checksum else b""
        text = _checked_text(reader, text)
        if sidecar:
            self.write(backend, key, Encoded(text, sidecar, checksum), metadata, overwrite=True)
            return
        backend.write(key, text, content_type=StorageFormat.CSV.content_type, metadata=metadata, overwrite=True)
        sidecars.tidy(backend, key, {})


def _sidecar_to_copy(backend: Backend, key: str, checksum: str) -> bytes:
    """The sidecar of the text with this checksum; empty if there is none.

    Raises:
        ObjectChangedError: The text was replaced meanwhile, and its sidecar removed.
    """
    try:
        return bytes(ObjectReader(backend, sidecars.key_of(key, checksum)).whole())
    except ArtifactNotFoundError:
        if sidecars.checksum_now(backend, key) != checksum:
            raise ObjectChangedError from None
        return b""


def _checked_text(reader: ObjectReader, text: Iterator[bytes]) -> Iterator[bytes]:
    checksum = hashlib.sha256()
    yield from sidecars.hashed(text, checksum)
    plain.check(reader, checksum.hexdigest())


def _spooled(reader: ObjectReader) -> tuple[pa.NativeFile, str]:
    """The whole text as a file that pyarrow reads without calling Python, and the text's checksum."""
    checksum = hashlib.sha256()
    chunks = reader.chunks()
    first = next(chunks)
    text = sidecars.hashed(chain([first], chunks), checksum)
    if reader.size <= _SPOOL_BYTES:
        memory = pa.BufferOutputStream()
        for chunk in text:
            memory.write(chunk)
        return pa.BufferReader(memory.getvalue()), checksum.hexdigest()
    descriptor, path = tempfile.mkstemp(prefix="clinops-")
    with os.fdopen(descriptor, "wb") as disk:
        try:
            file = pa.OSFile(path)
        finally:
            # Remove the name before the text is written, so that a killed process leaves no patient data behind.
            Path(path).unlink()
        disk.writelines(text)
    return file, checksum.hexdigest()


def _as_read(table: pa.Table, rows: int, kind: FrameKind, where: str) -> pa.Table:
    """The table as pandas frames are made from it: with an inferred layout, if none was written."""
    if kind != "pandas" or LAYOUT_KEY in (table.schema.metadata or {}):
        return table
    from clinops_prefect.frames.conversion import foreign_schema

    return foreign_schema.converted(table, foreign_schema.of_text(table.schema, rows, where), where)


def _labelled(table: pa.Table, sidecar: sidecars.Sidecar, at: int, kind: FrameKind) -> pa.Table:
    labels = sidecar.labels(kind)
    return table if labels is None else labels.labelled(table, at)


def _dtypes_of(sidecar: sidecars.Sidecar, where: str) -> dict[str, str]:
    from clinops_prefect.frames.pandas_encoding import dtypes_of

    return dtypes_of(_as_read(null_table(sidecar.schema), 0, "pandas", where).schema)


def _checked(reader: ObjectReader, checksum: str) -> str:
    plain.check(reader, checksum)
    return checksum


def _check_no_options(reader: ObjectReader, csv_options: CsvOptions | None) -> None:
    if csv_options:
        raise ArtifactDecodeError(
            f"{reader.uri} was written by this package, and its sidecar says how to read it: leave csv_options out",
            uri=reader.uri,
        )


def _check_rows(reader: ObjectReader, sidecar: sidecars.Sidecar, rows: int) -> None:
    if sidecar.schema.names and rows != sidecar.rows:
        raise ArtifactDecodeError(f"{reader.uri} has {rows} rows; its schema says {sidecar.rows}", uri=reader.uri)
