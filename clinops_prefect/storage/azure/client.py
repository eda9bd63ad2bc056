"""The client of Azure Blob Storage."""

import os
from typing import Any, Protocol

from azure.core.exceptions import AzureError
from azure.identity import ClientSecretCredential, DefaultAzureCredential
from azure.storage.blob import BlobServiceClient, ContainerClient, ExponentialRetry

from clinops_prefect.errors import ClinopsPrefectError, InvalidStoreError
from clinops_prefect.network.clients import cached_client, fingerprint
from clinops_prefect.network.endpoints import check_endpoint

_READ_FROM_ENVIRONMENT = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_KEY", "AZURE_STORAGE_CONNECTION_STRING")
# The client's own back-off starts at 15 seconds. A service that never answers takes five tries of 20 seconds.
_RETRY = ExponentialRetry(initial_backoff=0, increment_base=2, retry_total=4, random_jitter_range=1)
_OPTIONS: dict[str, Any] = {"connection_timeout": 5, "read_timeout": 20, "retry_policy": _RETRY}
_URL = "https://{}.blob.core.windows.net"


class AzureLogin(Protocol):
    """The part of prefect-azure's `AzureBlobStorageCredentials` block that we use."""

    account_url: str | None
    connection_string: Any
    tenant_id: str | None
    client_id: str | None
    client_secret: Any


def azure_client(
    container: str, *, account_url: str, credentials: AzureLogin | None, endpoint_url: str, allow_http: bool
) -> ContainerClient:
    """The container's client, which shares the process's connections to the account.

    Args:
        container: The container.
        account_url: The account's endpoint. If empty, the credentials or `AZURE_STORAGE_ACCOUNT` give it.
        credentials: A Prefect credentials block. If None, `AZURE_STORAGE_KEY` or else `DefaultAzureCredential` is used.
        endpoint_url: An endpoint other than the account's own.
        allow_http: Whether an unencrypted endpoint on a network is accepted.

    Raises:
        InvalidStoreError: No account is named, the connection string is malformed, or the endpoint, wherever it is set,
            is plain http on a network.
    """
    environment = tuple(os.environ.get(name) for name in _READ_FROM_ENVIRONMENT)
    key = ("azure", account_url, fingerprint(credentials), endpoint_url, allow_http, environment)

    def make() -> BlobServiceClient:
        try:
            url, login = _login(endpoint_url or account_url, credentials)
            check_endpoint(url, allow_http=allow_http)
            return BlobServiceClient(url, credential=login, **_OPTIONS)
        except ClinopsPrefectError:
            raise
        except (ValueError, AzureError) as error:
            # The error is not chained: its message may quote the connection string, which contains the key.
            raise InvalidStoreError(
                f"az://{container}: the settings of the Azure client are wrong ({type(error).__name__}); check "
                "account_url, or the connection string in the credentials"
            ) from None

    return cached_client(key, make).get_container_client(container)


def _login(account_url: str, credentials: AzureLogin | None) -> tuple[str, Any]:
    """The account's endpoint, and the credential that signs requests."""
    name, key, connection = (os.environ.get(variable, "") for variable in _READ_FROM_ENVIRONMENT)
    if credentials is not None:
        connection = credentials.connection_string.get_secret_value() if credentials.connection_string else ""
    if connection and (credentials is not None or not account_url):
        client = BlobServiceClient.from_connection_string(connection)
        return account_url or client.url, client.credential
    of_environment = _URL.format(name) if name else ""
    url = account_url or (credentials.account_url if credentials else "") or of_environment
    if not url:
        raise InvalidStoreError("the store names no Azure account: set account_url, or AZURE_STORAGE_ACCOUNT")
    if credentials is not None and credentials.client_id:
        secret = credentials.client_secret.get_secret_value()
        return url, ClientSecretCredential(credentials.tenant_id or "", credentials.client_id, secret)
    if credentials is None and key:
        return url, {"account_name": name, "account_key": key}
    return url, DefaultAzureCredential()
