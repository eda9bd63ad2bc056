"""NDJSON of FHIR resources, as a bulk export writes it, line by line."""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from flows.sources.files import TableError

_BUFFER_BYTES = 1 << 20


def read_resources(path: Path, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The resources of an NDJSON file with the numbers of their lines.

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


def _lines(path: Path) -> Iterator[bytes]:
    # The compression is told by the name.
    try:
        with pa.input_stream(str(path)) as stream, io.BufferedReader(stream, _BUFFER_BYTES) as file:
            first = file.readline()
            yield first.removeprefix(codecs.BOM_UTF8)
            yield from file
        return
    except (OSError, EOFError) as error:
        problem = type(error).__name__
    raise TableError(f"{path}: cannot be read; it is damaged, cut short, or not what its name says ({problem})")
