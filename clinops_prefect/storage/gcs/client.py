"""The client of Cloud Storage, with a time-out for each block of a large body instead of one for the whole body.

The SDK sends a part as one `bytes` object, and Python's `sendall` applies one time-out to all of it. On a new
connection this is the connect time-out. Many networks cannot send 16 MiB in five seconds, so we send a part in blocks.
"""

import io
import os
from pathlib import Path
from typing import Any, Protocol

import google.auth
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from clinops_prefect.errors import AccessDeniedError
from clinops_prefect.network.clients import cached_client, fingerprint
from clinops_prefect.network.endpoints import check_endpoint, is_loopback

_BLOCK_BYTES = 1 << 20
# At least one for each transfer thread. The default of ten would make the other threads wait for a connection.
_CONNECTIONS = 64
_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]
_READ_FROM_ENVIRONMENT = ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")


class GcpLogin(Protocol):
    """The part of a prefect-gcp credentials block that we use."""

    project: str | None

    def get_credentials_from_service_account(self) -> Any:
        """The credentials that Google's client takes."""


def gcs_client(
    *, project: str, credentials_path: str, credentials: GcpLogin | None, endpoint_url: str, allow_http: bool
) -> storage.Client:
    """The process's client of Cloud Storage, made on first use.

    Args:
        project: A project. If empty, it is taken from the credentials or the environment.
        credentials_path: A key file. If empty, the application default credentials are used.
        credentials: A Prefect credentials block, used instead of `credentials_path`.
        endpoint_url: An endpoint other than Google's own. If empty, it is taken from the environment.
        allow_http: Whether an unencrypted endpoint on a network is accepted.

    Raises:
        AccessDeniedError: The key file does not exist.
        InvalidStoreError: The endpoint, from `endpoint_url` or the environment, is plain http on a network.
    """
    environment = tuple(os.environ.get(name) for name in _READ_FROM_ENVIRONMENT)
    key = ("gcs", credentials_path, fingerprint(credentials), project, endpoint_url, allow_http, environment)

    def make() -> storage.Client:
        endpoint = endpoint_url or os.environ.get("STORAGE_EMULATOR_HOST", "")
        if endpoint and "://" not in endpoint:
            endpoint = f"http://{endpoint}"
        check_endpoint(endpoint, allow_http=allow_http)
        login, its_project = _login(credentials, credentials_path, endpoint)
        options = {"api_endpoint": endpoint} if endpoint else None
        client = storage.Client(project=project or its_project or "none", credentials=login, client_options=options)
        # Private too. Otherwise the client asks for the bucket's metadata in a background thread, for traces and also
        # where none are made. Most users of a bucket may not read its metadata, so their audit log would show refusals.
        client._bucket_metadata_cache = None
        adapter = Adapter()
        # `_http` is private, but google-cloud-storage has no public way to mount an adapter. Without the adapter,
        # sending a large part fails on a slow network.
        client._http.mount("https://", adapter)
        client._http.mount("http://", adapter)
        return client

    return cached_client(key, make)


def _login(credentials: GcpLogin | None, credentials_path: str, endpoint: str) -> tuple[Any, str | None]:
    if credentials is not None:
        return credentials.get_credentials_from_service_account(), credentials.project
    if credentials_path:
        path = Path(credentials_path).expanduser()
        if not path.is_file():
            raise AccessDeniedError(f"there is no credentials file {path}")
        return google.auth.load_credentials_from_file(str(path), scopes=_SCOPES)  # type: ignore
    if endpoint and is_loopback(endpoint):
        return AnonymousCredentials(), None  # type: ignore[no-untyped-call]
    return google.auth.default(scopes=_SCOPES)


class Adapter(requests.adapters.HTTPAdapter):
    """An adapter of `requests` that sends large bodies in blocks, each with its own time-out."""

    def __init__(self) -> None:
        super().__init__(pool_connections=8, pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Called by `requests`."""
        super().init_poolmanager(*args, **{**options, "blocksize": _BLOCK_BYTES})

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Called by `requests`, once for each proxy."""
        return super().proxy_manager_for(*args, **{**options, "blocksize": _BLOCK_BYTES})

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Called by `requests`."""
        if isinstance(request.body, bytes) and len(request.body) > _BLOCK_BYTES:
            # urllib3 sends `bytes` at once, but a file in blocks. We copy the request because a redirect resends it.
            body = io.BytesIO(request.body)
            request = request.copy()
            request.body = body
            response = super().send(request, *args, **options)
            # The SDK keeps the response, and so the request, until the next part is sent.
            request.body = None
            return response
        return super().send(request, *args, **options)
