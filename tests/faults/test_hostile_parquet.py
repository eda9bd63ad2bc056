"""Hostile Parquet files: none of their code runs, memory is bounded, and every error is ours."""

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactDecodeError, LocalPipelineStore
from clinops_prefect.frames.conversion.layout import LAYOUT_KEY, to_arrow
from clinops_prefect.frames.parquet import checksums
from tests.faults.bounded import reads

TABLE = pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
DEEP = b"[" * 200_000 + b"]" * 200_000
_LAYOUT = json.loads(to_arrow(TABLE.to_pandas()).schema.metadata[LAYOUT_KEY])


def layout(**changed: Any) -> dict[bytes, bytes]:
    return {LAYOUT_KEY: json.dumps({**_LAYOUT, **changed}).encode()}


def pandas_metadata(**parts: Any) -> dict[bytes, bytes]:
    return {b"pandas": json.dumps({"index_columns": [], "columns": [], "column_indexes": [], **parts}).encode()}


def index(**changed: Any) -> dict[bytes, bytes]:
    return layout(index={**_LAYOUT["index"], **changed})


def labels(**note: Any) -> dict[bytes, bytes]:
    return layout(labels={"names": [None], "fields": ["a", "b"], **note})


def noted(column: str, **note: Any) -> dict[bytes, bytes]:
    return layout(columns={column: note})


