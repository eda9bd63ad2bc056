"""The grammar of artifact names, object keys and the metadata of an upload. Pure.

A name consists of segments separated by `/`, such as `features/windows_2024_01`. The same grammar holds for every
store, so that a pipeline can move from a folder to a bucket without renaming.
"""

import re
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

from clinops_prefect.errors import InvalidArtifactNameError, InvalidMetadataError

# Cc: control characters. Cs: lone surrogates, which have no UTF-8. Zl, Zp: line separators, which split a log line.
_REFUSED_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
# Marks that change the reading direction. With them, two different names could look alike in a listing.
_BIDI_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Invisible characters. The joiners are allowed, because Persian and emoji need them. Characters that merely look alike,
# such as composed and decomposed ones, are allowed too: names are compared by their bytes.
_INVISIBLE = frozenset("\u00ad\u034f\u180e\u200b\u2060\u2061\u2062\u2063\u2064\u3164\ufeff\uffa0")
# S3 lower-cases metadata keys and allows 2 KB for keys and values together. The store needs some of that itself.
_METADATA_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")
_METADATA_BYTES = 1_800
RESERVED = "clinops-"

# The same grammar as a pattern for the form in the Prefect UI, which saves a block without calling this package.
PREFIX_PATTERN = r"^(?!/)(?!.*//)(?!(.*/)?\.{1,2}(/|$))[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"


def check_name(name: str, *, what: str = "artifact name") -> str:
    """Return `name` if it follows the grammar.

    Raises:
        InvalidArtifactNameError: The name breaks a rule of the grammar, which the message names.
    """
    if not isinstance(name, str):
        hint = "; pass its uri" if what != "prefix" and isinstance(getattr(name, "uri", None), str) else ""
        raise InvalidArtifactNameError(f"{what} must be text, not {type(name).__name__}{hint}")
    if problem := _problem(name):
        raise InvalidArtifactNameError(f"{what} {_shown(name)} {problem}")
    return name


def check_artifact_name(name: str, extension: str) -> str:
    """Return `name` if it follows the grammar and does not end in the store's extension.

    Raises:
        InvalidArtifactNameError: The name breaks the grammar, or ends in the extension: `labs.parquet` would become
            `labs.parquet.parquet`.
    """
    check_name(name)
    if has_extension(name, extension):
        bare = name[: -len(extension)]
        hint = f": use {_shown(bare)}" if is_name(bare) and not has_extension(bare, extension) else ""
        raise InvalidArtifactNameError(
            f"artifact name {_shown(name)} ends in {name[-len(extension) :]}, and the store adds {extension} "
            f"itself{hint}"
        )
    return name


def has_extension(name: str, extension: str) -> bool:
    """Whether a name ends in the extension, in upper or lower case."""
    return bool(extension) and name[-len(extension) :].lower() == extension


def is_name(name: str) -> bool:
    """Whether `name` follows the grammar."""
    return not _problem(name)


def check_prefix(prefix: str, *, what: str = "prefix") -> str:
    """Return `prefix` without a trailing slash, if it is empty or follows the grammar of names.

    Raises:
        InvalidArtifactNameError: The prefix breaks the grammar.
    """
    if isinstance(prefix, str):
        prefix = prefix.removesuffix("/")
        if not prefix:
            return ""
    return check_name(prefix, what=what)


def join(prefix: str, name: str, extension: str = "") -> str:
    """The object key of `name` under `prefix`: `join("a", "b", ".csv") == "a/b.csv"`."""
    return f"{prefix}/{name}{extension}" if prefix else f"{name}{extension}"


def name_of(key: str, prefix: str, extension: str = "") -> str | None:
    """The name from which `join` made `key`; None if `join` cannot have made this key."""
    root = f"{prefix}/" if prefix else ""
    if not key.startswith(root) or not key.endswith(extension):
        return None
    name = key[len(root) : len(key) - len(extension)]
    return name if is_name(name) else None


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint such as ` (did you mean 'region'?)`; empty if no word is similar."""
    found = nearest_word(word, words)
    return f" (did you mean {found!r}?)" if found else ""


def nearest_word(word: str, words: Iterable[str], *, likeness: float = 0.6) -> str:
    """The most similar of the words; empty if none has a similarity of at least `likeness` (0 to 1)."""
    return next(iter(get_close_matches(word, list(words), n=1, cutoff=likeness)), "")


def check_metadata(metadata: dict[str, str] | None) -> dict[str, str]:
    """A copy of the metadata, if every store can carry it.

    Raises:
        InvalidMetadataError: A store could not carry the metadata. The message names the key, never a value.
    """
    if metadata is not None and not isinstance(metadata, dict):
        raise InvalidMetadataError(f"metadata must be a dictionary of texts, not {type(metadata).__name__}")
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not _METADATA_KEY.fullmatch(key) or key.startswith(RESERVED):
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
    if size > _METADATA_BYTES:
        raise InvalidMetadataError(
            f"the metadata has {size} bytes; S3 carries {_METADATA_BYTES}. Put long texts in a file"
        )
    return dict(metadata or {})


def without_reserved(metadata: dict[str, str]) -> dict[str, str]:
    """The user's part of an object's metadata, without the keys that the store reserves."""
    return {key: value for key, value in metadata.items() if not key.startswith(RESERVED)}


def _problem(name: str) -> str:
    if not name:
        return "is empty"
    # A shortcut for plain names, which nearly all are: a listing may check twenty thousand of them.
    plain = name.isascii() and name.isprintable()
    if plain and "//" not in name and "/." not in name and name[0] not in "/." and name[-1] != "/":
        return ""
    if name.startswith("/"):
        return "starts with a slash: names are relative to the store's prefix"
    for character in "" if plain else name:
        if unicodedata.category(character) in _REFUSED_CATEGORIES or character in _BIDI_MARKS | _INVISIBLE:
            return f"contains the character U+{ord(character):04X}, which is not allowed"
    for segment in name.split("/"):
        if not segment and "://" in name:
            return "is a URI; pass a path such as 'features', without the store"
        if not segment:
            return "has an empty segment: no double or trailing slashes"
        if segment in (".", ".."):
            return f"has the segment {segment!r}"
    return ""


def _shown(name: str) -> str:
    # ascii() makes invisible characters visible. A long name is cut.
    return ascii(name if len(name) <= 100 else name[:100] + "…")
