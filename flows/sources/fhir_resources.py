"""Reads NDJSON of FHIR resources, as a bulk export writes it, line by line."""

import codecs
import io
from collections.abc import Iterator
from typing import Any

import orjson
import pandas as pd

from flows.sources.files import TableError
from flows.sources.objects import SourcePath, is_of_the_store, open_stream

_BUFFER_BYTES = 1 << 20


def read_resources(path: SourcePath, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The resources of an NDJSON file, each with its line number.

    Raises:
        TableError: The file is damaged, or a line is not a resource of this type.
    """
    lines = _lines(path)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            resource = orjson.loads(line)
        except orjson.JSONDecodeError:
            resource = None
        if not isinstance(resource, dict) or resource.get("resourceType") != kind:
            raise TableError(f"{path}: line {number} is not JSON of a FHIR {kind}")
        yield number, resource


def _lines(path: SourcePath) -> Iterator[bytes]:
    # The file's name says how it is compressed.
    try:
        with open_stream(path) as stream, io.BufferedReader(stream, _BUFFER_BYTES) as file:
            first = file.readline()
            yield first.removeprefix(codecs.BOM_UTF8)
            yield from file
        return
    except (OSError, EOFError) as error:
        if is_of_the_store(error, path):
            raise
        problem = type(error).__name__
    raise TableError(f"{path}: cannot be read; it is damaged, cut short, or not what its name says ({problem})")


def frame_of(rows: list[tuple[Any, ...]], dtypes: dict[str, str]) -> pd.DataFrame:
    """A frame of rows, with columns of these dtypes."""
    # Build it column by column. Otherwise ids with a null would become floats, which would round hashed ids.
    columns = zip(*rows, strict=True) if rows else [()] * len(dtypes)
    series = zip(dtypes.items(), columns, strict=True)
    return pd.DataFrame({name: pd.Series(list(cells), dtype=dtype) for (name, dtype), cells in series})
