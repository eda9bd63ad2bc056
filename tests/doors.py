"""The stores under test, each with direct SDK access: the same objects through the provider's own client.

With direct SDK access, tests check what the code under test writes, and write what it is to read.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol

import boto3
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from pydantic import SecretStr

import clinops_prefect
from clinops_prefect import GCSPipelineStore, LocalPipelineStore, PipelineStore, S3PipelineStore
from clinops_prefect.storage import backend
from tests.emulators import ADMIN, AZURE_ACCOUNT, AZURE_KEY


class Can(Enum):
    """What S3 and Cloud Storage can do, but not every server with their API."""

    TAKE_ANY_LOGIN = auto()  # accepts any signature, as only an emulator does
    USE_ANY_KMS_KEY = auto()  # accepts the ARN of a key that nobody has made, as only an emulator does
    KEEP_BACKSLASHES = auto()  # keeps backslashes in names; other servers turn them into slashes
    KEEP_LONG_SEGMENTS = auto()  # accepts more than 255 bytes between two slashes
    TELL_UNKNOWN_VERSIONS = auto()  # reports unknown versions in a bucket without versions; others return the object
    COMPLETE_CONDITIONALLY = auto()  # of simultaneous uploads in parts, one succeeds; others check before they write


EVERYTHING = frozenset(Can)


class Door(Protocol):
    """One backend, with direct SDK access to its objects."""

    scheme: str
    can: frozenset[Can]
    # What the backend can do, but this server cannot.
    server_lacks: frozenset[backend.Can]

    def store(self, **fields: Any) -> PipelineStore:
        """A store of this backend."""

    def store_without_bucket(self, **fields: Any) -> PipelineStore:
        """A store whose bucket does not exist."""

    def uri(self) -> str:
        """The store's URI, for a command."""

    def environment(self) -> dict[str, str]:
        """The environment variables with which a command finds the emulator."""

    def keep_versions(self) -> bool:
        """Switch on versions for the bucket. False if it cannot have versions."""

    def unfinished(self) -> list[str]:
        """The keys of temporary files, and of uploads that were neither finished nor aborted."""

    def keys(self) -> list[str]: ...
    def get(self, key: str) -> bytes: ...
    def put(self, key: str, data: bytes) -> None: ...
    def delete(self, key: str) -> None: ...
    def replace_bytes(self, key: str, data: bytes) -> None:
        """Replace the bytes of an object and keep its metadata, as a failing disk would."""

    def content_type(self, key: str) -> str: ...
    def metadata(self, key: str) -> dict[str, str]: ...


@dataclass
class LocalDoor:
    root: Path
    scheme = "file"
    can = EVERYTHING
    server_lacks = frozenset[backend.Can]()

    def store(self, **fields: Any) -> PipelineStore:
        return LocalPipelineStore(str(self.root), **fields)

    def store_without_bucket(self, **fields: Any) -> PipelineStore:
        return LocalPipelineStore(str(self.root / "missing"), **fields)

    def uri(self) -> str:
        return os.fspath(self.root)

    def environment(self) -> dict[str, str]:
        return {}

    def keep_versions(self) -> bool:
        return False

    def unfinished(self) -> list[str]:
        return [key for key in self.keys() if key.rpartition("/")[2].startswith(".")]

    def keys(self) -> list[str]:
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def delete(self, key: str) -> None:
        (self.root / key).unlink()

    def replace_bytes(self, key: str, data: bytes) -> None:
        (self.root / key).write_bytes(data)

    def content_type(self, key: str) -> str:
        return ""

    def metadata(self, key: str) -> dict[str, str]:
        try:
            return dict(json.loads(os.getxattr(self.root / key, "user.clinops")))
        except OSError:
            return {}


