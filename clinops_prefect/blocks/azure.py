"""The store block for Azure Blob Storage."""

from typing import ClassVar

from prefect_azure import AzureBlobStorageCredentials
from pydantic import Field

from clinops_prefect.blocks.cloud import CloudPipelineStore
from clinops_prefect.storage.azure.backend import AzureBackend
from clinops_prefect.storage.azure.client import azure_client
from clinops_prefect.storage.backend import Backend


class AzurePipelineStore(CloudPipelineStore):
    """Hand DataFrames from step to step through a container of Azure Blob Storage.

    Attributes:
        container: The container.
        prefix: The path below which the store keeps everything it writes.
        format: Parquet, or CSV.
        account_url: The account's endpoint. If empty, it is taken from the credentials or `AZURE_STORAGE_ACCOUNT`.
        credentials: An `AzureBlobStorageCredentials` block. If empty, `AZURE_STORAGE_KEY` is used, or else a managed
            identity, a workload identity or the sign-in of `az login`, as Azure's `DefaultAzureCredential` finds them.
        endpoint_url: An endpoint other than the account's own, such as an emulator's.
        encryption_scope: An encryption scope to encrypt every blob with.
        allow_http: Whether a plain http endpoint on a network is acceptable.
        allow_pickle: Whether Prefect results may be read with a serializer that can run code.

    Example:
        Load a saved store and pass a frame on:
        ```python
        import pandas as pd

        from clinops_prefect import AzurePipelineStore

        store = AzurePipelineStore.load("BLOCK_NAME")
        windows = pd.DataFrame({"stay_id": [1, 2], "heart_rate": [84.0, 91.5]})
        uri = store.upload(windows, "features/windows_2024_01")
        windows = store.download("features/windows_2024_01")
        ```
    """

    _block_type_name = "Azure Pipeline Store"
    _block_type_slug = "azure-pipeline-store"
    _first_field: ClassVar[str] = "container"

    container: str = Field(
        kw_only=False,  # for type checkers, which otherwise refuse it by position; pydantic ignores it
        description="The name of the container, without az://. It must exist.",
        json_schema_extra={"position": 0, "pattern": "^(\\$root|[a-z0-9](-?[a-z0-9]){2,62})$"},
    )
    account_url: str = Field(
        default="",
        title="Account URL",
        description="Like https://ACCOUNT.blob.core.windows.net. If empty, the credentials or the environment name it.",
        json_schema_extra={"position": 3, "pattern": "^(https?://[^@/ ]+(/.*)?)?$"},
    )
    credentials: AzureBlobStorageCredentials | None = Field(
        default=None,
        repr=False,
        description="If empty, a key in the environment, a managed identity or the sign-in of `az login` is used.",
        json_schema_extra={"position": 5},
    )
    encryption_scope: str = Field(
        default="",
        description="The account's scope that encrypts every blob. If empty, the container's default is used.",
        json_schema_extra={"position": 8, "pattern": "^([A-Za-z0-9-]+)?$"},
    )

    @classmethod
    def _backend_type(cls) -> type[Backend]:
        return AzureBackend

    def _backend(self) -> AzureBackend:
        client = self._client(azure_client, self.container, account_url=self.account_url, credentials=self.credentials)
        return AzureBackend(self.container, client, encryption_scope=self.encryption_scope)
