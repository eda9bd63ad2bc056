"""The client of Cloud Storage, on whose connections a large body may take its time, as long as it moves.

The SDK sends a part as one `bytes`, for all of which Python's `sendall` allows one time-out: on a fresh connection
that of connecting. 16 MiB in five seconds is more than many networks carry. Sent in pieces, each has it for itself.
"""

import os
from pathlib import Path
from typing import Any, Protocol

import google.auth
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from clinops_prefect.errors import AccessDeniedError
from clinops_prefect.network.clients import cached_client, fingerprint
from clinops_prefect.network.endpoints import check_endpoint, is_loopback

_PIECE_BYTES = 1 << 20
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


class _InPieces:
    def send(self, data: Any) -> None:
        for piece in _pieces(data):
            super().send(piece)  # type: ignore[misc]  # of the connection that this is mixed into


class _PlainConnection(_InPieces, HTTPConnection):
    pass


class _TlsConnection(_InPieces, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _PlainPool, "https": _TlsPool}


class Adapter(requests.adapters.HTTPAdapter):
    """What a session of `requests` is to send with."""

    def __init__(self) -> None:
        super().__init__(pool_connections=8, pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """Called by `requests`."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        """Called by `requests`, once for each proxy."""
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def _pieces(data: Any) -> Any:
    if not isinstance(data, bytes) or len(data) <= _PIECE_BYTES:
        return [data]
    view = memoryview(data)
    return (view[at : at + _PIECE_BYTES] for at in range(0, len(view), _PIECE_BYTES))
