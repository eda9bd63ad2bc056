"""A damaged object is an ArtifactDecodeError, never another frame."""

import random
import struct

import numpy as np
import pandas as pd
import pytest

from clinops_prefect import ArtifactDecodeError
from tests.doors import Door
from tests.gallery import FRAMES, assert_same

RNG = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {"id": range(3_000), "v": RNG.random(3_000), "w": RNG.integers(0, 5, 3_000) / 2, "code": ["007", "b", "c"] * 1_000}
)


def _flipped(data: bytes, position: int, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[position] ^= 1 << bit
    return bytes(damaged)


def _places(data: bytes, count: int) -> list[tuple[int, int]]:
    """Where to flip bits: all over, in the footer, and at both ends."""
    chooser = random.Random(11)
    (footer,) = struct.unpack("<I", data[-8:-4]) if data[-4:] == b"PAR1" else (0,)
    ends = [0, 3, 4, len(data) - 1, len(data) - 5, len(data) - 8, len(data) - 9, max(0, len(data) - footer - 14)]
    everywhere = [chooser.randrange(len(data)) for _ in range(count)]
    in_footer = [len(data) - 8 - chooser.randrange(1, footer) for _ in range(count)] if footer else []
    return [(position, chooser.randrange(8)) for position in (*ends, *everywhere, *in_footer)]


def test_no_flipped_bit_of_a_parquet_artifact_reads_as_a_frame(door: Door) -> None:
    store = door.store()
    store.upload(FRAME, "x")
    good = door.get("x.parquet")
    for position, bit in _places(good, 40 if door.scheme == "file" else 10):
        door.replace_bytes("x.parquet", _flipped(good, position, bit))
        with pytest.raises(ArtifactDecodeError) as caught:
            store.download("x")
        assert caught.value.uri == store.uri("x")
    door.replace_bytes("x.parquet", good)
    assert_same(store.download("x"), FRAME)


def test_a_partial_read_of_a_damaged_parquet_artifact_fails_or_is_right(door: Door) -> None:
    """The footer is checked whole and the pages by their own checksums: damage elsewhere is not seen, and not read."""
    store = door.store()
    store.upload(FRAME, "x")
    good, refused = door.get("x.parquet"), 0
    for position, bit in _places(good, 60 if door.scheme == "file" else 10):
        door.replace_bytes("x.parquet", _flipped(good, position, bit))
        for read in (
            lambda: store.download("x", columns=["v", "code"]),
            lambda: store.download("x", columns=["v", "code"], filters=[("id", ">=", 0)]),
            lambda: pd.concat(store.iter_batches("x", columns=["v", "code"])),
        ):
            try:
                assert_same(read(), FRAME[["v", "code"]])
            except ArtifactDecodeError:
                refused += 1
        try:
            assert store.stat("x").rows == 3_000
        except ArtifactDecodeError:
            refused += 1
    assert refused > 20


def test_no_flipped_bit_of_a_csv_artifact_reads_as_a_frame(door: Door) -> None:
    store = door.store(format="csv")
    store.upload(FRAME, "x")
    good = door.get("x.csv")
    for position, bit in _places(good, 40 if door.scheme == "file" else 10):
        door.replace_bytes("x.csv", _flipped(good, position, bit))
        for read in (store.download, lambda n: list(store.iter_batches(n))):
            with pytest.raises(ArtifactDecodeError):
                read("x")


def test_no_flipped_bit_of_a_csv_sidecar_reads_as_another_frame(door: Door) -> None:
    store = door.store(format="csv")
    store.upload(FRAME, "x", metadata={"k": "v"})
    (sidecar,) = [key for key in door.keys() if key.endswith(".schema.json")]
    good = door.get(sidecar)
    for position, bit in _places(good, 60 if door.scheme == "file" else 10):
        door.replace_bytes(sidecar, _flipped(good, position, bit))
        for read in (store.download, store.stat, lambda n: list(store.iter_batches(n))):
            try:
                read("x")
            except ArtifactDecodeError:
                continue
            raise AssertionError(f"bit {bit} of byte {position} {good[position - 20 : position + 20]!r}")


def test_a_truncated_or_emptied_artifact_is_damaged(door: Door, format: str) -> None:
    store = door.store(format=format)
    store.upload(FRAME, "x")
    good = door.get(f"x.{format}")
    for kept in (0, 1, 4, 7, 8, 12, 100, len(good) // 2, len(good) - 1):
        door.replace_bytes(f"x.{format}", good[:kept])
        for read in (store.download, lambda n: list(store.iter_batches(n))):
            with pytest.raises(ArtifactDecodeError):
                read("x")
        if format == "parquet":
            with pytest.raises(ArtifactDecodeError):
                store.download("x", columns=["v"])
            with pytest.raises(ArtifactDecodeError):
                store.stat("x")
    door.replace_bytes(f"x.{format}", good + b"x")
    with pytest.raises(ArtifactDecodeError):
        store.download("x")


def test_a_damaged_plain_object_is_damaged(door: Door) -> None:
    store = door.store()
    store.write_bytes("report.html", b"<p>7 patients</p>")
    for data in (b"<p>9 patients</p>", b"<p>7", b""):
        door.replace_bytes("report.html", data)
        with pytest.raises(ArtifactDecodeError):
            store.read_bytes("report.html")


def test_a_plain_object_of_another_program_is_read_as_it_is(door: Door) -> None:
    door.put("theirs.txt", b"hello")
    assert door.store().read_bytes("theirs.txt") == b"hello"


@pytest.mark.parametrize(
    "rubbish", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 8 + b"PAR1", b"a,b\n1,2\n", b"\x00" * 99]
)
def test_what_is_no_parquet_is_not_decoded(door: Door, rubbish: bytes) -> None:
    store = door.store()
    door.put("x.parquet", rubbish)
    for read in (
        store.download,
        store.stat,
        lambda n: store.download(n, columns=["a"]),
        lambda n: list(store.iter_batches(n)),
    ):
        with pytest.raises(ArtifactDecodeError) as caught:
            read("x")
        assert caught.value.uri == store.uri("x")


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\x00", b'a,b\n"unclosed', b"a\n1,2,3\n4,5,6,7\n", b"Jane Doe\n\x80"])
def test_what_is_no_csv_is_not_decoded_nor_quoted(door: Door, rubbish: bytes) -> None:
    store = door.store(format="csv")
    door.put("x.csv", rubbish)
    with pytest.raises(ArtifactDecodeError) as caught:
        store.download("x")
    assert "Jane" not in str(caught.getrepr(style="native"))


def test_a_sidecar_that_was_lost_means_inference_and_not_a_crash(door: Door) -> None:
    store = door.store(format="csv")
    store.upload(FRAMES["one row"][["stay_id"]], "x")
    (sidecar,) = [key for key in door.keys() if key.endswith(".schema.json")]
    data = door.get("x.csv")
    store.delete_artifact("x")
    assert sidecar not in door.keys()
    door.put("x.csv", data)
    assert store.download("x")["stay_id"].tolist() == [30_000_000]