_PANDAS_COLUMN = {"name": "a", "field_name": "a", "metadata": {"x": 1}}
_RANGE = {"kind": "range", "name": None, "start": 0, "stop": 10**18, "step": 1}
# Metadata that no writer makes. Some of it can still be read, which is as good as an error.
METADATA: dict[str, dict[bytes, bytes]] = {
    "deep-layout": {LAYOUT_KEY: DEEP},
    "layout-null": {LAYOUT_KEY: b"null"},
    "layout-binary": {LAYOUT_KEY: b"\xff\x00"},
    "layout-of-lists": layout(columns=7, attrs=[]),
    "layout-no-index": layout(index=None),
    "layout-rows": layout(rows=-5),
    "layout-rows-text": layout(rows="many"),
    "layout-duplicates": layout(duplicates="yes"),
    "labels-number": layout(labels=7),
    "labels-rubbish": labels(levels=[{"values": "!!", "note": None, "freq": None}], multi=False),
    "labels-few": layout(labels={"names": [None], "fields": ["a"], "range": [0, 1, 1]}),
    "labels-huge": labels(range=[0, 10**30, 1]),
    "labels-dtype": layout(labels={"names": [None], "dtype": "int64"}),
    "note-pickle": noted("b", object={"as": "pickle", "missing": "None"}),
    "note-marker": noted("b", object={"as": "python", "missing": "eval"}),
    "note-dtype": noted("a", dtype="interval[int64, right]"),
    "note-void": noted("a", numpy="V1000000000"),
    "note-bytes": noted("a", numpy="S1000000000"),
    "note-object": noted("a", numpy="O"),
    "note-string": noted("a", string=["builtins", "eval"]),
    "note-category": noted("b", category={"values": base64.b64encode(DEEP).decode(), "note": None}, ordered=False),
    "index-twice": index(fields=["a", "a"], names=[None, None], multi=True, freqs=[None, None]),
    "index-nowhere": index(fields=["nowhere"]),
    "index-nameless": index(names=[]),
    "index-range": index(range=[0, 5, 0]),
    "metadata-deep": {b"clinops.metadata": DEEP},
    "metadata-binary": {b"clinops.metadata": b"\xff"},
    "metadata-list": {b"clinops.metadata": b"[1]"},
    "pandas-deep": {b"pandas": DEEP},
    "pandas-binary": {b"pandas": b"\xff\x00"},
    "pandas-list": {b"pandas": b"[1]"},
    "pandas-index": pandas_metadata(index_columns=7),
    "pandas-range": pandas_metadata(index_columns=[_RANGE]),
    "pandas-object": pandas_metadata(columns=[{**_PANDAS_COLUMN, "pandas_type": "object", "numpy_type": "object"}]),
    "pandas-pickle": pandas_metadata(
        index_columns=["a"],
        columns=[{**_PANDAS_COLUMN, "pandas_type": "categorical", "numpy_type": "pickle.loads"}],
        column_indexes=[{"name": None, "field_name": None, "pandas_type": "pickle", "numpy_type": "O"}],
    ),
    "arrow-schema": {b"ARROW:schema": base64.b64encode(pa.schema([("z", pa.int8())]).serialize())},
    "arrow-rubbish": {b"ARROW:schema": b"////rubbish"},
    "checksums-claimed": {checksums.CHECKSUMS_KEY: b"1"},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def all_ours(outcomes: dict[str, dict[str, dict[str, Any]]], *, below: int) -> None:
    for name, ways in outcomes.items():
        for way, outcome in ways.items():
            assert outcome["ours"], (name, way, outcome)
            assert outcome["ran"] == [], (name, way, outcome)
            assert outcome["peak"] < below, (name, way, outcome)


def test_crafted_metadata_is_read_or_refused(folder: Path) -> None:
    for name, metadata in METADATA.items():
        # Without Arrow's own schema if the case has a schema.
        ours = b"ARROW:schema" in metadata
        pq.write_table(TABLE.replace_schema_metadata(metadata), folder / f"{name}.parquet", store_schema=not ours)
    outcomes = reads(4_000, str(folder), "parquet", *METADATA)
    all_ours(outcomes, below=500)
    refused = {name for name, ways in outcomes.items() if any(outcome["error"] for outcome in ways.values())}
    readable = {"arrow-rubbish", "pandas-range", "pandas-object", "arrow-schema", "pandas-list"}
    assert refused >= METADATA.keys() - readable
    assert all(
        o["error"] in ("", "ArtifactDecodeError") for n in refused for w, o in outcomes[n].items() if w == "stat"
    )


def test_an_extension_type_that_was_a_pickle_is_not_unpickled(folder: Path, tmp_path: Path) -> None:
    """Older versions of pyarrow unpickled such a type whenever they read one."""
    proof = tmp_path / "code-ran"

    class Code:
        def __reduce__(self) -> Any:
            return eval, (f"__import__('pathlib').Path({str(proof)!r}).touch()",)

    pickled = pickle.dumps(Code())
    for name in ("arrow.py_extension_type", "pandas.period", "pandas.interval", "arrow.json", "nobody.knows"):
        field = pa.field("a", pa.int64(), metadata={
            b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": pickled,
        })  # fmt: skip
        metadata = {b"ARROW:schema": base64.b64encode(pa.schema([field]).serialize())}
        table = pa.table({"a": pa.array([1], pa.int64())}).replace_schema_metadata(metadata)
        pq.write_table(table, folder / f"{name}.parquet", store_schema=False)
    names = [path.stem for path in folder.glob("*.parquet")]
    assert len(names) == 5
    all_ours(reads(4_000, str(folder), "parquet", *names), below=500)
    assert not proof.exists()


def _bombs(folder: Path) -> dict[str, int]:
    """Small files that are large when they are read, each with its size in memory in bytes."""
    sizes = {}

    def write(name: str, table: pa.Table, times: int, decoded: int, **options: Any) -> None:
        with pq.ParquetWriter(folder / f"{name}.parquet", table.schema, compression="zstd", **options) as writer:
            for _ in range(times):
                writer.write_table(table, row_group_size=1 << 30)
        sizes[name] = decoded

    constant = pa.table({"a": pa.repeat(7, 10_000_000)})
    write("rows", constant, 42, 42 * constant.nbytes)
    text = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 100_000), ["x" * (20 << 20)])
    options = {"store_schema": False, "dictionary_pagesize_limit": 1 << 30}
    write("text", pa.table({"a": text}), 1, 100_000 * (20 << 20), **options)
    nested = pa.ListArray.from_arrays(pa.array(range(0, 100_001, 10), pa.int32()), text)
    write("nested", pa.table({"a": nested}), 1, 100_000 * (20 << 20), **options)
    return sizes


def test_a_bomb_is_refused_before_its_memory_is_taken(folder: Path) -> None:
    """In a container of 3 GB, a file that needs more is refused, before more than a few hundred megabytes are used."""
    sizes = _bombs(folder)
    for name, decoded in sizes.items():
        assert decoded > 3 << 30
        assert (folder / f"{name}.parquet").stat().st_size < 5 << 20
    outcomes = reads(3_000, str(folder), "parquet", *sizes)
    all_ours(outcomes, below=900)
    for name in sizes:
        for way in ("download", "columns"):
            outcome = outcomes[name][way]
            assert outcome["error"] == "ArtifactDecodeError", (name, way, outcome)
            assert "of memory when it is read" in outcome["words"], (name, way, outcome)
        assert outcomes[name]["stat"]["error"] == ""
    # A file with many rows can be read in batches, as the message says.
    assert outcomes["rows"]["batches"]["words"] == "[100000, 100000, 100000]"


