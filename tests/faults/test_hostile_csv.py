"""CSV with a false or damaged sidecar: an error of ours, in bounded memory, that quotes no cell."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from clinops_prefect import ArtifactDecodeError, LocalPipelineStore
from clinops_prefect.frames.conversion.layout import to_arrow
from clinops_prefect.frames.csv import text as csv_text
from tests.faults.bounded import reads

CANARY = "patient-10000032"
FRAME = pd.DataFrame({"a": [1, 2, 3], "b": [CANARY, "y", None]})


def put(folder: Path, name: str, text: bytes, sidecar: bytes) -> None:
    """Store a text and a sidecar as any program could: the sidecar's name has the text's checksum."""
    (folder / f"{name}.csv").write_bytes(text)
    (folder / f"{name}.csv.{hashlib.sha256(text).hexdigest()[:16]}.schema.json").write_bytes(sidecar)


def described(schema: pa.Schema, rows: int = 3) -> bytes:
    return csv_text.sidecar(schema, rows, {})


def edited(**facts: Any) -> bytes:
    """A sidecar with other content, and with the checksum of that content."""
    document = json.loads(described(to_arrow(FRAME).schema))
    document["clinops"] |= facts
    del document["clinops"]["crc32"]
    document["clinops"]["crc32"] = csv_text._checksum(document)
    return json.dumps(document).encode()


TEXT = bytes(csv_text.encode(to_arrow(FRAME)))
EMPTIES = b"a\n" + b"\n" * 1_000
DEEP = b"[" * 200_000 + b"]" * 200_000
HOSTILE: dict[str, tuple[bytes, bytes]] = {
    "other-types": (TEXT, described(pa.schema([("a", pa.int64()), ("b", pa.int64())]))),
    "other-columns": (TEXT, described(pa.schema([("a", pa.int64()), ("z", pa.string())]))),
    "fewer-rows": (TEXT, described(to_arrow(FRAME).schema, 2)),
    "more-rows": (TEXT, described(to_arrow(FRAME).schema, 10**15)),
    "nested-type": (TEXT, described(pa.schema([("a", pa.list_(pa.int64())), ("b", pa.string())]))),
    # Each missing value of this type takes a gigabyte.
    "wide-nulls": (EMPTIES, described(pa.schema([("a", pa.binary(1 << 30))]), 1_000)),
    "deep": (TEXT, DEEP),
    "deep-inside": (TEXT, b'{"clinops": ' + DEEP + b"}"),
    "null": (TEXT, b"null"),
    "number": (TEXT, b"7"),
    "empty": (TEXT, b""),
    "binary": (TEXT, b"\xff\xfe\x00"),
    "no-facts": (TEXT, b'{"clinops": {}}'),
    "facts-list": (TEXT, b'{"clinops": []}'),
    "rows-text": (TEXT, edited(rows="many")),
    "rows-list": (TEXT, edited(rows=[])),
    "metadata-list": (TEXT, edited(metadata=[1])),
    "schema-number": (TEXT, edited(arrowSchema=7)),
    "schema-rubbish": (TEXT, edited(arrowSchema="!!!!")),
    "schema-huge": (TEXT, edited(arrowSchema="/////////38=")),
    "huge-number": (TEXT, edited(rows=0).replace(b'"rows": 0', b'"rows": ' + b"9" * 10_000)),
}


def test_a_sidecar_that_contradicts_its_text_is_refused(tmp_path: Path) -> None:
    for name, (text, sidecar) in HOSTILE.items():
        put(tmp_path, name, text, sidecar)
    outcomes = reads(3_000, str(tmp_path), "csv", *HOSTILE)
    for name, ways in outcomes.items():
        for way, outcome in ways.items():
            assert outcome["ours"], (name, way, outcome)
            assert outcome["ran"] == [], (name, way, outcome)
            assert outcome["peak"] < 500, (name, way, outcome)
            assert CANARY not in outcome["words"] or not outcome["error"], (name, way, outcome)
        assert ways["download"]["error"] == "ArtifactDecodeError", (name, ways)
        assert ways["batches"]["error"] == "ArtifactDecodeError", (name, ways)


def test_a_text_that_is_no_table_is_refused(tmp_path: Path) -> None:
    """Without a sidecar pandas infers the types, and its own messages quote the line."""
    texts = {
        "unclosed": b'a,b\n"' + CANARY.encode(), "ragged": f"a\n1,2,3\n{CANARY},5,6,7\n".encode(),
        "binary": b"\x00\xff" * 1_000, "nul": b"a,b\n1,\x00\n", "quotes": b'"' * 100_001,
        "wide": b"," * 2_000 + b"\n1,2",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_bytes(text)
    for name, ways in reads(3_000, str(tmp_path), "csv", *texts).items():
        for way, outcome in ways.items():
            assert outcome["ours"], (name, way, outcome)
            assert outcome["peak"] < 700, (name, way, outcome)
            assert CANARY not in outcome["words"] or not outcome["error"], (name, way, outcome)


def test_a_sidecar_of_another_text_is_never_used(tmp_path: Path) -> None:
    """A sidecar is found by the text's checksum, so nobody can change the types of a text without changing the text."""
    store = LocalPipelineStore(str(tmp_path), format="csv")
    store.upload(FRAME, "x")
    store.upload(FRAME.astype({"b": "category"}), "y")
    (mine,), (other,) = tmp_path.glob("x.csv.*.schema.json"), tmp_path.glob("y.csv.*.schema.json")
    pd.testing.assert_frame_equal(store.download("x"), FRAME)
    mine.write_bytes(other.read_bytes()[:-40])
    with pytest.raises(ArtifactDecodeError):
        store.download("x")
