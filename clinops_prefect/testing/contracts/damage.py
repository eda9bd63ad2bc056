"""Laws of a store: a damaged object raises an ArtifactDecodeError and is never read as another frame."""

import random
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from clinops_prefect.errors import ArtifactDecodeError
from clinops_prefect.store import PipelineStore
from clinops_prefect.testing.contracts.access import DirectAccess
from clinops_prefect.testing.contracts.frames import MakeStore, assert_equal

_CHOICE = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {
        "id": range(3_000),
        "v": _CHOICE.random(3_000),
        "w": _CHOICE.integers(0, 5, 3_000) / 2,
        "code": ["007", "b", "c"] * 1_000,
    }
)
_FLIPS = 10


class DamageLaws:
    """See `StoreContract`."""

    def test_no_flipped_bit_of_an_artifact_reads_as_a_frame(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store, key = make_store(format=format), f"x.{format}"
        store.upload(FRAME, "x")
        good = direct.get(key)
        for damaged in _flipped(good):
            direct.replace_bytes(key, damaged)
            for read in _whole_reads(store):
                with pytest.raises(ArtifactDecodeError) as caught:
                    read()
                assert caught.value.uri == store.uri("x")
        direct.replace_bytes(key, good)
        assert_equal(store.download("x"), FRAME)

    def test_a_partial_read_of_a_damaged_parquet_artifact_fails_or_is_right(
        self, make_store: MakeStore, direct: DirectAccess
    ) -> None:
        """The footer and each page have checksums. A partial read neither checks nor reads the other bytes."""
        store = make_store()
        store.upload(FRAME, "x")
        refused = 0
        reads: list[Callable[[], pd.DataFrame]] = [
            lambda: store.download("x", columns=["v", "code"]),
            lambda: store.download("x", columns=["v", "code"], filters=[("id", ">=", 0)]),
            lambda: pd.concat(store.iter_batches("x", columns=["v", "code"])),
        ]
        for damaged in _flipped(direct.get("x.parquet")):
            direct.replace_bytes("x.parquet", damaged)
            for read in reads:
                try:
                    assert_equal(read(), FRAME[["v", "code"]])
                except ArtifactDecodeError:
                    refused += 1
            try:
                assert store.stat("x").rows == 3_000
            except ArtifactDecodeError:
                refused += 1
        assert refused > 20

    def test_no_flipped_bit_of_a_sidecar_reads_as_another_frame(
        self, make_store: MakeStore, direct: DirectAccess
    ) -> None:
        store = make_store(format="csv")
        store.upload(FRAME, "x", metadata={"k": "v"})
        (sidecar,) = [key for key in direct.keys() if key.endswith(".schema.json")]
        for damaged in _flipped(direct.get(sidecar)):
            direct.replace_bytes(sidecar, damaged)
            for read in [*_whole_reads(store), _stat(store)]:
                with pytest.raises(ArtifactDecodeError):
                    read()

    def test_a_truncated_or_longer_artifact_is_damaged(
        self, make_store: MakeStore, direct: DirectAccess, format: str
    ) -> None:
        store, key = make_store(format=format), f"x.{format}"
        store.upload(FRAME, "x")
        good = direct.get(key)
        for kept in (0, 1, 4, 7, 8, 12, 100, len(good) // 2, len(good) - 1):
            direct.replace_bytes(key, good[:kept])
            for read in [*_whole_reads(store), *([_one_column(store), _stat(store)] if format == "parquet" else [])]:
                with pytest.raises(ArtifactDecodeError):
                    read()
        direct.replace_bytes(key, good + b"x")
        with pytest.raises(ArtifactDecodeError):
            store.download("x")

    def test_a_damaged_plain_object_is_damaged(self, make_store: MakeStore, direct: DirectAccess) -> None:
        store = make_store()
        store.write_bytes("report.html", b"<p>7 patients</p>")
        for data in (b"<p>9 patients</p>", b"<p>7", b""):
            direct.replace_bytes("report.html", data)
            with pytest.raises(ArtifactDecodeError):
                store.read_bytes("report.html")

    def test_a_plain_object_of_another_program_is_read_as_it_is(
        self, make_store: MakeStore, direct: DirectAccess
    ) -> None:
        direct.put("theirs.txt", b"hello")
        assert make_store().read_bytes("theirs.txt") == b"hello"


def _whole_reads(store: PipelineStore) -> list[Callable[[], object]]:
    return [lambda: store.download("x"), lambda: list(store.iter_batches("x"))]


def _one_column(store: PipelineStore) -> Callable[[], object]:
    return lambda: store.download("x", columns=["v"])


def _stat(store: PipelineStore) -> Callable[[], object]:
    return lambda: store.stat("x")


def _flipped(data: bytes) -> Iterator[bytes]:
    """Copies of `data` with one bit changed: at both ends, at random places, and in the footer if there is one."""
    chooser = random.Random(11)
    (footer,) = struct.unpack("<I", data[-8:-4]) if data[-4:] == b"PAR1" else (0,)
    ends = [0, 3, 4, len(data) - 1, len(data) - 5, len(data) - 8, len(data) - 9, max(0, len(data) - footer - 14)]
    anywhere = [chooser.randrange(len(data)) for _ in range(_FLIPS)]
    in_footer = [len(data) - 8 - chooser.randrange(1, footer) for _ in range(_FLIPS)] if footer else []
    for position in (*ends, *anywhere, *in_footer):
        damaged = bytearray(data)
        damaged[position] ^= 1 << chooser.randrange(8)
        yield bytes(damaged)
