"""docs/explanation/format.md is enough to write an artifact and to read one, with pyarrow and no code of ours.

The code that writes here uses nothing of the package. Only the tests that read the result do.
"""

import base64
import hashlib
import io
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from clinops_prefect import ArtifactDecodeError, LocalPipelineStore, StorageFormat

TABLE = pa.table(
    {
        "stay_id": pa.array([1, 2, 3]),
        "hr": pa.array([80.5, None, 77.0]),
        "unit": pa.array(["a", "", None], pa.large_string()),
        "beds": pa.array([4, None, 6]),
        "at": pa.array([0, 10**6, None], pa.timestamp("us", "UTC")),
        "code": pa.array(["007", None, "x,y"], pa.large_string()),
        "hour": pa.array([6, 7, 8]),
    }
)
LAYOUT = {
    "columns": {
        "unit": {"string": ["pyarrow", "nan"]},
        "beds": {"dtype": "Int64"},
        "at": {"dtype": "datetime64[us, UTC]"},
        "code": {"object": {"as": "text", "missing": "None"}},
    },
    "labels": {"names": [None], "dtype": "str"},
    "index": {"fields": ["hour"], "names": ["hour"], "multi": False, "freqs": [None]},
    "rows": 3,
    "width": 6,
    "attrs": {"site": "A"},
    "duplicates": True,
}
BLOCK = 8192


def expected() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "stay_id": [1, 2, 3],
            "hr": [80.5, None, 77.0],
            "unit": pd.Series(["a", "", None], dtype=pd.StringDtype("pyarrow", na_value=float("nan"))),
            "beds": pd.array([4, None, 6], dtype="Int64"),
            "at": pd.Series(pd.to_datetime([0, 10**6, None], unit="us", utc=True)).astype("datetime64[us, UTC]"),
            "code": pd.Series(["007", None, "x,y"], dtype=object),
        }
    )
    frame.columns = pd.Index(list(frame.columns), dtype=pd.StringDtype("pyarrow", na_value=float("nan")))
    frame.index = pd.Index([6, 7, 8], name="hour")
    frame.attrs = {"site": "A"}
    return frame


def with_checksums(parquet: bytes) -> bytes:
    footer = 8 + int.from_bytes(parquet[-8:-4], "little")
    body, end = parquet[:-footer], parquet[-footer:]
    sums = b"".join(struct.pack("<I", zlib.crc32(body[at : at + BLOCK])) for at in range(0, len(body), BLOCK))
    trailer = struct.pack("<QII4s", len(body), zlib.crc32(sums), zlib.crc32(end), b"CPS2")
    return body + sums + trailer + end


def parquet_by_the_page(entries: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in entries.items()}
    pq.write_table(TABLE.replace_schema_metadata(metadata), sink)
    return with_checksums(sink.getvalue())


def csv_by_the_page(folder: Path, metadata: dict[str, str]) -> None:
    sink = io.BytesIO()
    csv.write_csv(TABLE, sink, csv.WriteOptions(quoting_style="needed"))
    text = sink.getvalue()
    checksum = hashlib.sha256(text).hexdigest()
    schema = TABLE.schema.with_metadata({"clinops.layout": json.dumps(LAYOUT)})
    kinds = ["integer", "number", "string", "integer", "datetime", "string", "integer"]
    document: dict[str, Any] = {
        "fields": [{"name": name, "type": kind} for name, kind in zip(TABLE.column_names, kinds, strict=True)],
        "missingValues": [""],
        "clinops": {
            "rows": 3,
            "metadata": metadata,
            "arrowSchema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
        },
    }
    document["clinops"]["crc32"] = zlib.crc32(json.dumps(document, sort_keys=True).encode())
    folder.mkdir(parents=True)
    (folder / f"x.csv.{checksum[:16]}.schema.json").write_text(json.dumps(document))
    (folder / "x.csv").write_bytes(text)
    os.setxattr(folder / "x.csv", "user.clinops", json.dumps({"clinops-sha256": checksum, **metadata}).encode())


def test_a_parquet_artifact_that_follows_the_page_is_read_as_ours(tmp_path: Path) -> None:
    data = parquet_by_the_page({"clinops.layout": LAYOUT, "clinops.seal": "2", "clinops.metadata": {"run": "seven"}})
    (tmp_path / "x.parquet").write_bytes(data)
    store = LocalPipelineStore(str(tmp_path))
    found = store.download("x")
    pd.testing.assert_frame_equal(found, expected())
    assert found.attrs == {"site": "A"}
    assert store.stat("x").metadata == {"run": "seven"}
    pd.testing.assert_frame_equal(store.download("x", columns=["beds"]), expected()[["beds"]])
    pd.testing.assert_frame_equal(store.download("x", filters=[("code", "==", "007")]), expected().iloc[:1])


