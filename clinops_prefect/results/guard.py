"""The result guard: refuses stored results that could run code when they are read.

Prefect stores a result as a JSON envelope that names its serializer, or as the serializer's raw bytes, sometimes with
such metadata in a separate file. So whoever can write to the bucket could choose what the workers run: an envelope
edited to `pickle` runs code, and so does a JSON decoder given by name. The guard accepts only our own serializer, plain
JSON and raw Parquet.
"""

import base64
import binascii
import io
import json
import pickletools
from typing import Any

from pydantic_core import from_json

from clinops_prefect.errors import UntrustedResultError
from clinops_prefect.storage_format import PARQUET_MAGIC

OURS = "clinops/dataframe"
_OUR_KEYS = {OURS, "value"}
# Prefect's default decoder is accepted. But for objects with these keys, it imports the named class and calls it.
_DECODER = "prefect.serializers.prefect_json_object_decoder"
IMPORTING_KEYS = {"__class__", "__exc_type__"}
# The decoder may import the class ArtifactRef, which only checks its texts and opens nothing.
_REF, _REF_KEYS = "clinops_prefect.references.ArtifactRef", {"__class__", "data"}
# The only opcodes with which a pickle imports something. A pickle without them can call nothing.
_IMPORTING_OPCODES = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"}
_BEGINNING = 4096
# The keys without which Prefect takes no document for an envelope, the second one in its old format.
_PAYLOADS = {"result", "data"}

_REMEDY = "Set result_serializer=DataFrameSerializer() (from clinops_prefect) or 'json' on the flow or task"
_OF_DICTIONARIES = (
    "If it is a dictionary with the key 'result' or 'data', set result_serializer=DataFrameSerializer() (from "
    "clinops_prefect) on the flow or task, or give the key another name;"
)


def check_result(content: bytes, uri: str) -> None:
    """Accept a result only if reading it runs no code.

    Args:
        content: The bytes that Prefect passes to `write_path`, or that `read_path` is about to return.
        uri: URI of the result, for the message.

    Raises:
        UntrustedResultError: The result names another serializer, or is neither JSON nor Parquet.
    """
    if content[:4] == PARQUET_MAGIC or not content:
        return
    try:
        document = _parsed(content)
    except (ValueError, RecursionError):
        raise _refused(uri, "it is neither JSON nor Parquet, as a pickle or a compressed result is") from None
    if _imports(document):
        raise _refused(uri, "its JSON names a class to import")
    # A document with any other key may be an envelope to Prefect, so it is checked as an envelope below.
    if isinstance(document, dict) and document.keys() == _OUR_KEYS:
        return
    if _is_pickle_too(content):
        raise _refused(uri, "its JSON is also what Prefect's pickle serializer reads")
    if isinstance(document, dict) and _is_envelope(document) and not _is_reference(document):
        _check_envelope(document, uri)


def result_block(content: bytes) -> str:
    """The id of the block that holds the result, if the content is metadata stored by `key_storage`; else empty."""
    return str(_note(content).get("storage_block_id") or "")


def noted_result(content: bytes) -> str:
    """The path of the result, if the content is metadata stored by `key_storage`; else empty."""
    return str(_note(content).get("storage_key") or "")


def _note(content: bytes) -> dict[str, Any]:
    if not content.startswith(b'{"storage_key"'):
        return {}
    try:
        metadata = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return {} if "result" in metadata else metadata


def _parsed(content: bytes) -> Any:
    # Prefect reads envelopes with this parser. With a frame inside, it is three times as fast as the standard library,
    # which in turn reads documents that are nested more deeply.
    try:
        return from_json(content)
    except ValueError:
        return json.loads(content)


def _is_envelope(document: dict[str, Any]) -> bool:
    """Whether Prefect may read the document as an envelope, or makes the serializer that it describes."""
    metadata = document.get("metadata")
    described = (document, metadata if isinstance(metadata, dict) else {})
    return bool(_PAYLOADS & document.keys()) or any(isinstance(one.get("serializer"), dict) for one in described)


def _check_envelope(envelope: dict[str, Any], uri: str) -> None:
    nested = envelope.get("metadata")
    metadata = nested if isinstance(nested, dict) else {}
    # Prefect reads the serializer from the metadata or, in its old format, from the envelope. The default is pickle.
    serializers = [part["serializer"] for part in (envelope, metadata) if "serializer" in part]
    if not serializers:
        raise _refused(uri, "it names no serializer, which Prefect takes for pickle", _OF_DICTIONARIES)
    for serializer in serializers:
        if not isinstance(serializer, dict):
            raise _refused(uri, "its serializer cannot be read")
        kind = serializer.get("type")
        if kind == "json" and not _is_plain_json(serializer):
            raise _refused(uri, "its JSON serializer names a decoder or a library to import")
        if kind not in ("json", OURS):
            raise _refused(uri, f"its serializer is {_described(str(kind)[:40])}")
    for part in sorted(_PAYLOADS):
        payload = envelope.get(part)
        if isinstance(payload, str) and any(s.get("type") == "json" for s in serializers):
            try:
                payload = json.loads(payload)
            except (ValueError, RecursionError):
                raise _refused(uri, "its JSON cannot be read") from None
        if _imports(payload):
            raise _refused(uri, "its JSON names a class to import")


def _described(kind: str) -> str:
    if kind.split("/")[0] == "compressed":
        return f"{kind!r}, which imports what its compressionlib names (Parquet is compressed without it)"
    if kind == "pickle":
        return repr(kind)
    return f"{kind!r}, which is unknown here: a subclass of a serializer is code of its own"


def _is_pickle_too(content: bytes) -> bool:
    """Whether reading the content as a pickle would import something.

    If a flow or task has Prefect's default serializer, that serializer reads content without an envelope. It decodes
    base64 and skips all other characters, such as the quotes of a JSON text.
    """
    # Nearly all content fails at its first bytes, and decoding 100 MB takes a sixth of the time to store them. So we
    # try the beginning first. One of four cuts leaves complete groups of four base64 characters.
    for end in (*range(_BEGINNING, _BEGINNING - 4, -1), len(content)):
        try:
            file = io.BytesIO(base64.decodebytes(content[:end]))
        except binascii.Error:
            continue
        try:
            imports = any(code.name in _IMPORTING_OPCODES for code, _, _ in pickletools.genops(file))
        except ValueError:
            if file.tell() < file.getbuffer().nbytes:
                return False  # fails before the cut, so the whole content would fail here too, with nothing imported
        else:
            if not imports or end == len(content):
                return imports
    return False


def _is_plain_json(serializer: dict[str, Any]) -> bool:
    return (
        serializer.get("jsonlib", "json") == "json"
        and serializer.get("object_decoder") in (None, _DECODER)
        and not serializer.get("loads_kwargs")
    )


def _imports(document: Any) -> bool:
    """Whether Prefect's decoder would import something for any object in the document."""
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if IMPORTING_KEYS & part.keys() and not _is_reference(part):
                return True
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return False


def _is_reference(part: dict[str, Any]) -> bool:
    # If `data` were text, Prefect would read the object as an envelope of its old format.
    return part.keys() == _REF_KEYS and part["__class__"] == _REF and isinstance(part["data"], dict)


def _refused(uri: str, why: str, remedy: str = _REMEDY) -> UntrustedResultError:
    return UntrustedResultError(
        f"the result {uri} is refused: {why}, so reading it could run code. {remedy} or, if all who can write to the "
        "store are trusted, allow_pickle=True on the store",
        uri=uri,
    )
