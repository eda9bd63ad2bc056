"""The metadata of an upload: a few short texts that every store, S3 object headers included, carries unchanged."""

import re

from clinops_prefect.errors import InvalidMetadataError

# S3 lower-cases the keys, and carries 2 KB of keys and values together, of which the store takes some for itself.
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")
_MOST_BYTES = 1_800
RESERVED = "clinops-"


def check_metadata(metadata: dict[str, str] | None) -> dict[str, str]:
    """A copy of the metadata, if every store can carry it.

    Raises:
        InvalidMetadataError: It cannot; the message names the key, never a value.
    """
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidMetadataError(f"metadata must be a dictionary of texts, not {type(metadata).__name__}")
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not _KEY.fullmatch(key) or key.startswith(RESERVED):
            raise InvalidMetadataError(
                f"metadata key {key!r}: use lower-case letters, digits, '.', '_' and '-', and not {RESERVED!r} in front"
            )
        if not isinstance(value, str):
            raise InvalidMetadataError(f"metadata {key!r} must be text, not {type(value).__name__}; use str(…)")
        if not (value.isascii() and value.isprintable()) or value != value.strip():
            raise InvalidMetadataError(
                f"metadata {key!r} must be printable ASCII without space at either end: S3 carries no other"
            )
    size = sum(len(key) + len(value) for key, value in (metadata or {}).items())
    if size > _MOST_BYTES:
        raise InvalidMetadataError(f"the metadata has {size} bytes; S3 carries {_MOST_BYTES}. Put long texts in a file")
    return dict(metadata or {})


def without_reserved(metadata: dict[str, str]) -> dict[str, str]:
    """The caller's part of an object's metadata."""
    return {key: value for key, value in metadata.items() if not key.startswith(RESERVED)}