@pytest.mark.parametrize("place", ["body", "sums", "footer"])
def test_a_flipped_bit_in_such_an_artifact_is_found(tmp_path: Path, place: str) -> None:
    data = bytearray(parquet_by_the_page({"clinops.layout": LAYOUT, "clinops.seal": "2"}))
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[{"body": 40, "sums": footer - 22, "footer": footer + 9}[place]] ^= 4
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(ArtifactDecodeError, match="damaged"):
        LocalPipelineStore(str(tmp_path)).download("x")


def test_an_artifact_without_the_checksums_that_its_footer_claims_is_refused(tmp_path: Path) -> None:
    metadata = {"clinops.layout": json.dumps(LAYOUT), "clinops.seal": "2"}
    pq.write_table(TABLE.replace_schema_metadata(metadata), tmp_path / "x.parquet")
    with pytest.raises(ArtifactDecodeError, match="damaged"):
        LocalPipelineStore(str(tmp_path)).download("x")


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="the page puts the metadata of files into extended attributes")
def test_a_csv_artifact_that_follows_the_page_is_read_as_ours(tmp_path: Path) -> None:
    csv_by_the_page(tmp_path / "s", {"run": "seven"})
    store = LocalPipelineStore(str(tmp_path / "s"), format=StorageFormat.CSV)
    pd.testing.assert_frame_equal(store.download("x"), expected())
    assert store.stat("x").rows == 3
    assert store.stat("x").metadata == {"run": "seven"}
    assert store.list_artifacts() == ["x"]


def test_our_parquet_artifacts_follow_the_page(tmp_path: Path) -> None:
    LocalPipelineStore(str(tmp_path)).upload(expected(), "x", metadata={"run": "seven"})
    data = (tmp_path / "x.parquet").read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    length, of_sums, of_footer, magic = struct.unpack("<QII4s", data[start - 20 : start])
    body, sums, footer = data[:length], data[length : start - 20], data[start:]
    assert magic == b"CPS2"
    assert (zlib.crc32(sums), zlib.crc32(footer)) == (of_sums, of_footer)
    blocks = [zlib.crc32(body[at : at + BLOCK]) for at in range(0, length, BLOCK)]
    assert list(struct.unpack(f"<{len(blocks)}I", sums)) == blocks

    metadata = pq.read_schema(io.BytesIO(data)).metadata
    assert metadata[b"clinops.seal"] == b"2"
    assert json.loads(metadata[b"clinops.metadata"]) == {"run": "seven"}
    layout = json.loads(metadata[b"clinops.layout"])
    layout.pop("blocks", None)
    assert layout == LAYOUT
    assert pq.read_table(io.BytesIO(data)).column_names == TABLE.column_names


@pytest.mark.skipif(not hasattr(os, "getxattr"), reason="the page puts the metadata of files into extended attributes")
def test_our_csv_artifacts_follow_the_page(tmp_path: Path) -> None:
    LocalPipelineStore(str(tmp_path), format=StorageFormat.CSV).upload(expected(), "x", metadata={"run": "seven"})
    text = (tmp_path / "x.csv").read_bytes()
    checksum = hashlib.sha256(text).hexdigest()
    of_object = json.loads(os.getxattr(tmp_path / "x.csv", "user.clinops"))
    assert of_object == {"run": "seven", "clinops-sha256": checksum}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", f"x.csv.{checksum[:16]}.schema.json"]
    document = json.loads((tmp_path / f"x.csv.{checksum[:16]}.schema.json").read_text())
    crc32 = document["clinops"].pop("crc32")
    assert crc32 == zlib.crc32(json.dumps(document, sort_keys=True).encode())
    assert document["clinops"]["rows"] == 3
    assert document["clinops"]["metadata"] == {"run": "seven"}
    assert [field["name"] for field in document["fields"]] == TABLE.column_names
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(document["clinops"]["arrowSchema"])))
    layout = json.loads(schema.metadata[b"clinops.layout"])
    assert (layout["index"], layout["labels"]) == (LAYOUT["index"], LAYOUT["labels"])
    assert text.decode().splitlines() == [
        '"stay_id","hr","unit","beds","at","code","hour"',
        '1,80.5,"a",4,1970-01-01 00:00:00.000000Z,"007",6',
        '2,,"",,1970-01-01 00:00:01.000000Z,,7',
        '3,77,,6,,"x,y",8',
    ]
