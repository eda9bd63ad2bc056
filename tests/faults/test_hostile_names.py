"""Names that were chosen to do harm: each is refused before a request is made, or is an object of its own."""

import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from clinops_prefect import InvalidArtifactNameError, LocalPipelineStore
from clinops_prefect.names import join, name_of
from tests.doors import Door

FRAME = pd.DataFrame({"a": [1]})
REFUSED = {
    "traversal": ["../x", "a/../../x", "a/..", "..", "./x", "/etc/passwd", "//host/share", "a//b", "a/./b"],
    "control": ["a\x00", "\x00", "a\x00.parquet", "a\x1b[31m", "a\rb", "a\nb", "a\tb", "a\x7f", "a\x9bb"],
    "bidi": [f"a{mark}b" for mark in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"],
    "invisible": [f"a{mark}b" for mark in "\u00ad\u034f\u180e\u200b\u2060\u2061\u2062\u2063\u2064\u3164\ufeff\uffa0"],
    "line": ["a\u2028b", "a\u2029b", "a\x85b"],
    "surrogate": ["\ud800", "a\udfff", "\udc80"],
    "long": ["n" * 10_000, "ä" * 10_000, "/".join(["n"] * 5_000)],
}
# Names that look alike, and names that other systems reserve, are objects of their own: on Linux and in the clouds a
# name is its bytes. Treating two such names as one would lose data. Refusing them would refuse German and Persian.
DISTINCT = [
    "CON", "con", "NUL", "aux/prn", "COM1", "lpt9.txt", "a.", "a", "a..", "a ", " a", "a.b.", "...", "a/...", ".a",
    "\u00e9", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\ufb01", "fi", "\u0430", "\uff41", "\u2044", "\u2215",
    "\uff0f", "\u2024\u2024", "\uff0e\uff0e",
    "..a", "a..b", "%2e%2e", "%2F", "..%2fx", "a%00b", "\u05d0", "\u06a9\u200c\u0647",
    "\U0001f468\u200d\u2695\ufe0f", "a\u00a0b", "a\u3000b", "~root", "$HOME", "`id`", "$(id)", "; rm -rf x", "|x", "*",
    "a?versionId=1", "a#x", "a&b=c", "<script>", "'", '"', "\\..\\x", "C:\\x", "-rf", "--", "a.parquet.x", "a.csv",
    "a.csv.0123456789abcdef.schema.json",
]  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_name_that_leaves_the_prefix_or_has_hidden_characters_is_refused(door: Door, kind: str) -> None:
    store = door.store(prefix="p")
    for name in REFUSED[kind]:
        for call in (
            store.download, store.exists, store.stat, store.uri, store.read_bytes, store.delete_artifact,
            lambda n: store.upload(FRAME, n), lambda n: store.write_bytes(n, b""), lambda n: store.write_path(n, b"1"),
            store.read_path, lambda n: store.upload(FRAME, f"good/{n}/good"),
        ):  # fmt: skip
            with pytest.raises(InvalidArtifactNameError) as caught:
                call(name)
            # The message escapes the name, so that a terminal shows every character, and cuts a long one.
            assert str(caught.value).isascii()
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 1_000
    assert door.keys() == []


def test_look_alikes_and_reserved_words_are_objects_of_their_own(door: Door) -> None:
    store = door.store(prefix="p")
    for number, name in enumerate(DISTINCT):
        store.upload(pd.DataFrame({"a": [number]}), name)
    assert store.list_artifacts() == sorted(DISTINCT)
    assert len(door.keys()) == len(DISTINCT)
    assert all(key.startswith("p/") for key in door.keys())
    for number, name in enumerate(DISTINCT):
        assert store.download(name)["a"].tolist() == [number], name


def test_no_name_leaves_its_directory(tmp_path: Path) -> None:
    """Every accepted name is a file below the prefix, also a name that looks like a path of another system."""
    store = LocalPipelineStore(str(tmp_path / "root"), prefix="p")
    for name in DISTINCT:
        store.upload(FRAME, name)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(DISTINCT)
    assert all(path.is_relative_to(tmp_path / "root" / "p") for path in files)


def test_every_character_is_refused_or_comes_back_from_the_key(tmp_path: Path) -> None:
    """All of Unicode: an accepted character survives the way to a key and back, and is never invisible."""
    from clinops_prefect.names import is_name

    refused = 0
    for code in range(0x110000):
        character = chr(code)
        name = f"a{character}b"
        if not is_name(name):
            refused += 1
            assert character == "/" or unicodedata.category(character) in (
                "Cc", "Cs", "Cf", "Zl", "Zp", "Mn", "Lo",
            )  # fmt: skip
        elif code % 97 == 0 or code < 0x3000:
            assert name_of(join("p", name, ".parquet"), "p", ".parquet") == name
    # 65 controls, 2,048 surrogates, 2 separators, and the marks. The slash makes two segments.
    assert refused == 65 + 2_048 + 2 + 24
