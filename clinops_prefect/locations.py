"""Finds the store that a text, a path or a block reference means, and the place in it.

A mistyped URI or block reference must not be taken for a folder, because patient data would then be written to a place
that nobody looks at. So text is a folder only if it is clearly a path (`/srv/data`, `./s3`, `~/data`) or resembles
neither a URI nor a block reference (`demo/store`). A `Path` is always a folder. Nothing is opened here.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from clinops_prefect import registry
from clinops_prefect.errors import InvalidStoreError

_FOLDER = ("/", "./", "../", "~")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# A possible mistyped scheme: a word followed by a colon or by a double slash.
_LIKE_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?::/*|//+)(.*)", re.DOTALL)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
# Names that other tools use for our schemes.
_OF_AZURE = ("abfs", "abfss", "azure", "wasb", "wasbs")
_OTHER_NAMES = {"gcs": "gs", "s3a": "s3", "s3n": "s3", "local": "file", **dict.fromkeys(_OF_AZURE, "az")}
# Not more than the name of a container can have, because what is before an "@" may also be a secret.
_CONTAINER = r"(?P<bucket>[a-z0-9$](?:-?[a-z0-9])*)"
_ACCOUNT = r"(?P<account>[a-z0-9]+)\.(?:blob|dfs)\.(?P<cloud>core\.[a-z.]+)"
_AWS = r"\.amazonaws\.com(?:\.cn)?"
# How consoles and other tools write the place of an object, up to the path in the bucket -> our scheme.
_ADDRESSES = {
    rf"(?:az|{'|'.join(_OF_AZURE)})://{_CONTAINER}@{_ACCOUNT}": "az",
    rf"https?://{_ACCOUNT}/{_CONTAINER}": "az",
    rf"https?://(?P<bucket>[\w.-]+)\.s3(?:[.-](?!access|control)[\w-]+)*{_AWS}": "s3",
    rf"https?://s3(?:[.-](?!access|control)[\w-]+)*{_AWS}/(?P<bucket>[\w.-]+)": "s3",
    r"arn:aws[a-z-]*:s3:::(?P<bucket>[\w.-]+)": "s3",
    r"(?P<bucket>arn:aws[a-z-]*:s3:[\w-]+:\d+:accesspoint/[\w-]+)": "s3",
    r"https?://storage\.(?:googleapis|cloud\.google)\.com/(?P<bucket>[\w.-]+)": "gs",
}
_MOST_EDITS = 2
_MOST_SHOWN = 100
# The block type of this package that is not a store.
_PIPELINE_SLUG = "step-functions-pipeline"


@dataclass(frozen=True)
class Location:
    """A place, given as a URI or as a folder.

    Attributes:
        kind: The kind of store.
        path: The text after `://` in the URI, unchanged; or the path of a folder.
        is_uri: Whether the place was given as a URI.
    """

    kind: registry.RegisteredStore
    path: str
    is_uri: bool


@dataclass(frozen=True)
class BlockReference:
    """A reference to a saved block.

    Attributes:
        kind: The kind of store.
        name: The name of the block document.
    """

    kind: registry.RegisteredStore
    name: str


def parse(where: Any) -> Location | BlockReference:
    """The location or block reference that `where` means.

    Args:
        where: A URI, a block reference, or a folder as text or as a `Path`.

    Raises:
        InvalidStoreError: The meaning is not certain. The message suggests what was meant, and shows no secret.
        TypeError: `where` is neither text nor a path.
    """
    if isinstance(where, os.PathLike):
        return _folder(os.fsdecode(where))
    if not isinstance(where, str):
        raise TypeError(f"a store is found by text or by a path, not by {type(where).__name__}")
    if where.startswith(_FOLDER):
        return _folder(where)
    _check_characters(where)
    if uri := _SCHEME.fullmatch(where):
        return _uri(where, *uri.groups())
    if odd := next((text for text in ("//", ":", "\\") if text in where), ""):
        raise _refused(where, f"is no URI of a store ({_known()}), and with '{odd}' in it not taken for a folder")
    return _reference(where) or _folder(where)


def shown(text: str) -> str:
    """The text for a message: quoted, shortened, and without possible passwords and signatures."""
    text = _without_secrets(text)
    return ascii(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")


def _folder(path: str) -> Location:
    if not path or "\0" in path:
        raise InvalidStoreError(f"{shown(path)} is no folder: give a path, such as './data', or a URI")
    kind = registry.by_scheme("file")
    assert kind is not None  # this package always has the local store
    return Location(kind, path, is_uri=False)


def _uri(text: str, scheme: str, rest: str) -> Location:
    kind = registry.by_scheme(scheme)
    if kind is None:
        meant = _uri_meant(text) or f"one of {_known()}"
        raise InvalidStoreError(f"no store for {scheme}:// in {shown(text)}; did you mean {meant}?")
    authority = rest.partition("/")[0]
    if "@" in authority or (":" in authority and not authority.startswith("arn:")):
        raise _refused(text, "has a user, a password or a port in it, which no store takes: set credentials instead")
    if "?" in rest or "#" in rest:
        raise _refused(text, "has a query or a fragment: give what it says as fields, such as region= or prefix=")
    return Location(kind, rest, is_uri=True)


def _reference(text: str) -> BlockReference | None:
    first, _, name = text.partition("/")
    if kind := registry.by_slug(first):
        if not name or "/" in name:
            raise InvalidStoreError(
                f"{shown(text)} is no block reference: write '{first}/NAME', NAME of the saved block"
            )
        return BlockReference(kind, name)
    word = first.casefold()
    if word == _PIPELINE_SLUG:
        raise InvalidStoreError(
            f"{shown(text)} is a pipeline, not a store; did you mean the folder {shown(f'./{text}')}?"
        )
    slugs = [store.slug for store in registry.stores()]
    near = _nearest(word, slugs)
    if not near and not word.endswith("-store"):
        return None
    name = name or "NAME"
    block = f"{shown(f'{near}/{name}')}, or " if near else ""
    raise InvalidStoreError(
        f"{shown(text)} looks like the reference of a saved block, but there is no such kind of block; did you mean "
        f"{block}the folder {shown(f'./{text}')}?"
    )


def _check_characters(text: str) -> None:
    if not text.strip():
        raise InvalidStoreError("the store is empty: give a URI, a block reference, or a folder such as './data'")
    if text != text.strip() or not text.isprintable():
        raise _refused(text, "begins or ends with white space, or has an invisible character")


def _known() -> str:
    return ", ".join(sorted(f"{store.scheme}://" for store in registry.stores()))


def _refused(text: str, why: str) -> InvalidStoreError:
    if _WINDOWS.match(text):
        meant = "a folder of this machine, which has no Windows paths, such as './data'"
    else:
        folder = f"the folder {shown(f'./{text}')}" if text == _clean(text) else "a folder such as './data'"
        meant = _uri_meant(text) or folder
    return InvalidStoreError(f"{shown(text)} {why}; did you mean {meant}?")


def _uri_meant(text: str) -> str:
    if address := _address_meant(text):
        return address
    found = _LIKE_SCHEME.fullmatch(_clean(text).replace("\\", "/"))
    if not found:
        return ""
    word, rest = found[1].casefold(), found[2].lstrip("/")
    scheme = _OTHER_NAMES.get(word) or _nearest(word, [store.scheme for store in registry.stores()], most=1)
    if not scheme or not rest:
        return ""
    if word in _OF_AZURE and "@" in text:
        return "az://CONTAINER/PATH"  # what is before the "@" is hidden, because it may be a secret
    # Drop a port, or a password without its `@`.
    rest = rest if rest.startswith("arn:") else re.sub(r"^([^/:]*):[^/]*", r"\1", rest)
    # A store of another package may have a path there, as `file://` has. Ours have the name of a bucket.
    has_path = scheme == "file" or (":///" in text and scheme not in {store.scheme for store in registry.STORES})
    return shown(f"{scheme}://{'/' if has_path else ''}{rest}")


def _address_meant(text: str) -> str:
    for address, scheme in _ADDRESSES.items():
        if found := re.match(rf"{address}(?P<path>/[^?#]*)?(?:[?#]|$)", text):
            parts = found.groupdict("")
            uri = shown(f"{scheme}://{parts['bucket']}{parts['path']}")
            return (
                f"{uri} with account_url='https://{parts['account']}.blob.{parts['cloud']}'" if scheme == "az" else uri
            )
    return ""


def _clean(text: str) -> str:
    """The text without secrets, query, fragment and unprintable characters."""
    text = re.sub(r"[?#].*", "", _without_secrets(text), flags=re.DOTALL).replace("...@", "")
    return "".join(character for character in text if character.isprintable()).strip()


def _without_secrets(text: str) -> str:
    """The text without possible passwords, secret keys and signatures, which other tools accept in a URI."""
    text = re.sub(r"\?.*", "?...", text, flags=re.DOTALL)
    if "@" in text:
        # Hide everything before the last "@", because a secret key of AWS may contain slashes and "@" itself.
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/+", text)
        return f"{scheme[0] if scheme else ''}...@{text.rpartition('@')[2]}"
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*:/+(?!arn:)[^/:]*:)(?!\d*(?:/|$))[^/]*", r"\1...", text)


def _nearest(word: str, words: Iterable[str], *, most: int = _MOST_EDITS) -> str:
    distance, near = min((_edits(word, other), other) for other in words)
    return near if distance <= most else ""


def _edits(one: str, two: str) -> int:
    """The Levenshtein distance: how many characters to insert, remove or replace."""
    row = list(range(len(two) + 1))
    for i, left in enumerate(one, 1):
        before, row = row, [i]
        for j, right in enumerate(two, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (left != right)))
    return row[-1]
