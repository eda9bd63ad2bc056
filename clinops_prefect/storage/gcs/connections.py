"""The client of Cloud Storage, on whose connections a large body may take its time, as long as it moves.

The SDK sends a part as one `bytes`, for all of which Python's `sendall` allows one time-out: on a fresh connection
that of connecting. 16 MiB in five seconds is more than many networks carry. Sent in blocks, each has it for itself.
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
# As many as threads ask for at once; the default of ten makes the others wait for nothing.
_CONNECTIONS = 64
_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]
_READ_FROM_ENVIRONMENT = ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")


class GcpLogin(Protocol):
    """What a credentials block of prefect-gcp gives."""

    project: str | None

    def get_credentials_from_service_account(self) -> Any:
        """The credentials of Google's client."""


def gcs_client(
    *, project: str, credentials_path: str, credentials: GcpLogin | None, endpoint_url: str, allow_http: bool
) -> storage.Client:
    """The process's client of Cloud Storage, made on first use.

    Args:
        project: A project; empty, as the credentials or the environment says.
        credentials_path: A key file; empty, the application default credentials.
        credentials: A Prefect credentials block, used instead of `credentials_path`.
        endpoint_url: Another endpoint than Google's own; empty, as the environment says.
        allow_http: Whether it may be one that anybody on the network could listen at.

    Raises:
        AccessDeniedError: There is no such key file.
        InsecureEndpointError: The endpoint, whoever said it, is plain http on a network.
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
        adapter = Adapter()
        # Private to google-cloud-storage, which has no public way to mount an adapter. Without it, a large part
        # fails on a slow network.
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
    """What a session of `requests` is to send with: large bodies in blocks, each of which has a time-out of its own."""

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
            # urllib3 sends `bytes` at once, and a file in blocks. A copy, because a redirect sends the request again.
            body = io.BytesIO(request.body)
            request = request.copy()
            request.body = body
        return super().send(request, *args, **options)
