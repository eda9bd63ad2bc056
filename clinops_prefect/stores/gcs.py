"""Artifacts in a Google Cloud Storage bucket."""

import os
from pathlib import Path
from typing import Any

import google.auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from prefect_gcp import GcpCredentials
from pydantic import Field

from clinops_prefect.backend import Backend
from clinops_prefect.endpoints import is_loopback
from clinops_prefect.errors import (
    AccessDeniedError,
)
from clinops_prefect.stores.cloud import CloudPipelineStore
from clinops_prefect.stores.gcs_backend import GCSBackend
from clinops_prefect.stores.gcs_connections import Adapter

_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]


class GCSPipelineStore(CloudPipelineStore):
    """Hand DataFrames from step to step through a Google Cloud Storage bucket.

    Attributes:
        bucket: The bucket.
        prefix: The path below which the store keeps everything it writes.
        format: Parquet, or CSV.
        project: The project; empty, as the credentials or the environment says.
        credentials_path: A key file; empty, the application default credentials.
        credentials: A `GcpCredentials` block, instead of `credentials_path`.
        endpoint_url: Another endpoint than Google's own.
        user_project: The project that pays for the requests, as a Requester Pays bucket wants it.
        kms_key_name: A Cloud KMS key to encrypt every object with.
        allow_http: Whether a plain http endpoint on a network is acceptable.
        allow_pickle: Whether Prefect results may be read with a serializer that can run code.

    Example:
        Load a saved store and pass a frame on:
        ```python
        from clinops_prefect import GCSPipelineStore

        store = GCSPipelineStore.load("BLOCK_NAME")
        uri = store.upload(windows_df, "features/windows_2024_01")
        windows_df = store.download("features/windows_2024_01")
        ```
    """

    _block_type_name = "GCS Pipeline Store"
    _block_type_slug = "gcs-pipeline-store"

    bucket: str = Field(
        kw_only=False,
        description="The name of the bucket, without gs://. It must exist.",
        json_schema_extra={"position": 0, "pattern": "^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$"},
    )
    project: str = Field(
        default="",
        description="A Google Cloud project. Empty: as the credentials say.",
        json_schema_extra={"position": 3},
    )
    credentials_path: str = Field(
        default="",
        description="The path of a credentials JSON file. Empty: application default credentials.",
        json_schema_extra={"position": 4},
    )
    credentials: GcpCredentials | None = Field(
        default=None,
        title="Credentials",
        repr=False,
        description="A GCP credentials block. Empty: the file, or application default credentials.",
        json_schema_extra={"position": 5},
    )
    user_project: str = Field(
        default="",
        title="Project to bill",
        description="The project that pays for the requests, as a Requester Pays bucket wants it. Empty: the bucket's.",
        json_schema_extra={"position": 9, "pattern": "^([a-z][a-z0-9.:-]*[a-z0-9])?$"},
    )
    kms_key_name: str = Field(
        default="",
        title="KMS key",
        description="A Cloud KMS key (projects/…/cryptoKeys/…) to encrypt objects with. Empty: the bucket's default.",
        json_schema_extra={
            "position": 8,
            "pattern": "^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)?$",
        },
    )

    @classmethod
    def _backend_type(cls) -> type[Backend]:
        return GCSBackend

    def _backend(self) -> GCSBackend:
        return GCSBackend(self)

    def _connect(self) -> storage.Client:
        endpoint = self.endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        if endpoint and "://" not in endpoint:
            endpoint = f"http://{endpoint}"
        self._check_endpoint(endpoint)
        credentials, project = self._credentials(endpoint)
        options = {"api_endpoint": endpoint} if endpoint else None
        client = storage.Client(
            project=self.project or project or "none", credentials=credentials, client_options=options
        )
        adapter = Adapter()
        client._http.mount("https://", adapter)
        client._http.mount("http://", adapter)
        return client

    def _credentials(self, endpoint: str) -> tuple[Any, str | None]:
        if self.credentials is not None:
            return self.credentials.get_credentials_from_service_account(), self.credentials.project
        if self.credentials_path:
            path = Path(self.credentials_path).expanduser()
            if not path.is_file():
                raise AccessDeniedError(f"there is no credentials file {path}", uri=f"gs://{self.bucket}")
            return google.auth.load_credentials_from_file(str(path), scopes=_SCOPES)  # type: ignore
        if endpoint and is_loopback(endpoint):
            return AnonymousCredentials(), None  # type: ignore[no-untyped-call]
        return google.auth.default(scopes=_SCOPES)
