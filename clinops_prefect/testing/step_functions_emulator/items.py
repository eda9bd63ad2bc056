"""The items of a Distributed Map, in all formats that AWS reads from S3.

https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html
"""

import csv
import gzip
import io
import json
import os
from typing import Any

import boto3


def own_client(service: Any) -> Any:
    """A client for requests that AWS itself would make, at this emulator."""
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{os.environ['MOTO_PORT']}",
        region_name="us-east-1",
        aws_access_key_id="emulator",
        aws_secret_access_key="emulator",
    )


def read_items(reader: dict[str, Any], where: dict[str, Any]) -> list[Any]:
    """The items that an `ItemReader` reads.

    Args:
        reader: The `ItemReader` of the definition.
        where: The evaluated parameters of the `ItemReader`: bucket, and key or prefix.
    """
    config = reader.get("ReaderConfig", {})
    s3 = own_client("s3")
    if reader["Resource"].endswith(":s3:listObjectsV2"):
        pages = s3.get_paginator("list_objects_v2").paginate(**where)
        entries = [entry for page in pages for entry in page.get("Contents", [])]
        if config.get("Transformation") == "LOAD_AND_FLATTEN":
            bodies = (s3.get_object(Bucket=where["Bucket"], Key=entry["Key"])["Body"].read() for entry in entries)
            items = [item for body in bodies for item in READERS[config["InputType"]](body, config)]
        else:
            items = [_listed(entry) for entry in entries]
    else:
        body = s3.get_object(**where)["Body"].read()
        kind = config["InputType"]
        items = _manifest(s3, body) if kind == "MANIFEST" else READERS[kind](body, config)
    return items[: config.get("MaxItems") or None]


def _listed(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "Etag": entry["ETag"],
        "Key": entry["Key"],
        "LastModified": int(entry["LastModified"].timestamp()),
        "Size": entry["Size"],
        "StorageClass": entry.get("StorageClass", "STANDARD"),
    }


def _json(body: bytes, config: dict[str, Any]) -> list[Any]:
    items = json.loads(body)
    for name in config.get("ItemsPointer", "").split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        items = items[int(name)] if isinstance(items, list) else items[name]
    if not isinstance(items, list):
        raise TypeError("a JSON file of items must be an array")
    return items


def _json_lines(body: bytes, _config: dict[str, Any]) -> list[Any]:
    return [json.loads(line) for line in body.decode().splitlines() if line.strip()]


def _csv(body: bytes, config: dict[str, Any]) -> list[Any]:
    delimiter = {"COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "SPACE": " ", "TAB": "\t"}[
        config.get("CSVDelimiter", "COMMA")
    ]
    rows = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), delimiter=delimiter)
    header = config["CSVHeaders"] if config["CSVHeaderLocation"] == "GIVEN" else next(rows)
    return [dict(zip(header, row, strict=False)) for row in rows if row]


def _parquet(body: bytes, _config: dict[str, Any]) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq  # noqa: TID251 - the emulator stands for AWS, not for this package

    rows = pq.read_table(pa.BufferReader(body)).to_pylist()
    return list(json.loads(json.dumps(rows, default=str)))


READERS = {"JSON": _json, "JSONL": _json_lines, "CSV": _csv, "PARQUET": _parquet}


def _manifest(s3: Any, body: bytes) -> list[Any]:
    """The objects of an S3 inventory in CSV: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory.html."""
    manifest = json.loads(body)
    bucket = manifest["destinationBucket"].rpartition(":")[2]
    header = [name.strip() for name in manifest["fileSchema"].split(",")]
    items = []
    for file in manifest["files"]:
        content = s3.get_object(Bucket=bucket, Key=file["key"])["Body"].read()
        text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()
        items += [dict(zip(header, row, strict=True)) for row in csv.reader(io.StringIO(text, newline=""))]
    return items