def test_a_bomb_whose_footer_understates_its_size_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes in the page headers are used, because decompression verifies them: see frames/parquet/text_sizes.py."""
    _bombs(folder)
    data = bytearray((folder / "text.parquet").read_bytes())
    true = pq.read_metadata(folder / "text.parquet").row_group(0).column(0).total_uncompressed_size
    told, lie = _varint(true), _varint(1_000)
    assert data.count(told) >= 1
    # The number keeps its length, so that no other byte moves: a varint may be written longer than it needs to be.
    padded = bytes([lie[0] | 128, lie[1] | 128, *[128] * (len(told) - 3), 0])
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[start:] = data[start:].replace(told, padded)
    (folder / "liar.parquet").write_bytes(data)
    assert pq.read_metadata(folder / "liar.parquet").row_group(0).column(0).total_uncompressed_size == 1_000
    outcomes = reads(3_000, str(folder), "parquet", "liar")
    all_ours(outcomes, below=900)
    assert "of memory when it is read" in outcomes["liar"]["download"]["words"]


def _varint(number: int) -> bytes:
    number, encoded = number << 1, bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def test_frames_that_compress_extremely_well_are_read(folder: Path) -> None:
    """A constant column is compressed to less than 1/500 of its size, and must not be refused as a bomb."""
    store = LocalPipelineStore(str(folder))
    rows = 400_000
    frame = pd.DataFrame({"zero": [0.0] * rows, "unit": "mmHg", "note": pd.Categorical(["none"] * rows)})
    store.upload(frame, "constant")
    assert (folder / "constant.parquet").stat().st_size * 500 < frame.memory_usage(deep=True).sum()
    outcomes = reads(4_000, str(folder), "parquet", "constant")["constant"]
    assert [outcomes[way]["error"] for way in ("download", "stat", "batches")] == ["", "", ""]
    pd.testing.assert_frame_equal(store.download("constant"), frame)


def test_texts_that_only_seem_too_large_come_back_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If every text could be as long as the longest, they are read as dictionaries first, and the frame is the same."""
    frame = pd.DataFrame({
        "a": range(3_000), "code": [f"{i % 17:03d}" for i in range(3_000)],
        "lists": [[f"{i % 5}", "ä" * 40] for i in range(3_000)],
        "raw": [b"\x00" * (i % 9) for i in range(3_000)],
        "category": pd.Categorical(["x", "y", "z"] * 1_000),
        "missing": ["long enough to count", None, ""] * 1_000,
    })  # fmt: skip
    store = LocalPipelineStore(str(folder))
    store.upload(frame, "x")
    from clinops_prefect.frames import memory
    from clinops_prefect.frames.parquet import text_sizes

    monkeypatch.setattr(memory, "_ALWAYS", 0)
    monkeypatch.setattr(memory, "available", lambda: 1_000_000)
    doubted: list[list[str]] = []
    original = text_sizes.doubtful_texts
    monkeypatch.setattr(text_sizes, "doubtful_texts", lambda *a: doubted.append(original(*a)) or doubted[-1])
    pd.testing.assert_frame_equal(store.download("x"), frame)
    pd.testing.assert_frame_equal(pd.concat(store.iter_batches("x", rows=700)), frame)
    columns = ["raw", "missing", "lists", "a", "code"]
    pd.testing.assert_frame_equal(store.download("x", columns=columns), frame[columns])
    assert len(doubted) == 3
    assert all(doubted)


def test_a_footer_that_points_outside_of_the_file_is_damage(folder: Path) -> None:
    """The reader makes no request for such a range, and does not report that the object changed."""
    store = LocalPipelineStore(str(folder))
    pq.write_table(pa.table({"a": range(1_000), "b": range(1_000)}), folder / "x.parquet", store_schema=False)
    good = (folder / "x.parquet").read_bytes()
    start = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    chunk = pq.read_metadata(folder / "x.parquet").row_group(0).column(0)
    told = _varint(chunk.total_compressed_size)
    far = bytes([*[255] * (len(told) - 1), 127])
    assert told in good[start:]
    (folder / "x.parquet").write_bytes(good[:start] + good[start:].replace(told, far))
    for read in (store.download, lambda n: store.download(n, columns=["a"]), lambda n: list(store.iter_batches(n))):
        with pytest.raises(ArtifactDecodeError):
            read("x")
