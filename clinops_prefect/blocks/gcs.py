"""The store block for Google Cloud Storage."""

from prefect_gcp import GcpCredentials
from pydantic import Field, HttpUrl

from clinops_prefect.blocks.cloud import CloudPipelineStore
from clinops_prefect.errors import InvalidStoreError
from clinops_prefect.form_schemas import URL_PATTERN
from clinops_prefect.locations import shown
from clinops_prefect.network.endpoints import is_url
from clinops_prefect.storage.backend import Backend
from clinops_prefect.storage.gcs.backend import GCSBackend
from clinops_prefect.storage.gcs.client import gcs_client


class GCSPipelineStore(CloudPipelineStore):
    """Hand DataFrames from step to step through a Google Cloud Storage bucket.

    Attributes:
        bucket: The bucket.
        prefix: The path below which the store keeps everything it writes.
        format: Parquet, or CSV.
        project: The project. If empty, it is taken from the credentials or the environment.
        credentials_path: A key file. If empty, the application default credentials are used.
        credentials: A `GcpCredentials` block, instead of `credentials_path`.
        endpoint_url: An endpoint other than Google's own.
        user_project: The project that pays for the requests, which a Requester Pays bucket demands.
        kms_key_name: A Cloud KMS key to encrypt every object with.
        allow_http: Whether a plain http endpoint on a network is acceptable.
        allow_pickle: Whether Prefect results may be read with a serializer that can run code.

    Example:
        Load a saved store and pass a frame on:
        ```python
        import pandas as pd

        from clinops_prefect import GCSPipelineStore

        store = GCSPipelineStore.load("BLOCK_NAME")
        windows = pd.DataFrame({"stay_id": [1, 2], "heart_rate": [84.0, 91.5]})
        uri = store.upload(windows, "features/windows_2024_01")
        windows = store.download("features/windows_2024_01")
        ```
    """

    _block_type_name = "GCS Pipeline Store"
    _block_type_slug = "gcs-pipeline-store"
    # The logo that Prefect's own block for this service has.
    _logo_url = HttpUrl(str(GcpCredentials._logo_url))

    bucket: str = Field(
        kw_only=False,  # for type checkers, which otherwise refuse it by position; pydantic ignores it
        description="The name of the bucket, without gs://. It must exist.",
        json_schema_extra={"position": 0, "pattern": "^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$"},
    )
    endpoint_url: str = Field(
        default="",
        title="Endpoint URL",
        description=(
            "An endpoint other than Google's own, such as a private one or an emulator's. If empty, Google's is used."
        ),
        json_schema_extra={"position": 7, "pattern": URL_PATTERN},
    )
    project: str = Field(
        default="",
        description="A Google Cloud project. If empty, it is taken from the credentials.",
        json_schema_extra={"position": 3, "pattern": "^([a-z][a-z0-9.:-]*[a-z0-9])?$"},
    )
    credentials_path: str = Field(
        default="",
        title="Credentials file",
        description="The path of a credentials JSON file. If empty, application default credentials are used.",
        json_schema_extra={"position": 4},
    )
    credentials: GcpCredentials | None = Field(
        default=None,
        title="GCP credentials",
        repr=False,
        description="A GCP credentials block. If empty, the file or application default credentials are used.",
        json_schema_extra={"position": 5},
    )
    user_project: str = Field(
        default="",
        title="Project to bill",
        description=(
            "The project that pays for the requests to a Requester Pays bucket. If empty, the bucket's own "
            "project pays."
        ),
        json_schema_extra={"position": 9, "pattern": "^([a-z][a-z0-9.:-]*[a-z0-9])?$"},
    )
    kms_key_name: str = Field(
        default="",
        title="KMS key",
        description=(
            "The Cloud KMS key (projects/…/cryptoKeys/…) that encrypts objects. If empty, the bucket's default is used."
        ),
        json_schema_extra={
            "position": 8,
            "pattern": "^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)?$",
        },
    )

    def _check_endpoint(self, endpoint_url: str) -> None:
        # boto3 refuses a malformed endpoint itself. Google's client would send requests without a host.
        if endpoint_url and not is_url(endpoint_url):
            raise InvalidStoreError(
                f"endpoint_url must be an address such as https://storage.example.org, not {shown(endpoint_url)}"
            )
        super()._check_endpoint(endpoint_url)

    @classmethod
    def _backend_type(cls) -> type[Backend]:
        return GCSBackend

    def _backend(self) -> GCSBackend:
        client = self._client(
            gcs_client, project=self.project, credentials_path=self.credentials_path, credentials=self.credentials
        )
        return GCSBackend(
            self.bucket,
            client,
            user_project=self.user_project,
            kms_key_name=self.kms_key_name,
            endpoint_url=self.endpoint_url,
        )