@dataclass
class S3Door:
    endpoint: str
    bucket: str
    scheme = "s3"
    # moto checks and writes in two steps, in many threads, so in a race sometimes two uploads succeed.
    can = EVERYTHING - {Can.COMPLETE_CONDITIONALLY}
    server_lacks = frozenset({backend.Can.COMPLETE_CONDITIONALLY})

    def __post_init__(self) -> None:
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=ADMIN[0],
            aws_secret_access_key=ADMIN[1],
        )
        self.client.create_bucket(Bucket=self.bucket)

    def store(self, **fields: Any) -> PipelineStore:
        return S3PipelineStore(self.bucket, **{"endpoint_url": self.endpoint, "region": "us-east-1"} | fields)

    def store_without_bucket(self, **fields: Any) -> PipelineStore:
        return S3PipelineStore(f"{self.bucket}-missing", endpoint_url=self.endpoint, region="us-east-1", **fields)

    def uri(self) -> str:
        return f"s3://{self.bucket}"

    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.endpoint}

    def keep_versions(self) -> bool:
        self.client.put_bucket_versioning(Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"})
        return True

    def unfinished(self) -> list[str]:
        answer = self.client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def _objects(self) -> Iterator[str]:
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for entry in page.get("Contents", ()):
                yield entry["Key"]

    def keys(self) -> list[str]:
        return sorted(self._objects())

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def replace_bytes(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data, Metadata=self.metadata(key))

    def content_type(self, key: str) -> str:
        return self.client.head_object(Bucket=self.bucket, Key=key)["ContentType"]

    def metadata(self, key: str) -> dict[str, str]:
        return self.client.head_object(Bucket=self.bucket, Key=key)["Metadata"]


class SeaweedFSDoor(S3Door):
    """SeaweedFS as S3. tests/seaweedfs asserts each of its limits, so that we notice when a limit is gone."""

    can = frozenset[Can]()


@dataclass
class GCSDoor:
    endpoint: str
    bucket: str
    scheme = "gs"
    can = EVERYTHING
    # fake-gcs-server checks the condition when a resumable upload begins, and not when it ends.
    server_lacks = frozenset({backend.Can.COMPLETE_CONDITIONALLY})

    def __post_init__(self) -> None:
        self.client = storage.Client(
            project="p", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.endpoint}
        )
        self.client.create_bucket(self.bucket)

    def store(self, **fields: Any) -> PipelineStore:
        return GCSPipelineStore(self.bucket, **{"endpoint_url": self.endpoint} | fields)

    def store_without_bucket(self, **fields: Any) -> PipelineStore:
        return GCSPipelineStore(f"{self.bucket}-missing", endpoint_url=self.endpoint, **fields)

    def uri(self) -> str:
        return f"gs://{self.bucket}"

    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def keep_versions(self) -> bool:
        bucket = self.client.bucket(self.bucket)
        bucket.delete()
        bucket.versioning_enabled = True
        bucket.create()
        return True

    def unfinished(self) -> list[str]:
        return []  # Cloud Storage cannot list unfinished resumable uploads

    def keys(self) -> list[str]:
        return sorted(blob.name for blob in self.client.list_blobs(self.bucket))

    def get(self, key: str) -> bytes:
        return self.client.bucket(self.bucket).blob(key).download_as_bytes(checksum=None)

    def put(self, key: str, data: bytes) -> None:
        self.client.bucket(self.bucket).blob(key).upload_from_string(data)

    def delete(self, key: str) -> None:
        self.client.bucket(self.bucket).blob(key).delete()

    def replace_bytes(self, key: str, data: bytes) -> None:
        blob = self.client.bucket(self.bucket).blob(key)
        blob.metadata = self.metadata(key)
        blob.upload_from_string(data)

    def content_type(self, key: str) -> str:
        return self.client.bucket(self.bucket).get_blob(key).content_type

    def metadata(self, key: str) -> dict[str, str]:
        return dict(self.client.bucket(self.bucket).get_blob(key).metadata or {})


@dataclass
class AzureDoor:
    endpoint: str
    bucket: str
    scheme = "az"
    # Azurite keeps no versions, and ignores which version is requested. Azure turns a backslash into a slash.
    can = EVERYTHING - {Can.TELL_UNKNOWN_VERSIONS, Can.KEEP_BACKSLASHES}
    server_lacks = frozenset({backend.Can.KEEP_VERSIONS})

    def __post_init__(self) -> None:
        # `make test` runs without Azure's SDK.
        from azure.storage.blob import BlobServiceClient
        from prefect_azure import AzureBlobStorageCredentials

        account = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY}"
        connection = f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={self.endpoint};"
        self.client = BlobServiceClient.from_connection_string(connection).get_container_client(self.bucket)
        self.credentials = AzureBlobStorageCredentials(connection_string=SecretStr(connection))
        self.client.create_container()

    def store(self, **fields: Any) -> PipelineStore:
        if fields.get("endpoint_url"):
            fields["endpoint_url"] = f"{fields['endpoint_url']}/{AZURE_ACCOUNT}"
        return clinops_prefect.AzurePipelineStore(self.bucket, **{"credentials": self.credentials} | fields)

    def store_without_bucket(self, **fields: Any) -> PipelineStore:
        return clinops_prefect.AzurePipelineStore(f"{self.bucket}-missing", credentials=self.credentials, **fields)

    def uri(self) -> str:
        return f"az://{self.bucket}"

    def environment(self) -> dict[str, str]:
        return {"AZURE_STORAGE_CONNECTION_STRING": self.credentials.connection_string.get_secret_value()}

    def keep_versions(self) -> bool:
        return False  # Azure has versions per account, and Azurite has none

    def unfinished(self) -> list[str]:
        return []  # Azure drops uncommitted blocks after a week, and nobody can remove them before

    def keys(self) -> list[str]:
        return sorted(self.client.list_blob_names())

    def get(self, key: str) -> bytes:
        return self.client.download_blob(key).readall()

    def put(self, key: str, data: bytes) -> None:
        self.client.upload_blob(key, data, overwrite=True)

    def delete(self, key: str) -> None:
        self.client.delete_blob(key)

    def replace_bytes(self, key: str, data: bytes) -> None:
        found = self.client.get_blob_client(key).get_blob_properties()
        self.client.upload_blob(key, data, overwrite=True, metadata=found.metadata)

    def content_type(self, key: str) -> str:
        return self.client.get_blob_client(key).get_blob_properties().content_settings.content_type or ""

    def metadata(self, key: str) -> dict[str, str]:
        found = self.client.get_blob_client(key).get_blob_properties().metadata
        # In Azure, a metadata name must be a C# identifier: `write-id` is stored as `write_2did`.
        return {re.sub(r"_(..)", lambda code: chr(int(code[1], 16)), name): text for name, text in found.items()}
